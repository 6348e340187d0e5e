"""Parts of a model: one for each kind of resource.

The document of the first kind is the top level of ``model.json``, with the documents of the others under ``kinds``. In
``model.bin``, the names of their arrays begin with ``<kind>/``. Each part is read as a model of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from riskwatch_lambda.model.arrays import ArrayFile

T = TypeVar("T")

# Keys of the document: the kind of a part, and the parts of all kinds but the first.
KIND, KINDS = "resource_kind", "kinds"


class KindError(ValueError):
    """A part of a model has no valid name, or cannot be read."""


def array_prefix(kind: str) -> str:
    """Return how the names of the arrays of a further part begin."""
    return f"{kind}/"


def read_kind(document: Mapping[str, object]) -> str:
    """Return the kind of a part, empty in a document of an earlier release; raises KindError."""
    kind = document.get(KIND, "")
    if not isinstance(kind, str) or (KIND in document and not _is_name(kind)):
        raise KindError(f"{KIND} is {kind!r:.100}, expected a name such as rds")
    return kind


def read_parts(
    document: Mapping[str, object], arrays: ArrayFile, read: Callable[[Mapping[str, object], ArrayFile], T]
) -> dict[str, T]:
    """Return the parts of all kinds but the first, each read by ``read``; raises KindError."""
    kinds = document.get(KINDS, {})
    if not isinstance(kinds, dict):
        raise KindError(f"{KINDS} is {kinds!r:.100}, expected an object of models by kind")
    first = read_kind(document)
    parts = {}
    for kind, part in kinds.items():
        if not isinstance(part, dict) or not _is_name(kind) or kind == first:
            raise KindError(f"{KINDS} has {kind!r:.100}: expected a name that no other part has, and a model")
        if KINDS in part or part.get(KIND, kind) != kind:
            raise KindError(f"{KINDS}.{kind} is the model of another kind, or has {KINDS} itself")
        try:
            parts[kind] = read({**part, KIND: kind}, arrays.under(array_prefix(kind)))
        except ValueError as error:
            raise KindError(f"{KINDS}.{kind}: {error}") from error
    return parts


def _is_name(kind: str) -> bool:
    return kind.isascii() and kind.isidentifier()

"""Parts of an artifact: the model of each kind of resource, in one document and one file of arrays.

The model of the first kind is the top level of the document; `resource_kind` is its kind. The models of the other kinds
are complete documents under `kinds`, and the names of their arrays begin with the kind and a slash. So an artifact of
an earlier release is one with one part, which has no name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from riskwatch_lambda.model.kinds import KIND, KINDS, array_prefix
from riskwatch_ml.artifact import archive
from riskwatch_ml.artifact.archive import ArtifactError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

_OF_ARTIFACT = ("arrays", KINDS)


class Part(NamedTuple):
    """The model of one kind: its document, and its arrays by name, as `FleetModel.load` reads them."""

    document: Mapping[str, object]
    arrays: Mapping[str, np.ndarray]


def split(document: Mapping[str, object], arrays: Mapping[str, np.ndarray], first: str = "") -> dict[str, Part]:
    """Return the parts of an unpacked artifact by kind, the first one first.

    `first` is the kind of the first part if the document, of an earlier release, does not name it.
    """
    further = _further(document)
    name = str(document.get(KIND, first))
    parts = {name: Part(_alone(document), {key: array for key, array in arrays.items() if "/" not in key})}
    for kind, part in further.items():
        prefix = array_prefix(kind)
        own = {key.removeprefix(prefix): array for key, array in arrays.items() if key.startswith(prefix)}
        parts[kind] = Part(part, own)
    return parts


def documents(zip_bytes: bytes, first: str = "") -> dict[str, Mapping[str, object]]:
    """Return the document of each part of an artifact by kind, the first one first; `first` as in `split`.

    No array is read and nothing is checked. Raises ArtifactError if the bytes are not a zip with a model.
    """
    document = archive.document(zip_bytes)
    return {str(document.get(KIND, first)): document, **_further(document)}


def join(parts: Mapping[str, Part]) -> Part:
    """Return document and arrays of an artifact with these parts, the first one first; the opposite of `split`.

    `archive.pack` makes the artifact, and refuses parts that the function would refuse.
    """
    if not parts:
        raise ArtifactError("an artifact needs at least one part")
    (first, model), *further = parts.items()
    document = {**_alone(model.document), **({KIND: first} if first else {})}
    if further:
        document[KINDS] = {kind: _alone(part.document) for kind, part in further}
    prefixed = {array_prefix(kind) + name: array for kind, part in further for name, array in part.arrays.items()}
    return Part(document, {**model.arrays, **prefixed})


def replace(zip_bytes: bytes, kind: str, part: Part, *, first: str) -> bytes:
    """Return an artifact with another part for a kind, or with a part more; the others keep their bytes.

    `first` is the first kind of the installation: an artifact of an earlier release does not name it. The code is that
    of this release. Raises ArtifactError as `archive.unpack_stored` and `archive.pack` do, and if the first part of the
    artifact is of another kind.
    """
    document, stored = archive.unpack_stored(zip_bytes)
    if document.get(KIND, first) != first:
        raise ArtifactError(
            f"the first part of the artifact is of kind {document[KIND]!r}, the first kind of the installation is "
            f"{first!r}: name its kinds in the order of the artifact, or train all of them and promote the new artifact"
        )
    own, further = archive.stored_arrays(part.arrays), _further(document)
    if kind == first:
        kept = {name: array for name, array in stored.items() if "/" in name}
        changed = {**_alone(part.document), KIND: kind, **({KINDS: further} if further else {})}
        return archive.pack_stored(changed, {**kept, **own})
    prefix = array_prefix(kind)
    kept = {name: array for name, array in stored.items() if not name.startswith(prefix)}
    changed = {**document, KINDS: {**further, kind: _alone(part.document)}}
    return archive.pack_stored(changed, {**kept, **{prefix + name: array for name, array in own.items()}})


def _further(document: Mapping[str, object]) -> dict[str, dict[str, object]]:
    further = document.get(KINDS, {})
    return further if isinstance(further, dict) else {}


def _alone(document: Mapping[str, object]) -> dict[str, object]:
    """Return a document without the fields that describe the whole artifact."""
    return {key: value for key, value in document.items() if key not in _OF_ARTIFACT}

"""The artifact of a release: the parts of what serves, with the new part of each released kind in their place.

So the releases of two kinds never undo each other, whatever served when their candidates were trained.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from riskwatch_ml.artifact import archive, parts
from riskwatch_ml.core.errors import UserInputError
from riskwatch_ml.registry.registered import RegisteredPart

if TYPE_CHECKING:
    from collections.abc import Mapping


class AssemblyError(UserInputError):
    """The parts do not make an artifact; the message says which part is missing."""


def assemble(served: bytes | None, candidates: Mapping[str, bytes], first: str) -> bytes:
    """Return the artifact with the parts of what serves, replaced by those of some candidates.

    `served` is the artifact in service, None if there is none. `candidates` are artifacts of one part by kind, `first`
    is the first kind of the installation. The code is that of this release. Equal arguments give equal bytes.

    Raises AssemblyError if there is no part of the first kind, and ArtifactError if an artifact cannot be read.
    """
    further = {kind: zip_bytes for kind, zip_bytes in candidates.items() if kind != first}
    if served is None:
        if first not in candidates:
            raise AssemblyError(
                f"no model serves yet, and {', '.join(further)} cannot be the first part of an artifact: promote a "
                f"model of {first} before"
            )
        served = candidates[first]
    elif first in candidates:
        further = dict(candidates)
    for kind, zip_bytes in sorted(further.items()):
        served = parts.replace(served, kind, _part(zip_bytes, kind), first=first)
    return served


def registered_parts(zip_bytes: bytes, first: str) -> dict[str, RegisteredPart]:
    """Return model id and family of each part of an artifact, the first one first.

    `first` is the kind of the first part if the artifact, of an earlier release, does not name it.
    """
    documents = parts.documents(zip_bytes, first)
    return {
        kind: RegisteredPart(str(document.get("model_id", "")), str(document.get("family", "")))
        for kind, document in documents.items()
    }


def _part(zip_bytes: bytes, kind: str) -> parts.Part:
    document, arrays = archive.unpack(zip_bytes)
    return parts.split(document, arrays, kind)[kind]

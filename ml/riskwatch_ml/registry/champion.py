"""The artifact of the champion, read from the bucket."""

from __future__ import annotations

from typing import TYPE_CHECKING

from riskwatch_ml.core.errors import UserInputError
from riskwatch_ml.storage import keys

if TYPE_CHECKING:
    from riskwatch_ml.artifact.parts import Part
    from riskwatch_ml.schema.catalogue import Catalogue
    from riskwatch_ml.selection.handoff import ChampionVersion
    from riskwatch_ml.storage.bucket import Store


class MissingArtifactError(UserInputError):
    """The bucket lacks the bytes of the champion; the message says what to do."""


def artifact(store: Store, *, version: str, checksum: str, s3_key: str) -> bytes:
    """Return the bytes of the champion's artifact.

    The champion is a version of MLflow, with the digest of its artifact and the S3 key of its candidate. An artifact
    that has served stays under `artifacts/`; candidates are deleted after a while.

    Raises MissingArtifactError if the bucket has neither.
    """
    for key in (keys.artifact(checksum), s3_key):
        zip_bytes = store.get_bytes(key)
        if zip_bytes is not None:
            return zip_bytes
    raise MissingArtifactError(
        f"the artifact of the champion, version {version}, is neither under artifacts/ nor {s3_key}: "
        "restore it from the bucket's versions, or promote another model"
    )


def part(store: Store, champion: ChampionVersion, metrics: Catalogue, first: str) -> Part:
    """Return the part of the champion for a kind; `first` is the first kind of the installation.

    Raises MissingArtifactError as `artifact` does, ArtifactError if the artifact is damaged or of another version of
    Riskwatch, and KeyError if it has no such part.
    """
    from riskwatch_ml.artifact import archive, parts

    zip_bytes = artifact(store, version=champion["version"], checksum=champion["digest"], s3_key=champion["s3_key"])
    return parts.split(*archive.unpack(zip_bytes), first)[metrics.kind]

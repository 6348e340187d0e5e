"""The artifact in service: where its bytes are kept, looked up in one place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from riskwatch_ml.core.errors import UserInputError
from riskwatch_ml.storage import keys

if TYPE_CHECKING:
    from riskwatch_ml.storage.bucket import Store


class MissingArtifactError(UserInputError):
    """The bytes of the model in service are nowhere in the bucket; the message says what to do."""


def artifact(store: Store, *, version: str, digest: str, s3_key: str) -> bytes:
    """Return the artifact of the champion, a version of MLflow with its digest and the key of its candidate.

    What served once is kept under `artifacts/`; candidates are deleted after a while. Raises MissingArtifactError.
    """
    for key in (keys.artifact(digest), s3_key):
        zip_bytes = store.get_bytes(key)
        if zip_bytes is not None:
            return zip_bytes
    raise MissingArtifactError(
        f"the artifact of the champion, version {version}, is neither under artifacts/ nor {s3_key}: "
        "restore it from the bucket's versions, or promote another model"
    )

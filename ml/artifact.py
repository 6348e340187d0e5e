"""The artifact: a model and the code that serves it in one zip, the same bytes for the same content.

Everything inside is data or reviewed source: JSON, little-endian float32 numbers and the inference function's modules.
Members are stored uncompressed, sorted, with fixed dates and modes, so no library version changes the bytes, and the
digest of a zip is the name of what is promoted, run and rolled back to.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import riskwatch_lambda
from riskwatch_lambda.arrays import ArrayError, ArrayFile
from riskwatch_lambda.model import ARRAYS_FILE, DOCUMENT_FILE, ModelError, from_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

CODE_PACKAGE = "riskwatch_lambda"
DOCUMENT_MEMBER = f"model/{DOCUMENT_FILE}"
ARRAYS_MEMBER = f"model/{ARRAYS_FILE}"
FIXED_DATE = (1980, 1, 1, 0, 0, 0)
REGULAR_FILE_0644 = 0o100644 << 16
UNIX = 3
FLOAT32 = np.dtype("<f4")


class ArtifactError(ValueError):
    """An artifact cannot be built, or its bytes are not an intact artifact."""


def pack(document: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> bytes:
    """Build the zip of a model: reproducible, and loadable by the function, which is tried here.

    ``document`` is the model document; its keys ``arrays`` and ``bin_sha256`` are made here. ``arrays`` hold values
    that float32 represents exactly: parameters are rounded before anything is computed with them, not while packing.
    Raises ArtifactError when a value is not, or when the function would refuse the model.
    """
    index: dict[str, dict[str, Any]] = {}
    parts: list[bytes] = []
    offset = 0
    for name in sorted(arrays):
        values = _float32(name, arrays[name])
        index[name] = {"offset": offset, "shape": list(values.shape)}
        parts.append(values.tobytes(order="C"))
        offset += len(parts[-1])
    blob = b"".join(parts)
    full = {**document, "arrays": index, "bin_sha256": hashlib.sha256(blob).hexdigest()}
    try:
        text = json.dumps(full, sort_keys=True, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode()
        from_bytes(text, blob)
    except ModelError as error:
        raise ArtifactError(f"the function would refuse this model: {error}") from error
    except (TypeError, ValueError) as error:
        raise ArtifactError(f"the model document is not plain, finite JSON: {error}") from error
    return _zip({**_code(), DOCUMENT_MEMBER: text, ARRAYS_MEMBER: blob})


def unpack(zip_bytes: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Give the document and the float32 arrays of an artifact, by name.

    Raises ArtifactError when the bytes are not a zip with a model, when the arrays are not those that the document was
    packed with, or when the function would refuse the model.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(zip_bytes)) as archive:
            text, blob = archive.read(DOCUMENT_MEMBER), archive.read(ARRAYS_MEMBER)
    except zipfile.BadZipFile as error:
        raise ArtifactError(f"the artifact is damaged: {error}") from error
    except KeyError as error:
        raise ArtifactError(
            f"the artifact holds no {DOCUMENT_MEMBER} and {ARRAYS_MEMBER}: is it another zip?"
        ) from error
    try:
        from_bytes(text, blob)
        document: dict[str, Any] = json.loads(text)
        shapes = ArrayFile(document["arrays"], document["bin_sha256"], blob).shapes
    except (ArrayError, ModelError) as error:
        raise ArtifactError(f"the function would refuse this model: {error}") from error
    values = np.frombuffer(blob, dtype=FLOAT32)
    arrays = {
        name: values[entry["offset"] // FLOAT32.itemsize :][: int(np.prod(shapes[name]))].reshape(shapes[name]).copy()
        for name, entry in document["arrays"].items()
    }
    return document, arrays


def digest(zip_bytes: bytes) -> str:
    """Give the hex SHA-256 of an artifact: its name in keys, tags and the ledger."""
    return hashlib.sha256(zip_bytes).hexdigest()


def code_sha256(zip_bytes: bytes) -> str:
    """Give the base64 SHA-256 of an artifact, as Lambda reports it in ``CodeSha256``."""
    return base64.b64encode(hashlib.sha256(zip_bytes).digest()).decode()


def _float32(name: str, values: np.ndarray) -> np.ndarray:
    given = np.asarray(values)
    if given.dtype.kind not in "fiu":
        raise ArtifactError(f"array {name!r} has dtype {given.dtype}, expected numbers")
    with np.errstate(over="ignore"):
        rounded = given.astype(FLOAT32)
    if not np.array_equal(rounded.astype(np.float64), given.astype(np.float64)):
        raise ArtifactError(f"array {name!r} holds values that float32 does not: round parameters before using them")
    return rounded


def _code() -> dict[str, bytes]:
    """Give the modules of the function by their names in the zip."""
    package = Path(riskwatch_lambda.__path__[0])
    return {f"{CODE_PACKAGE}/{path.name}": path.read_bytes() for path in package.glob("*.py")}


def _zip(members: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(members):
            entry = zipfile.ZipInfo(name, FIXED_DATE)
            entry.compress_type = zipfile.ZIP_STORED
            entry.create_system = UNIX
            entry.external_attr = REGULAR_FILE_0644
            archive.writestr(entry, members[name])
    return buffer.getvalue()

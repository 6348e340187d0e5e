"""The artifact: a model and the code that serves it in one zip, the same bytes for the same content.

Everything inside is data or reviewed source: JSON, little-endian numbers, their SHA-256 sums and the inference
function's modules. Members are stored uncompressed, sorted, with fixed dates and modes, so no library version changes
the bytes, and the digest of a zip is the name of what is promoted, run and rolled back to.
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
from riskwatch_lambda.model.document import ARRAYS_FILE, DOCUMENT_FILE, FILES, SUMS_FILE, ModelError, from_files, sums
from riskwatch_ml.artifact import quantise
from riskwatch_ml.artifact.minify import shipped, stored_zip
from riskwatch_ml.core.errors import OperationError

if TYPE_CHECKING:
    from collections.abc import Mapping

CODE_PACKAGE = "riskwatch_lambda"
MODEL_DIRECTORY = "model"
FLOAT16, FLOAT32 = np.dtype("<f2"), np.dtype("<f4")


class ArtifactError(OperationError):
    """An artifact cannot be built, or its bytes are not an intact artifact."""


def pack(document: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> bytes:
    """Build the zip of a model: reproducible, and loadable by the function, which is tried here.

    ``document`` is the model document; its key ``arrays`` is made here. ``arrays`` hold values that float32 represents
    exactly (where half precision does too, as for prototypes, it is what is stored), ``center`` and ``scale``
    (n_baselines, 24, width) those of the grid they are stored on (``riskwatch_ml.artifact.quantise``): parameters are
    rounded before anything is computed with them, not while packing. Raises ArtifactError when a value is not, or when
    the function would refuse the model.
    """
    index: dict[str, dict[str, Any]] = {}
    parts: list[bytes] = []
    offset = 0
    for name, values in sorted(stored_arrays(arrays).items()):
        index[name] = {"type": values.dtype.str[1:], "offset": offset, "shape": list(values.shape)}
        parts.append(values.astype(values.dtype.newbyteorder("<")).tobytes(order="C"))
        offset += len(parts[-1])
    full = {**document, "arrays": index}
    try:
        text = json.dumps(full, sort_keys=True, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode()
        files = {DOCUMENT_FILE: text, ARRAYS_FILE: b"".join(parts)}
        files[SUMS_FILE] = sums(files)
        from_files(files)
    except ModelError as error:
        raise ArtifactError(f"the function would refuse this model: {error}") from error
    except (TypeError, ValueError) as error:
        raise ArtifactError(f"the model document is not plain, finite JSON: {error}") from error
    return stored_zip({**_code(), **{f"{MODEL_DIRECTORY}/{name}": content for name, content in files.items()}})


def unpack(zip_bytes: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Give the document and the arrays of an artifact by name: as float32, also those stored in half precision.

    Raises ArtifactError when the bytes are not a zip with a model, when one of its files is not the one that was
    packed, or when the function would refuse the model.
    """
    files = model_files(zip_bytes)
    try:
        from_files(files)
    except ModelError as error:
        raise ArtifactError(f"the function would refuse this model: {error}") from error
    document: dict[str, Any] = json.loads(files[DOCUMENT_FILE])
    stored = {
        name: np.frombuffer(
            files[ARRAYS_FILE], "<" + entry["type"], int(np.prod(entry["shape"])), entry["offset"]
        ).reshape(entry["shape"])
        for name, entry in document["arrays"].items()
    }
    center, scale = quantise.decode(stored)
    arrays = {name: values.astype(FLOAT32) for name, values in stored.items() if name not in quantise.STORED}
    return document, {**arrays, "center": center.astype(np.float32), "scale": scale.astype(np.float32)}


def model_files(zip_bytes: bytes) -> dict[str, bytes]:
    """Give the files of the model in an artifact by name; raises ArtifactError when the bytes are no such zip."""
    try:
        with zipfile.ZipFile(io.BytesIO(zip_bytes)) as archive:
            return {name: archive.read(f"{MODEL_DIRECTORY}/{name}") for name in FILES}
    except zipfile.BadZipFile as error:
        raise ArtifactError(f"the artifact is damaged: {error}") from error
    except KeyError as error:
        raise ArtifactError(f"the artifact does not hold all of {', '.join(FILES)}: is it another zip?") from error


def unzip(zip_bytes: bytes, directory: Path) -> None:
    """Write the files of an artifact into a directory, as Lambda does before it starts the function."""
    with zipfile.ZipFile(io.BytesIO(zip_bytes)) as archive:
        archive.extractall(directory)


def digest(zip_bytes: bytes) -> str:
    """Give the hex SHA-256 of an artifact: its name in keys, tags and the ledger."""
    return hashlib.sha256(zip_bytes).hexdigest()


def code_sha256(zip_bytes: bytes) -> str:
    """Give the base64 SHA-256 of an artifact, as Lambda reports it in ``CodeSha256``."""
    return base64.b64encode(hashlib.sha256(zip_bytes).digest()).decode()


def stored_arrays(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Give the arrays as they are stored: in float32 or half precision, centre and scale on their grid.

    Raises ArtifactError where rounding would change one.
    """
    rounded = {name: _float32(name, values) for name, values in arrays.items()}
    try:
        profile = quantise.encode(rounded.pop("center"), rounded.pop("scale"))
    except KeyError as error:
        raise ArtifactError(f"array {error} is missing: a model needs centre and scale of its baselines") from error
    except quantise.GridError as error:
        raise ArtifactError(str(error)) from error
    return {**{name: _narrowest(values) for name, values in rounded.items()}, **profile}


def _narrowest(values: np.ndarray) -> np.ndarray:
    """Give the values in half precision where that holds each of them exactly."""
    with np.errstate(over="ignore"):
        half = values.astype(FLOAT16)
    return half if np.array_equal(half, values) else values


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
    return {
        f"{CODE_PACKAGE}/{path.relative_to(package).as_posix()}": shipped(path.read_text(encoding="utf-8")).encode()
        for path in package.rglob("*.py")
    }

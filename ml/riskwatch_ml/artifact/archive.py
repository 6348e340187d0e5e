"""The artifact: a model and the code that serves it, in one reproducible zip.

Everything inside is data or reviewed source: JSON, little-endian numbers, their SHA-256 sums and the modules of the
inference function. Members are stored uncompressed and sorted, with fixed dates and modes, so no library version
changes the bytes. The digest of the zip is the name under which a model is promoted, run and rolled back to.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import zipfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

import numpy as np

import riskwatch_lambda
from riskwatch_lambda.model.document import ARRAYS_FILE, DOCUMENT_FILE, FILES, SUMS_FILE, ModelError, from_files, sums
from riskwatch_lambda.model.kinds import KINDS
from riskwatch_ml.artifact import quantise
from riskwatch_ml.artifact.minify import shipped, stored_zip
from riskwatch_ml.core.errors import OperationError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CODE_PACKAGE = "riskwatch_lambda"
MODEL_DIRECTORY = "model"
FLOAT16, FLOAT32 = np.dtype("<f2"), np.dtype("<f4")

Json = dict[str, Any]
"""A model document. The archive reads only its key `arrays`; `riskwatch_ml.model.document`, above, types the rest."""


class ArtifactError(OperationError):
    """An artifact cannot be built, or its bytes are not an intact artifact."""


class KnownNames(NamedTuple):
    """The instances and the roles of which a model has a baseline."""

    instances: frozenset[str]
    roles: frozenset[str]


class StoredArray(TypedDict):
    """The place of an array in `model.bin`.

    `type` is a NumPy type without its byte order, `offset` is in bytes.
    """

    type: str
    offset: int
    shape: list[int]


def pack(document: Mapping[str, object], arrays: Mapping[str, np.ndarray]) -> bytes:
    """Return the zip of a model; equal content gives equal bytes.

    The function's own loader reads the model before it is packed.

    Parameters
    ----------
    document
        The model document without its key `arrays`, which this function adds.
    arrays
        Arrays by name, with values that float32 represents exactly. Arrays that half precision also represents exactly,
        such as prototypes, are stored in half precision. `center` and `scale` (n_baselines, slots, width) lie on the
        grid of `riskwatch_ml.artifact.quantise`. Parameters are rounded before anything is computed with them, not
        here. The names of a further part (`riskwatch_ml.artifact.parts`) begin with its kind and a slash.

    Raises
    ------
    ArtifactError
        Rounding would change a value, or the function would refuse the model.
    """
    return pack_stored(document, stored_arrays(arrays))


def pack_stored(document: Mapping[str, object], stored: Mapping[str, np.ndarray]) -> bytes:
    """Return the zip of a model with arrays as `stored_arrays` returns them; see `pack`."""
    index: dict[str, StoredArray] = {}
    parts: list[bytes] = []
    offset = 0
    for name, values in sorted(stored.items()):
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


def unpack(zip_bytes: bytes) -> tuple[Json, dict[str, np.ndarray]]:
    """Return the document of an artifact, and its arrays by name as float32.

    The document and the arrays are those of all parts; `riskwatch_ml.artifact.parts` splits them. Raises ArtifactError
    as `unpack_stored` does.
    """
    document, stored = unpack_stored(zip_bytes)
    arrays = {}
    for prefix, part in _by_prefix(stored).items():
        center, scale = quantise.decode(part)
        values = {name: array for name, array in part.items() if name not in quantise.STORED}
        for name, array in {**values, "center": center, "scale": scale}.items():
            arrays[prefix + name] = array.astype(FLOAT32)
    return document, arrays


def unpack_stored(zip_bytes: bytes) -> tuple[Json, dict[str, np.ndarray]]:
    """Return the document of an artifact, and its arrays by name with the types and values of `model.bin`.

    Raises ArtifactError if the bytes are not a zip with a model, if a file differs from the packed one, or if the
    function would refuse the model.
    """
    files = model_files(zip_bytes)
    try:
        from_files(files)
    except ModelError as error:
        raise ArtifactError(f"the function would refuse this model: {error}") from error
    document: Json = json.loads(files[DOCUMENT_FILE])
    index: dict[str, StoredArray] = document["arrays"]
    stored = {
        name: np.frombuffer(
            files[ARRAYS_FILE], "<" + entry["type"], int(np.prod(entry["shape"])), entry["offset"]
        ).reshape(entry["shape"])
        for name, entry in index.items()
    }
    return document, stored


def model_files(zip_bytes: bytes) -> dict[str, bytes]:
    """Return the files of the model in an artifact, by name.

    Raises ArtifactError if the bytes are not such a zip.
    """
    return _files(zip_bytes, FILES)


def _files(zip_bytes: bytes, names: Sequence[str]) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(io.BytesIO(zip_bytes)) as archive:
            return {name: archive.read(f"{MODEL_DIRECTORY}/{name}") for name in names}
    except zipfile.BadZipFile as error:
        raise ArtifactError(f"the artifact is damaged: {error}") from error
    except KeyError as error:
        raise ArtifactError(f"the artifact does not hold all of {', '.join(names)}: is it another zip?") from error


def document(zip_bytes: bytes) -> Json:
    """Return the document of an artifact as it is stored; nothing is checked.

    Raises ArtifactError if the bytes are not a zip with a model.
    """
    stored: Json = json.loads(_files(zip_bytes, (DOCUMENT_FILE,))[DOCUMENT_FILE])
    return stored


def known_names(zip_bytes: bytes) -> KnownNames:
    """Return the instances and roles of all kinds of which the model of an artifact has a baseline.

    Raises ArtifactError if the bytes are not a zip with a model.
    """
    whole = document(zip_bytes)
    baselines = [part["baselines"] for part in (whole, *whole.get(KINDS, {}).values())]
    names = (frozenset(name for part in baselines for name in part[group]) for group in KnownNames._fields)
    return KnownNames(*names)


def unzip(zip_bytes: bytes, directory: Path) -> None:
    """Write the files of an artifact into a directory.

    Lambda does the same before it starts the function.
    """
    with zipfile.ZipFile(io.BytesIO(zip_bytes)) as archive:
        archive.extractall(directory)


def checksum(zip_bytes: bytes) -> str:
    """Return the hex SHA-256 of an artifact: its name in keys, tags and the ledger."""
    return hashlib.sha256(zip_bytes).hexdigest()


def code_sha256(zip_bytes: bytes) -> str:
    """Return the base64 SHA-256 of an artifact, as Lambda reports it in `CodeSha256`."""
    return base64.b64encode(hashlib.sha256(zip_bytes).digest()).decode()


def checksum_of(code_sha256: str) -> str:
    """Return the hex SHA-256 for a `CodeSha256` of Lambda."""
    return base64.b64decode(code_sha256).hex()


def stored_arrays(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the arrays as they are stored.

    They are in float32 or half precision, with centre and scale as counts on their grid. Raises ArtifactError if
    rounding would change a value.
    """
    stored: dict[str, np.ndarray] = {}
    for prefix, part in _by_prefix(arrays).items():
        rounded = {name: _float32(prefix + name, values) for name, values in part.items()}
        try:
            profile = quantise.encode(rounded.pop("center"), rounded.pop("scale"))
        except KeyError as error:
            raise ArtifactError(f"array {error} is missing: a model needs centre and scale of its baselines") from error
        except quantise.GridError as error:
            raise ArtifactError(str(error)) from error
        narrow = {name: _narrowest(values) for name, values in rounded.items()}
        stored |= {prefix + name: values for name, values in {**narrow, **profile}.items()}
    return stored


def _by_prefix(arrays: Mapping[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """Return the arrays of each part by its prefix, which is empty for the first part."""
    groups: dict[str, dict[str, np.ndarray]] = {}
    for full, values in arrays.items():
        kind, slash, name = full.rpartition("/")
        groups.setdefault(kind + slash, {})[name] = values
    return groups


def _narrowest(values: np.ndarray) -> np.ndarray:
    """Return the values in half precision if that represents each of them exactly."""
    with np.errstate(over="ignore"):
        half = values.astype(FLOAT16)
    return half if np.array_equal(half, values) else values


def _float32(name: str, values: np.ndarray) -> np.ndarray:
    original = np.asarray(values)
    if original.dtype.kind not in "fiu":
        raise ArtifactError(f"array {name!r} has dtype {original.dtype}, expected numbers")
    with np.errstate(over="ignore"):
        rounded = original.astype(FLOAT32)
    if not np.array_equal(rounded.astype(np.float64), original.astype(np.float64)):
        raise ArtifactError(f"array {name!r} holds values that float32 does not: round parameters before using them")
    return rounded


@cache
def _code() -> Mapping[str, bytes]:
    """Return the minified modules of the function, by their names in the zip; they are read once per process."""
    package = Path(riskwatch_lambda.__path__[0])
    return {
        f"{CODE_PACKAGE}/{path.relative_to(package).as_posix()}": shipped(path.read_text(encoding="utf-8")).encode()
        for path in package.rglob("*.py")
    }

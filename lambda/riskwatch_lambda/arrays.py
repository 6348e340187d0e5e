"""The model's numbers: named float32 arrays, little-endian, in one binary file whose hash and layout are verified."""

from __future__ import annotations

import hashlib
import math
import sys
from array import array
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ITEM_BYTES = 4


class ArrayError(ValueError):
    """The binary file of a model is not what its document says."""


class ArrayFile:
    """Read access to the arrays of a ``model.bin``.

    ``index`` maps a name to ``{"offset": bytes, "shape": [...]}``; ``sha256`` is the hex digest of ``blob``.
    Raises ArrayError when the digest differs, or when the entries do not cover the file exactly, without overlap.
    """

    def __init__(self, index: Mapping[str, Any], sha256: str, blob: bytes) -> None:
        actual = hashlib.sha256(blob).hexdigest()
        if actual != sha256:
            raise ArrayError(
                f"model.bin has sha256 {actual}, the document says {sha256}: build or fetch the artifact again"
            )
        self._blob = memoryview(blob)
        self._entries = {name: _entry(name, value) for name, value in index.items()}
        position = 0
        for name, (offset, shape) in sorted(self._entries.items(), key=lambda item: (item[1][0], item[0])):
            if offset != position:
                raise ArrayError(f"array {name!r} starts at byte {offset}, the array before it ends at {position}")
            position += math.prod(shape) * ITEM_BYTES
        if position != len(blob):
            raise ArrayError(f"the arrays take {position} bytes, model.bin has {len(blob)}")

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Give the shape of every array by name."""
        return {name: shape for name, (_, shape) in self._entries.items()}

    def take(self, name: str, shape: Sequence[int | None]) -> array[float]:
        """Give the values of an array, flat and in C order; ``None`` in ``shape`` accepts any length of at least 1.

        Raises ArrayError when the array is absent, has another shape or holds a value that is not finite.
        """
        if name not in self._entries:
            raise ArrayError(f"array {name!r} is used by the document and absent from model.bin")
        offset, actual = self._entries[name]
        fits = len(actual) == len(shape) and all(
            have == want if want is not None else have >= 1 for have, want in zip(actual, shape, strict=True)
        )
        if not fits:
            raise ArrayError(f"array {name!r} has shape {list(actual)}, expected {list(shape)} (None: any length)")
        values = array("f")
        values.frombytes(self._blob[offset : offset + math.prod(actual) * ITEM_BYTES])
        if sys.byteorder == "big":
            values.byteswap()
        # One infinite or undefined value makes the sum so; float32 values cannot overflow a float64 sum.
        if not math.isfinite(sum(values)):
            raise ArrayError(f"array {name!r} holds a value that is not finite")
        return values


def _entry(name: str, value: object) -> tuple[int, tuple[int, ...]]:
    """Check one entry of the index and give its offset and shape."""
    offset, shape = (value.get("offset"), value.get("shape")) if isinstance(value, dict) else (None, None)
    if (
        type(offset) is not int
        or not isinstance(shape, list)
        or any(type(size) is not int or size < 0 for size in shape)
    ):
        raise ArrayError(f"array {name!r} needs an offset in bytes and a shape, found {value!r}")
    return offset, tuple(shape)

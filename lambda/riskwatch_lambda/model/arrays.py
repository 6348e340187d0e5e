"""Arrays of the model: one binary file with a verified layout.

They are named and little-endian, and read without a copy.
"""

from __future__ import annotations

import math
import struct
import sys
from array import array
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Type names of the index, and the type codes of Python's ``array`` and ``struct``.
FLOAT16, FLOAT32, UINT16 = "f2", "f4", "u2"
CODES = {FLOAT16: "e", FLOAT32: "f", UINT16: "H"}


class ArrayError(ValueError):
    """The binary file of a model contradicts its document."""


class Entry(NamedTuple):
    """Position of an array in the file: type, first byte, shape."""

    type: str
    offset: int
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Return the number of bytes."""
        return math.prod(self.shape) * int(self.type[1:])


class ArrayFile:
    """Read access to the arrays of a ``model.bin``.

    Only half-precision arrays are copied. ``index`` maps a name to ``{"type": "f2", "f4" or "u2", "offset": bytes,
    "shape": [...]}``. Raises ArrayError if the entries do not cover the file exactly and without overlap.
    """

    def __init__(self, index: Mapping[str, object], blob: bytes) -> None:
        self._blob = memoryview(blob)
        self._entries = {name: _entry(name, value) for name, value in index.items()}
        position = 0
        for name, entry in sorted(self._entries.items(), key=lambda item: (item[1].offset, item[1].size)):
            if entry.offset != position:
                raise ArrayError(
                    f"array {name!r} starts at byte {entry.offset}, the array before it ends at {position}"
                )
            position += entry.size
        if position != len(blob):
            raise ArrayError(f"the arrays take {position} bytes, model.bin has {len(blob)}")

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def under(self, prefix: str) -> ArrayFile:
        """Return access to the arrays with names that begin with a prefix, by the rest of their names."""
        part = ArrayFile.__new__(ArrayFile)
        part._blob = self._blob
        part._entries = {
            name.removeprefix(prefix): entry for name, entry in self._entries.items() if name.startswith(prefix)
        }
        return part

    def floats(self, name: str, shape: Sequence[int | None]) -> Sequence[float]:
        """Return the values of a float array, flat in C order.

        None in ``shape`` accepts any length from 1. Raises ArrayError if the array is absent, has another type or
        shape, or contains a value that is not finite.
        """
        entry = self._entries.get(name)
        values: Sequence[float]
        if entry is not None and entry.type == FLOAT16:
            part = self._take(name, FLOAT16, shape)
            values = struct.unpack(f"<{len(part) // 2}e", part)
        else:
            values = self._take(name, FLOAT32, shape).cast("f")
        # One infinite value or NaN makes the sum infinite or NaN; float32 values cannot overflow a float64 sum.
        if not math.isfinite(sum(values)):
            raise ArrayError(f"array {name!r} holds a value that is not finite")
        return values

    def integers(self, name: str, shape: Sequence[int]) -> memoryview[int]:
        """Return the values of an array of 16-bit counts, flat in C order.

        Raises ArrayError as ``floats`` does.
        """
        return self._take(name, UINT16, shape).cast("H")

    def _take(self, name: str, kind: str, shape: Sequence[int | None]) -> memoryview[int]:
        """Return the bytes of an array in the byte order of this machine."""
        if name not in self._entries:
            raise ArrayError(f"array {name!r} is used by the document and absent from model.bin")
        entry = self._entries[name]
        fits = len(entry.shape) == len(shape) and all(
            have == want if want is not None else have >= 1 for have, want in zip(entry.shape, shape, strict=True)
        )
        if not fits or entry.type != kind:
            raise ArrayError(
                f"array {name!r} is {entry.type} {list(entry.shape)}, expected {kind} {list(shape)} (None: any length)"
            )
        part = self._blob[entry.offset : entry.offset + entry.size]
        if sys.byteorder == "little" or kind == FLOAT16:
            return part
        swapped = array(CODES[kind], bytes(part))
        swapped.byteswap()
        return memoryview(swapped).cast("B")


def _entry(name: str, value: object) -> Entry:
    """Return one entry of the index; raises ArrayError if it is malformed."""
    kind, offset, shape = (
        (value.get(key) for key in ("type", "offset", "shape")) if isinstance(value, dict) else [None] * 3
    )
    if (
        not isinstance(kind, str)
        or kind not in CODES
        or type(offset) is not int
        or not isinstance(shape, list)
        or any(type(size) is not int or size < 0 for size in shape)
    ):
        raise ArrayError(f"array {name!r} needs a type, an offset in bytes and a shape, found {value!r}")
    return Entry(kind, offset, tuple(shape))

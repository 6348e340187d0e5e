"""Centre and scale by slot, as 16-bit counts on a grid.

A column is one feature of one baseline over 24 slots, the hours, or 54 with day types. Its values are multiples of a
power of two, which is chosen so that their span has at most 60,000 steps: far finer than the mean of an hour can be
known. The artifact stores such a column as its minimum, the step, and the counts of steps above the minimum: half the
bytes of float32, and exact in float32 and float64. A column that does not depend on the slot is stored as its minimum
only, and a baseline without day types with the counts of 24 slots.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from riskwatch_lambda.model.baselines import BASE, COUNTS, DAY_TYPE_COUNTS, DAY_TYPES, STEP
from riskwatch_lambda.model.seasons import DAY_SLOTS, HOURS, SLOTS
from riskwatch_ml.core.errors import OperationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from riskwatch_ml.core.arrays import BoolArray, FloatArray

STORED = (BASE, STEP, COUNTS, DAY_TYPES, DAY_TYPE_COUNTS)
MAX_COUNTS = 65_535
# Fewer than MAX_COUNTS: rounding may add a step to the span, and the rounded values must give the same grid.
MAX_STEPS = 60_000
FLOAT32_BITS = 24
MIN_EXPONENT = -126


class GridError(OperationError):
    """Centre or scale is not on the grid: it was not rounded after the fit."""


def on_grid(values: FloatArray, *, positive: bool = False) -> FloatArray:
    """Return the values (n, slots, d) rounded to the grid of the artifact.

    Values that are `positive` stay above zero.
    """
    spread = np.ptp(values, axis=1, keepdims=True)
    # The grid is not finer than float32 at this magnitude.
    magnitude = np.frexp(np.abs(values).max(axis=1, keepdims=True))[1] - FLOAT32_BITS
    exponent = np.maximum(np.maximum(_exponent(spread / MAX_STEPS), magnitude), MIN_EXPONENT)
    step = np.ldexp(1.0, exponent)
    rounded = np.rint(values / step) * step
    if positive:
        rounded = np.maximum(rounded, step)
    constant = values[:, :1].astype(np.float32).astype(np.float64)
    return np.where(spread > 0, rounded, constant)


def has_day_types(center: FloatArray, scale: FloatArray) -> BoolArray:
    """Return which baselines have day types, (n,): centre and scale, both (n, 54, d), depend on more than the hour."""
    hours = np.arange(center.shape[1]) % DAY_SLOTS % HOURS
    both = (center, scale)
    typed: BoolArray = np.any([(part != part[:, hours]).any(axis=(1, 2)) for part in both], axis=0)
    return typed


def encode(center: FloatArray, scale: FloatArray) -> dict[str, NDArray[np.float32] | NDArray[np.uint16]]:
    """Return the stored arrays of centre and scale, both (n, slots, d) with 24 or 54 slots.

    Raises GridError if a value is not on the grid.
    """
    values = np.stack([center, scale], axis=1, dtype=np.float64).transpose(0, 1, 3, 2)  # (n, 2, d, slots)
    base = values.min(axis=-1)
    spread = np.ptp(values, axis=-1)
    varies = spread > 0
    step = np.where(varies, np.ldexp(1.0, np.maximum(_exponent(spread / MAX_COUNTS), MIN_EXPONENT)), 0.0)
    counts = np.rint((values - base[..., None]) / np.where(varies, step, 1.0)[..., None]).astype(np.uint16)
    typed = has_day_types(center, scale)
    stored = {
        BASE: base.astype(np.float32),
        STEP: step.astype(np.float32),
        COUNTS: counts[~typed][varies[~typed]][:, :HOURS],
    }
    if typed.any():
        stored |= {DAY_TYPES: typed.astype(np.uint16), DAY_TYPE_COUNTS: counts[typed][varies[typed]]}
    if not np.array_equal(np.stack(decode(stored)), np.stack([center, scale])):
        raise GridError("centre or scale is not on the grid of the artifact: round with on_grid before using them")
    return stored


def decode(stored: Mapping[str, NDArray[np.float32] | NDArray[np.uint16]]) -> tuple[FloatArray, FloatArray]:
    """Return centre and scale, both (n, slots, d), from the stored arrays: 24 slots, or 54 with any day types."""
    base, step = stored[BASE].astype(np.float64), stored[STEP].astype(np.float64)
    typed = stored.get(DAY_TYPES, np.zeros(len(base), np.uint16)) > 0
    slots = SLOTS if typed.any() else HOURS
    counts = np.zeros((*base.shape, slots))
    varies = step > 0
    plain, of_types = varies & ~typed[:, None, None], varies & typed[:, None, None]
    counts[plain] = stored[COUNTS][:, np.arange(slots) % DAY_SLOTS % HOURS]
    if typed.any():
        counts[of_types] = stored[DAY_TYPE_COUNTS]
    both = (base[..., None] + step[..., None] * counts).transpose(0, 1, 3, 2)
    return both[:, 0], both[:, 1]


def _exponent(values: FloatArray) -> NDArray[np.int32]:
    """Return the smallest k with 2**k >= value; any k for 0."""
    fraction, exponent = np.frexp(values)
    least: NDArray[np.int32] = np.where(fraction == 0.5, exponent - 1, exponent)
    return least

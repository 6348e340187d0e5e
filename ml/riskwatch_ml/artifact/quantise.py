"""Centre and scale by hour on a grid of 16 bits a column: how the artifact holds them, and the rounding that allows it.

A column is one feature of one baseline over 24 hours. Its values are multiples of a power of two, chosen so that the
span of the day has at most 60,000 steps, which is far finer than an hour's mean can be known. Such a column is stored
as its least value, the step, and 24 counts of steps above the least: half the bytes of float32, exact in float32 and
float64. A column that does not depend on the hour is its least value alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from riskwatch_lambda.model.baselines import BASE, COUNTS, HOURS, STEP
from riskwatch_ml.core.errors import OperationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from riskwatch_ml.core.arrays import FloatArray

STORED = (BASE, STEP, COUNTS)
MOST_COUNTS = 65_535
# Rounding may widen the day by a step: so that the same grid is found again in what was rounded to it.
MOST_STEPS = 60_000
FLOAT32_BITS = 24
LEAST_EXPONENT = -126


class GridError(OperationError):
    """Profiles that do not lie on the grid: they were not rounded where they were fitted."""


def on_grid(values: FloatArray, *, positive: bool = False) -> FloatArray:
    """The values (n, 24, d) as the artifact will hold them; ``positive`` ones stay above zero."""
    spread = np.ptp(values, axis=1, keepdims=True)
    # No finer than float32 at this size, either.
    size = np.frexp(np.abs(values).max(axis=1, keepdims=True))[1] - FLOAT32_BITS
    exponent = np.maximum(np.maximum(_exponent(spread / MOST_STEPS), size), LEAST_EXPONENT)
    step = np.ldexp(1.0, exponent)
    rounded = np.rint(values / step) * step
    if positive:
        rounded = np.maximum(rounded, step)
    still = values[:, :1].astype(np.float32).astype(np.float64)
    return np.where(spread > 0, rounded, still)


def encode(center: FloatArray, scale: FloatArray) -> dict[str, NDArray[np.float32] | NDArray[np.uint16]]:
    """The stored arrays of centre and scale, both (n, 24, d); raises GridError where they are not on the grid."""
    values = np.stack([center, scale], axis=1, dtype=np.float64).transpose(0, 1, 3, 2)  # (n, 2, d, 24)
    base = values.min(axis=-1)
    spread = np.ptp(values, axis=-1)
    hourly = spread > 0
    step = np.where(hourly, np.ldexp(1.0, np.maximum(_exponent(spread / MOST_COUNTS), LEAST_EXPONENT)), 0.0)
    counts = ((values - base[..., None]) / np.where(hourly, step, 1.0)[..., None])[hourly]
    stored = {
        BASE: base.astype(np.float32),
        STEP: step.astype(np.float32),
        COUNTS: np.rint(counts).astype(np.uint16).reshape(-1, HOURS),
    }
    if not np.array_equal(np.stack(decode(stored)), np.stack([center, scale])):
        raise GridError("centre or scale is not on the grid of the artifact: round with on_grid before using them")
    return stored


def decode(stored: Mapping[str, NDArray[np.float32] | NDArray[np.uint16]]) -> tuple[FloatArray, FloatArray]:
    """Centre and scale, both (n, 24, d), of the stored arrays."""
    base, step = stored[BASE].astype(np.float64), stored[STEP].astype(np.float64)
    values = np.repeat(base[..., None], HOURS, axis=-1)
    values[step > 0] += step[step > 0][:, None] * stored[COUNTS]
    both = values.transpose(0, 1, 3, 2)
    return both[:, 0], both[:, 1]


def _exponent(values: FloatArray) -> NDArray[np.int32]:
    """Least k with 2**k >= value; for 0 any."""
    fraction, exponent = np.frexp(values)
    least: NDArray[np.int32] = np.where(fraction == 0.5, exponent - 1, exponent)
    return least

"""Array types, and rounding to what a file holds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


def float32(values: FloatArray) -> FloatArray:
    """The same numbers as a float32 file will hold them, as float64."""
    rounded: FloatArray = np.asarray(values, np.float64).astype(np.float32).astype(np.float64)
    return rounded


def float16(values: FloatArray) -> FloatArray:
    """The same numbers to eleven binary digits, as a file in half precision will hold them, as float64.

    For squashed deviations alone: a ten thousandth of a unit where most values lie, at most 65,504.
    """
    rounded: FloatArray = np.asarray(values, np.float64).astype(np.float16).astype(np.float64)
    return rounded

"""Array types, and rounding to the precision of a file."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


def float32(values: FloatArray) -> FloatArray:
    """Return the values as float64, rounded to float32 precision."""
    rounded: FloatArray = np.asarray(values, np.float64).astype(np.float32).astype(np.float64)
    return rounded


def float16(values: FloatArray) -> FloatArray:
    """Return the values as float64, rounded to half precision (eleven binary digits).

    Use only for squashed deviations: the resolution is about 1e-4 near their usual size, the maximum is 65,504.
    """
    rounded: FloatArray = np.asarray(values, np.float64).astype(np.float16).astype(np.float64)
    return rounded

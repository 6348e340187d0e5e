"""Rounding to the precision of a file."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from riskwatch_ml.core.arrays import float16, float32

VALUES = arrays(np.float64, st.integers(0, 5), elements=st.floats(-60_000, 60_000))


@given(VALUES)
def test_a_file_keeps_what_was_rounded_to_it(values):
    # GIVEN / WHEN / THEN rounded values are float64, survive the file, and do not change again
    for rounded, dtype in ((float32(values), np.float32), (float16(values), np.float16)):
        assert rounded.dtype == np.float64
        assert np.array_equal(rounded.astype(dtype).astype(np.float64), rounded)


@given(VALUES)
def test_rounding_is_small(values):
    # GIVEN / WHEN / THEN half precision has eleven binary digits, float32 has 24
    assert np.allclose(float32(values), values, rtol=2.0**-24, atol=1e-38)
    assert np.allclose(float16(values), values, rtol=2.0**-11, atol=1e-7)

import numpy as np
import pytest


@pytest.fixture(scope="session")
def blobs():
    """Return a maker of three well separated blobs: vectors, and the blob of each."""

    def make(n=900, d=4, seed=0):
        rng = np.random.default_rng(seed)
        centers = np.array([[0.0] * d, [8.0] * d, [-8.0] + [8.0] * (d - 1)])
        truth = np.arange(n) % 3
        return centers[truth] + rng.normal(0, 0.5, (n, d)), truth

    return make

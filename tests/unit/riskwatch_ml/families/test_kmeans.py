"""KMeans: centroids in half precision."""

import numpy as np

from riskwatch_ml.families import FAMILIES


def test_centroids_that_half_precision_cannot_tell_apart_are_one():
    # GIVEN values of which two round to the same
    x = np.repeat([[1.0], [1.0 + 1e-9], [5.0]], 20, axis=0)
    # WHEN
    fit = FAMILIES["kmeans"](x, {"budget": 3, "clusters": 3}, 0)
    # THEN the map gives every row the label of its centroid
    assert fit.params["clusters"] == fit.map.size == 2
    assert fit.figures["fidelity"] == 1.0

"""Ensemble: more dense regions than prototypes."""

import numpy as np

from riskwatch_ml.families import FAMILIES


def test_the_ensemble_copes_with_more_dense_regions_than_prototypes():
    # GIVEN nine dense regions, and four prototypes for DBSCAN's stage
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(50 * place, 0.5, (300, 3)) for place in range(9)])
    # WHEN
    fit = FAMILIES["ensemble"](x, {"budget": 8, "clusters": 8, "eps": 5.0}, 0)
    # THEN the regions without a prototype are labelled as others, which fidelity tells
    assert fit.params["dbscan_clusters"] == 9
    assert fit.map.size <= 8
    assert 0 < fit.figures["fidelity"] < 1

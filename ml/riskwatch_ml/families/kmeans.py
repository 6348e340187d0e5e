"""KMeans: centroids are the prototypes.

The number of clusters is the elbow of the inertia, unless the settings give it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from riskwatch_ml.core.arrays import float16
from riskwatch_ml.families.base import Curves, Family, FamilyFit, FitSettings, draw, fitted
from riskwatch_ml.families.condense import fewer_clusters
from riskwatch_ml.families.prototype_map import PrototypeMap, make_stage
from riskwatch_ml.families.search import by_elbow, candidate_clusters

if TYPE_CHECKING:
    from riskwatch_ml.core.arrays import FloatArray

SAMPLE = 6_000


def fit(x: FloatArray, settings: FitSettings, seed: int) -> FamilyFit:
    """Fit vectors (n, d) with k-means++ on at most 6,000 of them.

    The number of clusters is ``settings.clusters``, else the elbow of 24..48; fewer different vectors give fewer
    clusters. Takes O(n k d) time per pass.
    """
    sample = draw(x, SAMPLE, settings, seed)
    curves: Curves = {}
    if settings.clusters:
        model = _model(sample.x, sample.most, seed, n_init=1)
    else:
        models = {k: _model(sample.x, k, seed, n_init=2) for k in candidate_clusters(sample.most)}
        costs, labels = ({k: getattr(m, name) for k, m in models.items()} for name in ("inertia_", "labels_"))
        clusters, curves["kmeans"] = by_elbow(sample.x, costs, labels, seed)
        model = models[clusters]
    # Centroids that are equal in half precision become one prototype: the map could not give the label of the second.
    centroids, merged = np.unique(float16(model.cluster_centers_), axis=0, return_inverse=True)
    return fitted(
        PrototypeMap((make_stage(centroids, np.arange(len(centroids))),)),
        sample,
        merged.ravel()[model.labels_].astype(np.int64),
        params={"clusters": len(centroids)},
        figures={"inertia": float(model.inertia_)},
        curves=curves,
    )


def _model(x: FloatArray, clusters: int, seed: int, n_init: int) -> Any:
    from sklearn.cluster import KMeans

    with fewer_clusters():
        return KMeans(clusters, n_init=n_init, max_iter=40, tol=1e-3, random_state=seed).fit(x)


FAMILY = Family("kmeans", fit, cost=("Inertia", "sum of squared distances to the means"))

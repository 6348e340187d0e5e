"""KMedoids: real rows are the prototypes. Fitted to a sample, since the full matrix of distances is kept."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from riskwatch_ml.families.base import Curves, Family, FamilyFit, Params, draw, fitted
from riskwatch_ml.families.prototype_map import ClusterMap, make_stage, nearest
from riskwatch_ml.families.search import by_elbow, candidate_clusters

if TYPE_CHECKING:
    from riskwatch_ml.core.arrays import FloatArray

SAMPLE = 2_500


def fit(x: FloatArray, params: Params, seed: int) -> FamilyFit:
    """Fit vectors (n, d) on at most 2,500 of them: ``params["clusters"]`` medoids or the elbow of 24..48.

    O(n squared) time and memory in the sample (50 MB). Fewer different vectors than clusters give fewer clusters.
    """
    from scipy.spatial.distance import pdist, squareform

    sample = draw(x, SAMPLE, params, seed)
    distances = squareform(pdist(sample.x))
    curves: Curves = {}
    if params.get("clusters"):
        model = _model(distances, sample.most, seed)
    else:
        models = {k: _model(distances, k, seed) for k in candidate_clusters(sample.most)}
        costs, found = ({k: getattr(m, name) for k, m in models.items()} for name in ("inertia_", "labels_"))
        clusters, curves["kmedoids"] = by_elbow(sample.x, costs, found, seed)
        model = models[clusters]
    medoids = np.unique(model.medoid_indices_)
    stage = make_stage(sample.x[medoids], np.arange(len(medoids)))
    return fitted(
        ClusterMap((stage,)),
        sample,
        medoids.searchsorted(model.medoid_indices_[model.labels_]).astype(np.int64),
        params={"clusters": len(medoids)},
        figures={"inertia": float(nearest(sample.x, stage.prototypes)[1].sum())},
        curves=curves,
    )


def _model(distances: FloatArray, clusters: int, seed: int) -> Any:
    from sklearn_extra.cluster import KMedoids

    with warnings.catch_warnings():
        # An empty cluster is dropped below; sklearn_extra warns of it and goes on.
        warnings.simplefilter("ignore")
        return KMedoids(
            clusters, metric="precomputed", method="alternate", init="k-medoids++", max_iter=50, random_state=seed
        ).fit(distances)


FAMILY = Family("kmedoids", fit, cost=("Cost", "sum of distances to the medoids"))

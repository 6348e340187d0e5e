"""KMedoids: real rows are the prototypes.

It is fitted to a sample, because it needs the full matrix of distances.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from riskwatch_ml.families.base import Curves, Family, FamilyFit, FitSettings, draw, fitted
from riskwatch_ml.families.prototype_map import PrototypeMap, make_stage, nearest
from riskwatch_ml.families.search import by_elbow, candidate_clusters

if TYPE_CHECKING:
    from riskwatch_ml.core.arrays import FloatArray

SAMPLE = 2_500


def fit(x: FloatArray, settings: FitSettings, seed: int) -> FamilyFit:
    """Fit vectors (n, d) on at most 2,500 of them.

    The number of medoids is ``settings.clusters``, else the elbow of 24..48; fewer different vectors give fewer
    medoids. Takes O(n squared) time and memory in the sample (50 MB).
    """
    from scipy.spatial.distance import pdist, squareform

    sample = draw(x, SAMPLE, settings, seed)
    distances = squareform(pdist(sample.x))
    curves: Curves = {}
    if settings.clusters:
        model = _model(distances, sample.most, seed)
    else:
        models = {k: _model(distances, k, seed) for k in candidate_clusters(sample.most)}
        costs, labels = ({k: getattr(m, name) for k, m in models.items()} for name in ("inertia_", "labels_"))
        clusters, curves["kmedoids"] = by_elbow(sample.x, costs, labels, seed)
        model = models[clusters]
    medoids = np.unique(model.medoid_indices_)
    stage = make_stage(sample.x[medoids], np.arange(len(medoids)))
    return fitted(
        PrototypeMap((stage,)),
        sample,
        medoids.searchsorted(model.medoid_indices_[model.labels_]).astype(np.int64),
        params={"clusters": len(medoids)},
        figures={"inertia": float(nearest(sample.x, stage.prototypes)[1].sum())},
        curves=curves,
    )


def _model(distances: FloatArray, clusters: int, seed: int) -> Any:
    from sklearn_extra.cluster import KMedoids

    with warnings.catch_warnings():
        # sklearn_extra warns of empty clusters; the caller drops them.
        warnings.simplefilter("ignore")
        return KMedoids(
            clusters, metric="precomputed", method="alternate", init="k-medoids++", max_iter=50, random_state=seed
        ).fit(distances)


FAMILY = Family("kmedoids", fit, cost=("Cost", "sum of distances to the medoids"))

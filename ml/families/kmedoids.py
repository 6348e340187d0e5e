"""KMedoids: real rows are the prototypes. Fitted to a sample, since the full matrix of distances is kept."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from ml.families.base import (
    ClusterMap,
    Curves,
    FamilyFit,
    Params,
    agreement,
    candidate_clusters,
    cluster_indices,
    distinct,
    elbow,
    make_stage,
    nearest,
    subsample,
)

if TYPE_CHECKING:
    from ml.features import FloatArray

SAMPLE = 2_500


def fit(x: FloatArray, params: Params, seed: int) -> FamilyFit:
    """Fit vectors (n, d) on at most 2,500 of them: ``params["clusters"]`` medoids or the elbow of 3..9.

    O(n squared) time and memory in the sample (50 MB). Fewer different vectors than clusters give fewer clusters.
    """
    from scipy.spatial.distance import pdist, squareform

    sample = subsample(len(x), min(SAMPLE, params.get("sample", SAMPLE)), seed)
    seen = x[sample]
    most = distinct(seen, params.get("clusters") or params["budget"])
    distances = squareform(pdist(seen))
    curves: Curves = {}
    if params.get("clusters"):
        model = _model(distances, most, seed)
    else:
        ks = candidate_clusters(most)
        models = [_model(distances, k, seed) for k in ks]
        costs = [float(found.inertia_) for found in models]
        indices = [cluster_indices(seen, found.labels_, seed) for found in models]
        model = models[ks.index(elbow(ks, costs))]
        curves["kmedoids"] = {
            "k": [float(k) for k in ks],
            "inertia": costs,
            "silhouette": [found["silhouette"] for found in indices],
            "davies_bouldin": [found["davies_bouldin"] for found in indices],
        }
    medoids = np.unique(model.medoid_indices_)
    stage = make_stage(seen[medoids], np.arange(len(medoids)))
    labels = medoids.searchsorted(model.medoid_indices_[model.labels_]).astype(np.int64)
    cluster_map = ClusterMap((stage,))
    return FamilyFit(
        map=cluster_map,
        sample=sample,
        fitted_labels=labels,
        params={"clusters": len(medoids), "sample": len(seen)},
        figures={
            "fidelity": agreement(labels, cluster_map.assign(seen).labels),
            "inertia": float(nearest(seen, stage.prototypes)[1].sum()),
        },
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

"""KMeans: centroids are the prototypes. The number of clusters is the elbow of the inertia, unless it is given."""

from __future__ import annotations

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
    subsample,
)

if TYPE_CHECKING:
    from ml.features import FloatArray

SAMPLE = 6_000


def fit(x: FloatArray, params: Params, seed: int) -> FamilyFit:
    """Fit vectors (n, d): k-means++ on at most 6,000 of them, ``params["clusters"]`` or the elbow of 3..9.

    O(n k d) a pass. Raises nothing: fewer different vectors than clusters give fewer clusters.
    """
    sample = subsample(len(x), SAMPLE, seed)
    seen = x[sample]
    most = distinct(seen, params.get("clusters") or params["budget"])
    curves: Curves = {}
    if params.get("clusters"):
        model = _model(seen, most, seed, n_init=1)
    else:
        model, curves = _by_elbow(seen, most, seed)
    stage = make_stage(model.cluster_centers_, np.arange(model.n_clusters))
    cluster_map = ClusterMap((stage,))
    labels = model.labels_.astype(np.int64)
    return FamilyFit(
        map=cluster_map,
        sample=sample,
        fitted_labels=labels,
        params={"clusters": int(model.n_clusters), "sample": len(seen)},
        figures={"fidelity": agreement(labels, cluster_map.assign(seen).labels), "inertia": float(model.inertia_)},
        curves=curves,
    )


def _model(x: FloatArray, clusters: int, seed: int, n_init: int) -> Any:
    from sklearn.cluster import KMeans

    return KMeans(clusters, n_init=n_init, max_iter=40, tol=1e-3, random_state=seed).fit(x)


def _by_elbow(x: FloatArray, most: int, seed: int) -> tuple[Any, Curves]:
    ks = candidate_clusters(most)
    models = {k: _model(x, k, seed, n_init=2) for k in ks}
    inertia = [float(models[k].inertia_) for k in ks]
    indices = [cluster_indices(x, models[k].labels_, seed) for k in ks]
    curve = {
        "k": [float(k) for k in ks],
        "inertia": inertia,
        "silhouette": [found["silhouette"] for found in indices],
        "davies_bouldin": [found["davies_bouldin"] for found in indices],
    }
    return models[elbow(ks, inertia)], {"kmeans": curve}

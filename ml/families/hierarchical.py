"""Hierarchical: Ward's tree on a sample, cut at the elbow of its merge heights, served by condensed neighbours."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ml.families.base import (
    ClusterMap,
    Curves,
    FamilyFit,
    Params,
    agreement,
    candidate_clusters,
    cluster_indices,
    condense,
    distinct,
    elbow,
    make_stage,
    subsample,
)

if TYPE_CHECKING:
    from ml.features import FloatArray, IntArray

SAMPLE = 3_000


def fit(x: FloatArray, params: Params, seed: int) -> FamilyFit:
    """Fit vectors (n, d) on at most 3,000 of them; the map has at most ``params["budget"]`` prototypes.

    O(n squared) time and memory in the sample. The tree is cut into ``params["clusters"]`` clusters or at the elbow of
    3..9, and its labels are repeated by a condensed nearest-neighbour set.
    """
    from scipy.cluster.hierarchy import linkage

    sample = subsample(len(x), min(SAMPLE, params.get("sample", SAMPLE)), seed)
    seen = x[sample]
    most = distinct(seen, params.get("clusters") or params["budget"])
    if len(seen) < 2 or most < 2:
        stage = make_stage(seen.mean(axis=0, keepdims=True), [0])
        one = np.zeros(len(seen), np.int64)
        return FamilyFit(ClusterMap((stage,)), sample, one, {"clusters": 1, "sample": len(seen)}, {"fidelity": 1.0})
    tree = linkage(seen, method="ward")
    curves: Curves = {}
    clusters = most
    if not params.get("clusters"):
        clusters, curves = _by_elbow(seen, tree, most, seed)
    labels = _cut(tree, clusters)
    prototypes, owner = condense(seen, labels, params["budget"], seed)
    cluster_map = ClusterMap((make_stage(prototypes, owner),))
    return FamilyFit(
        map=cluster_map,
        sample=sample,
        fitted_labels=labels,
        params={"clusters": clusters, "linkage": "ward", "sample": len(seen)},
        figures={"fidelity": agreement(labels, cluster_map.assign(seen).labels), "height": float(tree[-1, 2])},
        curves=curves,
        linkage=tree,
    )


def _cut(tree: FloatArray, clusters: int) -> IntArray:
    from scipy.cluster.hierarchy import fcluster

    found = fcluster(tree, clusters, criterion="maxclust")
    return np.unique(found, return_inverse=True)[1].astype(np.int64)


def _by_elbow(x: FloatArray, tree: FloatArray, most: int, seed: int) -> tuple[int, Curves]:
    """The elbow of the within-cluster sum of squares that each cut leaves.

    Ward's merge height h of two clusters adds h squared / 2 to that sum.
    """
    ks = candidate_clusters(most)
    added = np.cumsum(tree[:, 2] ** 2 / 2)
    inertia = [float(added[len(added) - k]) if k <= len(added) else 0.0 for k in ks]
    indices = [cluster_indices(x, _cut(tree, k), seed) for k in ks]
    curve = {
        "k": [float(k) for k in ks],
        "inertia": inertia,
        "silhouette": [found["silhouette"] for found in indices],
        "davies_bouldin": [found["davies_bouldin"] for found in indices],
    }
    return elbow(ks, inertia), {"hierarchical": curve}

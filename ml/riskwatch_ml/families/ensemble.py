"""Ensemble: KMeans and DBSCAN label each row, and a KMeans over the pairs of labels gives the final one.

A pair of label numbers is not a place, so each label stands for the mean of its vectors: a row becomes the two means
side by side, and close pairs share a final cluster. Served as two stages and a table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from riskwatch_ml.families import dbscan, kmeans
from riskwatch_ml.families.base import Family, FamilyFit, Params, agreement
from riskwatch_ml.families.condense import fewer_clusters
from riskwatch_ml.families.prototype_map import ClusterMap

if TYPE_CHECKING:
    from riskwatch_ml.core.arrays import FloatArray, IntArray


def fit(x: FloatArray, params: Params, seed: int) -> FamilyFit:
    """Fit vectors (n, d); half of ``params["budget"]`` prototypes go to each stage.

    ``params["kmeans_clusters"]`` and ``params["eps"]`` settle what the two would otherwise choose.
    The fitted labels are KMeans' and DBSCAN's own on DBSCAN's sample. A pair that no row has takes the final cluster
    nearest to it.
    """
    half = max(1, params["budget"] // 2)
    halves = {**params, "budget": half}
    if params.get("clusters"):
        halves["clusters"] = max(1, min(params["clusters"] // 2, half))
    settled = {"clusters": params["kmeans_clusters"]} if params.get("kmeans_clusters") else {}
    first, second = kmeans.fit(x, {**halves, **settled}, seed), dbscan.fit(x, halves, seed)
    seen = x[second.sample]
    one, two = first.map.assign(seen).labels, second.fitted_labels
    final_count = int(first.params["clusters"])
    # A map with fewer prototypes than DBSCAN found clusters has no label for the smallest of them.
    counts = first.map.n_labels, max(second.map.n_labels, int(two.max()) + 1)
    table = _table(seen, one, two, counts, final_count, seed)
    labels = np.array([table[a, b] for a, b in zip(one.tolist(), two.tolist(), strict=True)], np.int64)
    cluster_map = ClusterMap((first.map.stages[0], second.map.stages[0]), table)
    return FamilyFit(
        map=cluster_map,
        sample=second.sample,
        fitted_labels=labels,
        params={
            "kmeans_clusters": first.params["clusters"],
            "dbscan_clusters": second.params["clusters"],
            "eps": second.params["eps"],
            "clusters": cluster_map.n_labels,
            "sample": len(seen),
        },
        figures={
            "fidelity": agreement(labels, cluster_map.assign(seen).labels),
            "inertia": first.figures["inertia"],
            "noise": second.figures["noise"],
        },
        curves={**first.curves, **second.curves},
    )


def _table(
    x: FloatArray, one: IntArray, two: IntArray, counts: tuple[int, int], clusters: int, seed: int
) -> dict[tuple[int, int], int]:
    """Final label of every pair of labels."""
    from sklearn.cluster import KMeans

    pairs = np.array([(a, b) for a in range(counts[0]) for b in range(counts[1])])
    places = np.concatenate([_means(x, one, counts[0])[pairs[:, 0]], _means(x, two, counts[1])[pairs[:, 1]]], axis=1)
    weight = np.bincount(one * counts[1] + two, minlength=len(pairs)).astype(float)
    used = weight > 0
    clusters = min(clusters, len(np.unique(places[used], axis=0)))
    with fewer_clusters():
        model = KMeans(clusters, n_init=3, random_state=seed).fit(places[used], sample_weight=weight[used])
    labels = model.predict(places)
    return {(int(a), int(b)): int(label) for (a, b), label in zip(pairs, labels, strict=True)}


def _means(x: FloatArray, labels: IntArray, count: int) -> FloatArray:
    """Mean vector of each label, (count, d); the overall mean for a label without rows."""
    means = np.repeat(x.mean(axis=0, keepdims=True), count, axis=0)
    for label in np.unique(labels):
        means[label] = x[labels == label].mean(axis=0)
    return means


FAMILY = Family("ensemble", fit, kept=("kmeans_clusters", "eps"))

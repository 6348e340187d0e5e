"""Ensemble: a KMeans over the pairs of labels that KMeans and DBSCAN give.

Label numbers are not coordinates, so each label is represented by the mean of its vectors. A pair of labels becomes the
two means side by side, and close pairs share a final cluster. The map has two stages and a table.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from riskwatch_ml.families import dbscan, kmeans
from riskwatch_ml.families.base import Family, FamilyFit, FitSettings, agreement
from riskwatch_ml.families.condense import fewer_clusters
from riskwatch_ml.families.prototype_map import PrototypeMap

if TYPE_CHECKING:
    from riskwatch_ml.core.arrays import FloatArray, IntArray


def fit(x: FloatArray, settings: FitSettings, seed: int) -> FamilyFit:
    """Fit vectors (n, d); each stage gets half of the budget.

    ``settings.kmeans_clusters`` and ``settings.eps`` replace the searches of the two stages. The fitted labels follow
    from the labels of the KMeans map and of DBSCAN on DBSCAN's sample. A pair without rows gets the nearest final
    cluster.
    """
    half = max(1, settings.budget // 2)
    halves = replace(settings, budget=half)
    if settings.clusters:
        halves = replace(halves, clusters=max(1, min(settings.clusters // 2, half)))
    first = kmeans.fit(x, replace(halves, clusters=settings.kmeans_clusters or halves.clusters), seed)
    second = dbscan.fit(x, halves, seed)
    seen = x[second.sample]
    one, two = first.map.assign(seen).labels, second.fitted_labels
    final_count = int(first.params["clusters"])
    # If DBSCAN found more clusters than its map has prototypes, the map has no label for the smallest of them.
    counts = first.map.n_labels, max(second.map.n_labels, int(two.max()) + 1)
    table = _table(seen, one, two, counts, final_count, seed)
    labels = np.array([table[a, b] for a, b in zip(one.tolist(), two.tolist(), strict=True)], np.int64)
    cluster_map = PrototypeMap((first.map.stages[0], second.map.stages[0]), table)
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
    """Return the final label of every pair of labels ``one`` and ``two``, both (n,)."""
    from sklearn.cluster import KMeans

    pairs = np.array([(a, b) for a in range(counts[0]) for b in range(counts[1])])
    vectors = np.concatenate([_means(x, one, counts[0])[pairs[:, 0]], _means(x, two, counts[1])[pairs[:, 1]]], axis=1)
    weight = np.bincount(one * counts[1] + two, minlength=len(pairs)).astype(float)
    used = weight > 0
    clusters = min(clusters, len(np.unique(vectors[used], axis=0)))
    with fewer_clusters():
        model = KMeans(clusters, n_init=3, random_state=seed).fit(vectors[used], sample_weight=weight[used])
    labels = model.predict(vectors)
    return {(int(a), int(b)): int(label) for (a, b), label in zip(pairs, labels, strict=True)}


def _means(x: FloatArray, labels: IntArray, count: int) -> FloatArray:
    """Return the mean vector of each label, (count, d).

    A label without rows gets the overall mean.
    """
    means = np.repeat(x.mean(axis=0, keepdims=True), count, axis=0)
    for label in np.unique(labels):
        means[label] = x[labels == label].mean(axis=0)
    return means


FAMILY = Family("ensemble", fit, kept=("kmeans_clusters", "eps"))

"""The search for the number of clusters: candidates, elbow and separation indices."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from riskwatch_ml.families.base import subsample

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from riskwatch_ml.core.arrays import FloatArray, IntArray

# Load is mostly a continuum, and levels are runs of clusters, so clusters must be small compared with a level. With
# four clusters, two levels swapped on the rows of the next day; with thirty, a twentieth of the rows changed level.
CLUSTERS = range(24, 49, 6)
UNDEFINED = {"silhouette": -1.0, "davies_bouldin": 99.0, "calinski_harabasz": 0.0}


def candidate_clusters(most: int) -> list[int]:
    """Return the numbers of clusters to try if at most ``most`` are possible."""
    return [k for k in CLUSTERS if k <= most] or [most]


def elbow(ks: Sequence[int], costs: Sequence[float]) -> int:
    """Return the elbow: the k farthest below the line from the first cost to the last.

    If the costs do not fall, it is the smallest k.
    """
    if costs[0] <= costs[-1]:
        return ks[0]
    x = (np.asarray(ks, float) - ks[0]) / (ks[-1] - ks[0])
    y = (np.asarray(costs, float) - costs[-1]) / (costs[0] - costs[-1])
    return ks[int(np.argmax(1 - x - y))]


def by_elbow(
    x: FloatArray, costs: Mapping[int, float], labels: Mapping[int, IntArray], seed: int
) -> tuple[int, dict[str, list[float]]]:
    """Return the number of clusters at the elbow, and the curves over all numbers.

    ``costs`` and ``labels`` hold the cost and the labels (n,) of the vectors ``x`` (n, d) for each number of clusters.
    """
    ks = sorted(costs)
    indices = [cluster_indices(x, labels[k], seed) for k in ks]
    inertia = [float(costs[k]) for k in ks]
    return elbow(ks, inertia), {
        "k": [float(k) for k in ks],
        "inertia": inertia,
        **index_curves(indices),
    }


def index_curves(indices: Sequence[Mapping[str, float]]) -> dict[str, list[float]]:
    """Return the curves of silhouette and Davies-Bouldin index; NaN if undefined."""
    names = ("silhouette", "davies_bouldin")
    return {name: [math.nan if index == UNDEFINED else index[name] for index in indices] for name in names}


def cluster_indices(x: FloatArray, labels: IntArray, seed: int, limit: int = 1000) -> dict[str, float]:
    """Return the separation indices of at most ``limit`` vectors.

    They are silhouette, Davies-Bouldin and Calinski-Harabasz index. With fewer than two clusters they are undefined and
    get their worst values, ``UNDEFINED``.
    """
    from sklearn.metrics import calinski_harabasz_score, davies_bouldin_score, silhouette_score

    sample = subsample(len(x), limit, seed)
    x, labels = x[sample], labels[sample]
    if not 2 <= len(np.unique(labels)) < len(labels):
        return dict(UNDEFINED)
    return {
        "silhouette": float(silhouette_score(x, labels)),
        "davies_bouldin": float(davies_bouldin_score(x, labels)),
        "calinski_harabasz": float(calinski_harabasz_score(x, labels)),
    }

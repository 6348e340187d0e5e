"""The search for the number of clusters: candidates, the elbow of their costs, and indices of separation."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from riskwatch_ml.families.base import subsample

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from riskwatch_ml.core.arrays import FloatArray, IntArray

# Load is mostly a continuum. The levels are runs of clusters, so a cluster must be small beside a level: cut from four
# clusters, two levels change places with the next day's rows; cut from thirty, a twentieth of the rows do.
CLUSTERS = range(24, 49, 6)
UNDEFINED = {"silhouette": -1.0, "davies_bouldin": 99.0, "calinski_harabasz": 0.0}


def candidate_clusters(most: int) -> list[int]:
    """Numbers of clusters to try where at most ``most`` are possible."""
    return [k for k in CLUSTERS if k <= most] or [most]


def elbow(ks: Sequence[int], costs: Sequence[float]) -> int:
    """The k after which the cost falls slowest: farthest below the line from the first point to the last.

    The least k where the cost does not fall.
    """
    if costs[0] <= costs[-1]:
        return ks[0]
    x = (np.asarray(ks, float) - ks[0]) / (ks[-1] - ks[0])
    y = (np.asarray(costs, float) - costs[-1]) / (costs[0] - costs[-1])
    return ks[int(np.argmax(1 - x - y))]


def by_elbow(
    x: FloatArray, costs: Mapping[int, float], labels: Mapping[int, IntArray], seed: int
) -> tuple[int, dict[str, list[float]]]:
    """The number of clusters at the elbow, and the curves over all that were tried, by the cost and labels of each."""
    ks = sorted(costs)
    indices = [cluster_indices(x, labels[k], seed) for k in ks]
    inertia = [float(costs[k]) for k in ks]
    return elbow(ks, inertia), {
        "k": [float(k) for k in ks],
        "inertia": inertia,
        **index_curves(indices),
    }


def index_curves(indices: Sequence[Mapping[str, float]]) -> dict[str, list[float]]:
    """Silhouette and Davies-Bouldin index of each number of clusters; NaN where they are not defined."""
    names = ("silhouette", "davies_bouldin")
    return {name: [math.nan if found == UNDEFINED else found[name] for found in indices] for name in names}


def cluster_indices(x: FloatArray, labels: IntArray, seed: int, limit: int = 1000) -> dict[str, float]:
    """Silhouette, Davies-Bouldin and Calinski-Harabasz on at most ``limit`` vectors.

    With fewer than two clusters none is defined and each takes its worst value, as in ``UNDEFINED``.
    """
    from sklearn.metrics import calinski_harabasz_score, davies_bouldin_score, silhouette_score

    chosen = subsample(len(x), limit, seed)
    x, labels = x[chosen], labels[chosen]
    if not 2 <= len(np.unique(labels)) < len(labels):
        return dict(UNDEFINED)
    return {
        "silhouette": float(silhouette_score(x, labels)),
        "davies_bouldin": float(davies_bouldin_score(x, labels)),
        "calinski_harabasz": float(calinski_harabasz_score(x, labels)),
    }

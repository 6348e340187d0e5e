"""Which metrics say how busy a row is, and naming the level map's clusters Idle, Normal and High Load by them.

CPU utilisation is a share of the instance's own capacity and means the same on a cache and on a batch worker, so where
a fleet reports it, it alone spans the level space. A latency or a number of connections that is much for one role is
nothing for another: together they stand in where there is no CPU, and all metrics where there are none of the three.
How busy a cluster is, its severity, is the mean of its rows in the level space. The order is cut where the weighted
spread within the three groups is smallest (one-dimensional 3-means, solved exactly).
"""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from riskwatch_ml.core.arrays import FloatArray, IntArray

SEVERITY_FEATURES = (("cpu_utilization",), ("latency_ms", "active_connections"))
LEAST_REPORTED = 0.5  # share of the rows in which a metric must have a value to speak for the fleet


def severity_of(values: FloatArray, features: Sequence[str]) -> list[int]:
    """Columns of metric rows ``values`` (n, d), NaN for missing, that say how busy a row is.

    A metric that never moves says nothing and counts as missing, unless none moves.
    """
    finite = np.isfinite(values)
    moves = np.where(finite, values, -np.inf).max(axis=0) > np.where(finite, values, np.inf).min(axis=0)
    return severity_columns(features, (finite.mean(axis=0) * (moves if moves.any() else 1)).tolist())


def severity_columns(features: Sequence[str], reported: Sequence[float]) -> list[int]:
    """Columns that say how busy a row is; ``reported`` is the share of rows in which each has a value.

    CPU, else latency and connections, as far as half of the rows report them; else every metric with a value.
    """
    for names in SEVERITY_FEATURES:
        named = [i for i, name in enumerate(features) if name in names and reported[i] >= LEAST_REPORTED]
        if named:
            return named
    return [i for i in range(len(features)) if reported[i] > 0]


def severities(level: FloatArray, labels: IntArray, n_labels: int) -> tuple[FloatArray, IntArray]:
    """Severity (NaN for a label without rows) and number of rows of each label, both (n_labels,).

    ``level`` is (n, d) in the level space, where a metric that does not count is 0, and ``labels`` (n,).
    """
    counts = np.bincount(labels, minlength=n_labels).astype(np.int64)
    totals = np.bincount(labels, weights=level.sum(axis=1), minlength=n_labels)
    return np.where(counts > 0, totals / np.maximum(counts, 1), np.nan), counts


def name_levels(severity: FloatArray, counts: IntArray) -> list[str]:
    """Level of each label.

    With two different severities the larger cluster is Normal and the other lies below or above it; a single one is
    Normal. A label without rows, which only a row unlike all of training can get, is Normal too.
    """
    used = np.flatnonzero(counts > 0)
    names = ["Normal"] * len(counts)
    order = used[np.argsort(severity[used], kind="stable")]
    values = np.unique(severity[used])
    if len(values) < 2:
        return names
    if len(values) == 2:
        low, high = (order[severity[order] == value] for value in values)
        if counts[low].sum() >= counts[high].sum():
            groups = {"Normal": low, "High Load": high}
        else:
            groups = {"Idle": low, "Normal": high}
    else:
        first, second = _cuts(severity[order], counts[order])
        groups = {"Idle": order[:first], "Normal": order[first:second], "High Load": order[second:]}
    for name, members in groups.items():
        for label in members:
            names[label] = name
    return names


def _cuts(severity: FloatArray, counts: IntArray) -> tuple[int, int]:
    """Where to cut an ascending order into three groups with the least weighted squared spread."""
    weight = np.append(0.0, np.cumsum(counts))
    first = np.append(0.0, np.cumsum(counts * severity))
    second = np.append(0.0, np.cumsum(counts * severity**2))

    def spread(low: int, high: int) -> float:
        total = first[high] - first[low]
        return float(second[high] - second[low] - total**2 / (weight[high] - weight[low]))

    ends = len(severity)
    return min(
        combinations(range(1, ends), 2),
        key=lambda cut: spread(0, cut[0]) + spread(cut[0], cut[1]) + spread(cut[1], ends),
    )

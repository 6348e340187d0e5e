"""Load levels: the metrics that measure load, and names for clusters.

The catalogue names groups of metrics that show the load, the best first. CPU utilisation is a share of the instance's
capacity and means the same on a cache and on a batch worker, so it alone spans the level space of a fleet that reports
it. The same latency or number of connections can be high for one role and low for another. All metrics are used if the
rows report none of the groups. The severity of a cluster is the mean of its rows in the level space. Sorted by
severity, the clusters are cut into Idle, Normal and High Load with the smallest weighted spread within the groups (one-
dimensional 3-means, solved exactly).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from riskwatch_ml.core.arrays import FloatArray, IntArray
    from riskwatch_ml.schema.catalogue import Catalogue

MIN_REPORTED = 0.5  # share of the rows in which a load metric must have a value
IDLE_SHARE = 0.9  # the last decile, which also sets the scale of the level space


@dataclass(frozen=True)
class Load:
    """The metrics that span the level space of a fleet, by their ``columns``.

    ``percentage``: one metric alone does, and it is a percentage of capacity. Elsewhere levels are relative to the
    fleet. ``never_high_below`` and ``never_idle_above`` are the anchors of a metric that spans the space alone, in its
    unit. ``idle``: nine of ten rows lie below the first.
    """

    columns: tuple[int, ...]
    percentage: bool = False
    never_high_below: float = -np.inf
    never_idle_above: float = np.inf
    idle: bool = False

    def anchored(self, idle_below: float, high_from: float) -> tuple[float, float]:
        """Return the cuts between the levels, moved to the anchors.

        The differences within an idle fleet say nothing about load: there the anchors are the cuts.
        """
        if self.idle:
            high = self.never_idle_above if np.isfinite(self.never_idle_above) else high_from
            return self.never_high_below, max(high, self.never_high_below)
        return min(idle_below, self.never_idle_above), max(high_from, self.never_high_below)


def load_of(values: FloatArray, catalogue: Catalogue) -> Load:
    """Return what measures the load of rows (n, d) of the catalogue's metrics.

    NaN is missing. A metric with a constant value counts as missing, unless all are constant.
    """
    finite = np.isfinite(values)
    varies = np.where(finite, values, -np.inf).max(axis=0) > np.where(finite, values, np.inf).min(axis=0)
    reported = (finite.mean(axis=0) * (varies if varies.any() else 1)).tolist()
    columns = load_columns(catalogue.names, catalogue.load_metrics, reported)
    if len(columns) != 1:
        return Load(columns)
    metric = catalogue.metrics[columns[0]]
    low, high = metric.never_high_below, metric.never_idle_above
    return Load(
        columns,
        percentage=metric.unit == "%" and (metric.lower, metric.upper) == (0, 100),
        never_high_below=-np.inf if low is None else low,
        never_idle_above=np.inf if high is None else high,
        idle=low is not None and float(np.nanquantile(values[:, columns[0]], IDLE_SHARE)) < low,
    )


def load_columns(
    features: Sequence[str], load_metrics: Sequence[Sequence[str]], reported: Sequence[float]
) -> tuple[int, ...]:
    """Return the columns that measure load.

    ``reported`` is the share of rows with a value of each column. They are the metrics of the first group of
    ``load_metrics`` that at least half of the rows report, else all metrics with a value.
    """
    for names in load_metrics:
        columns = tuple(i for i, name in enumerate(features) if name in names and reported[i] >= MIN_REPORTED)
        if columns:
            return columns
    return tuple(i for i in range(len(features)) if reported[i] > 0)


def severities(level: FloatArray, labels: IntArray, n_labels: int) -> tuple[FloatArray, IntArray]:
    """Return severity and number of rows of each label, both (n_labels,).

    ``level`` (n, d) are the rows in the level space, in which metrics that do not measure load are 0; ``labels`` is
    (n,). The severity of a label without rows is NaN.
    """
    counts = np.bincount(labels, minlength=n_labels).astype(np.int64)
    totals = np.bincount(labels, weights=level.sum(axis=1), minlength=n_labels)
    return np.where(counts > 0, totals / np.maximum(counts, 1), np.nan), counts


def name_levels(severity: FloatArray, counts: IntArray) -> list[str]:
    """Return the level name of each label: Idle, Normal or High Load.

    With two different severities the larger cluster is Normal, and the other is Idle or High Load. With a single one
    all are Normal. A label without rows is Normal too: only a row unlike all training rows can get it.
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
    """Return the two cuts of ascending severities into three groups.

    The weighted squared spread within the groups is the smallest possible.
    """
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

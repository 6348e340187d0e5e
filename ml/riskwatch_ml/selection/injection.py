"""Injected incidents: known anomalies in unlabelled rows, to compare candidates.

There are seven kinds, on the raw scale: spike, drop, level shift, drift, stuck metric, broken correlation, saturation.
They last as long as real incidents, minutes to hours. Their sizes are multiples of the instance's own deviation, evenly
distributed in the logarithm from hardly visible to obvious, because an incident that all candidates find, or none, does
not help to compare them. Incidents recur: each instance has one form of each kind, the affected metrics with their
sizes, and meets it repeatedly. The same rows and seed give the same incidents, so all candidates are compared on them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from riskwatch_ml.core.arrays import BoolArray, FloatArray, IntArray

if TYPE_CHECKING:
    from riskwatch_ml.features.table import MetricTable

MIN_ROWS = 48  # fewer rows have no room for an incident and for quiet rows around it
INCIDENT_SHARE = 0.08  # of an incident and the longest quiet before it; incidents are then about an eighth of all rows
SHORT_S, LONG_S = 900, 4 * 3_600  # an incident that is not a spike lasts between a quarter of an hour and four hours
LONGEST_SHARE = 0.02  # but at most this share of the rows of the instance, so that a short history has several
SIZES = (0.5, 6.0)  # deviations
MAX_METRICS = 0.4  # largest share of the varying metrics that one incident affects


@dataclass(frozen=True)
class MetricStats:
    """Mean, deviation and bounds of a metric of one instance, in catalogue units."""

    mean: float
    deviation: float
    lower: float
    upper: float


# (values of the incident's rows, statistics of the metric, size in deviations) -> values
Shape = Callable[[FloatArray, MetricStats, float], FloatArray]


def _up(values: FloatArray, own: MetricStats, size: float) -> FloatArray:
    return values + size * own.deviation


def _down(values: FloatArray, own: MetricStats, size: float) -> FloatArray:
    return values - size * own.deviation


def _drift(values: FloatArray, own: MetricStats, size: float) -> FloatArray:
    ramp: FloatArray = np.arange(1, len(values) + 1) / len(values)
    return values + size * own.deviation * ramp


def _stuck(values: FloatArray, own: MetricStats, size: float) -> FloatArray:
    first = values[np.isfinite(values)][:1]
    return np.where(np.isfinite(values), first[0] if len(first) else own.mean, values)


def _mirror(values: FloatArray, own: MetricStats, size: float) -> FloatArray:
    return 2 * own.mean - values


def _saturate(values: FloatArray, own: MetricStats, size: float) -> FloatArray:
    ceiling = own.upper if np.isfinite(own.upper) else own.mean + size * own.deviation
    return np.where(np.isfinite(values), ceiling, values)


KINDS: dict[str, Shape] = {
    "spike": _up,
    "drop": _down,
    "level_shift": _up,
    "drift": _drift,
    "stuck": _stuck,
    "broken_correlation": _mirror,
    "saturation": _saturate,
}
BRIEF = {"spike"}  # one to three rows
BRIEF_ROWS = 3


@dataclass(frozen=True)
class Injected:
    """A table with injected incidents; ``labels`` (n,) marks their rows.

    ``kinds`` (n,) has the kind of incident of each row, empty for the other rows.
    """

    table: MetricTable
    labels: BoolArray
    kinds: list[str]


def newest_rows(table: MetricTable, share: float) -> BoolArray:
    """Return a mask (n,) of the newest ``share`` of each instance's rows."""
    bounds = np.searchsorted(table.code, np.arange(len(table.instances) + 1))
    newest = np.zeros(len(table), bool)
    for low, high in pairwise(bounds.tolist()):
        newest[high - int((high - low) * share) : high] = True
    return newest


def inject(
    table: MetricTable, bounds: Sequence[tuple[float | None, float | None]], *, period_s: float, seed: int
) -> Injected:
    """Inject incidents into the rows of each instance that has at least 48 of them.

    ``table`` is sorted by instance and time, its rows are ``period_s`` seconds apart. ``bounds`` are the least and
    greatest possible value of each metric in catalogue units. Metrics that never vary, and instances that have no
    other, stay as they are.
    """
    rng = np.random.default_rng(seed)
    values, kinds = table.values.copy(), np.full(len(table), "", object)
    for code in range(len(table.instances)):
        rows = np.flatnonzero(table.code == code)
        metrics = _metric_stats(values[rows], bounds)
        varying = [
            column
            for column, metric in enumerate(metrics)
            if metric.deviation > 0 and np.isfinite(values[rows, column]).mean() > 0.5
        ]
        if len(rows) >= MIN_ROWS and varying:
            _write(values, kinds, rows, metrics, varying, period_s, rng)
    return Injected(replace(table, values=values), kinds != "", kinds.tolist())


def _metric_stats(values: FloatArray, bounds: Sequence[tuple[float | None, float | None]]) -> list[MetricStats]:
    metrics = []
    for column, (lower, upper) in zip(values.T, bounds, strict=True):
        present = column[np.isfinite(column)]
        mean, deviation = (float(present.mean()), float(present.std())) if len(present) else (0.0, 0.0)
        metrics.append(
            MetricStats(mean, deviation, -np.inf if lower is None else lower, np.inf if upper is None else upper)
        )
    return metrics


def _write(
    values: FloatArray,
    kinds: np.ndarray,
    rows: IntArray,
    metrics: Sequence[MetricStats],
    varying: list[int],
    period_s: float,
    rng: np.random.Generator,
) -> None:
    """Inject incidents into the rows of one instance, in place.

    All kinds occur in turn, with quiet rows between them.
    """
    forms = {name: _form(varying, rng) for name in KINDS}
    names = list(KINDS)
    turn = int(rng.integers(len(names)))
    end = 0
    while True:
        name = names[turn % len(names)]
        length = _length(name, len(rows), period_s, rng)
        quiet = int(length / INCIDENT_SHARE) - length
        start = end + int(rng.integers(quiet // 4, quiet + 1))
        turn, end = turn + 1, start + length
        if end > len(rows):
            return
        span = rows[start:end]
        for column, size in forms[name]:
            metric = metrics[column]
            values[span, column] = np.clip(KINDS[name](values[span, column], metric, size), metric.lower, metric.upper)
        kinds[span] = name


def _form(varying: list[int], rng: np.random.Generator) -> list[tuple[int, float]]:
    """Draw the metrics that one kind of incident affects on an instance.

    Each has its size in deviations.
    """
    count = int(rng.integers(1, max(1, int(len(varying) * MAX_METRICS)) + 1))
    columns = rng.choice(varying, size=count, replace=False)
    return [(int(column), float(np.exp(rng.uniform(*np.log(SIZES))))) for column in columns]


def _length(name: str, room: int, period_s: float, rng: np.random.Generator) -> int:
    """Draw the number of rows of an incident."""
    if name in BRIEF:
        return int(rng.integers(1, BRIEF_ROWS + 1))
    longest = max(SHORT_S / period_s, min(LONG_S / period_s, LONGEST_SHARE * room))
    return max(2, round(float(np.exp(rng.uniform(np.log(SHORT_S / period_s), np.log(longest))))))

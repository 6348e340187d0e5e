"""Injected incidents: known trouble written into unlabelled rows, to compare candidates without labels.

Seven kinds on the raw scale: spike, drop, level shift, drift, stuck metric, broken correlation, saturation. They last
as long as such trouble does, minutes to hours, and are sized in multiples of the instance's own deviation, evenly in
the logarithm from hardly visible to plain: incidents that every candidate finds, or none, tell no two of them apart.
Trouble comes back: an instance has one form of each kind, the metrics it touches and how far, and meets it again and
again. The same rows and seed give the same incidents, so every candidate is asked the same question.
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

LEAST_ROWS = 48  # fewer rows have no room for an incident and for quiet rows around it
INCIDENT_SHARE = 0.08  # of an incident and the longest quiet before it; of all rows about an eighth: trouble is rare
SHORT_S, LONG_S = 900, 4 * 3_600  # an incident that is not a spike lasts between a quarter of an hour and four hours
LONGEST_SHARE = 0.02  # and at most this share of the rows of the instance, so that a short past holds several
SIZES = (0.5, 6.0)  # deviations
MOST_METRICS = 0.4  # share of the moving metrics that one incident touches


@dataclass(frozen=True)
class Own:
    """An instance's own mean and deviation of one metric, and the bounds the catalogue sets, in catalogue units."""

    mean: float
    deviation: float
    lower: float
    upper: float


# (values of the incident's rows, what is known of the metric, size in deviations) -> values
Shape = Callable[[FloatArray, Own, float], FloatArray]


def _up(values: FloatArray, own: Own, size: float) -> FloatArray:
    return values + size * own.deviation


def _down(values: FloatArray, own: Own, size: float) -> FloatArray:
    return values - size * own.deviation


def _drift(values: FloatArray, own: Own, size: float) -> FloatArray:
    ramp: FloatArray = np.arange(1, len(values) + 1) / len(values)
    return values + size * own.deviation * ramp


def _stuck(values: FloatArray, own: Own, size: float) -> FloatArray:
    first = values[np.isfinite(values)][:1]
    return np.where(np.isfinite(values), first[0] if len(first) else own.mean, values)


def _mirror(values: FloatArray, own: Own, size: float) -> FloatArray:
    return 2 * own.mean - values


def _saturate(values: FloatArray, own: Own, size: float) -> FloatArray:
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
    """The rows of a table with incidents in them, and what was done.

    ``labels`` (n,) marks the incidents' rows; ``kinds`` (n,) names them and is empty elsewhere.
    """

    table: MetricTable
    labels: BoolArray
    kinds: list[str]


def newest_rows(table: MetricTable, share: float) -> BoolArray:
    """The newest ``share`` of each instance's rows, (n,)."""
    bounds = np.searchsorted(table.code, np.arange(len(table.instances) + 1))
    newest = np.zeros(len(table), bool)
    for low, high in pairwise(bounds.tolist()):
        newest[high - int((high - low) * share) : high] = True
    return newest


def inject(
    table: MetricTable, bounds: Sequence[tuple[float | None, float | None]], *, period_s: float, seed: int
) -> Injected:
    """Write incidents into the rows of each instance that has at least 48 of them.

    ``table`` is sorted by instance and time, its rows ``period_s`` apart; ``bounds`` are the least and greatest
    possible value of each metric in catalogue units. Metrics that never move, and instances that have no other, are
    left alone.
    """
    rng = np.random.default_rng(seed)
    values, kinds = table.values.copy(), np.full(len(table), "", object)
    for code in range(len(table.instances)):
        rows = np.flatnonzero(table.code == code)
        known = _known(values[rows], bounds)
        moving = [i for i, own in enumerate(known) if own.deviation > 0 and np.isfinite(values[rows, i]).mean() > 0.5]
        if len(rows) >= LEAST_ROWS and moving:
            _write(values, kinds, rows, known, moving, period_s, rng)
    return Injected(replace(table, values=values), kinds != "", kinds.tolist())


def _known(values: FloatArray, bounds: Sequence[tuple[float | None, float | None]]) -> list[Own]:
    known = []
    for column, (lower, upper) in zip(values.T, bounds, strict=True):
        present = column[np.isfinite(column)]
        mean, deviation = (float(present.mean()), float(present.std())) if len(present) else (0.0, 0.0)
        known.append(Own(mean, deviation, -np.inf if lower is None else lower, np.inf if upper is None else upper))
    return known


def _write(
    values: FloatArray,
    kinds: np.ndarray,
    rows: IntArray,
    known: Sequence[Own],
    moving: list[int],
    period_s: float,
    rng: np.random.Generator,
) -> None:
    """Change the rows of one instance in place: incidents of all kinds in turn, with quiet rows between them."""
    forms = {name: _form(moving, rng) for name in KINDS}
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
            own = known[column]
            values[span, column] = np.clip(KINDS[name](values[span, column], own, size), own.lower, own.upper)
        kinds[span] = name


def _form(moving: list[int], rng: np.random.Generator) -> list[tuple[int, float]]:
    """The metrics that one kind of trouble touches on an instance, each with its size in deviations."""
    count = int(rng.integers(1, max(1, int(len(moving) * MOST_METRICS)) + 1))
    columns = rng.choice(moving, size=count, replace=False)
    return [(int(column), float(np.exp(rng.uniform(*np.log(SIZES))))) for column in columns]


def _length(name: str, room: int, period_s: float, rng: np.random.Generator) -> int:
    """Rows of an incident."""
    if name in BRIEF:
        return int(rng.integers(1, BRIEF_ROWS + 1))
    longest = max(SHORT_S / period_s, min(LONG_S / period_s, LONGEST_SHARE * room))
    return max(2, round(float(np.exp(rng.uniform(np.log(SHORT_S / period_s), np.log(longest))))))

"""Boundaries by baseline, and the paging threshold for the alert budget.

The boundary of an instance is the 99 % quantile of its training distances to prototypes that were fitted without the
row. It is then moved half way to the boundary of the fleet: otherwise many incidents in the past of an instance would
make the next one seem normal. The paging threshold is the smallest one that keeps to the budget on the training days,
without the busiest fifth of them, which is assumed to hold the incidents.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from riskwatch_lambda.episode_rule import RuleError
from riskwatch_ml.core.arrays import BoolArray, FloatArray, IntArray, float32

if TYPE_CHECKING:
    from riskwatch_ml.model.closing import MetricGaps
    from riskwatch_ml.model.document import RuleDocument

QUANTILE = 0.99
OWN_WEIGHT = 0.5  # the highest weight of an instance's boundary against that of the fleet
PRIOR_ROWS = 200  # the number of rows that gives this weight
BUSY_SHARE = 0.2  # the share of instance-days, the busiest, that the budget ignores
DAY_MS = 86_400_000
FLOOR = 0.1  # the smallest boundary of an instance, as a share of the fleet's boundary
LEAST = 1e-3  # the smallest boundary of a fleet with constant metrics
MERGE_MS = 15 * 60_000
RENOTIFY_MS = 60 * 60_000
THRESHOLD_STEPS = 10_000  # thresholds are rounded up to four decimals
MOST = 1e6


def own_boundaries(distance: FloatArray, baseline: IntArray, n_baselines: int) -> FloatArray:
    """Return the boundary of each baseline, (n_baselines,).

    ``distance`` and ``baseline`` (n,) are the distances of the rows and the baselines of their instances. A baseline
    without rows gets the boundary of all rows.
    """
    if not len(distance):
        return float32(np.full(n_baselines, 1.0))
    fleet = max(float(np.quantile(distance, QUANTILE)), LEAST)
    boundary = np.full(n_baselines, fleet)
    order = np.argsort(baseline, kind="stable")
    starts = np.searchsorted(baseline[order], np.arange(n_baselines + 1))
    for index in range(n_baselines):
        instance = distance[order[starts[index] : starts[index + 1]]]
        if len(instance):
            limit = max(float(np.quantile(instance, QUANTILE)), FLOOR * fleet)
            trust = min(OWN_WEIGHT, len(instance) / (len(instance) + PRIOR_ROWS))
            boundary[index] = limit**trust * fleet ** (1 - trust)
    return float32(boundary)


def fallback_boundary(distance: FloatArray, least: float) -> float:
    """Return the boundary of a role or of the fleet, at least ``least``.

    ``distance`` (m,) are the distances of rows of all instances, measured against the baseline of the role or fleet. It
    serves instances that were absent in training, so it must suit the rows of all instances.
    """
    limit = float(np.quantile(distance, QUANTILE)) if len(distance) else least
    return float(np.float32(max(limit, least, LEAST)))


@dataclass(frozen=True)
class PagingRows:
    """Rows that calibrate the paging threshold; all (n,).

    Rows are sorted by instance and time. ``score`` is the score over the factor on the threshold that the baseline of
    the instance has. ``ms`` is the UTC epoch in milliseconds. ``gaps`` has the rows that may lack a metric which opened
    an episode.
    """

    score: FloatArray
    harmful: BoolArray
    exhausted: BoolArray
    code: IntArray
    ms: IntArray
    gaps: MetricGaps | None = None

    def pages(self, threshold: float) -> BoolArray:
        """Return a mask of the rows that count towards an episode, (n,)."""
        return ((self.score >= threshold) & self.harmful) | self.exhausted


def alert_rows(pages: BoolArray, code: IntArray, close_rows: int, gaps: MetricGaps | None = None) -> BoolArray:
    """Return a mask of the rows in an open episode, (n,), if one paging row opens it.

    An episode closes at the last of ``close_rows`` consecutive rows that do not page; this row is not part of it. A row
    that lacks a metric which opened the episode does not count (``gaps``).
    """
    alert = pages.copy()
    for back in range(1, close_rows):
        alert[back:] |= pages[:-back] & (code[back:] == code[:-back])
    if gaps is not None:
        alert[gaps.rows] = gaps.alert(pages[gaps.rows], close_rows)
    return alert


def _episodes(alert: BoolArray, code: IntArray, ms: IntArray) -> tuple[IntArray, IntArray]:
    """Return first row and weight of every episode.

    The weight is one, plus one for every full hour.
    """
    rows = np.flatnonzero(alert)
    if not len(rows):
        return rows, rows
    starts = np.ones(len(rows), bool)
    starts[1:] = (code[rows[1:]] != code[rows[:-1]]) | (ms[rows[1:]] - ms[rows[:-1]] > MERGE_MS)
    first = np.flatnonzero(starts)
    last = np.append(first[1:], len(rows)) - 1
    return rows[first], (ms[rows[last]] - ms[rows[first]]) // RENOTIFY_MS + 1


def count_episodes(alert: BoolArray, code: IntArray, ms: IntArray) -> int:
    """Count episodes as an operator experiences them.

    Runs of alert rows closer than 15 minutes are one episode. An episode counts again for every full hour.
    """
    return int(_episodes(alert, code, ms)[1].sum())


def rows_to_close(rule: RuleDocument) -> int:
    """Return how many rows that do not page close an episode.

    Raises RuleError if one paging row does not open an episode: ``alert_rows`` would count by another rule.
    """
    if (rule["m"], rule["n"]) != (1, 1):
        raise RuleError(f"alerts are counted for episodes that one row opens, not {rule['m']} of {rule['n']}")
    return rule["close_rows"]


def episodes_a_day(rows: PagingRows, threshold: float, rule: RuleDocument, period_s: float) -> float:
    """Return the episodes per instance and day at a threshold.

    ``period_s`` is the time between two rows in seconds.
    """
    days = len(rows.score) * period_s / 86_400
    if not days:
        return 0.0
    alert = alert_rows(rows.pages(threshold), rows.code, rows_to_close(rule), rows.gaps)
    return count_episodes(alert, rows.code, rows.ms) / float(days)


def episodes_on_ordinary_days(rows: PagingRows, threshold: float, rule: RuleDocument, period_s: float) -> float:
    """Return the episodes per instance and day on ordinary days.

    Ordinary days are the instance-days without the busiest fifth. A day is 24 hours from the first row of the instance;
    an episode belongs to the day on which it begins. A part of a day counts as that part.
    """
    code, ms = rows.code, rows.ms
    if not len(code):
        return 0.0
    begin = np.full(int(code.max()) + 1, np.iinfo(np.int64).max)
    np.minimum.at(begin, code, ms)
    alert = alert_rows(rows.pages(threshold), code, rows_to_close(rule), rows.gaps)
    first, weight = _episodes(alert, code, ms)
    most_days = int((ms - begin[code]).max() // DAY_MS) + 1
    day_of_row = code * most_days + (ms - begin[code]) // DAY_MS
    days, size = np.unique(day_of_row, return_counts=True)
    day_of_episode = day_of_row[first]
    count = np.bincount(np.searchsorted(days, day_of_episode), weights=weight, minlength=len(days))
    quiet = np.argsort(count, kind="stable")[: max(1, int(np.ceil(len(days) * (1 - BUSY_SHARE))))]
    return float(count[quiet].sum() / (size[quiet].sum() * period_s / 86_400))


def paging_threshold(rows: PagingRows, budget: float, rule: RuleDocument, period_s: float) -> float:
    """Return the smallest threshold >= 1 that keeps episodes to the budget.

    Only ordinary days count. ``budget`` is in episodes per instance and day; thresholds have steps of 0.0001.
    Exhaustion pages at any threshold: if it alone exceeds the budget, the result is just above the highest score.
    """
    candidates = rows.score[rows.harmful & (rows.score >= 1.0)]
    ladder = np.unique(np.append(np.floor(candidates * THRESHOLD_STEPS) + 1, THRESHOLD_STEPS)) / THRESHOLD_STEPS
    low, high = 0, len(ladder) - 1
    while low < high:
        middle = (low + high) // 2
        if episodes_on_ordinary_days(rows, float(ladder[middle]), rule, period_s) <= budget:
            high = middle
        else:
            low = middle + 1
    return float(min(ladder[low], MOST))

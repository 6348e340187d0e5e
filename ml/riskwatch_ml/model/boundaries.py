"""How far is too far: a boundary of each member for every baseline, and the paging threshold from the alert budget.

An instance's boundary is the 99 % quantile of its own training distances, measured to prototypes that were fitted
without the row, and drawn half way to the fleet's: an instance whose past is full of incidents would otherwise excuse
the next one. The paging threshold is the smallest one that would have kept to the budget on the training days, but for
the busiest fifth of them, which is where the incidents were.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from riskwatch_lambda.episode_rule import RuleError
from riskwatch_ml.core.arrays import BoolArray, FloatArray, IntArray, float32

if TYPE_CHECKING:
    from riskwatch_ml.model.document import RuleDocument

    pass

QUANTILE = 0.99
OWN_WEIGHT = 0.5  # most that an instance's own boundary weighs against the fleet's
PRIOR_ROWS = 200  # rows at which it does
BUSY_SHARE = 0.2  # share of the instance-days, the busiest, that the budget does not count
DAY_MS = 86_400_000
FLOOR = 0.1  # share of the fleet's boundary that is the least boundary of an instance
LEAST = 1e-3  # a fleet that never moved has a boundary too
MERGE_MS = 15 * 60_000
RENOTIFY_MS = 60 * 60_000
THRESHOLD_STEPS = 10_000  # thresholds are rounded up to four decimals
MOST = 1e6


def own_boundaries(distance: FloatArray, baseline: IntArray, n_baselines: int) -> FloatArray:
    """Boundary of each baseline from the distances (n,) of the rows that were measured against it, (n_baselines,).

    A baseline without rows gets the boundary of all of them.
    """
    if not len(distance):
        return float32(np.full(n_baselines, 1.0))
    fleet = max(float(np.quantile(distance, QUANTILE)), LEAST)
    boundary = np.full(n_baselines, fleet)
    order = np.argsort(baseline, kind="stable")
    starts = np.searchsorted(baseline[order], np.arange(n_baselines + 1))
    for index in range(n_baselines):
        own = distance[order[starts[index] : starts[index + 1]]]
        if len(own):
            limit = max(float(np.quantile(own, QUANTILE)), FLOOR * fleet)
            trust = min(OWN_WEIGHT, len(own) / (len(own) + PRIOR_ROWS))
            boundary[index] = limit**trust * fleet ** (1 - trust)
    return float32(boundary)


def fallback_boundary(distance: FloatArray, least: float) -> float:
    """Boundary of a role or of the fleet from the distances of rows measured against that baseline, at least ``least``.

    An instance that was not there in training is measured against it, so it must hold for rows of all of them.
    """
    limit = float(np.quantile(distance, QUANTILE)) if len(distance) else least
    return float(np.float32(max(limit, least, LEAST)))


@dataclass(frozen=True)
class PagingRows:
    """What the paging threshold depends on, rows sorted by instance and time; all (n,).

    ``known`` marks rows of instances with a baseline of their own: no other can page.
    """

    score: FloatArray
    harmful: BoolArray
    exhausted: BoolArray
    known: BoolArray
    code: IntArray
    ms: IntArray

    def pages(self, threshold: float) -> BoolArray:
        """Rows that count towards an episode."""
        return (((self.score >= threshold) & self.harmful) | self.exhausted) & self.known


def alert_rows(pages: BoolArray, code: IntArray, close_rows: int) -> BoolArray:
    """Rows that lie in an open episode, where one paging row opens it.

    ``close_rows`` rows in a row that do not page close it at the last of them, which is not part of it.
    """
    alert = pages.copy()
    for back in range(1, close_rows):
        alert[back:] |= pages[:-back] & (code[back:] == code[:-back])
    return alert


def _episodes(alert: BoolArray, code: IntArray, ms: IntArray) -> tuple[IntArray, IntArray]:
    """First row of every episode, and how often it counts: once, and again for every full hour."""
    rows = np.flatnonzero(alert)
    if not len(rows):
        return rows, rows
    starts = np.ones(len(rows), bool)
    starts[1:] = (code[rows[1:]] != code[rows[:-1]]) | (ms[rows[1:]] - ms[rows[:-1]] > MERGE_MS)
    first = np.flatnonzero(starts)
    last = np.append(first[1:], len(rows)) - 1
    return rows[first], (ms[rows[last]] - ms[rows[first]]) // RENOTIFY_MS + 1


def count_episodes(alert: BoolArray, code: IntArray, ms: IntArray) -> int:
    """Episodes as an operator meets them: runs closer than 15 minutes are one; one counts again for every full hour."""
    return int(_episodes(alert, code, ms)[1].sum())


def rows_to_close(rule: RuleDocument) -> int:
    """Return how many rows that do not page close an episode, for ``alert_rows``, where any row that pages opens one.

    Raises RuleError where the rule opens episodes otherwise: alerts would be counted by a rule that does not serve.
    """
    if (rule["m"], rule["n"]) != (1, 1):
        raise RuleError(f"alerts are counted for episodes that one row opens, not {rule['m']} of {rule['n']}")
    return rule["close_rows"]


def episodes_a_day(rows: PagingRows, threshold: float, rule: RuleDocument, period_s: float) -> float:
    """Episodes for each instance and day at a threshold, over the rows of known instances."""
    days = rows.known.sum() * period_s / 86_400
    if not days:
        return 0.0
    alert = alert_rows(rows.pages(threshold), rows.code, rows_to_close(rule))
    return count_episodes(alert, rows.code, rows.ms) / float(days)


def episodes_on_ordinary_days(rows: PagingRows, threshold: float, rule: RuleDocument, period_s: float) -> float:
    """Episodes for each instance and day at a threshold, the busiest fifth of the instance-days left out.

    A day is 24 hours from the instance's first row; an episode belongs to the day it begins on. Rows that make less
    than a day in all count as what they are.
    """
    if not rows.known.any():
        return 0.0
    code, ms = rows.code[rows.known], rows.ms[rows.known]
    own_first = np.full(int(rows.code.max()) + 1, np.iinfo(np.int64).max)
    np.minimum.at(own_first, code, ms)
    first, weight = _episodes(alert_rows(rows.pages(threshold), rows.code, rows_to_close(rule)), rows.code, rows.ms)
    most_days = int((ms - own_first[code]).max() // DAY_MS) + 1
    key = code * most_days + (ms - own_first[code]) // DAY_MS
    days, size = np.unique(key, return_counts=True)
    begun = rows.code[first] * most_days + (rows.ms[first] - own_first[rows.code[first]]) // DAY_MS
    count = np.bincount(np.searchsorted(days, begun), weights=weight, minlength=len(days))
    quiet = np.argsort(count, kind="stable")[: max(1, int(np.ceil(len(days) * (1 - BUSY_SHARE))))]
    return float(count[quiet].sum() / (size[quiet].sum() * period_s / 86_400))


def paging_threshold(rows: PagingRows, budget: float, rule: RuleDocument, period_s: float) -> float:
    """Smallest threshold >= 1, in steps of 0.0001, whose episodes on ordinary days stay within ``budget``.

    Exhaustion pages at any threshold; where it alone is over the budget the result is just above the highest score.
    """
    candidates = rows.score[rows.known & rows.harmful & (rows.score >= 1.0)]
    ladder = np.unique(np.append(np.floor(candidates * THRESHOLD_STEPS) + 1, THRESHOLD_STEPS)) / THRESHOLD_STEPS
    low, high = 0, len(ladder) - 1
    while low < high:
        middle = (low + high) // 2
        if episodes_on_ordinary_days(rows, float(ladder[middle]), rule, period_s) <= budget:
            high = middle
        else:
            low = middle + 1
    return float(min(ladder[low], MOST))

"""Which rows a fit holds out by turns, and which it measures against the baselines of roles and fleet.

Both are chosen in runs of neighbouring rows, which windows need, by instance and time alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from riskwatch_ml.features.baselines import PROFILE_SPAN_MS

if TYPE_CHECKING:
    from riskwatch_ml.core.arrays import IntArray
    from riskwatch_ml.features.table import MetricTable

DAY_MS = 86_400_000
BLOCK_MS = 3 * 3_600_000
FALLBACK_ROWS = 6_000  # rows measured against each role's and the fleet's baseline
LONGEST_RUN = 120  # rows in a run of neighbours: however dense rows are, 50 runs have room


def folds(table: MetricTable, group_of_row: IntArray) -> IntArray:
    """Fold 0 or 1 of every row, (n,), by its group (n,): days in turn, or quarters of less than four days.

    Halves of a day would leave each hour of the day to one fold: less than two days, which have no hour-of-day profile
    yet, take turns by eight hours at most. Days are counted from a group's first row. An instance without a row on some
    dates between its first and its last takes turns over the dates that it has: those left out of a long history may be
    every second one.
    """
    code, ms = table.code, table.ms
    fold = np.zeros(len(ms), np.int64)
    for group in np.unique(group_of_row):
        mine = group_of_row == group
        first = ms[mine].min()
        span = int(ms[mine].max() - first)
        longest = DAY_MS if span >= PROFILE_SPAN_MS else DAY_MS // 3
        block = min(longest, max(1, span // 4 + 1))
        fold[mine] = (ms[mine] - first) // block % 2
    date = ms // DAY_MS
    first, size = _runs(code, date)
    code, date = code[first], date[first]
    rank = np.arange(len(code)) - np.searchsorted(code, code)
    lacking = np.isin(code, code[1:][(np.diff(code) == 0) & (np.diff(date) > 1)])
    return np.where(np.repeat(lacking, size), np.repeat(rank % 2, size), fold)


def foreign_rows(code: IntArray, ms: IntArray) -> IntArray:
    """At most 6,000 rows in runs of neighbours, (m,), of the instance and time of each row, both (n,) and sorted.

    Where there are more, they are blocks of three hours of one instance, or equal parts of such a block with more than
    120 rows. All of them, ordered by hour of day, then instance, are divided into as many equal stretches as there is
    room for blocks, and one of each is chosen, at a random place that is the same every time: of every hour of day as
    many, from all over the fleet and the history, however many instances there are.
    """
    if len(ms) <= FALLBACK_ROWS:
        return np.arange(len(ms))
    first, size = _runs(code, ms // BLOCK_MS)
    parts = -(-size // LONGEST_RUN)
    part = np.arange(parts.sum()) - np.repeat(np.cumsum(parts) - parts, parts)
    first, size, parts = (np.repeat(each, parts) for each in (first, size, parts))
    first = first + part * size // parts
    size = np.diff(np.append(first, len(ms)))
    by_hour = np.argsort(ms[first] % DAY_MS // BLOCK_MS, kind="stable")
    count = min(len(first), FALLBACK_ROWS // int(size.max()))
    place = (np.arange(count) + np.random.default_rng(0).random(count)) * len(first) / count
    chosen = np.zeros(len(first), bool)
    chosen[by_hour[place.astype(np.int64)]] = True
    return np.flatnonzero(np.repeat(chosen, size))


def _runs(code: IntArray, part: IntArray) -> tuple[IntArray, IntArray]:
    """First row and number of rows of each run of rows of one instance and part of time."""
    first = np.flatnonzero((np.diff(code, prepend=-1) != 0) | (np.diff(part, prepend=-1) != 0))
    return first, np.diff(np.append(first, len(code)))

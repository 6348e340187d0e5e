"""Row selection for a fit: held-out folds and the sample for fallbacks.

Fallbacks are the baselines of roles and fleet. Folds and sample consist of runs of neighbouring rows, because windows
need neighbours. Only the instance and the time of a row decide.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from riskwatch_ml.features.profiles import PROFILE_SPAN_MS

if TYPE_CHECKING:
    from riskwatch_ml.core.arrays import IntArray
    from riskwatch_ml.features.table import MetricTable

DAY_MS = 86_400_000
BLOCK_MS = 3 * 3_600_000
FALLBACK_ROWS = 6_000  # rows measured against the baseline of each role and of the fleet
LONGEST_RUN = 120  # rows in a run of neighbours, so that 6,000 rows hold at least 50 runs


def folds(table: MetricTable, group_of_row: IntArray) -> IntArray:
    """Assign every row to fold 0 or 1 by alternating days within its group, (n,).

    ``group_of_row`` is (n,). Days count from the first row of the group. A history of less than four days alternates
    by its quarters, one of less than two days by at most eight hours: half days would put each hour of the day into one
    fold only. An instance that lacks dates between its first and its last row alternates over the dates that it has,
    because the dates dropped from a long history may be every second one.
    """
    code, ms = table.code, table.ms
    fold = np.zeros(len(ms), np.int64)
    for group in np.unique(group_of_row):
        in_group = group_of_row == group
        begin = ms[in_group].min()
        span = int(ms[in_group].max() - begin)
        longest = DAY_MS if span >= PROFILE_SPAN_MS else DAY_MS // 3
        block = min(longest, max(1, span // 4 + 1))
        fold[in_group] = (ms[in_group] - begin) // block % 2
    date = ms // DAY_MS
    first, size = _runs(code, date)
    code, date = code[first], date[first]
    rank = np.arange(len(code)) - np.searchsorted(code, code)
    lacks_dates = np.isin(code, code[1:][(np.diff(code) == 0) & (np.diff(date) > 1)])
    return np.where(np.repeat(lacks_dates, size), np.repeat(rank % 2, size), fold)


def fallback_rows(code: IntArray, ms: IntArray) -> IntArray:
    """Select at most 6,000 rows in runs of neighbours, (m,) ascending.

    ``code`` and ``ms`` (n,) are the instance and the time (UTC epoch in ms) of each row, sorted. A longer table is cut
    into blocks of three hours of one instance; a block of more than 120 rows is cut into equal parts. The blocks are
    ordered by hour of day, then by instance. This order is divided into as many equal sections as there is room for
    blocks, and each section gives one block at a seeded random position. So every hour of day is equally frequent, and
    the blocks come from the whole fleet and the whole history.
    """
    if len(ms) <= FALLBACK_ROWS:
        return np.arange(len(ms))
    first, size = _runs(code, ms // BLOCK_MS)
    parts = -(-size // LONGEST_RUN)
    part = np.arange(parts.sum()) - np.repeat(np.cumsum(parts) - parts, parts)
    first, size, parts = (np.repeat(per_block, parts) for per_block in (first, size, parts))
    first = first + part * size // parts
    size = np.diff(np.append(first, len(ms)))
    by_hour = np.argsort(ms[first] % DAY_MS // BLOCK_MS, kind="stable")
    count = min(len(first), FALLBACK_ROWS // int(size.max()))
    position = (np.arange(count) + np.random.default_rng(0).random(count)) * len(first) / count
    selected = np.zeros(len(first), bool)
    selected[by_hour[position.astype(np.int64)]] = True
    return np.flatnonzero(np.repeat(selected, size))


def _runs(code: IntArray, part: IntArray) -> tuple[IntArray, IntArray]:
    """Return first row and length of each run with equal instance and ``part``."""
    first = np.flatnonzero((np.diff(code, prepend=-1) != 0) | (np.diff(part, prepend=-1) != 0))
    return first, np.diff(np.append(first, len(code)))

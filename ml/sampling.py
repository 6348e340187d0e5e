"""Which rows a fit holds out by turns, and which it measures against the baselines of roles and fleet.

Both are chosen in runs of neighbouring rows, which windows need, by instance and time alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ml.features import IntArray, MetricTable

DAY_MS = 86_400_000
BLOCK_MS = 3 * 3_600_000
FALLBACK_ROWS = 6_000  # rows measured against each role's and the fleet's baseline
GOLDEN = (1 + 5**0.5) / 2


def folds(table: MetricTable, group_of_row: IntArray) -> IntArray:
    """Fold 0 or 1 of every row, (n,), by its group (n,): days in turn, or quarters of less than four days.

    Days are counted from a group's first row. An instance without a row on some dates between its first and its last
    takes turns over the dates that it has: those left out of a long history may be every second one.
    """
    code, ms = table.code, table.ms
    fold = np.zeros(len(ms), np.int64)
    for group in np.unique(group_of_row):
        mine = group_of_row == group
        first = ms[mine].min()
        block = min(DAY_MS, max(1, int(ms[mine].max() - first) // 4 + 1))
        fold[mine] = (ms[mine] - first) // block % 2
    date = ms // DAY_MS
    first, size = _runs(code, date)
    code, date = code[first], date[first]
    rank = np.arange(len(code)) - np.searchsorted(code, code)
    lacking = np.isin(code, code[1:][(np.diff(code) == 0) & (np.diff(date) > 1)])
    return np.where(np.repeat(lacking, size), np.repeat(rank % 2, size), fold)


def foreign_rows(code: IntArray, block: IntArray) -> IntArray:
    """At most 6,000 rows in whole blocks, (m,), of the instance and block of each row, both (n,) and sorted.

    They are every instance's rows of every so many blocks. Where one block of a large fleet is too much or no block
    of the history has its turn, each instance has other blocks: one from each of as many equal runs of all the
    instances' blocks as there is room for. Its place in the run follows the golden ratio, or all would be of one hour.
    A block of more rows than that is taken whole.
    """
    kept = np.flatnonzero(block % max(1, -(-len(block) // FALLBACK_ROWS)) == 0)
    if 0 < len(kept) <= FALLBACK_ROWS:
        return kept
    first, size = _runs(code, block)
    runs = np.arange(min(len(first), max(1, FALLBACK_ROWS // int(size.max()))))
    chosen = np.zeros(len(first), bool)
    chosen[((runs + runs * GOLDEN % 1) * len(first) / len(runs)).astype(np.int64)] = True
    return np.flatnonzero(np.repeat(chosen, size))


def _runs(code: IntArray, part: IntArray) -> tuple[IntArray, IntArray]:
    """First row and number of rows of each run of rows of one instance and part of time."""
    first = np.flatnonzero((np.diff(code, prepend=-1) != 0) | (np.diff(part, prepend=-1) != 0))
    return first, np.diff(np.append(first, len(code)))

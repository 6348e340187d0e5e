"""Trailing features for fleets with few metrics: what a row alone cannot say, from the rows just before it.

With one to three metrics a row is nearly a number, and its vector cannot tell a busy minute from a slow drift. Such
rows are widened by each metric's difference to the row before and by its mean and deviation over the last hour and the
last three. The Lambda derives the same columns from the rows of a record, so a record must hold that many rows.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from riskwatch_ml.features.table import MetricTable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from riskwatch_ml.core.arrays import BoolArray, FloatArray, IntArray

FEW_METRICS = 3
HOURS_BACK = (1, 3)
LEAST_ROWS = 4  # a shorter trail says no more than the window does
MOST_ROWS = 180  # what a record may have to carry


def trails_for(n_metrics: int, period_s: float) -> tuple[int, ...]:
    """Trail lengths in rows, ascending: an hour and three for at most three metrics, none for more."""
    if n_metrics > FEW_METRICS:
        return ()
    lengths = (min(MOST_ROWS, round(hours * 3600 / period_s)) for hours in HOURS_BACK)
    return tuple(sorted({length for length in lengths if length >= LEAST_ROWS}))


def context_rows(window: int, trails: Sequence[int]) -> int:
    """Rows that a record needs so that every row of a window has its whole trail."""
    return window + (max(trails) - 1 if trails else 0)


def behaviour_width(n_metrics: int, trails: Sequence[int]) -> int:
    """Columns of a row in the behaviour space: values, then differences, then each trail's means and deviations."""
    return n_metrics * (2 + 2 * len(trails)) if trails else n_metrics


def widen(table: MetricTable, trails: Sequence[int]) -> MetricTable:
    """The table with its trailing columns, (n, ``behaviour_width``); the same table where there are no trails.

    A difference needs both values; a mean and a deviation need half of the trail's rows. A trail never spans a gap.
    O(n d r) for r rows of trail.
    """
    if not trails:
        return table
    columns, names = [table.values, _difference(table.values, table.position)], list(table.features)
    names += [f"{name} difference" for name in table.features]
    for length in trails:
        columns += _mean_and_deviation(table.values, table.position, length)
        names += [f"{name} {what} of {length}" for what in ("mean", "deviation") for name in table.features]
    values = np.concatenate(columns, axis=1)
    return MetricTable(tuple(names), table.instances, table.code, table.ms, table.segment, values)


def by_metric(columns: FloatArray, n_metrics: int) -> FloatArray:
    """Sum of what belongs to each metric, (n, d), of columns (n, ``behaviour_width``)."""
    folded: FloatArray = columns.reshape(len(columns), -1, n_metrics).sum(axis=1)
    return folded


def _difference(values: FloatArray, position: IntArray) -> FloatArray:
    difference = np.full(values.shape, np.nan)
    difference[1:] = np.where((position[1:] >= 1)[:, None], values[1:] - values[:-1], np.nan)
    return difference


def _mean_and_deviation(values: FloatArray, position: IntArray, length: int) -> list[FloatArray]:
    """Mean and deviation of the last ``length`` rows of each row's segment, summed oldest row first."""
    total, count = np.zeros(values.shape), np.zeros(values.shape)
    for now, then, reached in _lags(position, length):
        present = reached & np.isfinite(values[then])
        count[now] += present
        total[now] += np.where(present, values[then], 0.0)
    enough = 2 * count >= length
    mean = np.where(enough, total / np.maximum(count, 1), np.nan)
    squares = np.zeros(values.shape)
    for now, then, reached in _lags(position, length):
        present = reached & np.isfinite(values[then])
        squares[now] += np.where(present, (values[then] - mean[now]) ** 2, 0.0)
    return [mean, np.where(enough, np.sqrt(squares / np.maximum(count, 1)), np.nan)]


def _lags(position: IntArray, length: int) -> list[tuple[slice, slice, BoolArray]]:
    """For each row of a trail, oldest first: the rows, the rows that far back, and which of them are in the segment."""
    n = len(position)
    found = []
    for back in range(min(length, n) - 1, -1, -1):
        now, then = slice(back, n), slice(0, n - back)
        found.append((now, then, (position[now] >= back)[:, None]))
    return found


def ascending(trails: Sequence[int]) -> bool:
    """Whether trail lengths are in order and of at least two rows."""
    return all(length >= 2 for length in trails) and all(a < b for a, b in pairwise(trails))

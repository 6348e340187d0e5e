"""Rolling features for fleets with few metrics.

With one to three metrics, a row alone cannot distinguish a busy minute from a slow drift. Each metric therefore gets
three kinds of further columns: the difference to the row before, and mean and deviation over the last hour and over the
last three hours. The Lambda derives the same columns from the rows of a record, so a record must hold enough rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from riskwatch_ml.features.table import MetricTable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from riskwatch_ml.core.arrays import BoolArray, FloatArray, IntArray

FEW_METRICS = 3
HOURS_BACK = (1, 3)
MIN_ROWS = 4  # a shorter trail adds nothing to the window of a vector
MAX_ROWS = 180  # limits the number of rows in a record


def choose_lengths(n_metrics: int, period_s: float) -> tuple[int, ...]:
    """Return the trail lengths in rows, ascending: one and three hours.

    More than three metrics have no trails. ``period_s`` is the time between two rows in seconds.
    """
    if n_metrics > FEW_METRICS:
        return ()
    lengths = (min(MAX_ROWS, round(hours * 3600 / period_s)) for hours in HOURS_BACK)
    return tuple(sorted({length for length in lengths if length >= MIN_ROWS}))


def context_rows(window: int, rolling_lengths: Sequence[int]) -> int:
    """Return the rows a record needs to complete every trail of a window."""
    return window + (max(rolling_lengths) - 1 if rolling_lengths else 0)


def behaviour_width(n_metrics: int, rolling_lengths: Sequence[int]) -> int:
    """Return the number of columns in the behaviour space.

    The columns are the values, then the differences, then means and deviations of each trail.
    """
    return n_metrics * (2 + 2 * len(rolling_lengths)) if rolling_lengths else n_metrics


def add_rolling_features(table: MetricTable, rolling_lengths: Sequence[int]) -> MetricTable:
    """Return the table with its rolling columns, (n, ``behaviour_width``).

    Without trails the table itself is returned. A difference needs both values; mean and deviation need half of the
    trail's rows. A trail never spans a gap. Takes O(n d r) time for r rows of trail.
    """
    if not rolling_lengths:
        return table
    columns, names = [table.values, _difference(table.values, table.position)], list(table.features)
    names += [f"{name} difference" for name in table.features]
    for length in rolling_lengths:
        columns += _mean_and_deviation(table.values, table.position, length)
        names += [f"{name} {figure} of {length}" for figure in ("mean", "deviation") for name in table.features]
    values = np.concatenate(columns, axis=1)
    return MetricTable(tuple(names), table.instances, table.code, table.ms, table.segment, values)


def by_metric(columns: FloatArray, n_metrics: int) -> FloatArray:
    """Sum the columns (n, ``behaviour_width``) that belong to each metric, (n, d)."""
    folded: FloatArray = columns.reshape(len(columns), -1, n_metrics).sum(axis=1)
    return folded


def _difference(values: FloatArray, position: IntArray) -> FloatArray:
    difference = np.full(values.shape, np.nan)
    difference[1:] = np.where((position[1:] >= 1)[:, None], values[1:] - values[:-1], np.nan)
    return difference


def _mean_and_deviation(values: FloatArray, position: IntArray, length: int) -> list[FloatArray]:
    """Return rolling mean and deviation of ``length`` rows within segments.

    Sums run from the oldest row to the newest.
    """
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
    """Return one entry per row of a trail, oldest first.

    An entry holds the rows, the rows before them by one lag, and a mask (m, 1) of the pairs in one segment.
    """
    n = len(position)
    lags = []
    for back in range(min(length, n) - 1, -1, -1):
        now, then = slice(back, n), slice(0, n - back)
        lags.append((now, then, (position[now] >= back)[:, None]))
    return lags

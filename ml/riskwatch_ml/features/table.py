"""Metric rows as arrays: sorted by instance and time, cut at gaps, and a few rows in a row as one vector."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from riskwatch_ml.core.errors import UserInputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from riskwatch_ml.core.arrays import BoolArray, FloatArray, IntArray


HOURS = 24
BLOCK_ROWS = 50_000  # a large fleet's rows are computed on in steps: what is in between need not fit beside them


class RowsError(UserInputError):
    """Metric rows that cannot be turned into feature vectors; the message says what to change."""


@dataclass(frozen=True)
class MetricTable:
    """Metric rows as arrays, sorted by instance and time.

    ``values`` is (n, d) float64 in catalogue units with NaN for missing; ``code`` (n,) indexes ``instances``; ``ms`` is
    the UTC epoch in milliseconds, ``hour`` the UTC hour; ``segment`` numbers the stretches without a gap, and
    ``position`` is a row's place in its segment from 0.
    """

    features: tuple[str, ...]
    instances: tuple[str, ...]
    code: IntArray
    ms: IntArray
    segment: IntArray
    values: FloatArray

    def __len__(self) -> int:
        return len(self.ms)

    @cached_property
    def hour(self) -> IntArray:
        """UTC hour of day of every row, (n,)."""
        hour: IntArray = (self.ms // 3_600_000) % HOURS
        return hour

    @cached_property
    def position(self) -> IntArray:
        """Place of every row in its segment, from 0, (n,)."""
        if not len(self):
            return np.zeros(0, np.int64)
        start = np.flatnonzero(np.diff(self.segment, prepend=self.segment[0] - 1))
        position: IntArray = np.arange(len(self)) - np.repeat(start, np.diff(np.append(start, len(self))))
        return position

    def part(self, rows: slice) -> MetricTable:
        """Some consecutive rows, not copied; windows must not be built on them."""
        return MetricTable(
            self.features, self.instances, self.code[rows], self.ms[rows], self.segment[rows], self.values[rows]
        )

    def take(self, keep: IntArray | BoolArray) -> MetricTable:
        """The chosen rows; segments keep their numbers, so windows must not be built on a thinned-out table."""
        return MetricTable(
            self.features, self.instances, self.code[keep], self.ms[keep], self.segment[keep], self.values[keep]
        )

    def cut(self, rows: IntArray) -> MetricTable:
        """The chosen rows (m,) in ascending order, in new segments where neighbours are missing."""
        cuts = np.diff(self.segment[rows], prepend=-1) != 0
        cuts[1:] |= np.diff(rows) != 1
        segment = np.cumsum(cuts) - 1
        return MetricTable(self.features, self.instances, self.code[rows], self.ms[rows], segment, self.values[rows])


def as_table(rows: pd.DataFrame, features: Sequence[str], max_gap_s: float) -> MetricTable:
    """Sort metric rows by (instance_id, timestamp) and cut them into segments at gaps longer than ``max_gap_s``.

    A feature without a column is missing in every row; a value that is not finite counts as missing. Raises RowsError
    where a key column is absent or the timestamps carry no time zone.
    """
    for key in ("instance_id", "timestamp"):
        if key not in rows.columns:
            raise RowsError(f"metric rows have no column {key!r}: found {', '.join(map(str, rows.columns[:8]))}")
    if not isinstance(rows["timestamp"].dtype, pd.DatetimeTZDtype):
        raise RowsError(f"timestamp is {rows['timestamp'].dtype}: give it a time zone (pd.to_datetime(..., utc=True))")
    names, code = _numbered(rows["instance_id"])
    ms = rows["timestamp"].dt.tz_convert("UTC").dt.as_unit("ms").astype("int64").to_numpy()
    order = np.lexsort((ms, code))
    code, ms = code[order], ms[order]
    values = np.full((len(rows), len(features)), np.nan)
    for place, name in enumerate(features):
        if name in rows.columns:
            values[:, place] = rows[name].to_numpy(np.float64, na_value=np.nan)[order]
    values[~np.isfinite(values)] = np.nan
    breaks = (np.diff(code, prepend=-1) != 0) | (np.diff(ms, prepend=0) > max_gap_s * 1000)
    return MetricTable(tuple(features), tuple(names), code, ms, np.cumsum(breaks) - 1, values)


def _numbered(instances: pd.Series) -> tuple[NDArray[np.object_], IntArray]:
    """The different names as text, sorted, and the number of each row's among them, (n,)."""
    number, found = pd.factorize(instances, use_na_sentinel=False)
    names, place = np.unique(np.array([str(name) for name in found], object), return_inverse=True)
    return names, place[number].astype(np.int64)


def blocks(n: int) -> Iterator[slice]:
    """Consecutive slices of at most 50,000 of ``n`` rows."""
    for low in range(0, n, BLOCK_ROWS):
        yield slice(low, min(low + BLOCK_ROWS, n))


def window_ends(table: MetricTable, width: int) -> IntArray:
    """Rows that end a window of ``width`` consecutive rows of one segment, (m,) with m <= n."""
    ends: IntArray = np.flatnonzero(table.position >= width - 1)
    return ends


def window_vectors(behaviour: FloatArray, ends: IntArray, width: int) -> FloatArray:
    """The window that ends at each of some rows as one vector, oldest row first, (m, width * d)."""
    return np.concatenate([behaviour[ends - back] for back in range(width - 1, -1, -1)], axis=1)


def windows(behaviour: FloatArray, table: MetricTable, width: int) -> tuple[FloatArray, IntArray]:
    """All windows of a table, (m, width * d), and the row each one ends at, (m,)."""
    ends = window_ends(table, width)
    return window_vectors(behaviour, ends, width), ends

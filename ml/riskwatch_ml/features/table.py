"""Metric rows as arrays, cut at gaps and joined to window vectors."""

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


BLOCK_ROWS = 50_000  # rows are processed in blocks, so that intermediate arrays stay small


class RowsError(UserInputError):
    """Metric rows that cannot become feature vectors; the message names the fix."""


@dataclass(frozen=True)
class MetricTable:
    """Metric rows as arrays, sorted by instance and time.

    ``values`` is (n, d) float64 in catalogue units with NaN for missing; ``code`` (n,) indexes ``instances``; ``ms`` is
    the UTC epoch in milliseconds. ``segment`` numbers the runs of rows without a gap, and
    ``position`` counts the rows of a segment from 0.
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
    def position(self) -> IntArray:
        """Position of every row in its segment, from 0, (n,)."""
        if not len(self):
            return np.zeros(0, np.int64)
        start = np.flatnonzero(np.diff(self.segment, prepend=self.segment[0] - 1))
        position: IntArray = np.arange(len(self)) - np.repeat(start, np.diff(np.append(start, len(self))))
        return position

    def part(self, rows: slice) -> MetricTable:
        """Return consecutive rows as views; do not build windows on them."""
        return MetricTable(
            self.features, self.instances, self.code[rows], self.ms[rows], self.segment[rows], self.values[rows]
        )

    def take(self, keep: IntArray | BoolArray) -> MetricTable:
        """Return selected rows with unchanged segment numbers.

        Do not build windows on them.
        """
        return MetricTable(
            self.features, self.instances, self.code[keep], self.ms[keep], self.segment[keep], self.values[keep]
        )

    def cut(self, rows: IntArray) -> MetricTable:
        """Return selected rows (m,), with a new segment after each row left out.

        The rows must ascend.
        """
        cuts = np.diff(self.segment[rows], prepend=-1) != 0
        cuts[1:] |= np.diff(rows) != 1
        segment = np.cumsum(cuts) - 1
        return MetricTable(self.features, self.instances, self.code[rows], self.ms[rows], segment, self.values[rows])


def as_table(rows: pd.DataFrame, features: Sequence[str], max_gap_s: float) -> MetricTable:
    """Sort metric rows by (instance_id, timestamp) and cut them into segments at gaps.

    A gap is longer than ``max_gap_s`` seconds. A feature without a column is missing in every row; a value that is not
    finite counts as missing. Raises RowsError if a key column is absent or the timestamps have no time zone.
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
    for column, name in enumerate(features):
        if name in rows.columns:
            values[:, column] = rows[name].to_numpy(np.float64, na_value=np.nan)[order]
    values[~np.isfinite(values)] = np.nan
    breaks = (np.diff(code, prepend=-1) != 0) | (np.diff(ms, prepend=0) > max_gap_s * 1000)
    return MetricTable(tuple(features), tuple(names), code, ms, np.cumsum(breaks) - 1, values)


def _numbered(instances: pd.Series) -> tuple[NDArray[np.object_], IntArray]:
    """Return the distinct names, sorted, and the index of each row's name, (n,).

    Names are compared as text.
    """
    number, distinct = pd.factorize(instances, use_na_sentinel=False)
    names, index = np.unique(np.array([str(name) for name in distinct], object), return_inverse=True)
    return names, index[number].astype(np.int64)


def blocks(n: int) -> Iterator[slice]:
    """Yield consecutive slices of at most 50,000 of ``n`` rows."""
    for low in range(0, n, BLOCK_ROWS):
        yield slice(low, min(low + BLOCK_ROWS, n))


def window_ends(table: MetricTable, width: int) -> IntArray:
    """Return the rows that end a window of ``width`` rows, (m,) with m <= n.

    A window holds consecutive rows of one segment.
    """
    ends: IntArray = np.flatnonzero(table.position >= width - 1)
    return ends


def window_vectors(behaviour: FloatArray, ends: IntArray, width: int) -> FloatArray:
    """Return the windows that end at rows ``ends`` as vectors, (m, width * d).

    The oldest row comes first.
    """
    return np.concatenate([behaviour[ends - back] for back in range(width - 1, -1, -1)], axis=1)


def windows(behaviour: FloatArray, table: MetricTable, width: int) -> tuple[FloatArray, IntArray]:
    """Return all windows (m, width * d) and the row at which each ends (m,)."""
    ends = window_ends(table, width)
    return window_vectors(behaviour, ends, width), ends

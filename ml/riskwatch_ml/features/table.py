"""From metric rows to feature vectors: the behaviour space, windows and the level space.

Two spaces are built from the same rows. The *behaviour* space asks "is this how it behaves?": every value is measured
in deviations from the instance's own baseline for that UTC hour, squashed, and a few rows in a row make one vector. The
*level* space asks "how busy is it?": absolute values, one centre and one scale for the whole fleet. Every fitted
number is rounded to float32, prototypes to half precision, before anything is computed with it and all arithmetic is
float64, so that a model read back from its file labels exactly as it did in training.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

HOURS = 24
RELATIVE_EPSILON = 1e-3
ABSOLUTE_EPSILON = 1e-6
DECILES = (0.1, 0.9)
DECILE_SPAN = 2.563  # standard deviations between the first and the last decile of a normal distribution
LEAST_WITHIN = 1e-3
NEVER_SEEN_SCALE = 1e30  # a metric without a single value in training: any value of it lies at its centre
BLOCK_ROWS = 50_000  # a large fleet's rows are computed on in steps: what is in between need not fit beside them


class RowsError(ValueError):
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


def float32(values: FloatArray) -> FloatArray:
    """The same numbers as a float32 file will hold them, as float64."""
    rounded: FloatArray = np.asarray(values, np.float64).astype(np.float32).astype(np.float64)
    return rounded


def float16(values: FloatArray) -> FloatArray:
    """The same numbers to eleven binary digits, as a file in half precision will hold them, as float64.

    For squashed deviations alone: a ten thousandth of a unit where most values lie, at most 65,504.
    """
    rounded: FloatArray = np.asarray(values, np.float64).astype(np.float16).astype(np.float64)
    return rounded


def squash(z: FloatArray) -> FloatArray:
    """``sign(z) * log(1 + |z|)``: ten deviations are far, a thousand not a hundred times farther."""
    squashed: FloatArray = np.copysign(np.log1p(np.abs(z)), z)
    return squashed


@dataclass(frozen=True)
class Baselines:
    """Centre and scale by UTC hour, each (n_baselines, 24, d): for known instances, for their roles, for the fleet."""

    instances: Mapping[str, int]
    roles: Mapping[str, int]
    fleet: int
    center: FloatArray
    scale: FloatArray

    def index(self, instances: Sequence[str], roles: Mapping[str, str]) -> IntArray:
        """Baseline of each instance: its own, else its role's, else the fleet's."""
        return np.array(
            [self.instances.get(name, self.roles.get(roles.get(name, ""), self.fleet)) for name in instances], np.int64
        )

    def impute(self, table: MetricTable, baseline: IntArray) -> FloatArray:
        """The rows' values (n, d) with every missing one at its centre; ``baseline`` (n,) is the index of each row."""
        center = self.center[baseline, table.hour, : table.values.shape[1]]
        return np.where(np.isnan(table.values), center, table.values)

    def level(self, table: MetricTable, baseline: IntArray, center: FloatArray, scale: FloatArray) -> FloatArray:
        """The rows in the level space of a ``center`` and ``scale`` (d,), missing values at their centre, (n, d)."""
        rows = np.empty(table.values.shape)
        for part in blocks(len(table)):
            rows[part] = level_space(self.impute(table.part(part), baseline[part]), center, scale)
        return rows

    def behaviour(self, table: MetricTable, baseline: IntArray) -> FloatArray:
        """The rows in the behaviour space, (n, d): squashed deviations from the baseline of the row's hour."""
        rows = np.empty(table.values.shape)
        for part in blocks(len(table)):
            own, values = (baseline[part], table.hour[part]), table.values[part]
            rows[part] = squash(np.where(np.isnan(values), 0.0, (values - self.center[own]) / self.scale[own]))
        return rows


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


def fit_level_scaling(values: FloatArray, code: IntArray, columns: Sequence[int]) -> tuple[FloatArray, FloatArray]:
    """Centre and scale (d,) of the level space over the values (n, d) of the whole fleet, NaN ignored.

    ``code`` (n,) numbers each row's instance. Only the metrics ``columns`` say how busy a row is; any value of another
    one lies at its centre. Centre and scale come from the first and last decile, which a few wild values do not move.
    A metric whose level-space variance lies mostly between the instances tells how large they are, not how busy: its
    scale is divided by the share of the variance within instances, relative to the metric with the greatest share.
    """
    center = np.zeros(values.shape[1])
    scale = np.full(values.shape[1], NEVER_SEEN_SCALE)
    within = np.zeros(values.shape[1])
    for column in columns:
        present = np.isfinite(values[:, column])
        if not present.any():
            continue
        own = values[present, column]
        low, high = np.quantile(own, DECILES)
        center[column] = (low + high) / 2
        # Where the deciles are equal, the few values that differ are all there is.
        spread = (high - low) / DECILE_SPAN or float(own.std())
        scale[column] = max(spread, RELATIVE_EPSILON * abs(center[column]) + ABSOLUTE_EPSILON)
        within[column] = _within_share(squash((own - center[column]) / scale[column]), code[present])
    if within.any():
        scale /= np.maximum(within / within.max(), LEAST_WITHIN)
    return float32(center), float32(np.minimum(scale, NEVER_SEEN_SCALE))


def _within_share(values: FloatArray, code: IntArray) -> float:
    """Share of the variance of some values (n,) that lies within instances: one minus the squared correlation ratio."""
    total = float(np.var(values))
    count = np.bincount(code)
    mean = np.bincount(code, weights=values) / np.maximum(count, 1)
    return float(np.mean((values - mean[code]) ** 2)) / total if total > 0 else 0.0


def level_space(values: FloatArray, center: FloatArray, scale: FloatArray) -> FloatArray:
    """Values (n, d) without gaps in the level space, (n, d); 0 in the metrics that do not say how busy a row is."""
    level = squash((values - center) / scale)
    # What a scale without end leaves of them would make vectors different that are the same to the map that serves.
    level[:, scale >= NEVER_SEEN_SCALE] = 0.0
    return level

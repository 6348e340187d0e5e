"""From metric rows to feature vectors: baselines by hour of day, the behaviour space, windows and the level space.

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

from ml.profile_grid import on_grid

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

HOURS = 24
MIN_ROWS = 24  # an instance with fewer rows has no baseline of its own
MIN_SPAN_MS = 24 * 3_600_000  # nor one whose rows span less than a day: it has not shown all its hours
MIN_HOUR_ROWS = 6  # an hour of day with fewer rows says nothing about its own mean
PROFILE_SPAN_MS = 48 * 3_600_000  # an hour-of-day profile needs each hour twice: once to learn it, once to test it
SCALE_FLOOR = 0.3  # share of the fleet's typical deviation that is the least deviation of an instance
RELATIVE_EPSILON = 1e-3
ABSOLUTE_EPSILON = 1e-6
DECILES = (0.1, 0.9)
DECILE_SPAN = 2.563  # standard deviations between the first and the last decile of a normal distribution
LEAST_WITHIN = 1e-3
NEVER_SEEN_SCALE = 1e30  # a metric without a single value in training: any value of it lies at its centre


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

    def take(self, keep: IntArray | BoolArray) -> MetricTable:
        """The chosen rows; segments keep their numbers, so windows must not be built on a thinned-out table."""
        return MetricTable(
            self.features, self.instances, self.code[keep], self.ms[keep], self.segment[keep], self.values[keep]
        )


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
    names, code = np.unique(rows["instance_id"].astype(str).to_numpy(object), return_inverse=True)
    ms = rows["timestamp"].dt.tz_convert("UTC").dt.as_unit("ms").astype("int64").to_numpy()
    order = np.lexsort((ms, code))
    code, ms = code[order].astype(np.int64), ms[order]
    values = rows.reindex(columns=list(features)).to_numpy(np.float64, na_value=np.nan)[order]
    values = np.where(np.isfinite(values), values, np.nan)
    breaks = (np.diff(code, prepend=-1) != 0) | (np.diff(ms, prepend=0) > max_gap_s * 1000)
    return MetricTable(tuple(features), tuple(names), code, ms, np.cumsum(breaks) - 1, values)


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

    def behaviour(self, table: MetricTable, baseline: IntArray) -> FloatArray:
        """The rows in the behaviour space, (n, d): squashed deviations from the baseline of the row's hour."""
        center, scale = self.center[baseline, table.hour], self.scale[baseline, table.hour]
        return squash(np.where(np.isnan(table.values), 0.0, (table.values - center) / scale))


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


def fit_baselines(table: MetricTable, roles: Mapping[str, str]) -> Baselines:
    """One baseline for each instance with enough rows over a day or more, each role they have, and the fleet."""
    known = _known(table)
    role_names = sorted({roles[name] for name in known if name in roles})
    # A table is sorted by instance and the rows of one are taken at a time: a fleet has many instances and many rows.
    profiles = [_profile(table.take(np.arange(low, high))) for low, high in known.values()]
    for role in role_names:
        has_role = np.array([roles.get(name, "") == role for name in table.instances])
        profiles.append(_profile(table.take(has_role[table.code])))
    profiles.append(_profile(table))
    center = np.stack([profile[0] for profile in profiles])
    scale = np.stack([profile[1] for profile in profiles])
    deviation = np.stack([profile[2] for profile in profiles])
    center, scale = _borrow(center, scale, roles=[roles.get(name, "") for name in known], role_names=role_names)
    own = deviation[: len(known)] if known else deviation
    scale = np.maximum(scale, _scale_floor(center, own))
    unseen = ~np.isfinite(center)
    center = on_grid(np.where(unseen, 0.0, center))
    scale = on_grid(np.where(unseen, NEVER_SEEN_SCALE, scale), positive=True)
    return Baselines(
        instances={name: index for index, name in enumerate(known)},
        roles={name: len(known) + index for index, name in enumerate(role_names)},
        fleet=len(profiles) - 1,
        center=center,
        scale=scale,
    )


def _known(table: MetricTable) -> dict[str, tuple[int, int]]:
    """Instances that have shown enough of themselves to be measured against their own past, as a range of rows."""
    bounds = np.searchsorted(table.code, np.arange(len(table.instances) + 1)).tolist()
    return {
        name: (low, high)
        for name, low, high in zip(table.instances, bounds[:-1], bounds[1:], strict=True)
        if high - low >= MIN_ROWS and table.ms[high - 1] - table.ms[low] >= MIN_SPAN_MS
    }


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
    """Values (n, d) without gaps in the level space, (n, d)."""
    return squash((values - center) / scale)


def _count_and_mean(values: FloatArray) -> tuple[IntArray, FloatArray]:
    """Number and mean of the values present in each column; the mean of a column without values is NaN."""
    present = np.isfinite(values)
    count = present.sum(axis=0)
    total = np.where(present, values, 0.0).sum(axis=0)
    return count, np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _hourly(values: FloatArray, hour: IntArray) -> tuple[IntArray, FloatArray]:
    """Number and mean of the values present by hour of day, each (24, d)."""
    present = np.isfinite(values)
    of_hour = (hour[None, :] == np.arange(HOURS)[:, None]).astype(np.float64)
    count = np.rint(of_hour @ present).astype(np.int64)
    total = of_hour @ np.where(present, values, 0.0)
    return count, np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _profile(table: MetricTable) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Centre (24, d), scale (24, d) and overall deviation (d,) of some rows; NaN for a metric without values.

    The hour's own mean and deviation count as far as they can be trusted: ``centre = mean + trust * (hour's mean -
    mean)``, the scale likewise.
    """
    _, mean = _count_and_mean(table.values)
    deviation = np.sqrt(_count_and_mean((table.values - mean) ** 2)[1])
    trust = _trust(table)
    count, hour_mean = _hourly(table.values, table.hour)
    hour_mean = np.where(count >= MIN_HOUR_ROWS, hour_mean, mean)
    residual = (table.values - hour_mean[table.hour]) ** 2
    hour_deviation = np.sqrt(_hourly(residual, table.hour)[1])
    within = np.sqrt(_count_and_mean(residual)[1])
    hour_deviation = np.where(count >= MIN_HOUR_ROWS, hour_deviation, within)
    center = mean + trust * (hour_mean - mean)
    scale = deviation + trust * (hour_deviation - deviation)
    return center, np.maximum(scale, SCALE_FLOOR * deviation), deviation


def _trust(table: MetricTable) -> FloatArray:
    """How far the hour of day explains each metric, (d,) in 0..1.

    Out-of-sample R squared: the hourly means of the first half in time against the second half, where predicting the
    first half's overall mean scores 0. Less than two days of rows earn no trust.
    """
    untrusted = np.zeros(table.values.shape[1])
    if not len(table) or table.ms.max() - table.ms.min() < PROFILE_SPAN_MS:
        return untrusted
    middle = np.median(table.ms)
    first, second = table.take(table.ms < middle), table.take(table.ms >= middle)
    mean = _count_and_mean(first.values)[1]
    count, hour_mean = _hourly(first.values, first.hour)
    hour_mean = np.where(count >= MIN_HOUR_ROWS, hour_mean, mean)
    unexplained = np.nansum((second.values - hour_mean[second.hour]) ** 2, axis=0)
    total = np.nansum((second.values - mean) ** 2, axis=0)
    explained = 1 - unexplained / np.where(total > 0, total, 1.0)
    return np.where(total > 0, np.clip(explained, 0.0, 1.0), 0.0)


def _borrow(
    center: FloatArray, scale: FloatArray, roles: Sequence[str], role_names: Sequence[str]
) -> tuple[FloatArray, FloatArray]:
    """Where an instance never reported a metric its role's baseline stands in, and the fleet's for both."""
    center, scale = center.copy(), scale.copy()
    known, fleet = len(roles), len(center) - 1
    for index in [*range(known, fleet), *range(known)]:
        parents = [fleet] if index >= known else [known + role_names.index(roles[index])] if roles[index] else [fleet]
        for parent in parents:
            gap = ~np.isfinite(center[index])
            center[index] = np.where(gap, center[parent], center[index])
            scale[index] = np.where(gap, scale[parent], scale[index])
    return center, scale


def _scale_floor(center: FloatArray, deviation: FloatArray) -> FloatArray:
    """Least scale of every baseline, hour and metric, like ``center`` (n_baselines, 24, d), and never zero.

    A share of the typical deviation (d,) of the instances (instances, d), so that a metric which barely moves on one
    instance is not called unusual for moving as it does elsewhere.
    """
    typical = np.median(np.where(np.isfinite(deviation), deviation, 0.0), axis=0)
    return np.fmax(SCALE_FLOOR * typical, RELATIVE_EPSILON * np.abs(center) + ABSOLUTE_EPSILON)

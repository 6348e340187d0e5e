"""Baselines: centre and scale by hour of day.

Each instance with enough rows, each role and the fleet has a baseline. An hour-of-day profile is used to the extent
that it predicts newer rows. An instance without enough rows uses the baseline of its role. No scale is much smaller
than the typical scale of the fleet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from riskwatch_ml.artifact.quantise import on_grid
from riskwatch_ml.features.spaces import ABSOLUTE_EPSILON, NEVER_SEEN_SCALE, RELATIVE_EPSILON, Baselines
from riskwatch_ml.features.table import HOURS, blocks

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike

    from riskwatch_ml.core.arrays import BoolArray, FloatArray
    from riskwatch_ml.features.table import MetricTable

MIN_ROWS = 24  # an instance with fewer rows has no baseline
# The span from the first row to the last. The rows of one day span a day minus one period, which may be an hour.
MIN_SPAN_MS = 23 * 3_600_000  # an instance with less than a day of rows has no baseline: some hours are missing
MIN_HOUR_ROWS = 6  # an hour of day with fewer rows has no mean
PROFILE_SPAN_MS = 47 * 3_600_000  # an hour-of-day profile needs each hour twice: once to fit it, once to test it
SCALE_FLOOR = 0.3  # the smallest deviation of an instance, as a share of the fleet's typical deviation


def fit_baselines(table: MetricTable, roles: Mapping[str, str]) -> Baselines:
    """Fit the baselines of the instances, of their roles and of the fleet.

    ``table`` holds n rows of d columns, ``roles`` the role of each instance. An instance needs 24 rows that span 23
    hours; roles are those of the instances with a baseline.
    """
    known = _known(table)
    role_names = sorted({roles[name] for name in known if name in roles})
    # The table is sorted by instance. Slices, unlike masks of all rows, need no memory that grows with the fleet.
    profiles = [_profile(table.part(slice(low, high))) for low, high in known.values()]
    for role in role_names:
        has_role = np.array([roles.get(name, "") == role for name in table.instances])
        profiles.append(_profile(table.take(has_role[table.code])))
    profiles.append(_profile(table))
    center = np.stack([profile[0] for profile in profiles])
    scale = np.stack([profile[1] for profile in profiles])
    deviation = np.stack([profile[2] for profile in profiles])
    center, scale = _borrow(center, scale, roles=[roles.get(name, "") for name in known], role_names=role_names)
    instance_deviation = deviation[: len(known)] if known else deviation
    scale = np.maximum(scale, _scale_floor(center, instance_deviation))
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
    """Return the row range [low, high) of each instance that has enough rows."""
    bounds = np.searchsorted(table.code, np.arange(len(table.instances) + 1)).tolist()
    return {
        name: (low, high)
        for name, low, high in zip(table.instances, bounds[:-1], bounds[1:], strict=True)
        if high > low and suffices(high - low, table.ms[high - 1] - table.ms[low])
    }


def suffices(rows: ArrayLike, span_ms: ArrayLike) -> BoolArray:
    """Return whether an instance has enough rows for a baseline, in the shape of the arguments.

    ``rows`` are their numbers, ``span_ms`` the milliseconds from the first to the last.
    """
    return (np.asarray(rows) >= MIN_ROWS) & (np.asarray(span_ms) >= MIN_SPAN_MS)


def _sums(
    table: MetricTable, center: FloatArray | None = None, selected: BoolArray | None = None
) -> tuple[FloatArray, FloatArray]:
    """Return count and sum of the values present by hour of day, each (24, d).

    With ``center`` (24, d), sum the squared differences from it. With ``selected`` (n,), use these rows only.
    """
    count, total = np.zeros((2, HOURS, table.values.shape[1]))
    for part in blocks(len(table)):
        values, hour = table.values[part], table.hour[part]
        if selected is not None:
            values, hour = values[selected[part]], hour[selected[part]]
        if center is not None:
            values = (values - center[hour]) ** 2
        present = np.isfinite(values)
        of_hour = (hour[None, :] == np.arange(HOURS)[:, None]).astype(np.float64)
        count += np.rint(of_hour @ present)
        total += of_hour @ np.where(present, values, 0.0)
    return count, total


def _mean(count: FloatArray, total: FloatArray) -> FloatArray:
    """Return ``total / count``; NaN if the count is 0."""
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _means(count: FloatArray, total: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the overall mean (d,) and the mean by hour of day (24, d).

    An hour with fewer than six values has the overall mean.
    """
    mean = _mean(count.sum(axis=0), total.sum(axis=0))
    return mean, np.where(count >= MIN_HOUR_ROWS, _mean(count, total), mean)


def _profile(table: MetricTable) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return centre (24, d), scale (24, d) and overall deviation (d,) of some rows.

    ``centre = mean + trust * (hour's mean - mean)``; the scale is computed in the same way from the deviations.
    A metric without values gets NaN.
    """
    count, total = _sums(table)
    rows = count.sum(axis=0)
    mean, hour_mean = _means(count, total)
    deviation = np.sqrt(_mean(rows, _sums(table, np.broadcast_to(mean, hour_mean.shape))[1].sum(axis=0)))
    trust = _trust(table)
    squares = _sums(table, hour_mean)[1]
    within = np.sqrt(_mean(rows, squares.sum(axis=0)))
    hour_deviation = np.where(count >= MIN_HOUR_ROWS, np.sqrt(_mean(count, squares)), within)
    center = mean + trust * (hour_mean - mean)
    scale = deviation + trust * (hour_deviation - deviation)
    return center, np.maximum(scale, SCALE_FLOOR * deviation), deviation


def _trust(table: MetricTable) -> FloatArray:
    """Return the share of the variance that the hour of day explains, (d,).

    The share lies in 0..1. This is the out-of-sample R squared: the older half of the rows gives the hourly means, the
    newer half tests them. The overall mean of the older half would score 0. Rows that span less than two days get 0.
    """
    if not len(table) or table.ms.max() - table.ms.min() < PROFILE_SPAN_MS:
        return np.zeros(table.values.shape[1])
    newer = table.ms >= np.median(table.ms)
    mean, hour_mean = _means(*_sums(table, selected=~newer))
    unexplained = _sums(table, hour_mean, newer)[1].sum(axis=0)
    total = _sums(table, np.broadcast_to(mean, hour_mean.shape), newer)[1].sum(axis=0)
    explained = 1 - unexplained / np.where(total > 0, total, 1.0)
    return np.where(total > 0, np.clip(explained, 0.0, 1.0), 0.0)


def _borrow(
    center: FloatArray, scale: FloatArray, roles: Sequence[str], role_names: Sequence[str]
) -> tuple[FloatArray, FloatArray]:
    """Fill missing metrics: instances from their role, roles from the fleet."""
    center, scale = center.copy(), scale.copy()
    known, fleet = len(roles), len(center) - 1
    for index in [*range(known, fleet), *range(known)]:
        parents = [fleet] if index >= known else [known + role_names.index(roles[index])] if roles[index] else [fleet]
        for parent in parents:
            missing = ~np.isfinite(center[index])
            center[index] = np.where(missing, center[parent], center[index])
            scale[index] = np.where(missing, scale[parent], scale[index])
    return center, scale


def _scale_floor(center: FloatArray, deviation: FloatArray) -> FloatArray:
    """Return the smallest scale of every baseline, hour and metric, above zero.

    The result is (n_baselines, 24, d). It is a share of the median ``deviation`` (instances, d) of each metric. A
    metric that hardly varies on one instance is therefore not unusual when it varies there as it does on the others.
    """
    typical = np.median(np.where(np.isfinite(deviation), deviation, 0.0), axis=0)
    return np.fmax(SCALE_FLOOR * typical, RELATIVE_EPSILON * np.abs(center) + ABSOLUTE_EPSILON)

"""Fitting baselines: centre and scale by hour of day of every instance, of every role and of the fleet.

The hour of day counts as far as it holds out of sample, an instance without a past of its own borrows from its role,
and no scale is much smaller than what is typical of the fleet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from riskwatch_ml.artifact.quantise import on_grid
from riskwatch_ml.features.spaces import ABSOLUTE_EPSILON, NEVER_SEEN_SCALE, RELATIVE_EPSILON, Baselines
from riskwatch_ml.features.table import HOURS, blocks

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from riskwatch_ml.core.arrays import BoolArray, FloatArray
    from riskwatch_ml.features.table import MetricTable

MIN_ROWS = 24  # an instance with fewer rows has no baseline of its own
# From the first row to the last: rows of a day span a day but for their period, which may be an hour.
MIN_SPAN_MS = 23 * 3_600_000  # nor one with less than a day of rows: it has not shown all its hours
MIN_HOUR_ROWS = 6  # an hour of day with fewer rows says nothing about its own mean
PROFILE_SPAN_MS = 47 * 3_600_000  # an hour-of-day profile needs each hour twice: once to learn it, once to test it
SCALE_FLOOR = 0.3  # share of the fleet's typical deviation that is the least deviation of an instance


def fit_baselines(table: MetricTable, roles: Mapping[str, str]) -> Baselines:
    """One baseline for each instance with enough rows over a day or more, each role they have, and the fleet."""
    known = _known(table)
    role_names = sorted({roles[name] for name in known if name in roles})
    # A table is sorted by instance and the rows of one are taken at a time: a fleet has many instances and many rows.
    profiles = [_profile(table.part(slice(low, high))) for low, high in known.values()]
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


def _sums(
    table: MetricTable, around: FloatArray | None = None, chosen: BoolArray | None = None
) -> tuple[FloatArray, FloatArray]:
    """Number and sum of the values present by hour of day, each (24, d).

    With ``around`` (24, d) the sum is of the squared differences from it, with ``chosen`` (n,) over these rows only.
    """
    count, total = np.zeros((2, HOURS, table.values.shape[1]))
    for part in blocks(len(table)):
        values, hour = table.values[part], table.hour[part]
        if chosen is not None:
            values, hour = values[chosen[part]], hour[chosen[part]]
        if around is not None:
            values = (values - around[hour]) ** 2
        present = np.isfinite(values)
        of_hour = (hour[None, :] == np.arange(HOURS)[:, None]).astype(np.float64)
        count += np.rint(of_hour @ present)
        total += of_hour @ np.where(present, values, 0.0)
    return count, total


def _mean(count: FloatArray, total: FloatArray) -> FloatArray:
    """``total / count``, NaN where nothing was counted."""
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _means(count: FloatArray, total: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Overall mean (d,) and the mean by hour of day (24, d), which is the overall one where an hour has few rows."""
    mean = _mean(count.sum(axis=0), total.sum(axis=0))
    return mean, np.where(count >= MIN_HOUR_ROWS, _mean(count, total), mean)


def _profile(table: MetricTable) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Centre (24, d), scale (24, d) and overall deviation (d,) of some rows; NaN for a metric without values.

    The hour's own mean and deviation count as far as they can be trusted: ``centre = mean + trust * (hour's mean -
    mean)``, the scale likewise.
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
    """How far the hour of day explains each metric, (d,) in 0..1.

    Out-of-sample R squared: the hourly means of the first half in time against the second half, where predicting the
    first half's overall mean scores 0. Less than two days of rows earn no trust.
    """
    if not len(table) or table.ms.max() - table.ms.min() < PROFILE_SPAN_MS:
        return np.zeros(table.values.shape[1])
    newer = table.ms >= np.median(table.ms)
    mean, hour_mean = _means(*_sums(table, chosen=~newer))
    unexplained = _sums(table, hour_mean, newer)[1].sum(axis=0)
    total = _sums(table, np.broadcast_to(mean, hour_mean.shape), newer)[1].sum(axis=0)
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

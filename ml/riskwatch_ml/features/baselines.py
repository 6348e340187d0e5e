"""Baselines: centre and scale by local hour of day and day type.

Each instance with enough rows, each role and the fleet has a baseline. An hour-of-day profile is used to the extent
that it predicts newer rows, and so are separate profiles of workdays and days off. An instance without enough rows uses
the baseline of its role. No scale is much smaller than the typical scale of the fleet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from riskwatch_lambda.model.seasons import HOURS
from riskwatch_ml.artifact.quantise import has_day_types, on_grid
from riskwatch_ml.core.local_time import UTC_DAYS, LocalTime
from riskwatch_ml.features.day_sums import DaySums
from riskwatch_ml.features.profiles import SCALE_FLOOR, make_profile
from riskwatch_ml.features.seasons import Seasons, read_zones
from riskwatch_ml.features.spaces import ABSOLUTE_EPSILON, NEVER_SEEN_SCALE, RELATIVE_EPSILON, Baselines

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike

    from riskwatch_ml.core.arrays import BoolArray, FloatArray
    from riskwatch_ml.features.table import MetricTable

MIN_ROWS = 24  # an instance with fewer rows has no baseline
# The span from the first row to the last. The rows of one day span a day minus one period, which may be an hour.
MIN_SPAN_MS = 23 * 3_600_000  # an instance with less than a day of rows has no baseline: some hours are missing


def fit_baselines(table: MetricTable, roles: Mapping[str, str], local_time: LocalTime = UTC_DAYS) -> Baselines:
    """Fit the baselines of the instances, of their roles and of the fleet.

    ``table`` holds n rows of d columns, ``roles`` the role of each instance. An instance needs 24 rows that span 23
    hours; roles are those of the instances with a baseline. ``local_time`` has their time zones and the holidays.
    """
    known = _known(table)
    role_names = sorted({roles[name] for name in known if name in roles})
    zones, zone_of = read_zones(local_time, sorted(set(roles.values())), table.ms)
    zone = np.array([zone_of[roles.get(name, "")] for name in table.instances], np.int64)[table.code]
    days = zones.days(table.ms, zone)
    # The table is sorted by instance. Slices, unlike masks of all rows, need no memory that grows with the fleet.
    profiles = [make_profile(DaySums.of(table, days, slice(low, high))) for low, high in known.values()]
    for role in role_names:
        has_role = np.array([roles.get(name, "") == role for name in table.instances])
        profiles.append(make_profile(DaySums.of(table, days, np.flatnonzero(has_role[table.code]))))
    profiles.append(make_profile(DaySums.of(table, days, slice(0, len(table)))))
    center = np.stack([profile.center for profile in profiles])
    scale = np.stack([profile.scale for profile in profiles])
    deviation = np.stack([profile.deviation for profile in profiles])
    center, scale = _borrow(center, scale, roles=[roles.get(name, "") for name in known], role_names=role_names)
    instance_deviation = deviation[: len(known)] if known else deviation
    scale = np.maximum(scale, _scale_floor(center, instance_deviation))
    unseen = ~np.isfinite(center)
    center = on_grid(np.where(unseen, 0.0, center))
    scale = on_grid(np.where(unseen, NEVER_SEEN_SCALE, scale), positive=True)
    if not has_day_types(center, scale).any():
        center, scale = center[:, :HOURS], scale[:, :HOURS]
    zone_of_baseline = [zone_of[roles.get(name, "")] for name in known] + [zone_of[role] for role in [*role_names, ""]]
    return Baselines(
        instances={name: index for index, name in enumerate(known)},
        roles={name: len(known) + index for index, name in enumerate(role_names)},
        fleet=len(profiles) - 1,
        center=center,
        scale=scale,
        seasons=Seasons(zones, np.array(zone_of_baseline, np.int64)),
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
    """Return the smallest scale of every baseline, slot and metric, above zero.

    The result is (n_baselines, 54, d). It is a share of the median ``deviation`` (instances, d) of each metric. A
    metric that hardly varies on one instance is therefore not unusual when it varies there as it does on the others.
    """
    typical = np.median(np.where(np.isfinite(deviation), deviation, 0.0), axis=0)
    return np.fmax(SCALE_FLOOR * typical, RELATIVE_EPSILON * np.abs(center) + ABSOLUTE_EPSILON)

"""Groups of similar instances that share prototypes.

A baseline makes centre and scale of instances comparable, but not the shape of their behaviour: a request counter with
bursts and an idle processor need different prototypes. If the inventory distinguishes roles, a group is a role.
Otherwise it is a cluster of instances with similar quantiles of values and of steps. Instances without a baseline
belong to the fallback group. Its prototypes come from rows measured against the baseline of their role or of the fleet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from riskwatch_ml.core.arrays import FloatArray, IntArray
    from riskwatch_ml.features.spaces import Baselines
    from riskwatch_ml.features.table import MetricTable

MAX_GROUPS = 8
QUANTILES = (0.01, 0.25, 0.5, 0.75, 0.99)


def group_baselines(
    behaviour: FloatArray, table: MetricTable, baselines: Baselines, roles: Mapping[str, str], seed: int
) -> IntArray:
    """Return the group of every baseline, (n_baselines,).

    Known instances have groups from 0; the highest number is the fallback group of all roles and the fleet.
    ``behaviour`` (n, width) are the rows in the behaviour space, ``roles`` the role of each instance by name.
    """
    known = baselines.instances
    groups = np.zeros(len(baselines.center), np.int64)
    if known:
        instance_groups = _by_role(list(known), roles)
        if instance_groups is None:
            instance_groups = _by_behaviour(behaviour, table, list(known), seed)
        for name, group in zip(known, instance_groups, strict=True):
            groups[known[name]] = group
    fallback = int(groups.max()) + 1 if known else 0
    for index in [*baselines.roles.values(), baselines.fleet]:
        groups[index] = fallback
    return groups


def _by_role(names: list[str], roles: Mapping[str, str]) -> list[int] | None:
    """Return the groups by role if there are two to eight roles, else None."""
    role_names = sorted({roles.get(name, "") for name in names})
    if not 2 <= len(role_names) <= MAX_GROUPS:
        return None
    return [role_names.index(roles.get(name, "")) for name in names]


def _by_behaviour(behaviour: FloatArray, table: MetricTable, names: list[str], seed: int) -> list[int]:
    """Cluster the instances into at most eight groups.

    Up to eight instances are a group each.
    """
    if len(names) <= MAX_GROUPS:
        return list(range(len(names)))
    from sklearn.cluster import KMeans

    codes = {name: code for code, name in enumerate(table.instances)}
    bounds = np.searchsorted(table.code, np.arange(len(table.instances) + 1))
    profiles = np.stack([_instance_profile(behaviour[bounds[codes[name]] : bounds[codes[name] + 1]]) for name in names])
    clusters = min(MAX_GROUPS, len(np.unique(profiles, axis=0)))
    labels = KMeans(clusters, n_init=4, random_state=seed).fit(profiles).labels_
    return [int(label) for label in np.unique(labels, return_inverse=True)[1]]


def _instance_profile(rows: FloatArray) -> FloatArray:
    """Return the quantiles of each column and of its differences from row to row."""
    steps = np.diff(rows, axis=0) if len(rows) > 1 else np.zeros_like(rows)
    return np.concatenate([np.quantile(part, QUANTILES, axis=0).ravel() for part in (rows, steps)])

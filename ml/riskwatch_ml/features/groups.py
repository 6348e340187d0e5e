"""Groups of alike instances: those whose rows take the same forms share prototypes.

A baseline makes instances comparable in place and size, not in kind: a request counter that comes in bursts and a
processor that idles need different prototypes. A group is a role where the inventory tells roles apart, and otherwise
instances whose behaviour has the same spread, tails, pace and correlations. Instances without a baseline of their own
are measured by the fallback group, whose prototypes come from rows measured against the role's or the fleet's baseline.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from riskwatch_ml.core.arrays import FloatArray, IntArray
    from riskwatch_ml.features.spaces import Baselines
    from riskwatch_ml.features.table import MetricTable

MOST_GROUPS = 8
QUANTILES = (0.01, 0.25, 0.5, 0.75, 0.99)


def group_baselines(
    behaviour: FloatArray, table: MetricTable, baselines: Baselines, roles: Mapping[str, str], seed: int
) -> IntArray:
    """Group of every baseline, (n_baselines,): 0 .. for known instances, the highest number for all fallbacks.

    ``behaviour`` (n, width) are the rows in the behaviour space and ``roles`` the role of each instance by name.
    """
    known = baselines.instances
    groups = np.zeros(len(baselines.center), np.int64)
    if known:
        of_instance = _by_role(list(known), roles)
        if of_instance is None:
            of_instance = _by_behaviour(behaviour, table, list(known), seed)
        for name, group in zip(known, of_instance, strict=True):
            groups[known[name]] = group
    fallback = int(groups.max()) + 1 if known else 0
    for index in [*baselines.roles.values(), baselines.fleet]:
        groups[index] = fallback
    return groups


def _by_role(names: list[str], roles: Mapping[str, str]) -> list[int] | None:
    """Groups by role where there are two to eight of them, else None."""
    found = sorted({roles.get(name, "") for name in names})
    if not 2 <= len(found) <= MOST_GROUPS:
        return None
    return [found.index(roles.get(name, "")) for name in names]


def _by_behaviour(behaviour: FloatArray, table: MetricTable, names: list[str], seed: int) -> list[int]:
    """At most eight groups of instances by what their rows look like; up to eight instances are a group each."""
    if len(names) <= MOST_GROUPS:
        return list(range(len(names)))
    from sklearn.cluster import KMeans

    place = {name: code for code, name in enumerate(table.instances)}
    bounds = np.searchsorted(table.code, np.arange(len(table.instances) + 1))
    looks = np.stack([_look(behaviour[bounds[place[name]] : bounds[place[name] + 1]]) for name in names])
    different = min(MOST_GROUPS, len(np.unique(looks, axis=0)))
    labels = KMeans(different, n_init=4, random_state=seed).fit(looks).labels_
    return [int(label) for label in np.unique(labels, return_inverse=True)[1]]


def _look(rows: FloatArray) -> FloatArray:
    """Quantiles of each column and of its step from row to row."""
    steps = np.diff(rows, axis=0) if len(rows) > 1 else np.zeros_like(rows)
    return np.concatenate([np.quantile(part, QUANTILES, axis=0).ravel() for part in (rows, steps)])

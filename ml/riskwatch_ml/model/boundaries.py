"""Boundaries by baseline.

The boundary of an instance is the 99 % quantile of its training distances to prototypes that were fitted without the
row. It is then moved half way to the boundary of the fleet: otherwise many incidents in the past of an instance would
make the next one seem normal.
"""

from __future__ import annotations

import numpy as np

from riskwatch_ml.core.arrays import FloatArray, IntArray, float32

QUANTILE = 0.99
OWN_WEIGHT = 0.5  # the highest weight of an instance's boundary against that of the fleet
PRIOR_ROWS = 200  # the number of rows that gives this weight
FLOOR = 0.1  # the smallest boundary of an instance, as a share of the fleet's boundary
LEAST = 1e-3  # the smallest boundary of a fleet with constant metrics


def own_boundaries(distance: FloatArray, baseline: IntArray, n_baselines: int) -> FloatArray:
    """Return the boundary of each baseline, (n_baselines,).

    ``distance`` and ``baseline`` (n,) are the distances of the rows and the baselines of their instances. A baseline
    without rows gets the boundary of all rows.
    """
    if not len(distance):
        return float32(np.full(n_baselines, 1.0))
    fleet = max(float(np.quantile(distance, QUANTILE)), LEAST)
    boundary = np.full(n_baselines, fleet)
    order = np.argsort(baseline, kind="stable")
    starts = np.searchsorted(baseline[order], np.arange(n_baselines + 1))
    for index in range(n_baselines):
        instance = distance[order[starts[index] : starts[index + 1]]]
        if len(instance):
            limit = max(float(np.quantile(instance, QUANTILE)), FLOOR * fleet)
            trust = min(OWN_WEIGHT, len(instance) / (len(instance) + PRIOR_ROWS))
            boundary[index] = limit**trust * fleet ** (1 - trust)
    return float32(boundary)


def fallback_boundary(distance: FloatArray, least: float) -> float:
    """Return the boundary of a role or of the fleet, at least ``least``.

    ``distance`` (m,) are the distances of rows of all instances, measured against the baseline of the role or fleet. It
    serves instances that were absent in training, so it must suit the rows of all instances.
    """
    limit = float(np.quantile(distance, QUANTILE)) if len(distance) else least
    return float(np.float32(max(limit, least, LEAST)))

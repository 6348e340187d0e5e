"""The baselines of roles and of the fleet, which judge instances without a baseline of their own.

A role is fitted to the rows of its own instances: measured against another role, most rows are far from normal, and a
boundary that suits them all would find nothing. The fleet is fitted to the rows of all instances.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from riskwatch_ml.families.base import subsample
from riskwatch_ml.features.folds import FALLBACK_ROWS, fallback_rows
from riskwatch_ml.features.table import window_ends, window_vectors, windows
from riskwatch_ml.model.boundaries import fallback_boundary

if TYPE_CHECKING:
    from riskwatch_ml.core.arrays import FloatArray, IntArray
    from riskwatch_ml.families.base import FamilyFit
    from riskwatch_ml.features.table import MetricTable
    from riskwatch_ml.features.training_set import TrainingSet
    from riskwatch_ml.model.document import MemberDocument


def sampled(behaviour: FloatArray, part: MetricTable, window: int, seed: int, parts: int) -> FloatArray:
    """Return at most ``6,000 / parts`` windows of one of the parts."""
    ends = window_ends(part, window)
    return window_vectors(behaviour, ends[subsample(len(ends), FALLBACK_ROWS // parts, seed)], window)


def measured(training_set: TrainingSet) -> list[tuple[FloatArray, MetricTable]]:
    """Return at most 6,000 rows, measured against each role and the fleet.

    There is one entry per role, then that of the fleet: the rows in the behaviour space and their table.
    """
    table, baselines = training_set.table, training_set.baselines
    role_of = np.array([training_set.roles.get(name, "") for name in table.instances], object)
    of_roles = [(np.flatnonzero((role_of == role)[table.code]), index) for role, index in baselines.roles.items()]
    return [_measured_by(training_set, *part) for part in (*of_roles, (np.arange(len(table)), baselines.fleet))]


def _measured_by(training_set: TrainingSet, rows: IntArray, baseline: int) -> tuple[FloatArray, MetricTable]:
    """Return at most 6,000 of some rows in the behaviour space of one baseline, and the table of these rows."""
    wide = training_set.wide
    part = wide.cut(rows[fallback_rows(wide.code[rows], wide.ms[rows])])
    return training_set.baselines.behaviour(part, np.full(len(part), baseline)), part


def fit_boundaries(
    training_set: TrainingSet,
    groups: IntArray,
    members: list[MemberDocument],
    fits: list[FamilyFit],
    boundaries: dict[str, FloatArray],
) -> None:
    """Set the boundary of each role from the rows of its instances, that of the fleet from the rows of all."""
    fallbacks = [*training_set.baselines.roles.values(), training_set.baselines.fleet]
    for index, (behaviour, part) in zip(fallbacks, measured(training_set), strict=True):
        for member, fit in zip(members, fits, strict=True):
            if member["group"] == groups[index]:
                vectors, _ = windows(behaviour, part, member["window"])
                least = float(boundaries[member["boundary"]][index])
                boundaries[member["boundary"]][index] = fallback_boundary(fit.map.assign(vectors).distance, least)

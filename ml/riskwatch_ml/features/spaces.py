"""The two spaces of a model: deviations from a baseline (behaviour), and absolute values (level).

Both are built from the same rows. The *behaviour* space asks "is this how it behaves?": every value is measured in
deviations from the instance's own baseline for that UTC hour, and squashed. The *level* space asks "how busy is it?":
absolute values, one centre and one scale for the whole fleet. Every fitted number is rounded to float32, prototypes to
half precision, before anything is computed with it and all arithmetic is float64, so that a model read back from its
file labels exactly as it did in training.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from riskwatch_ml.core.arrays import FloatArray, IntArray, float32
from riskwatch_ml.features.table import MetricTable, blocks
from riskwatch_ml.schema import inventory as fleet

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from riskwatch_ml.schema.inventory import Instance

RELATIVE_EPSILON = 1e-3
ABSOLUTE_EPSILON = 1e-6
DECILES = (0.1, 0.9)
DECILE_SPAN = 2.563  # standard deviations between the first and the last decile of a normal distribution
LEAST_WITHIN = 1e-3
NEVER_SEEN_SCALE = 1e30  # a metric without a single value in training: any value of it lies at its centre


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


def row_baselines(baselines: Baselines, table: MetricTable, inventory: Mapping[str, Instance]) -> IntArray:
    """Baseline of every row: its instance's own, else its role's, else the fleet's, (n,)."""
    roles = {name: fleet.lookup(inventory, name).role for name in table.instances}
    return baselines.index(table.instances, roles)[table.code]

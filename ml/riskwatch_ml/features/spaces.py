"""The two vector spaces of a model: behaviour and level.

Both are built from the same rows. In the *behaviour* space every value is a squashed deviation from the instance's
baseline for that hour and day type: it shows whether an instance behaves as usual. In the *level* space values are
absolute, with one centre and one scale for the whole fleet: it shows the load. Fitted numbers are rounded to float32,
and prototypes to half precision, before any further computation. All arithmetic is float64. So a model read from its
file gives exactly the labels that it gave in training.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from riskwatch_lambda.episode_rule import BaselineKind
from riskwatch_lambda.model.baselines import DEFAULT_ROLE
from riskwatch_ml.core.arrays import FloatArray, IntArray, float32
from riskwatch_ml.features.table import MetricTable, blocks
from riskwatch_ml.schema import inventory as fleet

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from riskwatch_ml.features.seasons import Seasons
    from riskwatch_ml.schema.inventory import Instance

RELATIVE_EPSILON = 1e-3
ABSOLUTE_EPSILON = 1e-6
DECILES = (0.1, 0.9)
DECILE_SPAN = 2.563  # standard deviations between the first and the last decile of a normal distribution
MIN_WITHIN = 1e-3
NEVER_SEEN_SCALE = 1e30  # for a metric without values in training: any value of it lies at its centre


def squash(z: FloatArray) -> FloatArray:
    """Return ``sign(z) * log(1 + |z|)``, which limits extreme deviations."""
    squashed: FloatArray = np.copysign(np.log1p(np.abs(z)), z)
    return squashed


def unsquash(squashed: FloatArray) -> FloatArray:
    """Return the values that ``squash`` makes ``squashed``; infinity stays."""
    values: FloatArray = np.copysign(np.expm1(np.abs(squashed)), squashed)
    return values


@dataclass(frozen=True)
class Baselines:
    """Centre and scale by slot for known instances, their roles and the fleet.

    ``center`` and ``scale`` are (n_baselines, slots, d), with 24 slots, or 54 if some baselines have day types;
    ``instances``, ``roles`` and ``fleet`` are indices into them. ``seasons`` gives the slot of a row.
    """

    instances: Mapping[str, int]
    roles: Mapping[str, int]
    fleet: int
    center: FloatArray
    scale: FloatArray
    seasons: Seasons

    def index(self, instances: Sequence[str], roles: Mapping[str, str]) -> IntArray:
        """Return the baseline index of each instance, else of its role, else of the fleet."""
        return np.array(
            [self.instances.get(name, self.roles.get(roles.get(name, ""), self.fleet)) for name in instances], np.int64
        )

    def kinds(self) -> list[BaselineKind]:
        """Return the kind of each baseline; that of the instances without a role counts as that of the fleet."""
        kinds = [BaselineKind.FLEET] * len(self.center)
        for role, index in self.roles.items():
            kinds[index] = BaselineKind.FLEET if role == DEFAULT_ROLE else BaselineKind.ROLE
        for index in self.instances.values():
            kinds[index] = BaselineKind.INSTANCE
        return kinds

    def slots(self, table: MetricTable, baseline: IntArray) -> tuple[IntArray, FloatArray]:
        """Return slot and factor on the scales of each row; ``baseline`` (n,) is the baseline index of each row."""
        return self.seasons.slots(table.ms, baseline, self.center.shape[1])

    def impute(self, table: MetricTable, baseline: IntArray) -> FloatArray:
        """Return the values (n, d) with every missing one at its centre.

        ``baseline`` (n,) is the baseline index of each row.
        """
        center = self.center[baseline, self.slots(table, baseline)[0], : table.values.shape[1]]
        return np.where(np.isnan(table.values), center, table.values)

    def impute_metric(self, table: MetricTable, baseline: IntArray, metric: int) -> FloatArray:
        """Return the values (n,) of one metric, by its position, as ``impute`` does."""
        values = table.values[:, metric]
        return np.where(np.isnan(values), self.center[baseline, self.slots(table, baseline)[0], metric], values)

    def level(self, table: MetricTable, baseline: IntArray, center: FloatArray, scale: FloatArray) -> FloatArray:
        """Return the rows in the level space, (n, d).

        A missing value counts as the centre of its baseline. ``baseline`` (n,) is the baseline index of each row;
        ``center`` and ``scale`` (d,) are those of the level space.
        """
        rows = np.empty(table.values.shape)
        for part in blocks(len(table)):
            rows[part] = level_space(self.impute(table.part(part), baseline[part]), center, scale)
        return rows

    def behaviour(self, table: MetricTable, baseline: IntArray) -> FloatArray:
        """Return the rows in the behaviour space, (n, d).

        Values are squashed deviations from the baseline in the slot of the row. ``baseline`` (n,) is the baseline
        index of each row. A missing value gets 0.
        """
        rows = np.empty(table.values.shape)
        slots, widening = self.slots(table, baseline)
        for part in blocks(len(table)):
            at, values = (baseline[part], slots[part]), table.values[part]
            scale = self.scale[at] * widening[part, None]
            rows[part] = squash(np.where(np.isnan(values), 0.0, (values - self.center[at]) / scale))
        return rows


def fit_level_scaling(values: FloatArray, code: IntArray, columns: Sequence[int]) -> tuple[FloatArray, FloatArray]:
    """Fit centre and scale (d,) of the level space to values (n, d) of a fleet.

    NaN is ignored. ``code`` (n,) is the instance of each row. Only the metrics ``columns`` measure load; any value of
    another metric lies at its centre. Centre and scale come from the first and last decile, which are robust to
    outliers. A metric that varies mostly between instances measures their size, not their load. Its scale is therefore
    divided by the share of its level-space variance within instances, relative to the metric with the greatest share.
    """
    center = np.zeros(values.shape[1])
    scale = np.full(values.shape[1], NEVER_SEEN_SCALE)
    within = np.zeros(values.shape[1])
    for column in columns:
        present = np.isfinite(values[:, column])
        if not present.any():
            continue
        reported = values[present, column]
        low, high = np.quantile(reported, DECILES)
        center[column] = (low + high) / 2
        # If the deciles are equal, only a few values differ: use the standard deviation.
        spread = (high - low) / DECILE_SPAN or float(reported.std())
        scale[column] = max(spread, RELATIVE_EPSILON * abs(center[column]) + ABSOLUTE_EPSILON)
        within[column] = _within_share(squash((reported - center[column]) / scale[column]), code[present])
    if within.any():
        scale /= np.maximum(within / within.max(), MIN_WITHIN)
    return float32(center), float32(np.minimum(scale, NEVER_SEEN_SCALE))


def _within_share(values: FloatArray, code: IntArray) -> float:
    """Return the share of the variance of values (n,) within instances.

    It is one minus the squared correlation ratio.
    """
    total = float(np.var(values))
    count = np.bincount(code)
    mean = np.bincount(code, weights=values) / np.maximum(count, 1)
    return float(np.mean((values - mean[code]) ** 2)) / total if total > 0 else 0.0


def level_space(values: FloatArray, center: FloatArray, scale: FloatArray) -> FloatArray:
    """Return values (n, d) in the level space, (n, d).

    The values have no NaN. Metrics that do not measure load become 0.
    """
    level = squash((values - center) / scale)
    # The huge scale leaves tiny differences, which would distinguish vectors that are equal to the served map.
    level[:, scale >= NEVER_SEEN_SCALE] = 0.0
    return level


def row_baselines(baselines: Baselines, table: MetricTable, inventory: Mapping[str, Instance]) -> IntArray:
    """Return the baseline index of every row, (n,).

    It is the baseline of the instance, else of its role, else of the fleet.
    """
    roles = {name: fleet.lookup(inventory, name).role for name in table.instances}
    return baselines.index(table.instances, roles)[table.code]

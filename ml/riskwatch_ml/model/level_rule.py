"""The level rule of a model: which rows are Idle, Normal and High Load.

If one metric spans the level space, the level is given by two values of this metric, so that it never falls while the
metric rises. They come from the clusters along the metric, whatever the family, and keep to the anchors of the
catalogue. Otherwise each label of the level map has a level.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from riskwatch_lambda.model.document import LEVELS
from riskwatch_ml.families.prototype_map import PrototypeMap
from riskwatch_ml.features.levels import name_levels
from riskwatch_ml.features.spaces import level_space, unsquash

if TYPE_CHECKING:
    from collections.abc import Mapping

    from riskwatch_ml.core.arrays import FloatArray, IntArray
    from riskwatch_ml.features.training_set import TrainingSet
    from riskwatch_ml.model.document import CutsDocument, LevelDocument

IDLE, NORMAL, HIGH_LOAD = range(len(LEVELS))


@dataclass(frozen=True)
class LevelMap:
    """A map of the level space, with the level name of each of its labels.

    ``center`` and ``scale`` (d,) are those of the level space.
    """

    center: FloatArray
    scale: FloatArray
    map: PrototypeMap
    names: tuple[str, ...]

    @property
    def operations(self) -> int:
        """Subtractions and multiplications that label one row."""
        return self.map.size * len(self.center)

    def labels(self, values: FloatArray) -> IntArray:
        """Return the labels of rows (n, d) without NaN in catalogue units, (n,)."""
        return self.map.assign(level_space(values, self.center, self.scale)).labels


@dataclass(frozen=True)
class LevelCuts:
    """Two values of one metric, in catalogue units, at which the level rises.

    A value below ``idle_below`` is Idle, one from ``high_from`` on is High Load; infinity is a level that no row has.
    The label of a row is the rank of its level.
    """

    metric: int
    idle_below: float
    high_from: float
    names: tuple[str, ...] = LEVELS
    operations: int = 2

    def labels(self, values: FloatArray) -> IntArray:
        """Return the labels of rows (n, d) without NaN in catalogue units, (n,)."""
        load = values[:, self.metric]
        return (load >= self.idle_below).astype(np.int64) + (load >= self.high_from)

    def to_document(self) -> CutsDocument:
        """Return the cuts as JSON values."""
        low, high = (float(cut) if np.isfinite(cut) else None for cut in (self.idle_below, self.high_from))
        return {"metric": self.metric, "idle_below": low, "high_from": high}


LevelRule = LevelMap | LevelCuts


def load_rule(document: LevelDocument, arrays: Mapping[str, FloatArray]) -> LevelRule:
    """Return the rule of the level part of a model document.

    Raises KeyError if a field or an array is missing.
    """
    if "cuts" not in document:
        served = PrototypeMap.from_document(document["map"], arrays)
        return LevelMap(arrays["level_center"], arrays["level_scale"], served, tuple(document["names"]))
    cuts = document["cuts"]
    low, high = cuts["idle_below"], cuts["high_from"]
    return LevelCuts(cuts["metric"], -np.inf if low is None else low, np.inf if high is None else high)


def ranks(rule: LevelRule) -> IntArray:
    """Return the rank of the level of each label of a rule, 0 for Idle."""
    return np.array([LEVELS.index(name) for name in rule.names], np.int64)


def fit_cuts(level_map: PrototypeMap, values: FloatArray, training_set: TrainingSet) -> LevelCuts:
    """Return the cuts of the metric that spans the level space, from a map of this space.

    ``values`` (n,) are those of the metric in catalogue units, without NaN. Rows that the map takes for noise name no
    level: between two clusters, they belong to the nearer one. Below the lowest cluster they are Idle, above the
    highest one High Load.
    """
    load = training_set.load
    (column,) = load.columns
    assigned, reach = level_map.assign(training_set.level), _reach(level_map)
    clustered = assigned.distance <= reach
    if not clustered.any():
        clustered[:] = True
    level = training_set.level[clustered, column]
    low, high = _between_clusters(values[clustered], level, assigned.labels[clustered])
    if np.isfinite(reach):
        along = level_map.stages[0].prototypes[:, column]
        edges = unsquash(np.array([along.min() - reach, along.max() + reach]))
        lowest, highest = training_set.level_center[column] + training_set.level_scale[column] * edges
        low, high = max(low, float(lowest)), min(high, float(highest))
    return LevelCuts(column, *load.anchored(low, high))


def _reach(level_map: PrototypeMap) -> float:
    """Return the distance from the prototypes beyond which a vector is noise.

    A map of two stages has no noise: its table gives every vector a cluster.
    """
    radius = level_map.stages[0].radius
    return np.inf if radius is None or level_map.table is not None else radius


def _between_clusters(values: FloatArray, level: FloatArray, labels: IntArray) -> tuple[float, float]:
    """Return the values at which Idle ends and High Load begins, from clustered rows.

    ``values`` (n,) are those of the load metric, ``level`` (n,) the same in the level space, and ``labels`` (n,) the
    clusters. If clusters interleave along the metric, each of their intervals is named on its own.
    """
    order = np.argsort(values, kind="stable")
    values, level, labels = values[order], level[order], labels[order]
    starts = np.append(0, np.flatnonzero(np.diff(labels)) + 1)
    counts = np.diff(np.append(starts, len(values)))
    # The means rise with the intervals; rounding must not exchange two of them.
    severity = np.maximum.accumulate(np.add.reduceat(level, starts) / counts)
    rank = np.array([LEVELS.index(name) for name in name_levels(severity, counts)])

    def begin(least: int) -> float:
        first = int(np.searchsorted(rank, least))
        if first == 0 or first == len(rank):
            return np.inf if first else -np.inf
        return _between(float(values[starts[first] - 1]), float(values[starts[first]]))

    return begin(NORMAL), begin(HIGH_LOAD)


def _between(low: float, high: float) -> float:
    """Return a short decimal above ``low`` and at most ``high``, near their middle."""
    middle = low + (high - low) / 2
    for digits in range(3, 18):
        cut = float(f"{middle:.{digits}g}")
        if low < cut <= high:
            return cut
    return high

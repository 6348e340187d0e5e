"""The scoring rule over whole tables: the vectorised twin of the rule that the Lambda runs row by row.

score = weighted mean over the members of distance / boundary; 1 and more is unusual. All arithmetic is float64, as
in the Lambda, on parameters rounded to what the artifact stores. Why a row is unusual, and whether it may page, is told
by `riskwatch_ml.model.explain`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from riskwatch_ml.families.prototype_map import ClusterMap
from riskwatch_ml.features.spaces import Baselines
from riskwatch_ml.features.table import BLOCK_ROWS, MetricTable, blocks, window_ends, window_vectors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from riskwatch_ml.core.arrays import BoolArray, FloatArray, IntArray
    from riskwatch_ml.model.document import FittedDocument, RuleDocument


@dataclass(frozen=True)
class Member:
    """One member of the behaviour space: its window in rows, its weight, its map, its boundary by baseline.

    It rates the rows whose baseline belongs to its ``group`` of alike instances.
    """

    window: int
    weight: float
    map: ClusterMap
    boundary: FloatArray
    group: int = 0


@dataclass(frozen=True)
class FleetModel:
    """A model document and its arrays, ready to score.

    ``trails`` are the lengths in rows of the trailing features, ``groups`` (n_baselines,) the group of each baseline.
    """

    features: tuple[str, ...]
    bounds: FloatArray
    directions: tuple[str, ...]
    exhaustion: FloatArray
    baselines: Baselines
    level_center: FloatArray
    level_scale: FloatArray
    level_map: ClusterMap
    level_names: tuple[str, ...]
    members: tuple[Member, ...]
    rule: RuleDocument
    context_rows: int
    max_gap_s: float
    trails: tuple[int, ...]
    groups: IntArray

    @staticmethod
    def load(document: Mapping[str, Any], arrays: Mapping[str, Any]) -> FleetModel:
        """Read a "maps/1" document and its arrays, of whatever precision."""
        fitted = cast("FittedDocument", document)
        values = {name: np.asarray(array, np.float64) for name, array in arrays.items()}
        index = fitted["baselines"]
        limits = [[np.nan if limit is None else limit for limit in pair] for pair in fitted["bounds"]]
        exhaustion = [np.nan if bound is None else bound for bound in fitted["exhaustion"]]
        groups = fitted.get("groups") or [0] * len(values["center"])
        return FleetModel(
            features=tuple(fitted["features"]),
            bounds=np.array(limits, np.float64).reshape(-1, 2),
            directions=tuple(fitted["directions"]),
            exhaustion=np.array(exhaustion, np.float64),
            baselines=Baselines(index["instances"], index["roles"], index["fleet"], values["center"], values["scale"]),
            level_center=values["level_center"],
            level_scale=values["level_scale"],
            level_map=ClusterMap.from_document(fitted["level"]["map"], values),
            level_names=tuple(fitted["level"]["names"]),
            members=tuple(
                Member(
                    m["window"],
                    m["weight"],
                    ClusterMap.from_document(m["map"], values),
                    values[m["boundary"]],
                    m.get("group", 0),
                )
                for m in fitted["members"]
            ),
            rule=fitted["rule"],
            context_rows=fitted["context_rows"],
            max_gap_s=fitted["max_gap_s"],
            trails=tuple(fitted.get("trails", ())),
            groups=np.asarray(groups, np.int64),
        )

    def profile(self, table: MetricTable, baseline: IntArray) -> tuple[FloatArray, FloatArray]:
        """Centre and scale of every metric at the hour of each row, both (n, d)."""
        d = len(self.features)
        return self.baselines.center[baseline, table.hour, :d], self.baselines.scale[baseline, table.hour, :d]


@dataclass(frozen=True)
class Measured:
    """How far n rows are from what is normal, before anybody asks why.

    ``behaviour`` (n, width) are the rows in the behaviour space; ``nearest`` holds for each member the rows it rated
    and the prototype nearest to each, both (m,).
    """

    score: FloatArray
    context: BoolArray
    behaviour: FloatArray
    nearest: tuple[tuple[IntArray, IntArray], ...]


def measure(model: FleetModel, wide: MetricTable, baseline: IntArray) -> Measured:
    """Score every row of a table that has its trailing columns; ``baseline`` (n,) indexes the model's baselines.

    O(n p w d) time for p prototypes; beside the results, memory is bounded by blocks of 50,000 rows.
    """
    behaviour = model.baselines.behaviour(wide, baseline)
    total, weight = np.zeros(len(wide)), np.zeros(len(wide))
    context = np.ones(len(wide), bool)
    group = model.groups[baseline]
    nearest = []
    for member in model.members:
        mine = group == member.group
        ends = window_ends(wide, member.window)
        ends = ends[mine[ends]]
        index = np.empty(len(ends), np.int64)
        for low in range(0, len(ends), BLOCK_ROWS):
            block = ends[low : low + BLOCK_ROWS]
            assigned = member.map.assign(window_vectors(behaviour, block, member.window))
            index[low : low + BLOCK_ROWS] = assigned.index
            total[block] += member.weight * assigned.distance / member.boundary[baseline[block]]
        weight[ends] += member.weight
        context &= ~mine | (wide.position >= member.window - 1)
        nearest.append((ends, index))
    score = np.where(weight > 0, total / np.where(weight > 0, weight, 1.0), np.nan)
    return Measured(score, context, behaviour, tuple(nearest))


def level_labels(model: FleetModel, table: MetricTable, baseline: IntArray) -> IntArray:
    """Label of every row in the level map, (n,)."""
    labels = np.empty(len(table), np.int64)
    for part in blocks(len(table)):
        x = model.baselines.level(table.part(part), baseline[part], model.level_center, model.level_scale)
        labels[part] = model.level_map.assign(x).labels
    return labels

"""The scorer for whole tables: the vectorised twin of the scorer in the Lambda.

The score is the weighted mean over the members of distance / boundary; a row with a score of 1 or more is unusual. All
arithmetic is float64, as in the Lambda, on parameters with the precision of the artifact. `riskwatch_ml.model.explain`
adds the reasons and decides if a row may page.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from riskwatch_lambda.episode_rule import Rule
from riskwatch_ml.families.prototype_map import PrototypeMap
from riskwatch_ml.features.seasons import Seasons
from riskwatch_ml.features.spaces import Baselines
from riskwatch_ml.features.table import BLOCK_ROWS, MetricTable, blocks, window_ends, window_vectors
from riskwatch_ml.model.level_rule import load_rule

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike

    from riskwatch_ml.core.arrays import BoolArray, FloatArray, IntArray
    from riskwatch_ml.model.document import FittedDocument, RuleDocument
    from riskwatch_ml.model.level_rule import LevelRule


@dataclass(frozen=True)
class Member:
    """One member of the behaviour space; it rates rows of its ``group``.

    ``window`` counts rows; ``boundary`` (n_baselines,) is the distance that counts as 1.
    """

    window: int
    weight: float
    map: PrototypeMap
    boundary: FloatArray
    group: int = 0


@dataclass(frozen=True)
class FleetModel:
    """A model document and its arrays, ready to score.

    ``rolling_lengths`` are the lengths in rows of the rolling features, ``groups`` (n_baselines,) the group of each
    baseline.
    """

    features: tuple[str, ...]
    bounds: FloatArray
    directions: tuple[str, ...]
    exhaustion: FloatArray
    baselines: Baselines
    level: LevelRule
    members: tuple[Member, ...]
    rule: RuleDocument
    context_rows: int
    max_gap_s: float
    rolling_lengths: tuple[int, ...]
    groups: IntArray

    @staticmethod
    def load(document: Mapping[str, object], arrays: Mapping[str, ArrayLike]) -> FleetModel:
        """Read a "maps/1" document, as parsed from JSON, and its arrays of any precision.

        Raises KeyError if a field or an array is missing.
        """
        fitted = cast("FittedDocument", document)
        values = {name: np.asarray(array, np.float64) for name, array in arrays.items()}
        index = fitted["baselines"]
        bounds = [[np.nan if bound is None else bound for bound in pair] for pair in fitted["bounds"]]
        exhaustion = [np.nan if bound is None else bound for bound in fitted["exhaustion"]]
        groups = fitted.get("groups") or [0] * len(values["center"])
        return FleetModel(
            features=tuple(fitted["features"]),
            bounds=np.array(bounds, np.float64).reshape(-1, 2),
            directions=tuple(fitted["directions"]),
            exhaustion=np.array(exhaustion, np.float64),
            baselines=Baselines(
                *(index["instances"], index["roles"], index["fleet"], values["center"], values["scale"]),
                seasons=Seasons.from_document(fitted.get("seasons", {}), len(values["center"])),
            ),
            level=load_rule(fitted["level"], values),
            members=tuple(
                Member(
                    m["window"],
                    m["weight"],
                    PrototypeMap.from_document(m["map"], values),
                    values[m["boundary"]],
                    m.get("group", 0),
                )
                for m in fitted["members"]
            ),
            rule=fitted["rule"],
            context_rows=fitted["context_rows"],
            max_gap_s=fitted["max_gap_s"],
            rolling_lengths=tuple(fitted.get("trails", ())),
            groups=np.asarray(groups, np.int64),
        )

    @property
    def level_names(self) -> tuple[str, ...]:
        """Level name of each label that `level_labels` gives."""
        return self.level.names

    def profile(self, table: MetricTable, baseline: IntArray) -> tuple[FloatArray, FloatArray]:
        """Return centre and scale of every metric in the slot of each row, both (n, d)."""
        d = len(self.features)
        slots, widening = self.baselines.slots(table, baseline)
        return self.baselines.center[baseline, slots, :d], self.baselines.scale[baseline, slots, :d] * widening[:, None]

    def paging_factors(self, baseline: IntArray) -> FloatArray:
        """Return the factor on the paging threshold of each row, (n,): 1 for known instances, see `Rule.factor`."""
        rule = Rule.of(self.rule)
        factors: FloatArray = np.array([rule.factor(kind) for kind in self.baselines.kinds()])[baseline]
        return factors


@dataclass(frozen=True)
class RowScores:
    """Anomaly scores of n rows, without explanations.

    ``score`` (n,) is NaN if no member could rate the row; ``context`` (n,) marks the rows that all members of their
    group rated. ``behaviour`` (n, width) are the rows in the behaviour space. ``nearest`` holds, for each member, the
    rows that it rated and the prototype nearest to each, both (m,).
    """

    score: FloatArray
    context: BoolArray
    behaviour: FloatArray
    nearest: tuple[tuple[IntArray, IntArray], ...]


def score_rows(model: FleetModel, wide: MetricTable, baseline: IntArray) -> RowScores:
    """Score every row of a table with rolling columns.

    ``baseline`` (n,) are indices of the model's baselines. Takes O(n p w d) time for p prototypes and windows of w
    rows; intermediate arrays are limited to blocks of 50,000 rows.
    """
    behaviour = model.baselines.behaviour(wide, baseline)
    total, weight = np.zeros(len(wide)), np.zeros(len(wide))
    context = np.ones(len(wide), bool)
    group = model.groups[baseline]
    nearest = []
    for member in model.members:
        in_group = group == member.group
        ends = window_ends(wide, member.window)
        ends = ends[in_group[ends]]
        index = np.empty(len(ends), np.int64)
        for low in range(0, len(ends), BLOCK_ROWS):
            block = ends[low : low + BLOCK_ROWS]
            assigned = member.map.assign(window_vectors(behaviour, block, member.window))
            index[low : low + BLOCK_ROWS] = assigned.index
            total[block] += member.weight * assigned.distance / member.boundary[baseline[block]]
        weight[ends] += member.weight
        context &= ~in_group | (wide.position >= member.window - 1)
        nearest.append((ends, index))
    score = np.where(weight > 0, total / np.where(weight > 0, weight, 1.0), np.nan)
    return RowScores(score, context, behaviour, tuple(nearest))


def level_labels(model: FleetModel, table: MetricTable, baseline: IntArray) -> IntArray:
    """Return the label of every row by the level rule, (n,)."""
    labels = np.empty(len(table), np.int64)
    for part in blocks(len(table)):
        labels[part] = model.level.labels(model.baselines.impute(table.part(part), baseline[part]))
    return labels

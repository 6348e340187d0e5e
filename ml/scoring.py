"""The scoring rule over whole tables: the vectorised twin of the rule that the Lambda runs row by row.

score = weighted mean over the members of distance / boundary; 1 and more is unusual. A row may page where its score
reaches the paging threshold while one of its main features moves in the harmful direction, or where a metric is newly
beyond its exhaustion bound. All arithmetic is float64 on float32 parameters, as in the Lambda.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ml import inventory as fleet
from ml.families.base import ClusterMap
from ml.features import (
    Baselines,
    BoolArray,
    FloatArray,
    IntArray,
    MetricTable,
    as_table,
    level_space,
    window_ends,
    window_vectors,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ml.inventory import Instance

BLOCK_ROWS = 50_000
TOP = 3  # features named as reasons
HARMFUL_SHARE = 0.2  # a smaller share of the distance is no reason to page
RANGE_SCALES = 3.0  # the expected range is the centre and this many scales either way


@dataclass(frozen=True)
class Member:
    """One member of the behaviour space: its window in rows, its weight, its map, its boundary by baseline."""

    window: int
    weight: float
    map: ClusterMap
    boundary: FloatArray


@dataclass(frozen=True)
class FleetModel:
    """A model document and its arrays, ready to score."""

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
    rule: Mapping[str, float]
    context_rows: int
    max_gap_s: float

    @staticmethod
    def load(document: Mapping[str, Any], arrays: Mapping[str, Any]) -> FleetModel:
        """Read a "maps/1" document and its float32 arrays."""
        values = {name: np.asarray(array, np.float64) for name, array in arrays.items()}
        index = document["baselines"]
        limits = [[np.nan if limit is None else limit for limit in pair] for pair in document["bounds"]]
        exhaustion = [np.nan if bound is None else bound for bound in document["exhaustion"]]
        return FleetModel(
            features=tuple(document["features"]),
            bounds=np.array(limits, np.float64).reshape(-1, 2),
            directions=tuple(document["directions"]),
            exhaustion=np.array(exhaustion, np.float64),
            baselines=Baselines(index["instances"], index["roles"], index["fleet"], values["center"], values["scale"]),
            level_center=values["level_center"],
            level_scale=values["level_scale"],
            level_map=ClusterMap.from_document(document["level"]["map"], values),
            level_names=tuple(document["level"]["names"]),
            members=tuple(
                Member(m["window"], m["weight"], ClusterMap.from_document(m["map"], values), values[m["boundary"]])
                for m in document["members"]
            ),
            rule=document["rule"],
            context_rows=document["context_rows"],
            max_gap_s=document["max_gap_s"],
        )


@dataclass(frozen=True)
class Scored:
    """Verdicts of n rows.

    ``score`` is NaN where the rows before are too few for every member. ``share`` (n, d) is each feature's part of the
    distance and ``top`` (n, 3) the main ones; ``low`` and ``high`` (n, d) are the expected range, and ``rising`` (n, d)
    tells the side of the centre that a value lies on.
    """

    table: MetricTable
    score: FloatArray
    context: BoolArray
    label: IntArray
    share: FloatArray
    top: IntArray
    low: FloatArray
    high: FloatArray
    rising: BoolArray
    harmful: BoolArray
    exhausted: BoolArray

    @property
    def unusual(self) -> BoolArray:
        """Rows with a score of 1 or more."""
        return self.score >= 1.0

    def pages(self, threshold: float) -> BoolArray:
        """Rows that count towards an episode at a paging threshold."""
        return ((self.score >= threshold) & self.harmful) | self.exhausted


def score_table(model: FleetModel, table: MetricTable, baseline: IntArray) -> Scored:
    """Score every row of a table; ``baseline`` (n,) is each row's index into the model's baselines.

    O(n p w d) time for p prototypes; beside the results, memory is bounded by blocks of 50,000 rows.
    """
    score, context, contribution = _distances(model, table, baseline)
    hour = table.hour
    center, scale = model.baselines.center[baseline, hour], model.baselines.scale[baseline, hour]
    values = model.baselines.impute(table, baseline)
    rising = values >= center
    label = model.level_map.assign(level_space(values, model.level_center, model.level_scale)).labels
    total = contribution.sum(axis=1, keepdims=True)
    share = np.where(total > 0, contribution / np.where(total > 0, total, 1.0), 0.0)
    top = np.argsort(-share, axis=1, kind="stable")[:, :TOP]
    reach, lower, upper = RANGE_SCALES * scale, model.bounds[:, 0], model.bounds[:, 1]
    with np.errstate(invalid="ignore"):
        exhausts = (table.values >= model.exhaustion) & (center + reach < model.exhaustion)
    exhausted: BoolArray = np.asarray(exhausts.any(axis=1))
    return Scored(
        table=table,
        score=score,
        context=context,
        label=label,
        share=share,
        top=top,
        low=np.fmin(np.fmax(center - reach, lower), upper),
        high=np.fmin(np.fmax(center + reach, lower), upper),
        rising=rising,
        harmful=_harmful(model.directions, values - center, share, top),
        exhausted=exhausted,
    )


def label_rows(
    document: Mapping[str, Any],
    arrays: Mapping[str, Any],
    rows: pd.DataFrame,
    inventory: Mapping[str, Instance] | None = None,
) -> pd.DataFrame:
    """Label metric rows as the Lambda would, given that it sees each row after the ones before it.

    Returns one row for each metric row, sorted by (instance_id, timestamp): instance_id, timestamp, score, level,
    unusual, pages, context, known (the instance has its own baseline; no other opens an episode) and reasons (the top
    three features with value, expected range, share and direction). Raises RowsError for rows without keys or zone.
    """
    model = FleetModel.load(document, arrays)
    table = as_table(rows, model.features, model.max_gap_s)
    scored = score_table(model, table, row_baselines(model.baselines, table, inventory or {}))
    return pd.DataFrame(
        {
            "instance_id": np.array(table.instances, object)[table.code] if len(table) else [],
            "timestamp": pd.to_datetime(table.ms, unit="ms", utc=True).as_unit("ms"),
            "score": scored.score,
            "level": np.array(model.level_names, object)[scored.label],
            "unusual": scored.unusual,
            "pages": scored.pages(model.rule["paging_threshold"]),
            "context": scored.context,
            "known": np.isin(np.array(table.instances, object), list(model.baselines.instances))[table.code],
            "reasons": pd.Series(reasons(model.features, scored), dtype=object),
        }
    )


def row_baselines(baselines: Baselines, table: MetricTable, inventory: Mapping[str, Instance]) -> IntArray:
    """Baseline of every row: its instance's own, else its role's, else the fleet's, (n,)."""
    roles = {name: fleet.lookup(inventory, name).role for name in table.instances}
    return baselines.index(table.instances, roles)[table.code]


def reasons(features: tuple[str, ...], scored: Scored) -> list[list[dict[str, Any]]]:
    """The main features of every row, each with value (None where missing), low, high, share and direction."""
    rows = np.arange(len(scored.table))[:, None]
    columns = [array[rows, scored.top] for array in (scored.table.values, scored.low, scored.high, scored.share)]
    rising = scored.rising[rows, scored.top]
    value, low, high, share = (array.tolist() for array in columns)
    return [
        [
            {
                "feature": features[feature],
                "value": None if value[row][place] != value[row][place] else short(value[row][place]),
                "low": short(low[row][place]),
                "high": short(high[row][place]),
                "share": short(share[row][place]),
                "direction": "up" if rising[row, place] else "down",
            }
            for place, feature in enumerate(chosen)
        ]
        for row, chosen in enumerate(scored.top.tolist())
    ]


def short(value: float) -> float:
    """A number with four significant digits, for people."""
    return float(f"{value:.4g}")


def _distances(model: FleetModel, table: MetricTable, baseline: IntArray) -> tuple[FloatArray, BoolArray, FloatArray]:
    """Score (n,), whether every member took part (n,), and each feature's contribution (n, d)."""
    behaviour = model.baselines.behaviour(table, baseline)
    d = behaviour.shape[1]
    total, weight = np.zeros(len(table)), np.zeros(len(table))
    contribution = np.zeros((len(table), d))
    context = np.ones(len(table), bool)
    for member in model.members:
        prototypes = member.map.stages[0].prototypes
        ends = window_ends(table, member.window)
        for low in range(0, len(ends), BLOCK_ROWS):
            block = ends[low : low + BLOCK_ROWS]
            vectors = window_vectors(behaviour, block, member.window)
            assigned, boundary = member.map.assign(vectors), member.boundary[baseline[block]]
            total[block] += member.weight * assigned.distance / boundary
            squares = ((vectors - prototypes[assigned.index]) ** 2).reshape(len(block), member.window, d).sum(axis=1)
            contribution[block] += (member.weight / boundary**2)[:, None] * squares
        weight[ends] += member.weight
        context &= table.position >= member.window - 1
    return np.where(weight > 0, total / np.where(weight > 0, weight, 1.0), np.nan), context, contribution


def _harmful(directions: tuple[str, ...], deviation: FloatArray, share: FloatArray, top: IntArray) -> BoolArray:
    """Rows where a main feature of some weight moves the way its catalogue entry calls harmful."""
    matches = np.zeros(deviation.shape, bool)
    for column, direction in enumerate(directions):
        side = deviation[:, column]
        matches[:, column] = {"up": side >= 0, "down": side < 0}.get(direction, np.ones(len(side), bool))
    rows = np.arange(len(top))[:, None]
    harmful: BoolArray = np.asarray((matches[rows, top] & (share[rows, top] >= HARMFUL_SHARE)).any(axis=1))
    return harmful

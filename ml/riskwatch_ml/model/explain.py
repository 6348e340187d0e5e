"""Verdicts over whole tables: which features make a row unusual, whether they do harm, and what an operator is told.

A row may page where its score reaches the paging threshold while one of its main features moves in the harmful
direction, or where a metric is newly beyond its exhaustion bound.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from riskwatch_lambda.model.baselines import EXPECTED_RANGE_SCALES
from riskwatch_lambda.scoring.labelled_row import significant
from riskwatch_lambda.scoring.scorer import EXPLAINED, HARMFUL_SHARE, REASONS
from riskwatch_ml.features import rolling as trailing
from riskwatch_ml.features.spaces import row_baselines
from riskwatch_ml.features.table import BLOCK_ROWS, MetricTable, as_table, blocks, window_vectors
from riskwatch_ml.model.fleet_model import FleetModel, level_labels, measure

if TYPE_CHECKING:
    from collections.abc import Mapping

    from riskwatch_ml.core.arrays import BoolArray, FloatArray, IntArray
    from riskwatch_ml.model.fleet_model import Measured
    from riskwatch_ml.schema.inventory import Instance


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


def shares(model: FleetModel, measured: Measured, baseline: IntArray, rows: IntArray) -> FloatArray:
    """Each metric's part of the distance of some rows (m,) in ascending order, (m, d)."""
    d = len(model.features)
    contribution = np.zeros((len(rows), d))
    chosen = np.zeros(len(baseline), bool)
    chosen[rows] = True
    for member, (ends, index) in zip(model.members, measured.nearest, strict=True):
        wanted = chosen[ends]
        ends, index = ends[wanted], index[wanted]
        places = np.searchsorted(rows, ends)
        prototypes = member.map.stages[0].prototypes
        for low in range(0, len(ends), BLOCK_ROWS):
            block, place = ends[low : low + BLOCK_ROWS], index[low : low + BLOCK_ROWS]
            squares = (window_vectors(measured.behaviour, block, member.window) - prototypes[place]) ** 2
            factor = member.weight / member.boundary[baseline[block]] ** 2
            contribution[places[low : low + BLOCK_ROWS]] += factor[:, None] * trailing.by_metric(squares, d)
    total = contribution.sum(axis=1, keepdims=True)
    return np.where(total > 0, contribution / np.where(total > 0, total, 1.0), 0.0)


def harmful_rows(
    model: FleetModel, table: MetricTable, baseline: IntArray, measured: Measured, chosen: BoolArray
) -> BoolArray:
    """The chosen rows whose main features move in the catalogue's harmful direction, (n,)."""
    if all(direction == "both" for direction in model.directions):
        return chosen
    rows = np.flatnonzero(chosen)
    share = shares(model, measured, baseline, rows)
    part = table.take(rows)
    deviation = model.baselines.impute(part, baseline[rows]) - model.profile(part, baseline[rows])[0]
    harmful = np.zeros(len(table), bool)
    harmful[rows] = _harmful(model.directions, deviation, share, _main(share))
    return harmful


def exhausted_rows(model: FleetModel, table: MetricTable, baseline: IntArray) -> BoolArray:
    """Rows with a metric at its exhaustion bound where that is not normal, (n,)."""
    if not np.isfinite(model.exhaustion).any():
        return np.zeros(len(table), bool)
    exhausted = np.zeros(len(table), bool)
    for part in blocks(len(table)):
        rows = table.part(part)
        center, scale = model.profile(rows, baseline[part])
        with np.errstate(invalid="ignore"):
            exhausts = (rows.values >= model.exhaustion) & (center + EXPECTED_RANGE_SCALES * scale < model.exhaustion)
        exhausted[part] = exhausts.any(axis=1)
    return exhausted


def score_table(model: FleetModel, table: MetricTable, baseline: IntArray, wide: MetricTable | None = None) -> Scored:
    """Score and explain every row of a table; ``baseline`` (n,) is each row's index into the model's baselines.

    ``wide`` is the table with its trailing columns, where the caller has it already.
    """
    measured = measure(model, trailing.widen(table, model.trails) if wide is None else wide, baseline)
    share = shares(model, measured, baseline, np.arange(len(table)))
    top = _main(share)
    center, scale = model.profile(table, baseline)
    values = model.baselines.impute(table, baseline)
    reach, lower, upper = EXPECTED_RANGE_SCALES * scale, model.bounds[:, 0], model.bounds[:, 1]
    return Scored(
        table=table,
        score=measured.score,
        context=measured.context,
        label=level_labels(model, table, baseline),
        share=share,
        top=top,
        low=np.fmin(np.fmax(center - reach, lower), upper),
        high=np.fmin(np.fmax(center + reach, lower), upper),
        rising=values >= center,
        harmful=_harmful(model.directions, values - center, share, top),
        exhausted=exhausted_rows(model, table, baseline),
    )


def label_rows(
    document: Mapping[str, Any],
    arrays: Mapping[str, Any],
    rows: pd.DataFrame,
    inventory: Mapping[str, Instance] | None = None,
) -> pd.DataFrame:
    """Label metric rows as the Lambda would, given that it sees each row after the ones before it.

    Returns one row for each metric row, sorted by (instance_id, timestamp): instance_id, timestamp, score, level,
    unusual, pages, context, known (the instance has its own baseline; no other opens an episode) and reasons: of a row
    that is unusual, nearly so or exhausted the top three features with value, expected range, share and direction.
    Raises RowsError for rows without keys or zone.
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


def reasons(features: tuple[str, ...], scored: Scored) -> list[list[dict[str, Any]]]:
    """The main features of every row that is unusual, nearly so, or exhausted; of the others none.

    Each with value (None where missing), low, high, share and direction.
    """
    rows = np.arange(len(scored.table))[:, None]
    columns = [array[rows, scored.top] for array in (scored.table.values, scored.low, scored.high, scored.share)]
    rising = scored.rising[rows, scored.top]
    value, low, high, share = (array.tolist() for array in columns)
    told = ((scored.score >= EXPLAINED) | scored.exhausted) & np.isfinite(scored.score)
    return [
        []
        if not told[row]
        else [
            {
                "feature": features[feature],
                "value": None if value[row][place] != value[row][place] else significant(value[row][place]),
                "low": significant(low[row][place]),
                "high": significant(high[row][place]),
                "share": significant(share[row][place]),
                "direction": "up" if rising[row, place] else "down",
            }
            for place, feature in enumerate(chosen)
        ]
        for row, chosen in enumerate(scored.top.tolist())
    ]


def _main(share: FloatArray) -> IntArray:
    """The three metrics with the greatest share, (n, 3); of equals the first."""
    return np.argsort(-share, axis=1, kind="stable")[:, :REASONS]


def _harmful(directions: tuple[str, ...], deviation: FloatArray, share: FloatArray, top: IntArray) -> BoolArray:
    """Rows whose main feature, or another one of some weight, moves the way its catalogue entry calls harmful."""
    matches = np.zeros(deviation.shape, bool)
    for column, direction in enumerate(directions):
        side = deviation[:, column]
        matches[:, column] = {"up": side >= 0, "down": side < 0}.get(direction, np.ones(len(side), bool))
    rows = np.arange(len(top))[:, None]
    weighty = share[rows, top] >= HARMFUL_SHARE
    weighty[:, 0] = True
    harmful: BoolArray = np.asarray((matches[rows, top] & weighty).any(axis=1))
    return harmful

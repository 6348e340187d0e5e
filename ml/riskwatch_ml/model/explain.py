"""Verdicts over whole tables: main features, harm and exhaustion.

A row opens if its score reaches 1, times the factor of its baseline, while one of its main features deviates in the
harmful direction, or if a metric exceeds an exhaustion bound that is outside its expected range.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from riskwatch_lambda.episode_rule import BaselineKind
from riskwatch_lambda.model.baselines import EXPECTED_RANGE_SCALES
from riskwatch_lambda.model.row_schema import RowSchema
from riskwatch_lambda.scoring.labelled_row import reason_document
from riskwatch_lambda.scoring.reasons import Cause, find_reasons
from riskwatch_lambda.scoring.scorer import CAUSES, EXPLAINED, HARMFUL_SHARE, MAIN_SHARE, UNUSUAL, add_exhausted
from riskwatch_ml.features import rolling
from riskwatch_ml.features.spaces import row_baselines
from riskwatch_ml.features.table import BLOCK_ROWS, MetricTable, as_table, blocks, window_vectors
from riskwatch_ml.model.fleet_model import FleetModel, level_labels, score_rows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike

    from riskwatch_lambda.scoring.labelled_row import ReasonDocument
    from riskwatch_ml.core.arrays import BoolArray, FloatArray, IntArray
    from riskwatch_ml.model.fleet_model import RowScores
    from riskwatch_ml.schema.inventory import Instance


@dataclass(frozen=True)
class Scored:
    """Verdicts on n rows.

    ``score`` is NaN if there are too few rows before for any member. ``share`` (n, d) is the part of each feature in
    the distance, ``top`` (n, 3) are the main features. ``reasons`` has those of each row as JSON objects, see
    `riskwatch_lambda.scoring.labelled_row`: only unusual, nearly unusual and exhausted rows have any.
    """

    table: MetricTable
    score: FloatArray
    context: BoolArray
    label: IntArray
    share: FloatArray
    top: IntArray
    harmful: BoolArray
    exhausted: BoolArray
    reasons: list[list[ReasonDocument]]

    @property
    def unusual(self) -> BoolArray:
        """Mask of the rows with a score of 1 or more, (n,)."""
        return self.score >= 1.0

    def opens(self, factors: FloatArray) -> BoolArray:
        """Return a mask of the rows that open, (n,); ``factors`` (n,) are those on the paging threshold."""
        return ((self.score >= factors) & self.harmful) | self.exhausted


def shares(model: FleetModel, row_scores: RowScores, baseline: IntArray, rows: IntArray) -> FloatArray:
    """Return the part of each metric in the distance of some rows, (m, d).

    ``rows`` (m,) are their indices, ascending.
    """
    d = len(model.features)
    contribution = np.zeros((len(rows), d))
    selected = np.zeros(len(baseline), bool)
    selected[rows] = True
    for member, (ends, index) in zip(model.members, row_scores.nearest, strict=True):
        is_selected = selected[ends]
        ends, index = ends[is_selected], index[is_selected]
        positions = np.searchsorted(rows, ends)
        prototypes = member.map.stages[0].prototypes
        for low in range(0, len(ends), BLOCK_ROWS):
            block, nearest = ends[low : low + BLOCK_ROWS], index[low : low + BLOCK_ROWS]
            squares = (window_vectors(row_scores.behaviour, block, member.window) - prototypes[nearest]) ** 2
            factor = member.weight / member.boundary[baseline[block]] ** 2
            contribution[positions[low : low + BLOCK_ROWS]] += factor[:, None] * rolling.by_metric(squares, d)
    total = contribution.sum(axis=1, keepdims=True)
    return np.where(total > 0, contribution / np.where(total > 0, total, 1.0), 0.0)


def _contributions(model: FleetModel, row_scores: RowScores, baseline: IntArray, rows: IntArray) -> FloatArray:
    """Return the contribution of each column of the behaviour space to the score of some rows, (m, width)."""
    width = row_scores.behaviour.shape[1]
    contribution = np.zeros((len(rows), width))
    for member, (ends, index) in zip(model.members, row_scores.nearest, strict=True):
        is_rated = np.isin(ends, rows)
        block, nearest = ends[is_rated], index[is_rated]
        if not len(block):
            continue
        prototypes = member.map.stages[0].prototypes
        squares = (window_vectors(row_scores.behaviour, block, member.window) - prototypes[nearest]) ** 2
        factor = member.weight / member.boundary[baseline[block]] ** 2
        contribution[np.searchsorted(rows, block)] += factor[:, None] * rolling.by_metric(squares, width)
    return contribution


def exhausted_rows(model: FleetModel, table: MetricTable, baseline: IntArray) -> BoolArray:
    """Return a mask of the rows with an exhausted metric, (n,); see `exhausted_metrics`."""
    exhausted: BoolArray = np.asarray(exhausted_metrics(model, table, baseline).any(axis=1))
    return exhausted


def exhausted_metrics(model: FleetModel, table: MetricTable, baseline: IntArray) -> BoolArray:
    """Return a mask of the exhausted metrics of rows, (n, d).

    Such a metric reaches an exhaustion bound that is outside its expected range. If the baseline is that of a role or
    of the fleet, it reaches a bound above the centre: the range of a role says how its instances differ.
    """
    exhausted = np.zeros(table.values.shape, bool)
    if np.isfinite(model.exhaustion).any():
        for part in blocks(len(table)):
            exhausted[part] = _exhausted(model, table.part(part), baseline[part])
    return exhausted


def _exhausted(model: FleetModel, table: MetricTable, baseline: IntArray) -> BoolArray:
    """Return a mask of the exhausted metrics, (n, d)."""
    is_own = np.array([kind is BaselineKind.INSTANCE for kind in model.baselines.kinds()])
    center, scale = model.profile(table, baseline)
    reach = np.where(is_own[baseline, None], EXPECTED_RANGE_SCALES * scale, 0.0)
    with np.errstate(invalid="ignore"):
        is_beyond: BoolArray = (table.values >= model.exhaustion) & (center + reach < model.exhaustion)
    return is_beyond


def decisive_metrics(
    score: FloatArray, table: MetricTable, share: FloatArray, top: IntArray, exhausted: BoolArray
) -> BoolArray:
    """Return a mask of the metrics for which rows open, (m, d).

    ``score`` (m,), ``share`` (m, d), ``top`` (m, 3) and ``exhausted`` (m, d) are those of the rows of the table.
    Decisive are the exhausted metrics, and in unusual rows the first main features up to the larger part of the
    distance, of those that have a value.
    """
    carried = np.take_along_axis(share, top, axis=1)
    is_main = np.cumsum(carried, axis=1) - carried <= MAIN_SHARE
    decisive = np.zeros(share.shape, bool)
    np.put_along_axis(decisive, top, is_main, axis=1)
    with np.errstate(invalid="ignore"):
        decisive &= (score >= UNUSUAL)[:, None] & ~np.isnan(table.values)
    return decisive | exhausted


def with_zero_bounds(model: FleetModel, values: FloatArray) -> FleetModel:
    """Return a model that expects no negative value of a metric that never had one in ``values`` (n, d).

    Metrics that no catalogue describes have no bounds; reasons would name ranges that begin below 0.
    """
    least = np.fmin.reduce(values, axis=0, initial=np.inf)
    bounds = model.bounds.copy()
    bounds[:, 0] = np.where(np.isnan(bounds[:, 0]) & (least >= 0), 0.0, bounds[:, 0])
    return replace(model, bounds=bounds)


def score_table(model: FleetModel, table: MetricTable, baseline: IntArray, wide: MetricTable | None = None) -> Scored:
    """Score and explain every row of a table.

    ``baseline`` (n,) are indices of the model's baselines. ``wide`` is the table with its rolling columns if the caller
    has computed it already.
    """
    if wide is None:
        wide = rolling.add_rolling_features(table, model.rolling_lengths)
    row_scores = score_rows(model, wide, baseline)
    share = shares(model, row_scores, baseline, np.arange(len(table)))
    top = main_features(share)
    center, _ = model.profile(table, baseline)
    values = model.baselines.impute(table, baseline)
    exhausted = exhausted_metrics(model, table, baseline)
    return Scored(
        table=table,
        score=row_scores.score,
        context=row_scores.context,
        label=level_labels(model, table, baseline),
        share=share,
        top=top,
        harmful=is_harmful(model.directions, values - center, share, top),
        exhausted=np.asarray(exhausted.any(axis=1)),
        reasons=_reasons(model, wide, baseline, row_scores, (share, top, values >= center, exhausted)),
    )


def _reasons(
    model: FleetModel,
    wide: MetricTable,
    baseline: IntArray,
    row_scores: RowScores,
    main: tuple[FloatArray, IntArray, BoolArray, BoolArray],
) -> list[list[ReasonDocument]]:
    """Return the reasons of each row; ``main`` has shares, main features, rising and exhausted metrics of the rows."""
    share, top, rising, exhausted = main
    score = row_scores.score
    rows = np.flatnonzero((score >= EXPLAINED) | exhausted.any(axis=1))
    contribution = _contributions(model, row_scores, baseline, rows).tolist()
    slots, widening = model.baselines.slots(wide.take(rows), baseline[rows])
    at = baseline[rows], slots
    usual = np.stack([model.baselines.center[at], model.baselines.scale[at] * widening[:, None]], axis=-1).tolist()
    bounds = tuple((_or_none(low), _or_none(high)) for low, high in model.bounds.tolist())
    schema = RowSchema(model.features, bounds, model.context_rows)
    found: list[list[ReasonDocument]] = [[] for _ in range(len(wide))]
    for place, row in enumerate(rows.tolist()):
        causes = [Cause(each, float(share[row, each]), bool(rising[row, each])) for each in top[row].tolist()]
        of_row = find_reasons(
            *(schema, model.rolling_lengths, add_exhausted(causes, np.flatnonzero(exhausted[row]).tolist())),
            *(contribution[place], row_scores.behaviour[row].tolist()),
            tuple(_or_none(value) for value in wide.values[row].tolist()),
            usual[place],
        )
        found[row] = [reason_document(reason) for reason in of_row]
    return found


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else value


def label_rows(
    document: Mapping[str, object],
    arrays: Mapping[str, ArrayLike],
    rows: pd.DataFrame,
    inventory: Mapping[str, Instance] | None = None,
) -> pd.DataFrame:
    """Label metric rows as the Lambda does if it receives the rows in order.

    Returns one row per metric row, sorted by (instance_id, timestamp), with instance_id, timestamp, score, level,
    unusual, opens, context, known and reasons. ``known`` marks instances with a baseline of their own.
    ``reasons`` are those of ``Scored``. Raises RowsError for rows without keys or without a time zone.
    """
    model = FleetModel.load(document, arrays)
    table = as_table(rows, model.features, model.max_gap_s)
    baseline = row_baselines(model.baselines, table, inventory or {})
    scored = score_table(model, table, baseline)
    return pd.DataFrame(
        {
            "instance_id": np.array(table.instances, object)[table.code] if len(table) else [],
            "timestamp": pd.to_datetime(table.ms, unit="ms", utc=True).as_unit("ms"),
            "score": scored.score,
            "level": np.array(model.level_names, object)[scored.label],
            "unusual": scored.unusual,
            "opens": scored.opens(model.paging_factors(baseline)),
            "context": scored.context,
            "reasons": pd.Series(scored.reasons, dtype=object),
        }
    )


def main_features(share: FloatArray) -> IntArray:
    """Return the three metrics with the greatest share, (n, 3); the first of equals."""
    return np.argsort(-share, axis=1, kind="stable")[:, :CAUSES]


def is_harmful(directions: tuple[str, ...], deviation: FloatArray, share: FloatArray, top: IntArray) -> BoolArray:
    """Return a mask of the rows with a main feature in its harmful direction, (n,).

    The first main feature always counts, the others from a minimum share on.
    """
    matches = np.zeros(deviation.shape, bool)
    for column, direction in enumerate(directions):
        side = deviation[:, column]
        matches[:, column] = {"up": side >= 0, "down": side < 0}.get(direction, np.ones(len(side), bool))
    rows = np.arange(len(top))[:, None]
    weighty = share[rows, top] >= HARMFUL_SHARE
    weighty[:, 0] = True
    harmful: BoolArray = np.asarray((matches[rows, top] & weighty).any(axis=1))
    return harmful

"""Fitting one candidate: metric rows in, a model document, its arrays and its figures out.

What is fitted once per training set (baselines, level space, behaviour windows) does not depend on the family; the
family gives the level map and the members' maps; boundaries, levels, paging threshold and every figure are then
computed from the scores that the fit gave the rows of the training set: no row is scored twice, and only the golden
records are explained.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from riskwatch_lambda.model.document import LEVELS
from riskwatch_ml.core import clock
from riskwatch_ml.core.threads import one_thread
from riskwatch_ml.families import FAMILIES
from riskwatch_ml.families.base import Curves, FamilyFit, subsample
from riskwatch_ml.families.search import cluster_indices
from riskwatch_ml.features.training_set import Space, TrainingError, table_space, training_table
from riskwatch_ml.model.fit import Fitted, Recipe, fit_model, kept_settings
from riskwatch_ml.model.fleet_model import FleetModel, level_labels
from riskwatch_ml.model.golden import golden_records
from riskwatch_ml.selection.guard_figures import guard_figures, label_churn
from riskwatch_ml.selection.holdout import injected_vus_pr, make_trial

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from riskwatch_ml.core.arrays import BoolArray, FloatArray, IntArray
    from riskwatch_ml.features.table import MetricTable
    from riskwatch_ml.model.document import ModelDocument, Reference
    from riskwatch_ml.schema.catalogue import Catalogue
    from riskwatch_ml.schema.inventory import Instance

PLOT_ROWS = 2_000
TIMELINE_INSTANCES = 3


@dataclass(frozen=True)
class PlotData:
    """Plain values for the figures of a candidate.

    ``profile``: mean of each metric by cluster, in the fleet's standard deviations from the fleet's mean; ``points``:
    at most 2,000 rows in the behaviour space (n, d) with level and score; ``timeline``: timestamp, instance_id, score
    and alert, whether the row lies in an episode, of the three instances with the highest scores; ``linkage``: Ward's
    merge table where the family has one. A refresh keeps its settings and has no ``curves``.
    """

    curves: Curves
    linkage: FloatArray | None
    profile: pd.DataFrame
    points: FloatArray
    point_levels: list[str]
    point_scores: FloatArray
    cluster_sizes: dict[str, int]
    timeline: pd.DataFrame
    paging_threshold: float


@dataclass(frozen=True)
class Candidate:
    """One trained family: the document and the arrays that serve, as they are stored, and what is known of them."""

    family: str
    document: ModelDocument
    arrays: dict[str, Any]
    figures: dict[str, float]
    params: dict[str, float | int | str]
    plots: PlotData


def fit_candidate(
    rows: pd.DataFrame,
    catalogue: Catalogue,
    inventory: Mapping[str, Instance],
    recipe: Recipe,
    training_id: str,
    trained_at: datetime | None = None,
) -> Candidate:
    """Fit one family to metric rows, a recipe's ``period_s`` apart: ``training_table``, then ``fit_table``."""
    table = training_table(rows, catalogue, recipe.period_s)
    return fit_table(table, catalogue, inventory, recipe, training_id, trained_at)


@one_thread()
def fit_table(
    table: MetricTable,
    catalogue: Catalogue,
    inventory: Mapping[str, Instance],
    recipe: Recipe,
    training_id: str,
    trained_at: datetime | None = None,
    champion: FleetModel | None = None,
) -> Candidate:
    """Fit one family to the rows that ``training_table`` made of metric rows.

    The family is fitted to all rows, which gives the model and most figures, and once more for the trial of
    ``riskwatch_ml.selection.holdout``. Instances whose rows span less than a day are left to their role's baseline or
    the fleet's. The recipe's ``level`` holds the settings that a refresh of the champion keeps; with ``champion``, the
    model that serves, the figures have ``label_churn``, the share of rows whose level it would change.
    Equal arguments give equal candidates but for ``fit_seconds`` and, unless given, ``trained_at``.

    Raises TrainingError where the rows cannot be trained on or the recipe makes no sense.
    """
    started = time.process_time()
    family, seed, period_s = recipe.family, recipe.seed, recipe.period_s
    if family not in FAMILIES:
        raise TrainingError(f"family {family!r} is unknown: use one of {', '.join(FAMILIES)}")
    if not recipe.budget > 0 or not period_s > 0:
        raise TrainingError(f"budget {recipe.budget} and period_s {period_s} must be above 0")
    space = table_space(table, inventory, period_s)
    fitted = fit_model(space, catalogue, recipe)
    model = fitted.model
    score, label = fitted.measured.score, level_labels(model, space.table, space.baseline)
    guards = guard_figures(fitted, space, seed)
    trial = make_trial(space, catalogue, inventory, period_s=period_s, seed=seed)
    injected = injected_vus_pr(trial, catalogue, inventory, recipe)
    sizes = np.bincount(label, minlength=len(model.level_names))
    document: ModelDocument = {
        **fitted.document,
        "model_id": f"{training_id}-{family}",
        "trained_at": clock.iso(trained_at or clock.now()),
        "training_id": training_id,
        "run_id": None,
        "settings": kept_settings(fitted),
        "golden": golden_records(model, space.table, score, inventory, seed),
        "reference": _reference(model, sizes, score, fitted.alerts),
    }
    figures = {
        **cluster_indices(space.level, label, seed, PLOT_ROWS),
        **guards,
        **_map_figures(fitted.level_fit, fitted.member_fits),
        **_verdict_figures(document, sizes),
        "injected_vus_pr": injected,
    }
    if champion is not None and champion.features == model.features:
        figures["label_churn"] = label_churn(champion, model, space.table, inventory)
    figures["fit_seconds"] = time.process_time() - started
    return Candidate(
        family=family,
        document=document,
        arrays={name: np.asarray(values, np.float32) for name, values in fitted.arrays.items()},
        figures=figures,
        params=_params(fitted),
        plots=_plots(space, fitted, label),
    )


def _map_figures(level_fit: FamilyFit, member_fits: list[FamilyFit]) -> dict[str, float]:
    """How well the members' maps say what the family found, and the size of the level map."""
    return {
        "behaviour_fidelity": float(np.mean([fit.figures["fidelity"] for fit in member_fits])),
        "level_prototypes": float(level_fit.map.size),
    }


def _verdict_figures(document: ModelDocument, sizes: IntArray) -> dict[str, float]:
    """What the model says of its own training rows; ``sizes`` counts the rows of each level label."""
    reference = document["reference"]
    return {
        "level_clusters": float((sizes > 0).sum()),
        "alerts_per_instance_day": reference["alerts_per_instance_day"],
        "paging_threshold": document["rule"]["paging_threshold"],
        "unusual_share": reference["unusual"],
        **{f"share_{name.lower().replace(' ', '_')}": share for name, share in reference["levels"].items()},
    }


def _reference(model: FleetModel, sizes: IntArray, score: FloatArray, alerts: float) -> Reference:
    """What the model says of its ``sizes`` (labels,) training rows by level label, and of their scores (n,)."""
    named = np.array(model.level_names, object)
    return {
        "rows": len(score),
        "levels": {name: float(sizes[named == name].sum() / len(score)) for name in LEVELS},
        "unusual": float(np.mean(score >= 1.0)),
        "alerts_per_instance_day": alerts,
    }


def _params(fitted: Fitted) -> dict[str, float | int | str]:
    """Settings and what the family chose by itself; of the members those of the first group stand for all."""
    recipe = fitted.recipe
    params: dict[str, float | int | str] = {"family": recipe.family, "budget": recipe.budget, "seed": recipe.seed}
    params |= {f"level.{name}": value for name, value in fitted.level_fit.params.items()}
    params["groups"] = max(fitted.document["groups"]) + 1
    params["trails"] = ", ".join(map(str, fitted.document["trails"])) or "none"
    members = zip(fitted.document["members"], fitted.member_fits, strict=True)
    for number, (member, fit) in enumerate(pair for pair in members if pair[0]["group"] == 0):
        params[f"member{number}.window"] = member["window"]
        params |= {f"member{number}.{name}": value for name, value in fit.params.items()}
    return params


def _plots(space: Space, fitted: Fitted, label: IntArray) -> PlotData:
    model, score, level_fit = fitted.model, fitted.measured.score, fitted.level_fit
    sizes = np.bincount(label, minlength=len(model.level_names))
    used = np.flatnonzero(sizes)
    titles = {int(number): f"{number} ({model.level_names[number]}, n={sizes[number]})" for number in used}
    chosen = subsample(len(space.table), PLOT_ROWS, fitted.recipe.seed)
    return PlotData(
        curves=level_fit.curves,
        linkage=level_fit.linkage,
        profile=_profile(space.table, label, titles),
        points=space.behaviour[chosen][:, : len(model.features)],
        point_levels=[model.level_names[number] for number in label[chosen]],
        point_scores=score[chosen],
        cluster_sizes={titles[int(number)]: int(sizes[number]) for number in used},
        timeline=_timeline(space.table, score, fitted.alert),
        paging_threshold=float(fitted.document["rule"]["paging_threshold"]),
    )


def _profile(table: MetricTable, label: IntArray, titles: Mapping[int, str]) -> pd.DataFrame:
    """Mean of each metric in each of the titled clusters, in the fleet's standard deviations from the fleet's mean.

    NaN where a cluster has no value of a metric; 0 for a metric that never moves.
    """
    profile = np.full((max(titles) + 1, len(table.features)), np.nan)
    for column in range(len(table.features)):
        present = np.isfinite(table.values[:, column])
        if present.any():
            own, of = table.values[present, column], label[present]
            deviation = (own - own.mean()) / (own.std() if np.ptp(own) > 0 else 1.0)
            total = np.bincount(of, weights=deviation, minlength=len(profile))
            count = np.bincount(of, minlength=len(profile))
            profile[:, column] = np.divide(total, count, out=profile[:, column].copy(), where=count > 0)
    return pd.DataFrame(profile[list(titles)], index=list(titles.values()), columns=list(table.features))


def _timeline(table: MetricTable, score: FloatArray, alert: BoolArray) -> pd.DataFrame:
    peaks = np.full(len(table.instances), -np.inf)
    np.fmax.at(peaks, table.code, score)
    shown = np.argsort(-peaks, kind="stable")[:TIMELINE_INSTANCES]
    rows = np.flatnonzero(np.isin(table.code, shown))
    return pd.DataFrame(
        {
            "timestamp": pd.to_datetime(table.ms[rows], unit="ms", utc=True).as_unit("ms"),
            "instance_id": np.array(table.instances, object)[table.code[rows]],
            "score": score[rows],
            "alert": alert[rows],
        }
    )

"""The fit of a candidate: from metric rows to model document, arrays and figures.

Baselines, level space and behaviour windows do not depend on the family and are fitted once per training set. The
family fits the level map and the maps of the members. Boundaries, levels, paging threshold and all figures come from
the scores that the fit gives the training rows: no row is scored twice, and only the golden records are explained.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from riskwatch_lambda.model.document import LEVELS
from riskwatch_ml.core import clock
from riskwatch_ml.core.threads import one_thread
from riskwatch_ml.families import FAMILIES
from riskwatch_ml.families.base import Curves, subsample
from riskwatch_ml.families.search import cluster_indices
from riskwatch_ml.features.training_set import TrainingError, TrainingSet, training_set_of_table, training_table
from riskwatch_ml.model.fit import Fitted, Recipe, fit_model, refit_settings
from riskwatch_ml.model.fleet_model import FleetModel, level_labels
from riskwatch_ml.model.golden import golden_records
from riskwatch_ml.selection.guard_figures import guard_figures, label_churn
from riskwatch_ml.selection.holdout import injected_vus_pr, make_holdout

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from riskwatch_ml.core.arrays import BoolArray, FloatArray, IntArray
    from riskwatch_ml.features.served import Served
    from riskwatch_ml.features.table import MetricTable
    from riskwatch_ml.model.document import ModelDocument, NewNormal, Reference
    from riskwatch_ml.schema.catalogue import Catalogue
    from riskwatch_ml.schema.inventory import Instance

PLOT_ROWS = 2_000
TIMELINE_INSTANCES = 3


@dataclass(frozen=True)
class PlotData:
    """The values that the plots of a candidate show.

    ``curves`` are empty for a refresh, which keeps its settings. ``linkage`` is Ward's merge table, None if the family
    has none. ``profile`` is the mean of each metric by cluster, in the fleet's standard deviations from the fleet's
    mean. ``points`` (n, d) are at most 2,000 rows of the behaviour space, with their levels and scores. ``timeline``
    has timestamp (UTC), instance_id, score and alert of the three instances with the highest scores; ``alert`` is true
    for a row in an episode.
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
    """One trained family.

    ``document`` and ``arrays`` (float32) are stored as they are and serve. ``figures`` and ``params`` describe them.
    """

    family: str
    document: ModelDocument
    arrays: dict[str, np.ndarray]
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
    """Fit one family to metric rows, ``recipe.period_s`` apart, as ``fit_table`` does."""
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
    new_normals: Sequence[NewNormal] = (),
    served: Served | None = None,
) -> Candidate:
    """Fit one family to the rows of a ``training_table``.

    The family is fitted to all rows, for the model and most figures, and again for the trial of
    ``riskwatch_ml.selection.holdout``. An instance with less than a day of rows gets the baseline of its role or of the
    fleet. The recipe's ``level`` holds the settings that a refresh of the champion keeps. With ``champion``, the model
    in service, the figures have ``label_churn``, the share of rows that would change their level. ``new_normals`` are
    the open episodes whose rows are learned as normal: the model ends them. ``served`` are the openings in service.
    Equal arguments give equal candidates, except ``fit_seconds`` and a ``trained_at`` that is not given.

    Raises TrainingError if the rows cannot be trained on or the recipe is invalid.
    """
    started = time.process_time()
    _check_recipe(recipe)
    training_set = training_set_of_table(table, catalogue, inventory, recipe.period_s, served, recipe.local_time)
    fitted = fit_model(training_set, catalogue, recipe)
    labels = level_labels(fitted.model, training_set.table, training_set.baseline)
    sizes = np.bincount(labels, minlength=len(fitted.model.level_names))
    document: ModelDocument = {
        **fitted.document,
        "model_id": f"{training_id}-{recipe.family}",
        "trained_at": clock.iso(trained_at or clock.now()),
        "training_id": training_id,
        "run_id": None,
        "settings": refit_settings(fitted),
        "golden": golden_records(fitted.model, training_set.table, fitted.row_scores.score, inventory, recipe.seed),
        "reference": _reference(fitted.model, sizes, fitted.row_scores.score, fitted.pages),
        "new_normals": list(new_normals),
    }
    figures = {
        **cluster_indices(training_set.level, labels, recipe.seed, PLOT_ROWS),
        **guard_figures(fitted, training_set, recipe.seed),
        **_model_figures(fitted, document),
        "injected_vus_pr": _trial_figure(training_set, catalogue, inventory, recipe),
    }
    if champion is not None and champion.features == fitted.model.features:
        figures["label_churn"] = label_churn(champion, fitted.model, training_set.table, inventory)
    figures["fit_seconds"] = time.process_time() - started
    arrays = {name: np.asarray(values, np.float32) for name, values in fitted.arrays.items()}
    return Candidate(recipe.family, document, arrays, figures, _params(fitted), _plots(training_set, fitted, labels))


def _check_recipe(recipe: Recipe) -> None:
    """Raise TrainingError if the family is unknown or a number is not above 0."""
    if recipe.family not in FAMILIES:
        raise TrainingError(f"family {recipe.family!r} is unknown: use one of {', '.join(FAMILIES)}")
    if not recipe.budget.pages > 0 or not recipe.period_s > 0:
        raise TrainingError(f"budget {recipe.budget.pages} and period_s {recipe.period_s} must be above 0")


def _trial_figure(
    training_set: TrainingSet, catalogue: Catalogue, inventory: Mapping[str, Instance], recipe: Recipe
) -> float:
    """Return the VUS-PR of a recipe on injected incidents in the rows of a space."""
    holdout = make_holdout(training_set, catalogue, inventory, period_s=recipe.period_s, seed=recipe.seed)
    return injected_vus_pr(holdout, catalogue, inventory, recipe)


def _model_figures(fitted: Fitted, document: ModelDocument) -> dict[str, float]:
    """Return the figures of the maps, and those of the model's verdicts on its training rows.

    ``behaviour_fidelity`` is the mean of the members, ``relative_levels`` is 1 if its levels are relative to the fleet.
    """
    reference = document["reference"]
    return {
        "behaviour_fidelity": float(np.mean([fit.figures["fidelity"] for fit in fitted.member_fits])),
        "level_prototypes": float(fitted.level_fit.map.size),
        "relative_levels": float(document["level"]["relative"]),
        "alerts_per_instance_day": reference["alerts_per_instance_day"],
        "paging_threshold": document["rule"]["paging_threshold"],
        "unusual_share": reference["unusual"],
        **{f"share_{name.lower().replace(' ', '_')}": share for name, share in reference["levels"].items()},
    }


def _reference(model: FleetModel, sizes: IntArray, score: FloatArray, alerts: float) -> Reference:
    """Return the reference of a model document.

    ``sizes`` (labels,) counts the training rows of each level label, ``score`` (n,) has their scores, ``alerts`` is the
    number of alerts for each instance and day.
    """
    level_names = np.array(model.level_names, object)
    return {
        "rows": len(score),
        "levels": {name: float(sizes[level_names == name].sum() / len(score)) for name in LEVELS},
        "unusual": float(np.mean(score >= 1.0)),
        "alerts_per_instance_day": alerts,
    }


def _params(fitted: Fitted) -> dict[str, float | int | str]:
    """Return the settings and the parameters that the family chose.

    Of the members only those of the first group are listed.
    """
    recipe = fitted.recipe
    params: dict[str, float | int | str] = {
        "family": recipe.family,
        "pages_per_instance_day": recipe.budget.pages,
        "ordinary_days": int(recipe.budget.ordinary_days),
        "seed": recipe.seed,
    }
    params |= {f"level.{name}": value for name, value in fitted.level_fit.params.items()}
    params["groups"] = max(fitted.document["groups"]) + 1
    params["trails"] = ", ".join(map(str, fitted.document["trails"])) or "none"
    members = zip(fitted.document["members"], fitted.member_fits, strict=True)
    for number, (member, fit) in enumerate(pair for pair in members if pair[0]["group"] == 0):
        params[f"member{number}.window"] = member["window"]
        params |= {f"member{number}.{name}": value for name, value in fit.params.items()}
    return params


def _plots(training_set: TrainingSet, fitted: Fitted, label: IntArray) -> PlotData:
    model, score, level_fit = fitted.model, fitted.row_scores.score, fitted.level_fit
    sizes = np.bincount(label, minlength=len(model.level_names))
    used = np.flatnonzero(sizes)
    titles = {int(number): f"{number} ({model.level_names[number]}, n={sizes[number]})" for number in used}
    sample = subsample(len(training_set.table), PLOT_ROWS, fitted.recipe.seed)
    return PlotData(
        curves=level_fit.curves,
        linkage=level_fit.linkage,
        profile=_profile(training_set.table, label, titles),
        points=training_set.behaviour[sample][:, : len(model.features)],
        point_levels=[model.level_names[number] for number in label[sample]],
        point_scores=score[sample],
        cluster_sizes={titles[int(number)]: int(sizes[number]) for number in used},
        timeline=_timeline(training_set.table, score, fitted.alert),
        paging_threshold=float(fitted.document["rule"]["paging_threshold"]),
    )


def _profile(table: MetricTable, label: IntArray, titles: Mapping[int, str]) -> pd.DataFrame:
    """Return the mean of each metric (column) in each of the titled clusters (row).

    The unit is the fleet's standard deviation, from the fleet's mean. A cluster without a value of a metric has NaN, a
    metric that never moves 0.
    """
    profile = np.full((max(titles) + 1, len(table.features)), np.nan)
    for column in range(len(table.features)):
        present = np.isfinite(table.values[:, column])
        if present.any():
            values, clusters = table.values[present, column], label[present]
            deviation = (values - values.mean()) / (values.std() if np.ptp(values) > 0 else 1.0)
            total = np.bincount(clusters, weights=deviation, minlength=len(profile))
            count = np.bincount(clusters, minlength=len(profile))
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

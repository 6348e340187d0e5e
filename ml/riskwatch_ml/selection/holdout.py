"""The trial of a candidate: a fit to older rows, rated on incidents in newer rows.

The history of a real fleet contains incidents, and incidents recur. So the same incidents are injected into the older
rows too: a candidate that learns last week's incident as normal misses the one of this week. A fit to clean rows would
test what does not occur in service. Rows and incidents are the same for all candidates.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from riskwatch_ml.families.base import subsample
from riskwatch_ml.features import rolling
from riskwatch_ml.features.spaces import row_baselines
from riskwatch_ml.features.training_set import TrainingSet, fit_training_set
from riskwatch_ml.model.fit import fit_model
from riskwatch_ml.model.fleet_model import score_rows
from riskwatch_ml.selection.injection import inject, newest_rows
from riskwatch_ml.selection.vus import vus_pr

if TYPE_CHECKING:
    from collections.abc import Mapping

    from riskwatch_ml.core.arrays import BoolArray, FloatArray
    from riskwatch_ml.features.table import MetricTable
    from riskwatch_ml.model.fit import Recipe
    from riskwatch_ml.schema.catalogue import Catalogue
    from riskwatch_ml.schema.inventory import Instance

MAX_INSTANCES = 24
NEW_SHARE = 0.2  # of each instance's rows: the newest fifth
CONTEXT_SHARE = 0.06  # rows before them, for the windows and rolling features of the first new rows
BUFFER_S = 3_600
FIXED_LEVEL_SETTINGS = {"clusters": 3, "sample": 300}


@dataclass(frozen=True)
class Holdout:
    """The rows and incidents of a trial.

    A candidate is fitted to ``training_set``, the older rows. ``table`` and ``wide`` are the newer rows, with some rows
    before them as context, without and with rolling features. ``rated`` (n,) marks the newer rows, ``labels`` (n,) the
    rows of incidents, ``kinds`` (n,) has their names. ``buffer`` is the buffer of VUS-PR in rows.
    """

    training_set: TrainingSet
    table: MetricTable
    wide: MetricTable
    rated: BoolArray
    labels: BoolArray
    kinds: list[str]
    buffer: int


def make_holdout(
    training_set: TrainingSet, catalogue: Catalogue, inventory: Mapping[str, Instance], *, period_s: float, seed: int
) -> Holdout:
    """Return the trial on the rows of a training set, ``period_s`` seconds apart.

    At most 24 of the instances that have rows take part.
    """
    present = np.unique(training_set.table.code)
    table = _only(training_set.table, present[subsample(len(present), MAX_INSTANCES, seed)])
    bounds = [(metric.lower, metric.upper) for metric in catalogue.metrics]
    injected = inject(table, bounds, period_s=period_s, seed=seed)
    newest = newest_rows(table, NEW_SHARE)
    scored = newest_rows(table, NEW_SHARE + CONTEXT_SHARE)
    wide = rolling.add_rolling_features(injected.table, training_set.rolling_lengths)
    return Holdout(
        training_set=fit_training_set(
            *(injected.table.take(~newest), wide.take(~newest), training_set.rolling_lengths, catalogue, inventory),
            local_time=training_set.local_time,
        ),
        table=injected.table.take(scored),
        wide=wide.take(scored),
        rated=newest[scored],
        labels=injected.labels[scored],
        kinds=[injected.kinds[row] for row in np.flatnonzero(scored)],
        buffer=int(np.clip(BUFFER_S / period_s, 1, 60)),
    )


def injected_vus_pr(holdout: Holdout, catalogue: Catalogue, inventory: Mapping[str, Instance], recipe: Recipe) -> float:
    """Return the VUS-PR of a recipe that is fitted to the older rows of a trial.

    It is the mean over the instances, and 0 if no instance has room for an incident.
    """
    # Scores do not depend on the level map, so its settings are fixed. Boundaries are fitted fast: within an instance
    # they only weigh the members against each other, and nothing pages here.
    model = fit_model(holdout.training_set, catalogue, replace(recipe, level=FIXED_LEVEL_SETTINGS, fast=True)).model
    row_scores = score_rows(model, holdout.wide, row_baselines(model.baselines, holdout.table, inventory))
    return rate(holdout, np.nan_to_num(row_scores.score))


def rate(holdout: Holdout, score: FloatArray) -> float:
    """Return the VUS-PR of scores (n,) of a trial's rows.

    It is the mean over the instances, and 0 without incidents.
    """
    volumes = []
    for code in np.unique(holdout.table.code):
        rows = holdout.rated & (holdout.table.code == code)
        if holdout.labels[rows].any() and not holdout.labels[rows].all():
            volumes.append(vus_pr(holdout.labels[rows], score[rows], holdout.buffer))
    return float(np.mean(volumes)) if volumes else 0.0


def _only(table: MetricTable, codes: np.ndarray) -> MetricTable:
    """Return a table of the rows and names of some instances only."""
    part = table.take(np.isin(table.code, codes))
    names = tuple(table.instances[code] for code in codes)
    return type(table)(table.features, names, np.searchsorted(codes, part.code), part.ms, part.segment, part.values)

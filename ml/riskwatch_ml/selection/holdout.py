"""The trial of a candidate: fitted to older rows with trouble in them, does it find the same trouble in newer rows?

Nobody hands a fleet's past over clean, and trouble comes back. So the incidents are written into the older rows too: a
candidate that learns last week's incident as normal misses this week's, and one that is fitted to clean rows and asked
about novelties only is not asked what it will meet. The rows and the incidents are the same for all candidates.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from riskwatch_ml.families.base import subsample
from riskwatch_ml.features import rolling as trailing
from riskwatch_ml.features.spaces import row_baselines
from riskwatch_ml.features.training_set import Space, space_of
from riskwatch_ml.model.fit import fit_model
from riskwatch_ml.model.fleet_model import measure
from riskwatch_ml.selection.injection import inject, newest_rows
from riskwatch_ml.selection.vus import vus_pr

if TYPE_CHECKING:
    from collections.abc import Mapping

    from riskwatch_ml.core.arrays import BoolArray, FloatArray
    from riskwatch_ml.features.table import MetricTable
    from riskwatch_ml.model.fit import Recipe
    from riskwatch_ml.schema.catalogue import Catalogue
    from riskwatch_ml.schema.inventory import Instance

MOST_INSTANCES = 24
NEW_SHARE = 0.2  # of each instance's rows: the newest fifth
CONTEXT_SHARE = 0.06  # rows before them, so that the first new one has its window and its trails
BUFFER_S = 3_600
ANY_LEVEL = {"clusters": 3, "sample": 300}


@dataclass(frozen=True)
class Trial:
    """``space`` is what a candidate is fitted to; the newer rows are scored, with some before them as context.

    ``rated`` (n,) marks the newer rows, ``labels`` (n,) the incidents, ``kinds`` (n,) names them; ``buffer`` is that of
    VUS-PR in rows.
    """

    space: Space
    table: MetricTable
    wide: MetricTable
    rated: BoolArray
    labels: BoolArray
    kinds: list[str]
    buffer: int


def make_trial(
    space: Space, catalogue: Catalogue, inventory: Mapping[str, Instance], *, period_s: float, seed: int
) -> Trial:
    """The trial on the rows of a training set, ``period_s`` apart, over at most 24 of the instances it has rows of."""
    present = np.unique(space.table.code)
    chosen = present[subsample(len(present), MOST_INSTANCES, seed)]
    table = _only(space.table, chosen)
    bounds = [(metric.lower, metric.upper) for metric in catalogue.metrics]
    injected = inject(table, bounds, period_s=period_s, seed=seed)
    newest = newest_rows(table, NEW_SHARE)
    kept = newest_rows(table, NEW_SHARE + CONTEXT_SHARE)
    wide = trailing.widen(injected.table, space.trails)
    return Trial(
        space=space_of(injected.table.take(~newest), wide.take(~newest), space.trails, inventory),
        table=injected.table.take(kept),
        wide=wide.take(kept),
        rated=newest[kept],
        labels=injected.labels[kept],
        kinds=[injected.kinds[row] for row in np.flatnonzero(kept)],
        buffer=int(np.clip(BUFFER_S / period_s, 1, 60)),
    )


def injected_vus_pr(trial: Trial, catalogue: Catalogue, inventory: Mapping[str, Instance], recipe: Recipe) -> float:
    """VUS-PR of a recipe, fitted to the older rows, on the incidents in the newer ones: mean over the instances.

    0 where no instance has room for an incident.
    """
    # Scores do not depend on the level map: its clusters need not be chosen. Within an instance a boundary only weighs
    # the members against each other, and nothing pages here.
    model = fit_model(trial.space, catalogue, replace(recipe, level=ANY_LEVEL, rough=True)).model
    measured = measure(model, trial.wide, row_baselines(model.baselines, trial.table, inventory))
    return rate(trial, np.nan_to_num(measured.score))


def rate(trial: Trial, score: FloatArray) -> float:
    """Mean VUS-PR over the instances of scores (n,) of the trial's rows; 0 where there is no incident."""
    found = []
    for code in np.unique(trial.table.code):
        rows = trial.rated & (trial.table.code == code)
        if trial.labels[rows].any() and not trial.labels[rows].all():
            found.append(vus_pr(trial.labels[rows], score[rows], trial.buffer))
    return float(np.mean(found)) if found else 0.0


def _only(table: MetricTable, codes: np.ndarray) -> MetricTable:
    """The rows of some instances, and no others in its list of names."""
    kept = table.take(np.isin(table.code, codes))
    names = tuple(table.instances[code] for code in codes)
    return type(table)(table.features, names, np.searchsorted(codes, kept.code), kept.ms, kept.segment, kept.values)

"""The fit of a model to a training set, for candidates, refreshes and backtests.

Baselines, level space and behaviour windows come from the training set, the level map and the maps of each group of
similar instances from the family; boundaries, levels and paging threshold from the distances to the served maps.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from riskwatch_lambda.episode_rule import NEW_INSTANCE_FACTOR
from riskwatch_lambda.model.document import SCHEMA
from riskwatch_ml.core.local_time import UTC_DAYS, LocalTime
from riskwatch_ml.families import FAMILIES
from riskwatch_ml.families.base import FamilyFit, subsample
from riskwatch_ml.features import rolling
from riskwatch_ml.features.folds import folds
from riskwatch_ml.features.groups import group_baselines
from riskwatch_ml.features.levels import name_levels, severities
from riskwatch_ml.features.table import window_ends, window_vectors
from riskwatch_ml.features.training_set import GAP_PERIODS, TrainingSet
from riskwatch_ml.model import fallback
from riskwatch_ml.model.boundaries import own_boundaries
from riskwatch_ml.model.document import RuleDocument
from riskwatch_ml.model.fleet_model import FleetModel, RowScores
from riskwatch_ml.model.level_rule import fit_cuts
from riskwatch_ml.model.page_budget import DEFAULT_BUDGET, PageBudget
from riskwatch_ml.model.paging import fit_paging

if TYPE_CHECKING:
    from collections.abc import Mapping

    from riskwatch_ml.core.arrays import BoolArray, FloatArray, IntArray
    from riskwatch_ml.families.base import Params
    from riskwatch_ml.model.document import FittedDocument, LevelDocument, MemberDocument
    from riskwatch_ml.schema.catalogue import Catalogue

MEMBERS = ((3, 0.2), (3, 0.4), (1, 0.4))  # window in rows, share of the group's prototypes
PROTOTYPES = 256  # over all members of all groups
FALLBACK_PROTOTYPES = 32
GROUP_PROTOTYPES = 160  # more do not improve the score of a group
LEVEL_BUDGET = 256
FIT_ROWS = 60_000  # most rows from which a family draws its sample
FAST_SAMPLE = 700  # most rows of a group that a member of a fast fit uses
HOLD_ROWS = 2_000  # most rows of a fold that held-out prototypes are fitted to
RULE = RuleDocument(
    m=1,
    n=1,
    close_rows=2,
    cooldown_s=3600,
    group_s=900,
    paging_threshold=1.0,
    new_instance_factor=NEW_INSTANCE_FACTOR,
)


@dataclass(frozen=True)
class Recipe:
    """Settings of a fit, which a refresh keeps.

    ``level`` holds settings of the level map, such as its clusters, that the family would otherwise search for.
    ``period_s`` is the time between two rows in seconds. ``members`` are pairs of window in rows and share of a group's
    prototypes; ``prototypes`` is their sum over all groups. A ``fast`` fit is good enough to rank rows: its members use
    fewer rows, and its boundaries come from the rows that shaped the prototypes, too narrow for paging. ``local_time``
    are the time zones and holidays of the baselines.
    """

    family: str
    budget: PageBudget = DEFAULT_BUDGET
    seed: int = 0
    period_s: int = 300
    level: Params = field(default_factory=dict)
    members: tuple[tuple[int, float], ...] = MEMBERS
    prototypes: int = PROTOTYPES
    fast: bool = False
    local_time: LocalTime = UTC_DAYS


@dataclass(frozen=True)
class Fitted:
    """A fitted model: document, arrays, the model ready to score, and its fits.

    ``row_scores`` are the scores of the training rows. ``pages`` is the number of pages per instance and day that
    they would cause, ``alert`` (n,) marks the rows in an episode.
    """

    recipe: Recipe
    document: FittedDocument
    arrays: dict[str, FloatArray]
    model: FleetModel
    level_fit: FamilyFit
    member_fits: list[FamilyFit]
    row_scores: RowScores
    pages: float
    alert: BoolArray


def fit_model(training_set: TrainingSet, catalogue: Catalogue, recipe: Recipe) -> Fitted:
    """Fit one family to a training set.

    Equal arguments give equal models. One thread is enough; the caller limits the number of threads.
    """
    level_fit, level, arrays = fit_level(training_set, recipe)
    groups = group_baselines(
        training_set.behaviour, training_set.table, training_set.baselines, training_set.roles, recipe.seed
    )
    members, member_fits, member_arrays = _fit_members(training_set, groups, recipe)
    arrays |= member_arrays | {
        "center": training_set.baselines.center,
        "scale": training_set.baselines.scale,
    }
    boundaries, row_scores = _fit_boundaries(training_set, groups, members, member_fits, recipe)
    arrays |= boundaries
    document = _document(training_set, catalogue, recipe, groups, level, members)
    model = FleetModel.load(document, arrays)
    paging = fit_paging(training_set, model, row_scores, recipe.budget, recipe.period_s)
    document["rule"]["paging_threshold"] = paging.threshold
    document["openings"] = paging.remembered
    return Fitted(recipe, document, arrays, model, level_fit, member_fits, row_scores, paging.pages, paging.alert)


def _document(
    training_set: TrainingSet,
    catalogue: Catalogue,
    recipe: Recipe,
    groups: IntArray,
    level: LevelDocument,
    members: list[MemberDocument],
) -> FittedDocument:
    """Return the document of a fit; its rule still has the default paging threshold."""
    baselines = training_set.baselines
    return {
        "schema": SCHEMA,
        "resource_kind": catalogue.kind,
        "family": recipe.family,
        "period_s": recipe.period_s,
        "features": list(catalogue.names),
        "bounds": [[metric.lower, metric.upper] for metric in catalogue.metrics],
        "directions": [metric.direction for metric in catalogue.metrics],
        "exhaustion": [metric.exhaustion for metric in catalogue.metrics],
        "trails": list(training_set.rolling_lengths),
        "baselines": {"instances": dict(baselines.instances), "roles": dict(baselines.roles), "fleet": baselines.fleet},
        "groups": [int(group) for group in groups],
        "level": level,
        "members": members,
        "context_rows": rolling.context_rows(max(window for window, _ in recipe.members), training_set.rolling_lengths),
        "max_gap_s": GAP_PERIODS * recipe.period_s,
        "rule": {**RULE},
        "seasons": baselines.seasons.to_document(),
    }


def refit_settings(fitted: Fitted) -> dict[str, float | int | str]:
    """Return the settings of the level map that a refresh keeps."""
    return {name: fitted.level_fit.params[name] for name in FAMILIES[fitted.recipe.family].kept}


def fit_level(training_set: TrainingSet, recipe: Recipe) -> tuple[FamilyFit, LevelDocument, dict[str, FloatArray]]:
    """Fit the levels; return the fit of their map, the level part of the document, and its arrays.

    If one metric spans the level space, the map gives its cuts and is not served.
    """
    x = training_set.level[subsample(len(training_set.level), FIT_ROWS, recipe.seed)]
    fit = FAMILIES[recipe.family](x, {**recipe.level, "budget": LEVEL_BUDGET}, recipe.seed)
    relative = not training_set.load.percentage
    center, scale = training_set.level_center, training_set.level_scale
    if len(training_set.load.columns) == 1:
        (column,) = training_set.load.columns
        values = training_set.baselines.impute_metric(training_set.table, training_set.baseline, column)
        cuts = fit_cuts(fit.map, values, training_set)
        return fit, {"cuts": cuts.to_document(), "relative": relative}, {}
    map_document, arrays = fit.map.to_document("level")
    arrays |= {"level_center": center, "level_scale": scale}
    labels = fit.map.assign(training_set.level).labels
    names = name_levels(*severities(training_set.level, labels, fit.map.n_labels))
    return fit, {"map": map_document, "names": names, "relative": relative}, arrays


def _fit_members(
    training_set: TrainingSet, groups: IntArray, recipe: Recipe
) -> tuple[list[MemberDocument], list[FamilyFit], dict[str, FloatArray]]:
    """Fit the members of each group; return documents, fits and arrays."""
    fallback_group = int(groups.max())
    group_of_row = groups[training_set.baseline]
    group_prototypes = min(GROUP_PROTOTYPES, (recipe.prototypes - FALLBACK_PROTOTYPES) // max(1, fallback_group))
    sample = FAST_SAMPLE if recipe.fast else max(1_000, 10_000 // (fallback_group + 1))
    foreign = fallback.measured(training_set)
    members: list[MemberDocument] = []
    fits: list[FamilyFit] = []
    arrays: dict[str, FloatArray] = {}
    for group in range(fallback_group + 1):
        prototypes = FALLBACK_PROTOTYPES if group == fallback_group else group_prototypes
        for slot, (window, share) in enumerate(recipe.members):
            x = _group_vectors(training_set, group_of_row == group, window, recipe.seed)
            if group == fallback_group:
                x = [
                    fallback.sampled(behaviour, part, window, recipe.seed, len(foreign)) for behaviour, part in foreign
                ]
            vectors = np.concatenate(x)
            if not len(vectors):
                # All segments of the group are shorter than the window: the member could never rate a row.
                continue
            count = max(2, int(prototypes * share))
            name = f"group{group}_member{slot}"
            params = {"budget": count, "clusters": count, "sample": sample}
            fit = FAMILIES[recipe.family](vectors, params, recipe.seed + slot)
            # A member serves distances, so its document needs no labels.
            map_document, map_arrays = fit.map.unlabelled().to_document(name)
            arrays |= map_arrays
            boundary = f"member{slot}_boundary"
            members.append({"window": window, "weight": 1.0, "group": group, "map": map_document, "boundary": boundary})
            fits.append(fit)
    return members, fits, arrays


def _group_vectors(training_set: TrainingSet, in_group: BoolArray, window: int, seed: int) -> list[FloatArray]:
    """Return at most 60,000 windows of the rows of one group."""
    ends = window_ends(training_set.table, window)
    ends = ends[in_group[ends]]
    return [window_vectors(training_set.behaviour, ends[subsample(len(ends), FIT_ROWS, seed)], window)]


@dataclass(frozen=True)
class Distances:
    """Distances (n,) of training rows by boundary name; NaN without a window.

    ``seen`` are distances to the served prototypes, ``held`` distances to prototypes that were fitted without the row.
    ``nearest`` holds, for each member, its rows and the prototype nearest to each, both (m,).
    """

    seen: dict[str, FloatArray]
    held: dict[str, FloatArray]
    nearest: tuple[tuple[IntArray, IntArray], ...]


def _distances(
    training_set: TrainingSet, groups: IntArray, members: list[MemberDocument], fits: list[FamilyFit], recipe: Recipe
) -> Distances:
    group_of_row = groups[training_set.baseline]
    names = sorted({str(member["boundary"]) for member in members})
    seen = {name: np.full(len(training_set.table), np.nan) for name in names}
    held = {name: np.full(len(training_set.table), np.nan) for name in names}
    nearest = []
    fold = folds(training_set.table, group_of_row)
    for member, fit in zip(members, fits, strict=True):
        slot_seen, slot_held = seen[member["boundary"]], held[member["boundary"]]
        ends = window_ends(training_set.table, member["window"])
        ends = ends[group_of_row[ends] == member["group"]]
        index = np.empty(len(ends), np.int64)
        for low in range(0, len(ends), FIT_ROWS):
            block = ends[low : low + FIT_ROWS]
            assigned = fit.map.assign(window_vectors(training_set.behaviour, block, member["window"]))
            slot_seen[block] = assigned.distance
            index[low : low + FIT_ROWS] = assigned.index
        nearest.append((ends, index))
        slot_held[ends] = slot_seen[ends]
        if not recipe.fast and member["group"] != groups.max():
            _hold_out(training_set, recipe, member, fit, ends, fold, slot_held)
    return Distances(seen, held, tuple(nearest))


def _fit_boundaries(
    training_set: TrainingSet, groups: IntArray, members: list[MemberDocument], fits: list[FamilyFit], recipe: Recipe
) -> tuple[dict[str, FloatArray], RowScores]:
    """Fit the boundaries by name; return them and the scores of the rows.

    Boundaries come from distances to prototypes that were fitted without the row. With the rows that shaped the
    prototypes, they would be too narrow for the next day.
    """
    distances = _distances(training_set, groups, members, fits, recipe)
    known = np.isin(training_set.baseline, list(training_set.baselines.instances.values()))
    if not known.any():
        known[:] = True
    boundaries = {}
    for name, distance in distances.held.items():
        rated = known & np.isfinite(distance)
        boundaries[name] = own_boundaries(distance[rated], training_set.baseline[rated], len(groups))
    fallback.fit_boundaries(training_set, groups, members, fits, boundaries)
    score = _mean_ratio(boundaries, distances.seen, training_set.baseline)
    context = np.all([np.isfinite(distance) for distance in distances.seen.values()], axis=0)
    return boundaries, RowScores(score, context, training_set.behaviour, distances.nearest)


def _hold_out(
    training_set: TrainingSet,
    recipe: Recipe,
    member: MemberDocument,
    fit: FamilyFit,
    ends: IntArray,
    fold: IntArray,
    distance: FloatArray,
) -> None:
    """Replace the distances of rows by those to prototypes fitted without them.

    Each fold gives the prototypes for the rows of the other one.
    """
    for side in (0, 1):
        inside, outside = ends[fold[ends] == side], ends[fold[ends] != side]
        if len(inside) < 20 or not len(outside):
            continue
        seen = inside[subsample(len(inside), HOLD_ROWS, recipe.seed)]
        x = window_vectors(training_set.behaviour, seen, member["window"])
        params = {"budget": fit.map.size, "clusters": fit.map.size, "sample": 700}
        fold_fit = FAMILIES[recipe.family](x, params, recipe.seed)
        distance[outside] = fold_fit.map.assign(
            window_vectors(training_set.behaviour, outside, member["window"])
        ).distance


def _mean_ratio(
    boundaries: Mapping[str, FloatArray], distances: Mapping[str, FloatArray], baseline: IntArray
) -> FloatArray:
    """Return the mean of distance / boundary over the members, (n,), NaN if none."""
    total, weight = np.zeros(len(baseline)), np.zeros(len(baseline))
    for name, distance in distances.items():
        rated = np.isfinite(distance)
        total[rated] += distance[rated] / boundaries[name][baseline[rated]]
        weight += rated
    return np.where(weight > 0, total / np.maximum(weight, 1), np.nan)

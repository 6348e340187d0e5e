"""The fit itself: two spaces in, a model that can serve out. Candidates, refreshes and backtests all come through here.

What is fitted once per training set (baselines, level space, behaviour windows) does not depend on the family; the
family gives the level map and the maps of each group of alike instances; boundaries, levels and paging threshold are
then computed from the distances that the served maps give.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from riskwatch_lambda.model.document import SCHEMA
from riskwatch_ml.families import FAMILIES
from riskwatch_ml.families.base import FamilyFit, subsample
from riskwatch_ml.features import rolling as trailing
from riskwatch_ml.features.folds import FALLBACK_ROWS, folds, foreign_rows
from riskwatch_ml.features.groups import group_baselines
from riskwatch_ml.features.levels import name_levels, severities
from riskwatch_ml.features.table import MetricTable, window_ends, window_vectors, windows
from riskwatch_ml.features.training_set import GAP_PERIODS, Space
from riskwatch_ml.model.boundaries import (
    PagingRows,
    alert_rows,
    episodes_a_day,
    fallback_boundary,
    own_boundaries,
    paging_threshold,
    rows_to_close,
)
from riskwatch_ml.model.explain import exhausted_rows, harmful_rows
from riskwatch_ml.model.fleet_model import FleetModel, Measured

if TYPE_CHECKING:
    from collections.abc import Mapping

    from riskwatch_ml.core.arrays import BoolArray, FloatArray, IntArray
    from riskwatch_ml.families.base import Params
    from riskwatch_ml.model.document import FittedDocument, LevelDocument, MemberDocument, RuleDocument
    from riskwatch_ml.schema.catalogue import Catalogue

MEMBERS = ((3, 0.2), (3, 0.4), (1, 0.4))  # window in rows, share of the group's prototypes
PROTOTYPES = 256  # over all members of all groups
FALLBACK_PROTOTYPES = 32
GROUP_PROTOTYPES = 160  # more make no group's score better
LEVEL_BUDGET = 256
FIT_ROWS = 60_000  # rows whose vectors a family may sample from
ROUGH_SAMPLE = 700  # rows of a group that a member of a rough fit sees
HOLD_ROWS = 2_000  # rows of a half from which held-out prototypes are made
RULE: RuleDocument = {
    "m": 1, "n": 1, "close_rows": 2, "cooldown_s": 3600, "group_s": 900, "paging_threshold": 1.0
}  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """What is decided before a fit, and kept by a refresh.

    ``level`` holds the settings of the level map that a family would otherwise choose itself, such as its clusters.
    ``budget`` is alerts for each instance and day on the training rows, ``period_s`` the time between two rows.
    ``members`` are window in rows and share of a group's prototypes, ``prototypes`` is their sum over all groups.
    A ``rough`` fit is cheaper and ranks rows, which is all that a trial asks of it: its members see fewer rows, and its
    boundaries, from the rows that shaped the prototypes, are too narrow to page by.
    """

    family: str
    budget: float = 1.0
    seed: int = 0
    period_s: int = 300
    level: Params = field(default_factory=dict)
    members: tuple[tuple[int, float], ...] = MEMBERS
    prototypes: int = PROTOTYPES
    rough: bool = False


@dataclass(frozen=True)
class Fitted:
    """A fitted model: what will be packed (``document``, ``arrays``), the same ready to score, and how it was made.

    ``measured`` are the training rows' scores; ``alerts`` the episodes for each instance and day that they would open,
    and ``alert`` (n,) the rows in one.
    """

    recipe: Recipe
    document: FittedDocument
    arrays: dict[str, FloatArray]
    model: FleetModel
    level_fit: FamilyFit
    member_fits: list[FamilyFit]
    measured: Measured
    alerts: float
    alert: BoolArray


def fit_model(space: Space, catalogue: Catalogue, recipe: Recipe) -> Fitted:
    """Fit one family to a space. Equal arguments give equal models. One thread is enough and is left to the caller."""
    level_fit, level, arrays = fit_level(space, recipe)
    groups = group_baselines(space.behaviour, space.table, space.baselines, space.roles, recipe.seed)
    members, member_fits, stored = _fit_members(space, groups, recipe)
    arrays |= stored | {
        "center": space.baselines.center,
        "scale": space.baselines.scale,
        "level_center": space.level_center,
        "level_scale": space.level_scale,
    }
    baselines = space.baselines
    boundaries, measured = _fit_boundaries(space, groups, members, member_fits, recipe)
    arrays |= boundaries
    document: FittedDocument = {
        "schema": SCHEMA,
        "family": recipe.family,
        "period_s": recipe.period_s,
        "features": list(catalogue.names),
        "bounds": [[metric.lower, metric.upper] for metric in catalogue.metrics],
        "directions": [metric.direction for metric in catalogue.metrics],
        "exhaustion": [metric.exhaustion for metric in catalogue.metrics],
        "trails": list(space.trails),
        "baselines": {
            "instances": dict(baselines.instances),
            "roles": dict(baselines.roles),
            "fleet": baselines.fleet,
        },
        "groups": [int(group) for group in groups],
        "level": level,
        "members": members,
        "context_rows": trailing.context_rows(max(window for window, _ in recipe.members), space.trails),
        "max_gap_s": GAP_PERIODS * recipe.period_s,
        "rule": {**RULE},
    }
    model = FleetModel.load(document, arrays)
    paging = _paging_rows(space, model, measured)
    threshold = paging_threshold(paging, recipe.budget, RULE, recipe.period_s)
    document["rule"]["paging_threshold"] = threshold
    alerts = episodes_a_day(paging, threshold, RULE, recipe.period_s)
    alert = alert_rows(paging.pages(threshold), paging.code, rows_to_close(RULE))
    return Fitted(recipe, document, arrays, model, level_fit, member_fits, measured, alerts, alert)


def kept_settings(fitted: Fitted) -> dict[str, float | int | str]:
    """What a fit chose for its level map and a refresh keeps."""
    return {name: fitted.level_fit.params[name] for name in FAMILIES[fitted.recipe.family].kept}


def fit_level(space: Space, recipe: Recipe) -> tuple[FamilyFit, LevelDocument, dict[str, FloatArray]]:
    """The level map, its document with a name for each label, and its arrays."""
    x = space.level[subsample(len(space.level), FIT_ROWS, recipe.seed)]
    fit = FAMILIES[recipe.family](x, {**recipe.level, "budget": LEVEL_BUDGET}, recipe.seed)
    described, arrays = fit.map.to_document("level")
    labels = fit.map.assign(space.level).labels
    names = name_levels(*severities(space.level, labels, fit.map.n_labels))
    return fit, {"map": described, "names": names}, arrays


def _fit_members(
    space: Space, groups: IntArray, recipe: Recipe
) -> tuple[list[MemberDocument], list[FamilyFit], dict[str, FloatArray]]:
    """The members' documents, fits and prototypes: three for each group with rows enough for their windows."""
    fallback = int(groups.max())
    group_of_row = groups[space.baseline]
    each = min(GROUP_PROTOTYPES, (recipe.prototypes - FALLBACK_PROTOTYPES) // max(1, fallback))
    sample = ROUGH_SAMPLE if recipe.rough else max(1_000, 10_000 // (fallback + 1))
    foreign = _foreign(space)
    members: list[MemberDocument] = []
    fits: list[FamilyFit] = []
    arrays: dict[str, FloatArray] = {}
    for group in range(fallback + 1):
        prototypes = FALLBACK_PROTOTYPES if group == fallback else each
        for slot, (window, share) in enumerate(recipe.members):
            x = _group_vectors(space, group_of_row == group, window, recipe.seed)
            if group == fallback:
                x = [_sampled(behaviour, part, window, recipe.seed, len(foreign)) for behaviour, part in foreign]
            vectors = np.concatenate(x)
            if not len(vectors):
                # Every instance is cut by gaps shorter than the window: the member would wait for rows in vain.
                continue
            count = max(2, int(prototypes * share))
            name = f"group{group}_member{slot}"
            params = {"budget": count, "clusters": count, "sample": sample}
            fit = FAMILIES[recipe.family](vectors, params, recipe.seed + slot)
            described, stored = fit.map.to_document(name)
            arrays |= stored
            boundary = f"member{slot}_boundary"
            members.append({"window": window, "weight": 1.0, "group": group, "map": described, "boundary": boundary})
            fits.append(fit)
    return members, fits, arrays


def _group_vectors(space: Space, mine: FloatArray, window: int, seed: int) -> list[FloatArray]:
    """At most 60,000 windows of one group's rows."""
    ends = window_ends(space.table, window)
    ends = ends[mine[ends]]
    return [window_vectors(space.behaviour, ends[subsample(len(ends), FIT_ROWS, seed)], window)]


def _sampled(behaviour: FloatArray, part: MetricTable, window: int, seed: int, parts: int) -> FloatArray:
    """An equal share of 6,000 windows for each of some parts."""
    ends = window_ends(part, window)
    return window_vectors(behaviour, ends[subsample(len(ends), FALLBACK_ROWS // parts, seed)], window)


def _foreign(space: Space) -> list[tuple[FloatArray, MetricTable]]:
    """Runs of neighbouring rows, at most 6,000, as they look against each role's and the fleet's baseline."""
    part = space.wide.cut(foreign_rows(space.wide.code, space.wide.ms))
    fallbacks = [*space.baselines.roles.values(), space.baselines.fleet]
    return [(space.baselines.behaviour(part, np.full(len(part), index)), part) for index in fallbacks]


@dataclass(frozen=True)
class Distances:
    """Distances (n,) of the training rows by boundary name, NaN where a row has no window.

    ``seen`` are those to the prototypes that serve, ``held`` those to prototypes that were fitted without the row.
    """

    seen: dict[str, FloatArray]
    held: dict[str, FloatArray]
    nearest: tuple[tuple[IntArray, IntArray], ...]


def _distances(
    space: Space, groups: IntArray, members: list[MemberDocument], fits: list[FamilyFit], recipe: Recipe
) -> Distances:
    group_of_row = groups[space.baseline]
    names = sorted({str(member["boundary"]) for member in members})
    seen = {name: np.full(len(space.table), np.nan) for name in names}
    held = {name: np.full(len(space.table), np.nan) for name in names}
    nearest = []
    fold = folds(space.table, group_of_row)
    for member, fit in zip(members, fits, strict=True):
        own_seen, own_held = seen[member["boundary"]], held[member["boundary"]]
        ends = window_ends(space.table, member["window"])
        ends = ends[group_of_row[ends] == member["group"]]
        index = np.empty(len(ends), np.int64)
        for low in range(0, len(ends), FIT_ROWS):
            block = ends[low : low + FIT_ROWS]
            assigned = fit.map.assign(window_vectors(space.behaviour, block, member["window"]))
            own_seen[block] = assigned.distance
            index[low : low + FIT_ROWS] = assigned.index
        nearest.append((ends, index))
        own_held[ends] = own_seen[ends]
        if not recipe.rough and member["group"] != groups.max():
            _hold_out(space, recipe, member, fit, ends, fold, own_held)
    return Distances(seen, held, tuple(nearest))


def _fit_boundaries(
    space: Space, groups: IntArray, members: list[MemberDocument], fits: list[FamilyFit], recipe: Recipe
) -> tuple[dict[str, FloatArray], Measured]:
    """Boundary of every baseline for each slot, and the training rows' scores with them.

    They come from distances to prototypes that were fitted without the row: a boundary from rows that shaped the
    prototypes is too narrow for the next day's.
    """
    count = len(groups)
    found = _distances(space, groups, members, fits, recipe)
    owned = np.isin(space.baseline, list(space.baselines.instances.values()))
    if not owned.any():
        owned[:] = True
    boundaries = {}
    for name, distance in found.held.items():
        rated = owned & np.isfinite(distance)
        boundaries[name] = own_boundaries(distance[rated], space.baseline[rated], count)
    _fit_fallback(space, groups, members, fits, boundaries)
    score = _mean_ratio(boundaries, found.seen, space.baseline)
    context = np.all([np.isfinite(distance) for distance in found.seen.values()], axis=0)
    return boundaries, Measured(score, context, space.behaviour, found.nearest)


def _hold_out(
    space: Space,
    recipe: Recipe,
    member: Mapping[str, Any],
    fit: FamilyFit,
    ends: IntArray,
    fold: IntArray,
    distance: FloatArray,
) -> None:
    """Replace the distances of a member's rows by those to prototypes that were fitted without them."""
    for side in (0, 1):
        inside, outside = ends[fold[ends] == side], ends[fold[ends] != side]
        if len(inside) < 20 or not len(outside):
            continue
        seen = inside[subsample(len(inside), HOLD_ROWS, recipe.seed)]
        x = window_vectors(space.behaviour, seen, member["window"])
        size = fit.map.size
        params = {"budget": size, "clusters": size, "sample": 700}
        half = FAMILIES[recipe.family](x, params, recipe.seed)
        distance[outside] = half.map.assign(window_vectors(space.behaviour, outside, member["window"])).distance


def _mean_ratio(
    boundaries: Mapping[str, FloatArray], distances: Mapping[str, FloatArray], baseline: IntArray
) -> FloatArray:
    """Mean over the members that rated a row of distance / boundary, (n,); NaN where none did."""
    total, weight = np.zeros(len(baseline)), np.zeros(len(baseline))
    for name, distance in distances.items():
        rated = np.isfinite(distance)
        total[rated] += distance[rated] / boundaries[name][baseline[rated]]
        weight += rated
    return np.where(weight > 0, total / np.maximum(weight, 1), np.nan)


def _fit_fallback(
    space: Space,
    groups: IntArray,
    members: list[MemberDocument],
    fits: list[FamilyFit],
    boundaries: dict[str, FloatArray],
) -> None:
    """Set the boundaries of roles and fleet: everybody's rows, measured against their baselines, must fit in."""
    fallbacks = [*space.baselines.roles.values(), space.baselines.fleet]
    for index, (behaviour, part) in zip(fallbacks, _foreign(space), strict=True):
        for member, fit in zip(members, fits, strict=True):
            if member["group"] == groups[index]:
                vectors, _ = windows(behaviour, part, member["window"])
                least = float(boundaries[member["boundary"]][index])
                boundaries[member["boundary"]][index] = fallback_boundary(fit.map.assign(vectors).distance, least)


def _paging_rows(space: Space, model: FleetModel, measured: Measured) -> PagingRows:
    unusual = measured.score >= 1.0
    return PagingRows(
        score=measured.score,
        harmful=harmful_rows(model, space.table, space.baseline, measured, unusual),
        exhausted=exhausted_rows(model, space.table, space.baseline),
        known=np.isin(space.baseline, list(space.baselines.instances.values())),
        code=space.table.code,
        ms=space.table.ms,
    )

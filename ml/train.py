"""Fitting one candidate: metric rows in, a model document, its arrays and its figures out.

What is fitted once per training set (baselines, level space, behaviour windows) does not depend on the family; the
family gives the level map and the members' maps; boundaries, levels, paging threshold and every figure are then
computed with the scorer that will serve, on the rows of the training set.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ml import clock
from ml.boundaries import PagingRows, episodes_a_day, fallback_boundary, own_boundaries, paging_threshold
from ml.families import FAMILIES, FamilyFit
from ml.families.base import Curves, cluster_indices, subsample
from ml.features import (
    FloatArray,
    IntArray,
    MetricTable,
    windows,
)
from ml.golden import golden_records
from ml.levels import LEVELS, name_levels, severities, severity_columns
from ml.scoring import FleetModel, Scored, score_table
from ml.select import injected_vus_pr
from ml.space import KEY, Space, TrainingError, build_space, check_rows

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from ml.catalogue import Catalogue
    from ml.features import Baselines
    from ml.inventory import Instance

SCHEMA = "maps/1"
MEMBERS = ((3, 32), (3, 64), (1, 64))  # window in rows, most prototypes: at most 256 prototypes over all members
LEVEL_BUDGET = 256
GAP_PERIODS = 6  # a window never spans a longer gap between two rows
FIT_ROWS = 60_000  # rows whose vectors a family may sample from
FALLBACK_ROWS = 20_000  # rows measured against each role's and the fleet's baseline
PLOT_ROWS = 2_000
TIMELINE_INSTANCES = 3
RULE = {"m": 1, "n": 1, "close_rows": 2, "cooldown_s": 3600, "group_s": 900}


@dataclass(frozen=True)
class PlotData:
    """Plain values for the figures of a candidate.

    ``profile``: mean level-space value of each feature by cluster; ``points``: at most 2,000 rows in the behaviour
    space (n, d) with level and score; ``timeline``: timestamp, instance_id and score of the three instances with the
    highest scores; ``linkage``: Ward's merge table where the family has one.
    """

    curves: Curves
    linkage: FloatArray | None
    profile: pd.DataFrame
    points: FloatArray
    point_levels: list[str]
    point_scores: FloatArray
    cluster_sizes: dict[str, int]
    timeline: pd.DataFrame


@dataclass(frozen=True)
class Candidate:
    """One trained family: the document and float32 arrays that serve, and what is known about them."""

    family: str
    document: dict[str, Any]
    arrays: dict[str, Any]
    figures: dict[str, float]
    params: dict[str, float | int | str]
    plots: PlotData


def fit_candidate(
    rows: pd.DataFrame,
    catalogue: Catalogue,
    inventory: Mapping[str, Instance],
    family: str,
    *,
    training_id: str,
    budget: float = 1.0,
    seed: int = 0,
    period_s: int = 300,
    trained_at: datetime | None = None,
) -> Candidate:
    """Fit one family to metric rows (instance_id, timestamp in UTC, features in catalogue units; NaN missing).

    ``budget`` is alerts for each instance and day on the training rows, ``period_s`` the time between rows. The family
    is fitted once, to all rows; its figures come from the same rows and from incidents injected into the newest of
    them, which no family has seen. Instances with fewer than 24 rows are left to their role's baseline or the fleet's.
    Equal arguments give equal candidates but for ``fit_seconds`` and, unless given, ``trained_at``.

    Raises TrainingError where the rows cannot be trained on or an argument makes no sense.
    """
    from threadpoolctl import threadpool_limits

    started = time.process_time()
    if family not in FAMILIES:
        raise TrainingError(f"family {family!r} is unknown: use one of {', '.join(FAMILIES)}")
    if not budget > 0 or not period_s > 0:
        raise TrainingError(f"budget {budget} and period_s {period_s} must be above 0")
    check_rows(rows, catalogue)
    rows = rows.reindex(columns=[*KEY, *catalogue.names])
    space = build_space(rows, catalogue, inventory, GAP_PERIODS * period_s)

    # Matrices this small are faster on one thread, and sums then do not depend on how many cores a machine has.
    with threadpool_limits(1):
        level_fit, level, arrays = _fit_level(space, family, seed)
        members, member_fits = _fit_members(space, family, seed, arrays)
    arrays |= {
        "center": space.baselines.center,
        "scale": space.baselines.scale,
        "level_center": space.level_center,
        "level_scale": space.level_scale,
    }
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "model_id": f"{training_id}-{family}",
        "family": family,
        "trained_at": clock.iso(trained_at or clock.now()),
        "training_id": training_id,
        "run_id": None,
        "period_s": period_s,
        **_layout(catalogue, space.baselines),
        "level": level,
        "members": members,
        "context_rows": max(window for window, _ in MEMBERS),
        "max_gap_s": GAP_PERIODS * period_s,
        "rule": {**RULE, "paging_threshold": 1.0},
    }
    model = FleetModel.load(document, arrays)
    scored = score_table(model, space.table, space.baseline)
    alerts = _calibrate(document, space, scored, budget, period_s)
    document["reference"] = _reference(model, scored, alerts)
    document["golden"] = golden_records(model, scored, inventory, seed)
    sizes = np.bincount(scored.label, minlength=len(model.level_names))
    figures = {
        **cluster_indices(space.level, scored.label, seed, PLOT_ROWS),
        **_map_figures(level_fit, member_fits),
        **_verdict_figures(document, sizes),
        "injected_vus_pr": injected_vus_pr(model, rows, inventory, seed=seed, period_s=period_s),
        "fit_seconds": time.process_time() - started,
    }
    return Candidate(
        family=family,
        document=document,
        arrays={name: np.asarray(values, np.float32) for name, values in arrays.items()},
        figures=figures,
        params=_params(family, level_fit, member_fits, budget, seed),
        plots=_plots(space, model, scored, level_fit, sizes, seed),
    )


def _layout(catalogue: Catalogue, baselines: Baselines) -> dict[str, Any]:
    """What the document says of the features and of who has which baseline."""
    return {
        "features": list(catalogue.names),
        "bounds": [[metric.lower, metric.upper] for metric in catalogue.metrics],
        "directions": [metric.direction for metric in catalogue.metrics],
        "exhaustion": [metric.exhaustion for metric in catalogue.metrics],
        "baselines": {
            "instances": dict(baselines.instances),
            "roles": dict(baselines.roles),
            "fleet": baselines.fleet,
        },
    }


def _map_figures(level_fit: FamilyFit, member_fits: list[FamilyFit]) -> dict[str, float]:
    """How well and how compactly the maps say what the family found; ``prototypes`` are the behaviour space's."""
    return {
        "fidelity": level_fit.figures["fidelity"],
        "behaviour_fidelity": float(np.mean([fit.figures["fidelity"] for fit in member_fits])),
        "prototypes": float(sum(fit.map.size for fit in member_fits)),
        "level_prototypes": float(level_fit.map.size),
    }


def _verdict_figures(document: Mapping[str, Any], sizes: IntArray) -> dict[str, float]:
    """What the model says of its own training rows; ``sizes`` counts the rows of each level label."""
    reference = document["reference"]
    return {
        "level_clusters": float((sizes > 0).sum()),
        "largest_cluster_share": float(sizes.max() / sizes.sum()),
        "alerts_per_instance_day": reference["alerts_per_instance_day"],
        "paging_threshold": document["rule"]["paging_threshold"],
        "unusual_share": reference["unusual"],
        **{f"share_{name.lower().replace(' ', '_')}": share for name, share in reference["levels"].items()},
    }


def _fit_level(space: Space, family: str, seed: int) -> tuple[FamilyFit, dict[str, Any], dict[str, FloatArray]]:
    """The level map, its document with a name for each label, and its arrays."""
    x = space.level[subsample(len(space.level), FIT_ROWS, seed)]
    fit = FAMILIES[family](x, {"budget": LEVEL_BUDGET}, seed)
    described, arrays = fit.map.to_document("level")
    reported = [bool(np.isfinite(column).any()) for column in space.table.values.T]
    columns = severity_columns(space.table.features, reported)
    labels = fit.map.assign(space.level).labels
    names = name_levels(*severities(space.level, labels, fit.map.n_labels, columns))
    return fit, {"map": described, "names": names}, arrays


def _fit_members(
    space: Space, family: str, seed: int, arrays: dict[str, FloatArray]
) -> tuple[list[dict[str, Any]], list[FamilyFit]]:
    """The members' documents and fits; their prototypes and boundaries are added to ``arrays``."""
    members, fits = [], []
    for number, (window, prototypes) in enumerate(MEMBERS):
        vectors, ends = windows(space.behaviour, space.table, window)
        if not len(ends):
            # Every instance is cut by gaps shorter than the window: the member waits for rows it will never rate.
            continue
        chosen = subsample(len(vectors), FIT_ROWS, seed)
        fit = FAMILIES[family](vectors[chosen], {"budget": prototypes, "clusters": prototypes}, seed + number)
        described, stored = fit.map.to_document(f"member{number}")
        boundary = _boundaries(space, fit, window, vectors, ends)
        arrays |= stored | {f"member{number}_boundary": boundary}
        members.append({"window": window, "weight": 1.0, "map": described, "boundary": f"member{number}_boundary"})
        fits.append(fit)
    return members, fits


def _boundaries(space: Space, fit: FamilyFit, window: int, vectors: FloatArray, ends: IntArray) -> FloatArray:
    """Boundary of every baseline: known instances by their own distances, roles and fleet by everybody's to them."""
    baselines, table = space.baselines, space.table
    owned = np.isin(space.baseline[ends], list(baselines.instances.values()))
    count = len(baselines.center)
    if owned.any():
        distance = fit.map.assign(vectors[owned]).distance
        boundary = own_boundaries(distance, space.baseline[ends][owned], count)
    else:
        boundary = own_boundaries(fit.map.assign(vectors).distance, space.baseline[ends], count)
    # Every n-th segment as a whole, up to the limit: a window needs its neighbours.
    wanted = table.segment % max(1, -(-len(table) // FALLBACK_ROWS)) == 0
    part = table.take(wanted)
    for index in [*baselines.roles.values(), baselines.fleet]:
        measured, _ = windows(baselines.behaviour(part, np.full(len(part), index)), part, window)
        boundary[index] = fallback_boundary(fit.map.assign(measured).distance, float(boundary[index]))
    return boundary


def _calibrate(document: dict[str, Any], space: Space, scored: Scored, budget: float, period_s: int) -> float:
    """Set the paging threshold in the document's rule; returns the alerts for each instance and day it leaves."""
    rows = PagingRows(
        score=scored.score,
        harmful=scored.harmful,
        exhausted=scored.exhausted,
        known=np.isin(space.baseline, list(space.baselines.instances.values())),
        code=space.table.code,
        ms=space.table.ms,
    )
    threshold = paging_threshold(rows, budget, RULE, period_s)
    document["rule"]["paging_threshold"] = threshold
    return episodes_a_day(rows, threshold, RULE, period_s)


def _reference(model: FleetModel, scored: Scored, alerts: float) -> dict[str, Any]:
    levels = np.array(model.level_names, object)[scored.label]
    return {
        "rows": len(scored.table),
        "levels": {name: float(np.mean(levels == name)) for name in LEVELS},
        "unusual": float(np.mean(scored.unusual)),
        "alerts_per_instance_day": alerts,
    }


def _params(
    family: str, level_fit: FamilyFit, member_fits: list[FamilyFit], budget: float, seed: int
) -> dict[str, float | int | str]:
    params: dict[str, float | int | str] = {"family": family, "budget": budget, "seed": seed}
    params |= {f"level.{name}": value for name, value in level_fit.params.items()}
    for (window, _), number, fit in zip(MEMBERS, range(len(member_fits)), member_fits, strict=False):
        params[f"member{number}.window"] = window
        params |= {f"member{number}.{name}": value for name, value in fit.params.items()}
    return params


def _plots(
    space: Space, model: FleetModel, scored: Scored, level_fit: FamilyFit, sizes: IntArray, seed: int
) -> PlotData:
    used = np.flatnonzero(sizes)
    titles = {int(label): f"{label} ({model.level_names[label]}, n={sizes[label]})" for label in used}
    profile = pd.DataFrame(
        [space.level[scored.label == label].mean(axis=0) for label in used],
        index=[titles[int(label)] for label in used],
        columns=list(model.features),
    )
    chosen = subsample(len(space.table), PLOT_ROWS, seed)
    return PlotData(
        curves=level_fit.curves,
        linkage=level_fit.linkage,
        profile=profile,
        points=space.behaviour[chosen],
        point_levels=[model.level_names[label] for label in scored.label[chosen]],
        point_scores=scored.score[chosen],
        cluster_sizes={titles[int(label)]: int(sizes[label]) for label in used},
        timeline=_timeline(space.table, scored.score),
    )


def _timeline(table: MetricTable, score: FloatArray) -> pd.DataFrame:
    peaks = np.full(len(table.instances), -np.inf)
    np.fmax.at(peaks, table.code, score)
    shown = np.argsort(-peaks, kind="stable")[:TIMELINE_INSTANCES]
    rows = np.flatnonzero(np.isin(table.code, shown))
    return pd.DataFrame(
        {
            "timestamp": pd.to_datetime(table.ms[rows], unit="ms", utc=True).as_unit("ms"),
            "instance_id": np.array(table.instances, object)[table.code[rows]],
            "score": score[rows],
        }
    )

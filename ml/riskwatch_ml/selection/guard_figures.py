"""The figures that guards judge: fidelity, stability, information and cost.

Stability and the gap between levels come from fits of the same family and settings to two random halves of the training
rows. The maps of both halves should give a row the same level, and the levels of one half should differ in load on the
other half too. Halves are drawn without replacement, because DBSCAN would take a repeated row for a dense region.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from riskwatch_ml.artifact.archive import stored_arrays
from riskwatch_ml.families.base import subsample
from riskwatch_ml.features.spaces import row_baselines, squash
from riskwatch_ml.model.fit import fit_level, refit_settings
from riskwatch_ml.model.fleet_model import level_labels
from riskwatch_ml.model.level_rule import load_rule, ranks

if TYPE_CHECKING:
    from collections.abc import Mapping

    from riskwatch_ml.core.arrays import FloatArray, IntArray
    from riskwatch_ml.families.prototype_map import PrototypeMap
    from riskwatch_ml.features.table import MetricTable
    from riskwatch_ml.features.training_set import TrainingSet
    from riskwatch_ml.model.fit import Fitted, Recipe
    from riskwatch_ml.model.fleet_model import FleetModel
    from riskwatch_ml.model.level_rule import LevelRule
    from riskwatch_ml.schema.inventory import Instance

ROWS = 6_000  # rows on which two maps are compared
HALF_ROWS = 200_000  # limit for the rows of a half: they are copied, and more rows do not improve a map
FLAT = 1e-6  # lower limit of the spread within a level, which is a divisor: the load of a fleet can be constant


def guard_figures(fitted: Fitted, training_set: TrainingSet, seed: int) -> dict[str, float]:
    """Return the figures that guards judge.

    They are computed on the training rows, with the levels and maps that serve; clusters are those of the level map.
    """
    labels = fitted.level_fit.map.assign(training_set.level).labels
    model = fitted.model
    rank = ranks(model.level)[level_labels(model, training_set.table, training_set.baseline)]
    busy = _load(training_set, np.arange(len(labels)))
    stability, gap = split_half_stability(training_set, fitted, seed)
    operations = row_operations(model)
    return {
        "fidelity": min_fidelity(fitted),
        "severity_explained": severity_explained(_relevant(busy, training_set), rank),
        "load_correlation": load_correlation(fitted.row_scores.score, busy, seed),
        "level_clusters": float(len(np.unique(labels))),
        "largest_cluster_share": float(np.bincount(labels).max() / len(labels)),
        "noise_share": noise_share(
            fitted.level_fit.map, training_set.level[subsample(len(training_set.level), ROWS, seed)]
        ),
        "level_stability": stability,
        "severity_gap": gap,
        "prototypes": float(sum(fit.map.size for fit in fitted.member_fits)),
        "model_bytes": model_bytes(fitted.arrays),
        "row_operations": operations,
        "operations_per_column": operations / model.baselines.center.shape[2],
    }


def split_half_stability(training_set: TrainingSet, fitted: Fitted, seed: int) -> tuple[float, float]:
    """Return stability and severity gap of the levels of two halves of the rows.

    Stability is the adjusted Rand index of the levels that both halves give to the same rows: 1 for equal
    levels, 0 for chance. The gap is the lesser ``severity_gap`` of the levels of one half on the rows of the other.
    """
    from sklearn.metrics import adjusted_rand_score

    recipe = replace(fitted.recipe, level=refit_settings(fitted))
    n = len(training_set.level)
    order = np.random.default_rng(seed).permutation(n)[: 2 * HALF_ROWS]
    sides = np.sort(order[: len(order) // 2]), np.sort(order[len(order) // 2 :])
    if not len(sides[0]):
        return 1.0, 0.0
    rules = [_level_rule(training_set, side, recipe) for side in sides]
    sample = subsample(n, ROWS, seed)
    stability = adjusted_rand_score(*(_rank(training_set, sample, rule) for rule in rules))
    gaps = []
    for rule, other in zip(rules, reversed(sides), strict=True):
        unseen = other[subsample(len(other), ROWS, seed)]
        busy = _relevant(_load(training_set, unseen), training_set)
        gaps.append(severity_gap(busy, _rank(training_set, unseen, rule)))
    return float(stability), min(gaps)


def _load(training_set: TrainingSet, rows: IntArray) -> FloatArray:
    """Return the load of some rows (m,) in the level space, (m,).

    It is NaN if no metric stands for load.
    """
    columns = np.array(training_set.load.columns, np.int64)
    if not len(columns):
        return np.full(len(rows), np.nan)
    busy: FloatArray = training_set.level[np.ix_(rows, columns)].mean(axis=1)
    return busy


def _relevant(busy: FloatArray, training_set: TrainingSet) -> FloatArray:
    """Return the loads (n,) of the level space that levels should distinguish.

    Loads of an idle fleet below the anchor count as equal.
    """
    load = training_set.load
    if not load.idle:
        return busy
    (column,) = load.columns
    center, scale = training_set.level_center[column], training_set.level_scale[column]
    return np.maximum(busy, squash(np.array((load.never_high_below - center) / scale)))


def _rank(training_set: TrainingSet, rows: IntArray, rule: LevelRule) -> IntArray:
    """Return the rank of the level of some rows (m,), (m,)."""
    values = training_set.baselines.impute(training_set.table.take(rows), training_set.baseline[rows])
    return ranks(rule)[rule.labels(values)]


def _level_rule(training_set: TrainingSet, rows: IntArray, recipe: Recipe) -> LevelRule:
    """Return the level rule that is fitted to some rows."""
    part = replace(
        training_set,
        table=training_set.table.take(rows),
        level=training_set.level[rows],
        baseline=training_set.baseline[rows],
    )
    _, document, arrays = fit_level(part, recipe)
    return load_rule(document, arrays)


def min_fidelity(fitted: Fitted) -> float:
    """Return the least fidelity of the maps.

    Fidelity is the share of a sample that a map labels as the family did. The least is the minimum over the level map
    and each slot of members. The share of a slot is the mean over its groups, weighted by the rows that each labels, so
    that a group of one instance does not decide. If the members of a slot label no training row, its groups have equal
    weights.
    """
    slots: dict[str, list[tuple[float, int]]] = {}
    for member, fit, (ends, _) in zip(
        fitted.document["members"], fitted.member_fits, fitted.row_scores.nearest, strict=True
    ):
        slots.setdefault(member["boundary"], []).append((fit.figures["fidelity"], len(ends)))
    fidelities = [fitted.level_fit.figures["fidelity"]]
    for slot in slots.values():
        shares, rows = np.array(slot).T
        fidelities.append(float(np.average(shares, weights=rows if rows.any() else None)))
    return min(fidelities)


def severity_explained(busy: FloatArray, level: IntArray) -> float:
    """Return the share of the variance of the load (n,) that the levels (n,) explain.

    It is 1 for a constant load.
    """
    if np.ptp(busy) < FLAT:
        return 1.0
    counts = np.bincount(level)
    means = np.bincount(level, weights=busy) / np.maximum(counts, 1)
    return float(1 - np.mean((busy - means[level]) ** 2) / busy.var())


def load_correlation(score: FloatArray, busy: FloatArray, seed: int) -> float:
    """Return Spearman's rank correlation of scores (n,) and load (n,).

    It is computed on a sample of the rows that have a score, and 0 if one of them is constant.
    """
    from scipy.stats import spearmanr

    rated = np.flatnonzero(np.isfinite(score))
    sample = rated[subsample(len(rated), ROWS, seed)]
    if len(sample) < 2 or np.ptp(score[sample]) == 0 or np.ptp(busy[sample]) < FLAT:
        return 0.0
    return float(spearmanr(score[sample], busy[sample]).statistic)


def severity_gap(busy: FloatArray, level: IntArray) -> float:
    """Return the least distance between the loads of neighbouring levels.

    ``busy`` (n,) is the load of each row and ``level`` (n,) the rank of its level, 0 for Idle. The unit is the
    deviation within the levels. The gap is negative if levels are in the wrong order, and 0 for a single level. It is 1
    for a constant load, which needs one level only.
    """
    if np.ptp(busy) < FLAT:
        return 1.0
    present = [busy[level == rank] for rank in np.unique(level)]
    gaps = [
        float((upper.mean() - lower.mean()) / max(np.sqrt((lower.var() + upper.var()) / 2), FLAT))
        for lower, upper in pairwise(present)
    ]
    return min(gaps, default=0.0)


def noise_share(cluster_map: PrototypeMap, x: FloatArray) -> float:
    """Return the share of the vectors (n, d) that lie outside every cluster.

    Of a map of two stages it is the larger of the two shares.
    """
    shares = [
        float(np.mean(stage.assign(x)[1] > stage.radius)) for stage in cluster_map.stages if stage.radius is not None
    ]
    return max(shares, default=0.0)


def row_operations(model: FleetModel) -> float:
    """Return the subtractions and multiplications that label one row.

    They are those of the group that needs most: the prototypes times the length of a vector, summed over the level rule
    and the members: all work of the Lambda for a row that depends on the family. They are counted, not timed, so that a
    busy machine causes no veto.
    """
    width = model.baselines.center.shape[2]
    by_group: dict[int, int] = {}
    for member in model.members:
        by_group[member.group] = by_group.get(member.group, 0) + member.map.size * member.window * width
    return float(model.level.operations + max(by_group.values(), default=0))


def model_bytes(arrays: Mapping[str, FloatArray]) -> float:
    """Return the bytes of the arrays as the artifact stores them."""
    return float(sum(values.nbytes for values in stored_arrays(arrays).values()))


def label_churn(before: FleetModel, after: FleetModel, table: MetricTable, inventory: Mapping[str, Instance]) -> float:
    """Return the share of the rows that change their level from one model to another.

    Both models have the features of the table.
    """
    levels = []
    for model in (before, after):
        baseline = row_baselines(model.baselines, table, inventory)
        levels.append(np.array(model.level_names, object)[level_labels(model, table, baseline)])
    return float(np.mean(levels[0] != levels[1]))

"""The figures behind the vetoes: would a candidate say the same again, does it say anything, and what does it cost?

Stability and the order of the levels come from fits of the same family and settings to random halves of the training
rows. Two maps that saw different halves of one fleet should give its rows the same levels, and the levels that one half
named should be as busy on the other half as their names say. Halves are drawn without replacement: a repeated row
would look dense to DBSCAN.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from riskwatch_lambda.model.document import LEVELS
from riskwatch_ml.artifact.archive import stored_arrays
from riskwatch_ml.families.base import subsample
from riskwatch_ml.features.levels import severity_of
from riskwatch_ml.features.spaces import row_baselines
from riskwatch_ml.model.fit import fit_level, kept_settings
from riskwatch_ml.model.fleet_model import level_labels

if TYPE_CHECKING:
    from collections.abc import Mapping

    from riskwatch_ml.core.arrays import FloatArray, IntArray
    from riskwatch_ml.families.prototype_map import ClusterMap
    from riskwatch_ml.features.table import MetricTable
    from riskwatch_ml.features.training_set import Space
    from riskwatch_ml.model.document import LevelDocument
    from riskwatch_ml.model.fit import Fitted, Recipe
    from riskwatch_ml.model.fleet_model import FleetModel
    from riskwatch_ml.schema.inventory import Instance

ROWS = 6_000  # rows on which two maps are compared
HALF_ROWS = 200_000  # most rows of a half: a map learns no more from more, and they are copied
FLAT = 1e-6  # least spread within a level, so that a fleet that never moves divides by something


def guard_figures(fitted: Fitted, space: Space, seed: int) -> dict[str, float]:
    """Everything that a candidate may be vetoed by, computed on the training rows with the maps that serve."""
    labels = fitted.level_fit.map.assign(space.level).labels
    ranks = _ranks(fitted.document["level"])
    columns = severity_of(space.table.values, space.table.features)
    busy = _busy(space.level, columns)
    stability, gap = halves(space, fitted, seed)
    operations = row_operations(fitted.model)
    return {
        "fidelity": least_fidelity(fitted),
        "severity_explained": severity_explained(busy, ranks[labels]),
        "load_correlation": load_correlation(fitted.measured.score, busy, seed),
        "largest_cluster_share": float(np.bincount(labels).max() / len(labels)),
        "noise_share": noise_share(fitted.level_fit.map, space.level[subsample(len(space.level), ROWS, seed)]),
        "level_stability": stability,
        "severity_gap": gap,
        "prototypes": float(sum(fit.map.size for fit in fitted.member_fits)),
        "model_bytes": model_bytes(fitted.arrays),
        "row_operations": operations,
        "operations_per_column": operations / fitted.model.baselines.center.shape[2],
    }


def halves(space: Space, fitted: Fitted, seed: int) -> tuple[float, float]:
    """Stability and severity gap of the levels of two random halves of the rows.

    Stability is the adjusted Rand index of the levels that the halves' maps give to the same rows: 1 for the same
    levels, 0 for as many as chance would share. The gap is the lesser ``severity_gap`` of the levels of one half on the
    rows of the other.
    """
    from sklearn.metrics import adjusted_rand_score

    recipe = replace(fitted.recipe, level=kept_settings(fitted))
    n = len(space.level)
    order = np.random.default_rng(seed).permutation(n)[: 2 * HALF_ROWS]
    sides = np.sort(order[: len(order) // 2]), np.sort(order[len(order) // 2 :])
    if not len(sides[0]):
        return 1.0, 0.0
    maps = [_level_map(space, side, recipe) for side in sides]
    shown = space.level[subsample(n, ROWS, seed)]
    stability = adjusted_rand_score(*(ranks[found.assign(shown).labels] for found, ranks in maps))
    columns = severity_of(space.table.values, space.table.features)
    gaps = []
    for (found, ranks), other in zip(maps, reversed(sides), strict=True):
        x = space.level[other[subsample(len(other), ROWS, seed)]]
        gaps.append(severity_gap(_busy(x, columns), ranks[found.assign(x).labels]))
    return float(stability), min(gaps)


def _busy(level: FloatArray, columns: list[int]) -> FloatArray:
    """How busy each row is, (n,), from rows (n, d) in the level space; NaN where no metric has a value to say so."""
    busy: FloatArray = level[:, columns].mean(axis=1) if columns else np.full(len(level), np.nan)
    return busy


def _level_map(space: Space, rows: IntArray, recipe: Recipe) -> tuple[ClusterMap, IntArray]:
    """The level map fitted to some rows, and the rank of the level of each of its labels."""
    part = replace(space, table=space.table.take(rows), level=space.level[rows], baseline=space.baseline[rows])
    fit, document, _ = fit_level(part, recipe)
    return fit.map, _ranks(document)


def _ranks(document: LevelDocument) -> IntArray:
    """Rank of the level of each label of a level map, 0 for Idle."""
    return np.array([LEVELS.index(name) for name in document["names"]], np.int64)


def least_fidelity(fitted: Fitted) -> float:
    """Least share of a sample that a map labels as the family did: of the level map and of each slot's members.

    A slot's share is the mean over its groups by the rows that each labels, so that a group of one instance among many
    does not decide; where the groups' members label no training row all count alike.
    """
    slots: dict[str, list[tuple[float, int]]] = {}
    for member, fit, (ends, _) in zip(
        fitted.document["members"], fitted.member_fits, fitted.measured.nearest, strict=True
    ):
        slots.setdefault(member["boundary"], []).append((fit.figures["fidelity"], len(ends)))
    found = [fitted.level_fit.figures["fidelity"]]
    for slot in slots.values():
        shares, rows = np.array(slot).T
        found.append(float(np.average(shares, weights=rows if rows.any() else None)))
    return min(found)


def severity_explained(busy: FloatArray, level: IntArray) -> float:
    """Share of the variance of how busy rows are, (n,), that their levels (n,) explain; 1 where there is none."""
    if np.ptp(busy) < FLAT:
        return 1.0
    counts = np.bincount(level)
    means = np.bincount(level, weights=busy) / np.maximum(counts, 1)
    return float(1 - np.mean((busy - means[level]) ** 2) / busy.var())


def load_correlation(score: FloatArray, busy: FloatArray, seed: int) -> float:
    """Spearman's rank correlation of scores (n,) with how busy the rows are, (n,), on a sample of the rated rows.

    0 where either of them is the same in all rows.
    """
    from scipy.stats import spearmanr

    rated = np.flatnonzero(np.isfinite(score))
    shown = rated[subsample(len(rated), ROWS, seed)]
    if len(shown) < 2 or np.ptp(score[shown]) == 0 or np.ptp(busy[shown]) < FLAT:
        return 0.0
    return float(spearmanr(score[shown], busy[shown]).statistic)


def severity_gap(busy: FloatArray, level: IntArray) -> float:
    """Least distance between neighbouring levels, in deviations within them; 0 where there is one level only.

    ``busy`` (n,) is how busy each row is and ``level`` (n,) the rank of its level, 0 for Idle. Below zero the levels
    are in the wrong order. Where all rows are equally busy one level is all there is to say, and the gap is 1.
    """
    if np.ptp(busy) < FLAT:
        return 1.0
    present = [busy[level == rank] for rank in np.unique(level)]
    gaps = [
        float((upper.mean() - lower.mean()) / max(np.sqrt((lower.var() + upper.var()) / 2), FLAT))
        for lower, upper in pairwise(present)
    ]
    return min(gaps, default=0.0)


def noise_share(cluster_map: ClusterMap, x: FloatArray) -> float:
    """Share of the vectors (n, d) that lie outside every cluster of a stage; of two stages the larger share."""
    shares = [
        float(np.mean(stage.assign(x)[1] > stage.radius)) for stage in cluster_map.stages if stage.radius is not None
    ]
    return max(shares, default=0.0)


def row_operations(model: FleetModel) -> float:
    """Subtractions and multiplications that labelling one row takes, in the group where it takes most.

    Prototypes times the length of a vector, over the level map and every member: the Lambda has no more to do for a
    row that depends on the family. Counted rather than timed, so that a busy machine vetoes nobody.
    """
    width = model.baselines.center.shape[2]
    by_group: dict[int, int] = {}
    for member in model.members:
        by_group[member.group] = by_group.get(member.group, 0) + member.map.size * member.window * width
    return float(model.level_map.size * len(model.features) + max(by_group.values(), default=0))


def model_bytes(arrays: Mapping[str, FloatArray]) -> float:
    """Bytes of the arrays as the artifact stores them."""
    return float(sum(values.nbytes for values in stored_arrays(arrays).values()))


def label_churn(before: FleetModel, after: FleetModel, table: MetricTable, inventory: Mapping[str, Instance]) -> float:
    """Share of the rows that change their level from one model to another of the same features."""
    given = []
    for model in (before, after):
        baseline = row_baselines(model.baselines, table, inventory)
        given.append(np.array(model.level_names, object)[level_labels(model, table, baseline)])
    return float(np.mean(given[0] != given[1]))

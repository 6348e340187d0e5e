"""The contract of a family: settings, fit, result and sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from riskwatch_ml.core.arrays import FloatArray, IntArray

if TYPE_CHECKING:
    from riskwatch_ml.families.prototype_map import PrototypeMap

# By search: ``k``, ``inertia`` (the cost that the search minimises, which differs between searches) and two indices.
Curves = dict[str, dict[str, list[float]]]
# The settings of a fit by name, as callers give them and a model document stores them.
Params = Mapping[str, float | int | str]


@dataclass(frozen=True)
class FitSettings:
    """The settings of one fit: the budget of prototypes and optional presets.

    A family searches for the presets that are None. ``clusters`` is the number of clusters, ``sample`` the most vectors
    that the algorithm uses; ``eps`` is the radius of DBSCAN, ``kmeans_clusters`` the clusters of the ensemble's KMeans.
    """

    budget: int
    clusters: int | None = None
    sample: int | None = None
    eps: float | None = None
    kmeans_clusters: int | None = None

    @staticmethod
    def read(params: Params) -> FitSettings:
        """Return the settings by name; other names are ignored, and 0 counts as not given."""
        eps = params.get("eps")
        return FitSettings(
            budget=int(params["budget"]),
            clusters=_count(params, "clusters"),
            sample=_count(params, "sample"),
            eps=float(eps) if eps else None,
            kmeans_clusters=_count(params, "kmeans_clusters"),
        )


def _count(params: Params, name: str) -> int | None:
    count = params.get(name)
    return int(count) if count else None


@dataclass(frozen=True)
class FamilyFit:
    """One family fitted to one set of vectors.

    ``sample`` (m,) indexes the vectors that the algorithm used, ``fitted_labels`` (m,) are the labels that it gave
    them. ``figures["fidelity"]`` is the share of these labels that the map repeats. ``linkage`` is Ward's merge table
    if the family has one.
    """

    map: PrototypeMap
    sample: IntArray
    fitted_labels: IntArray
    params: dict[str, float | int | str]
    figures: dict[str, float]
    curves: Curves = field(default_factory=dict)
    linkage: FloatArray | None = None


Fit = Callable[[FloatArray, FitSettings, int], FamilyFit]


@dataclass(frozen=True)
class Family:
    """One family: its name, its fit, and the level settings that a refresh keeps.

    ``cost`` is the name and the description, for figures, of the cost that its search minimises.
    """

    name: str
    fit: Fit
    kept: tuple[str, ...] = ("clusters",)
    cost: tuple[str, str] = ("Cost", "of the search")

    def __call__(self, x: FloatArray, params: Params, seed: int) -> FamilyFit:
        """Fit vectors (n, d).

        ``params`` holds ``budget``, the most prototypes of the map, and optionally the other fields of `FitSettings`.
        Without ``clusters`` the family searches for their number, as the level space needs.
        """
        return self.fit(x, FitSettings.read(params), seed)


@dataclass(frozen=True)
class Sample:
    """The vectors (m, d) that an algorithm uses, and the most clusters in them.

    ``index`` (m,) are their indices among all vectors.
    """

    index: IntArray
    x: FloatArray
    most: int


def draw(x: FloatArray, limit: int, settings: FitSettings, seed: int) -> Sample:
    """Draw at most ``limit`` of the vectors (n, d), or ``settings.sample``.

    The most clusters are those of the settings, else the budget.
    """
    index = subsample(len(x), min(limit, settings.sample or limit), seed)
    sampled = x[index]
    return Sample(index, sampled, distinct(sampled, settings.clusters or settings.budget))


def fitted(
    cluster_map: PrototypeMap,
    sample: Sample,
    labels: IntArray,
    params: dict[str, float | int | str],
    figures: dict[str, float],
    curves: Curves,
    linkage: FloatArray | None = None,
) -> FamilyFit:
    """Return the result of a fit that gave its sample the ``labels`` (m,).

    The figures include the fidelity of the map.
    """
    fidelity = agreement(labels, cluster_map.assign(sample.x).labels)
    size = {**params, "sample": len(sample.x)}
    return FamilyFit(cluster_map, sample.index, labels, size, {"fidelity": fidelity, **figures}, curves, linkage)


def subsample(n: int, limit: int, seed: int) -> IntArray:
    """Return at most ``limit`` of ``n`` indices, ascending.

    Equal seeds give equal indices.
    """
    if n <= limit:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).choice(n, limit, replace=False))


def distinct(x: FloatArray, limit: int) -> int:
    """Count the different vectors up to ``limit``.

    No algorithm finds more clusters than this number.
    """
    few = len(np.unique(x[: 4 * limit], axis=0))
    return limit if few >= limit else min(limit, len(np.unique(x, axis=0)))


def agreement(expected: IntArray, given: IntArray) -> float:
    """Return the share of equal labels, 1 without labels."""
    return float(np.mean(expected == given)) if len(expected) else 1.0

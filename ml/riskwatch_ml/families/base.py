"""The contract of a family, the result of a fit, and the sample that an algorithm sees."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from riskwatch_ml.core.arrays import FloatArray, IntArray
from riskwatch_ml.core.errors import UserInputError

if TYPE_CHECKING:
    from riskwatch_ml.families.prototype_map import ClusterMap

# By search: ``k``, ``inertia`` (the cost that the search goes by, which is not the same for each) and two indices.
Curves = dict[str, dict[str, list[float]]]
Params = Mapping[str, Any]


class FamilyError(UserInputError):
    """A family that cannot be fitted to these vectors; the message says why."""


@dataclass(frozen=True)
class FamilyFit:
    """One family fitted to one set of vectors.

    ``sample`` indexes the vectors the algorithm saw and ``fitted_labels`` are its own labels there;
    ``figures["fidelity"]`` is the share of them the map gives too. ``linkage`` is Ward's merge table, where there is
    one.
    """

    map: ClusterMap
    sample: IntArray
    fitted_labels: IntArray
    params: dict[str, float | int | str]
    figures: dict[str, float]
    curves: Curves = field(default_factory=dict)
    linkage: FloatArray | None = None


# A family is fitted with {"budget": most prototypes of the map} and optionally {"clusters": their number}; without a
# number it chooses one by its own elbow, which is what the level space asks for.
Fit = Callable[[FloatArray, Params, int], FamilyFit]


@dataclass(frozen=True)
class Family:
    """One family: its name, its fit, the settings of the level map that a refresh keeps, and the cost it searches by.

    ``cost`` is a name and a description, for figures.
    """

    name: str
    fit: Fit
    kept: tuple[str, ...] = ("clusters",)
    cost: tuple[str, str] = ("Cost", "of the search")

    def __call__(self, x: FloatArray, params: Params, seed: int) -> FamilyFit:
        """Fit vectors (n, d)."""
        return self.fit(x, params, seed)


@dataclass(frozen=True)
class Sample:
    """What an algorithm sees of some vectors: their ``index`` (m,), the vectors (m, d), and the most clusters."""

    index: IntArray
    x: FloatArray
    most: int


def draw(x: FloatArray, limit: int, params: Params, seed: int) -> Sample:
    """At most ``limit`` of the vectors (n, d), for the clusters asked for or as many as the budget allows.

    ``params["sample"]`` asks for fewer vectors.
    """
    index = subsample(len(x), min(limit, params.get("sample", limit)), seed)
    seen = x[index]
    return Sample(index, seen, distinct(seen, params.get("clusters") or params["budget"]))


def fitted(
    cluster_map: ClusterMap,
    sample: Sample,
    labels: IntArray,
    params: dict[str, float | int | str],
    figures: dict[str, float],
    curves: Curves,
    linkage: FloatArray | None = None,
) -> FamilyFit:
    """The result of a fit whose own labels of its sample are ``labels`` (m,)."""
    fidelity = agreement(labels, cluster_map.assign(sample.x).labels)
    size = {**params, "sample": len(sample.x)}
    return FamilyFit(cluster_map, sample.index, labels, size, {"fidelity": fidelity, **figures}, curves, linkage)


def subsample(n: int, limit: int, seed: int) -> IntArray:
    """At most ``limit`` of ``n`` indices in ascending order, the same ones for the same seed."""
    if n <= limit:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).choice(n, limit, replace=False))


def distinct(x: FloatArray, limit: int) -> int:
    """Number of different vectors, counted up to ``limit``: no algorithm finds more clusters than that."""
    few = len(np.unique(x[: 4 * limit], axis=0))
    return limit if few >= limit else min(limit, len(np.unique(x, axis=0)))


def agreement(expected: IntArray, given: IntArray) -> float:
    """Share of equal labels."""
    return float(np.mean(expected == given)) if len(expected) else 1.0

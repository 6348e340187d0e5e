"""What the five families share: the cluster map that serves, the result of a fit, and the tools to choose and condense.

Whatever the family, what it learns is reduced to a *map*: one or two stages of labelled prototypes with an optional
radius, and a table that turns two stage labels into one. A map costs one nearest-prototype search a row, fits in a few
kilobytes and needs no library, which is what lets the Lambda serve all families with the same few lines.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from riskwatch_ml.core.arrays import FloatArray, IntArray, float16

CHUNK_CELLS = 131_072  # cells of one block of a distance matrix: 1 MB, which stays in a processor's cache
TIE = 1e-9
# Load is mostly a continuum. The levels are runs of clusters, so a cluster must be small beside a level: cut from four
# clusters, two levels change places with the next day's rows; cut from thirty, a twentieth of the rows do.
CLUSTERS = range(24, 49, 6)
UNDEFINED = {"silhouette": -1.0, "davies_bouldin": 99.0, "calinski_harabasz": 0.0}

# By search: ``k``, ``inertia`` (the cost that the search goes by, which is not the same for each) and two indices.
Curves = dict[str, dict[str, list[float]]]
Params = Mapping[str, Any]


class FamilyError(ValueError):
    """A family that cannot be fitted to these vectors; the message says why."""


@dataclass(frozen=True)
class Stage:
    """Labelled prototypes (p, d); farther than ``radius`` from all of them the label is ``outside``."""

    prototypes: FloatArray
    labels: IntArray
    radius: float | None = None
    outside: int | None = None

    def assign(self, x: FloatArray) -> tuple[IntArray, FloatArray, IntArray]:
        """Label (n,), distance to the nearest prototype (n,) and its index (n,) for vectors (n, d)."""
        index, distance = nearest(x, self.prototypes)
        labels = self.labels[index]
        if self.radius is not None and self.outside is not None:
            labels = np.where(distance > self.radius, self.outside, labels)
        return labels, distance, index


@dataclass(frozen=True)
class Assigned:
    """What a map says of n vectors; ``index`` is the nearest prototype of the first stage."""

    labels: IntArray
    distance: FloatArray
    index: IntArray


@dataclass(frozen=True)
class ClusterMap:
    """One stage, or two stages and the table from both their labels to one."""

    stages: tuple[Stage, ...]
    table: Mapping[tuple[int, int], int] | None = None

    @property
    def size(self) -> int:
        """Number of prototypes over all stages."""
        return sum(len(stage.prototypes) for stage in self.stages)

    @property
    def n_labels(self) -> int:
        """Labels are 0 .. n_labels - 1."""
        if self.table is not None:
            return max(self.table.values()) + 1
        stage = self.stages[0]
        return max(int(stage.labels.max()), -1 if stage.outside is None else stage.outside) + 1

    def assign(self, x: FloatArray) -> Assigned:
        """Labels, distances and nearest first-stage prototypes of vectors (n, d)."""
        labels, distance, index = self.stages[0].assign(x)
        if self.table is None:
            return Assigned(labels, distance, index)
        second, other, _ = self.stages[1].assign(x)
        lookup = np.full((int(labels.max(initial=0)) + 1, int(second.max(initial=0)) + 1), -1)
        for (a, b), label in self.table.items():
            if a < lookup.shape[0] and b < lookup.shape[1]:
                lookup[a, b] = label
        return Assigned(lookup[labels, second].astype(np.int64), (distance + other) / 2, index)

    def to_document(self, prefix: str) -> tuple[dict[str, Any], dict[str, FloatArray]]:
        """The map as JSON values, and its arrays under names that start with ``prefix``."""
        arrays = {f"{prefix}_stage{i}": stage.prototypes for i, stage in enumerate(self.stages)}
        stages = [
            {
                "prototypes": name,
                "labels": [int(label) for label in stage.labels],
                "radius": stage.radius,
                "outside": stage.outside,
            }
            for name, stage in zip(arrays, self.stages, strict=True)
        ]
        table = None if self.table is None else {f"{a},{b}": label for (a, b), label in sorted(self.table.items())}
        return {"stages": stages, "table": table}, arrays

    @staticmethod
    def from_document(document: Mapping[str, Any], arrays: Mapping[str, FloatArray]) -> ClusterMap:
        """The map that ``to_document`` wrote."""
        stages = tuple(
            Stage(
                np.asarray(arrays[stage["prototypes"]], np.float64),
                np.asarray(stage["labels"], np.int64),
                stage["radius"],
                stage["outside"],
            )
            for stage in document["stages"]
        )
        table = document["table"]
        if table is None:
            return ClusterMap(stages)
        pairs = {tuple(map(int, key.split(","))): int(label) for key, label in table.items()}
        return ClusterMap(stages, {(pair[0], pair[1]): label for pair, label in pairs.items()})


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


def make_stage(
    prototypes: FloatArray, labels: Sequence[int] | IntArray, radius: float | None = None, outside: int | None = None
) -> Stage:
    """A stage of prototypes rounded to what the model file holds; its radius likewise.

    Prototypes that rounding makes equal all stay, whatever their labels: the first one wins every tie, here and in the
    Lambda, so that the others change no verdict, and what they cost in bytes and operations is counted with the map.
    """
    rounded = None if radius is None else float(np.float32(radius))
    return Stage(float16(prototypes), np.asarray(labels, np.int64), rounded, outside)


def nearest(x: FloatArray, prototypes: FloatArray) -> tuple[IntArray, FloatArray]:
    """Index of and Euclidean distance to the nearest prototype of each vector; a tie goes to the lowest index.

    O(n p d) time; works in blocks of about 1 MB. Candidates that the fast form of the distance cannot tell apart are
    compared again by differences, as the Lambda computes them.
    """
    squared = np.einsum("ij,ij->i", prototypes, prototypes)
    doubled = -2 * prototypes.T
    index = np.empty(len(x), np.int64)
    distance = np.empty(len(x))
    step = max(1, CHUNK_CELLS // max(prototypes.shape))
    for low in range(0, len(x), step):
        block = x[low : low + step]
        cost = block @ doubled
        cost += squared
        rows = np.arange(len(block))
        found = cost.argmin(axis=1)
        least = cost[rows, found] + TIE * (1 + squared.max() + np.einsum("ij,ij->i", block, block))
        cost[rows, found] = np.inf
        for row in np.flatnonzero(cost.min(axis=1) <= least):
            found[row] = ((prototypes - block[row]) ** 2).sum(axis=1).argmin()
        index[low : low + step] = found
        distance[low : low + step] = np.sqrt(((block - prototypes[found]) ** 2).sum(axis=1))
    return index, distance


def subsample(n: int, limit: int, seed: int) -> IntArray:
    """At most ``limit`` of ``n`` indices in ascending order, the same ones for the same seed."""
    if n <= limit:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).choice(n, limit, replace=False))


def distinct(x: FloatArray, limit: int) -> int:
    """Number of different vectors, counted up to ``limit``: no algorithm finds more clusters than that."""
    few = len(np.unique(x[: 4 * limit], axis=0))
    return limit if few >= limit else min(limit, len(np.unique(x, axis=0)))


def candidate_clusters(most: int) -> list[int]:
    """Numbers of clusters to try where at most ``most`` are possible."""
    return [k for k in CLUSTERS if k <= most] or [most]


def elbow(ks: Sequence[int], costs: Sequence[float]) -> int:
    """The k after which the cost falls slowest: farthest below the line from the first point to the last.

    The least k where the cost does not fall.
    """
    if costs[0] <= costs[-1]:
        return ks[0]
    x = (np.asarray(ks, float) - ks[0]) / (ks[-1] - ks[0])
    y = (np.asarray(costs, float) - costs[-1]) / (costs[0] - costs[-1])
    return ks[int(np.argmax(1 - x - y))]


def by_elbow(
    x: FloatArray, costs: Mapping[int, float], labels: Mapping[int, IntArray], seed: int
) -> tuple[int, dict[str, list[float]]]:
    """The number of clusters at the elbow, and the curves over all that were tried, by the cost and labels of each."""
    ks = sorted(costs)
    indices = [cluster_indices(x, labels[k], seed) for k in ks]
    inertia = [float(costs[k]) for k in ks]
    return elbow(ks, inertia), {
        "k": [float(k) for k in ks],
        "inertia": inertia,
        **index_curves(indices),
    }


def index_curves(indices: Sequence[Mapping[str, float]]) -> dict[str, list[float]]:
    """Silhouette and Davies-Bouldin index of each number of clusters; NaN where they are not defined."""
    names = ("silhouette", "davies_bouldin")
    return {name: [math.nan if found == UNDEFINED else found[name] for found in indices] for name in names}


def agreement(expected: IntArray, given: IntArray) -> float:
    """Share of equal labels."""
    return float(np.mean(expected == given)) if len(expected) else 1.0


def cluster_indices(x: FloatArray, labels: IntArray, seed: int, limit: int = 1000) -> dict[str, float]:
    """Silhouette, Davies-Bouldin and Calinski-Harabasz on at most ``limit`` vectors.

    With fewer than two clusters none is defined and each takes its worst value, as in ``UNDEFINED``.
    """
    from sklearn.metrics import calinski_harabasz_score, davies_bouldin_score, silhouette_score

    chosen = subsample(len(x), limit, seed)
    x, labels = x[chosen], labels[chosen]
    if not 2 <= len(np.unique(labels)) < len(labels):
        return dict(UNDEFINED)
    return {
        "silhouette": float(silhouette_score(x, labels)),
        "davies_bouldin": float(davies_bouldin_score(x, labels)),
        "calinski_harabasz": float(calinski_harabasz_score(x, labels)),
    }


def condense(x: FloatArray, labels: IntArray, budget: int, seed: int) -> tuple[FloatArray, IntArray]:
    """At most ``budget`` prototypes whose nearest-prototype labels repeat ``labels`` (n,) of ``x`` (n, d).

    Three quarters of the budget are means of the parts of each cluster, so that distances to them mean something; the
    rest is spent as in Hart's condensed nearest neighbour rule, on vectors that the set so far mislabels, those
    farthest into foreign ground first.
    """
    values, counts = np.unique(labels, return_counts=True)
    if len(values) > budget:
        largest = np.argsort(-counts, kind="stable")[:budget]
        values, counts = values[largest], counts[largest]
    shares = np.sqrt(counts) / np.sqrt(counts).sum() * max(budget * 3 // 4, len(values))
    prototypes, owners = [], []
    for value, share in zip(values, np.maximum(1, np.floor(shares)).astype(int), strict=True):
        means = part_means(x[labels == value], int(share), seed)
        prototypes.append(means)
        owners.append(np.full(len(means), value))
    chosen, owner = np.concatenate(prototypes)[:budget], np.concatenate(owners)[:budget]
    while len(chosen) < budget:
        index, distance = nearest(x, chosen)
        wrong = np.flatnonzero(owner[index] != labels)
        if not len(wrong):
            break
        room = min(budget - len(chosen), max(1, budget // 16))
        worst = wrong[np.argsort(-distance[wrong], kind="stable")]
        fresh = worst[np.unique(index[worst], return_index=True)[1]][:room]
        chosen, owner = np.concatenate([chosen, x[fresh]]), np.concatenate([owner, labels[fresh]])
    return chosen, owner.astype(np.int64)


def part_means(x: FloatArray, parts: int, seed: int) -> FloatArray:
    """Means of the ``parts`` (or fewer) k-means parts of some vectors."""
    if parts > 1:
        parts = min(parts, distinct(x, parts))
    if parts <= 1:
        mean: FloatArray = x.mean(axis=0, keepdims=True)
        return mean
    from sklearn.cluster import KMeans

    with fewer_clusters():
        means: FloatArray = KMeans(parts, n_init=1, max_iter=50, random_state=seed).fit(x).cluster_centers_
    return means


@contextmanager
def fewer_clusters() -> Iterator[None]:
    """Let k-means find fewer clusters than asked for, as where rounded metrics repeat vectors, without a warning."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield

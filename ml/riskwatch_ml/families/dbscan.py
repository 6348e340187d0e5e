"""DBSCAN: dense regions of any shape, with condensed core samples as prototypes.

The neighbourhood ``eps`` is the knee of the sorted distances to the min_samples-th neighbour. DBSCAN gives a vector the
cluster of a core sample within ``eps``; all other vectors are noise. The map has fewer prototypes than there are core
samples, so it uses a larger radius: the one with which its labels agree best with DBSCAN's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from riskwatch_ml.families.base import Curves, Family, FamilyFit, FitSettings, draw, fitted
from riskwatch_ml.families.condense import condense, part_means
from riskwatch_ml.families.prototype_map import PrototypeMap, make_stage, nearest
from riskwatch_ml.families.search import cluster_indices, index_curves

if TYPE_CHECKING:
    from riskwatch_ml.core.arrays import BoolArray, FloatArray, IntArray

SAMPLE = 3_000
NOISE = -1
MIN_RADIUS = 1e-9
MAX_NOISE = 0.1  # with more noise in the level space, eps is too small
QUANTILES = (0.9, 0.95, 0.98, 0.99)


@dataclass(frozen=True)
class _EpsCandidate:
    """DBSCAN with one ``eps``: labels (n,) and a mask of core samples (n,)."""

    eps: float
    labels: IntArray
    core: BoolArray

    @property
    def clusters(self) -> int:
        return int(self.labels.max()) + 1

    @property
    def noise(self) -> float:
        return float(np.mean(self.labels == NOISE))


def fit(x: FloatArray, settings: FitSettings, seed: int) -> FamilyFit:
    """Fit vectors (n, d) on at most 3,000 of them; the map keeps to the budget.

    Takes O(n squared) time and memory in the sample. Noise is the last label of the map. If no vector has enough
    neighbours, the whole sample is one cluster.
    """
    sample = draw(x, SAMPLE, settings, seed)
    # Near the origin, the fast form of the distance distinguishes even close vectors.
    centred = sample.x - sample.x.mean(axis=0)
    min_samples = max(1, min(20, max(5, 2 * x.shape[1]), len(sample.x) - 1))
    curves: Curves = {}
    if settings.eps:
        candidate = _eps_candidate(centred, settings.eps, min_samples)
    elif settings.clusters:
        # The behaviour space needs distances only, so the knee is good enough.
        candidate = _eps_candidate(centred, _eps(_neighbour(centred, min_samples))[0], min_samples)
    else:
        neighbour = _neighbour(centred, min_samples)
        candidates = [_eps_candidate(centred, eps, min_samples) for eps in _eps(neighbour)]
        indices = [_indices(sample.x, candidate, seed) for candidate in candidates]
        candidate = _choose(candidates, indices)
        curves = _curves(candidates, indices, neighbour)
    return fitted(
        _reduce(sample.x, candidate, settings.budget, seed),
        sample,
        np.where(candidate.labels == NOISE, candidate.clusters, candidate.labels).astype(np.int64),
        params={"eps": candidate.eps, "min_samples": min_samples, "clusters": candidate.clusters},
        figures={"noise": candidate.noise},
        curves=curves,
    )


def _neighbour(x: FloatArray, k: int) -> FloatArray:
    """Return the distance from each vector (n, d) to its k-th nearest neighbour, (n,).

    With fewer neighbours it is the distance to the farthest one.
    """
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(n_neighbors=min(k + 1, len(x)), algorithm="brute").fit(x)
    distance: FloatArray = search.kneighbors(x)[0][:, -1]
    return distance


def _eps(neighbour: FloatArray) -> list[float]:
    """Return the values of eps to try; the first is the knee of the k-distance curve."""
    ordered = np.sort(neighbour)
    floor = max(float(ordered[-1]) * 1e-6, 1e-9)
    spread = ordered[-1] - ordered[0]
    if spread <= floor:
        return [float(ordered[-1]) + floor]
    line = np.linspace(0.0, 1.0, len(ordered))
    knee = float(ordered[int(np.argmax(line - (ordered - ordered[0]) / spread))])
    others = [float(np.quantile(ordered, q)) for q in QUANTILES]
    return [max(knee, floor), *sorted({max(eps, floor) for eps in others} - {knee})]


def _eps_candidate(x: FloatArray, eps: float, min_samples: int) -> _EpsCandidate:
    from sklearn.cluster import DBSCAN

    model = DBSCAN(eps=eps, min_samples=min_samples, algorithm="brute").fit(x)
    labels = model.labels_.astype(np.int64)
    core = np.zeros(len(x), bool)
    core[model.core_sample_indices_] = True
    if not core.any():
        labels, core = np.zeros(len(x), np.int64), np.ones(len(x), bool)
    return _EpsCandidate(eps, labels, core)


def _indices(x: FloatArray, candidate: _EpsCandidate, seed: int) -> dict[str, float]:
    """Return the separation indices of the vectors that are not noise."""
    in_cluster = candidate.labels != NOISE
    return cluster_indices(x[in_cluster], candidate.labels[in_cluster], seed)


def _choose(candidates: list[_EpsCandidate], indices: list[dict[str, float]]) -> _EpsCandidate:
    """Return the best trial.

    Little noise comes first, then enough clusters for levels, then the best separation.
    """

    def merit(number: int) -> tuple[bool, int, float, float]:
        candidate = candidates[number]
        return candidate.noise <= MAX_NOISE, min(candidate.clusters, 3), indices[number]["silhouette"], -candidate.noise

    return candidates[max(range(len(candidates)), key=merit)]


def _reduce(x: FloatArray, candidate: _EpsCandidate, budget: int, seed: int) -> PrototypeMap:
    core, labels = x[candidate.core], candidate.labels[candidate.core]
    if candidate.clusters == 1:
        prototypes = part_means(core, budget, seed)
        owner = np.zeros(len(prototypes), np.int64)
    else:
        prototypes, owner = condense(core, labels, budget, seed)
    if candidate.noise == 0:
        return PrototypeMap((make_stage(prototypes, owner),))
    distance = nearest(x, prototypes)[1]
    radius = _radius(distance, candidate.labels == NOISE)
    return PrototypeMap((make_stage(prototypes, owner, radius, candidate.clusters),))


def _radius(distance: FloatArray, noise: BoolArray) -> float:
    """Return the radius that separates noise from clusters with the fewest errors."""
    order = np.argsort(distance, kind="stable")
    ordered, is_noise = distance[order], noise[order]
    # With a cut after position i, noise up to i is wrongly inside, and clusters after i are wrongly outside.
    errors = np.cumsum(is_noise) + (~is_noise).sum() - np.cumsum(~is_noise)
    cut = int(np.argmin(errors))
    after = ordered[min(cut + 1, len(ordered) - 1)]
    return max(float((ordered[cut] + after) / 2), MIN_RADIUS)


def _curves(candidates: list[_EpsCandidate], indices: list[dict[str, float]], neighbour: FloatArray) -> Curves:
    ordered = sorted(zip(candidates, indices, strict=True), key=lambda pair: pair[0].eps)
    return {
        "dbscan": {
            "k": [float(candidate.clusters) for candidate, _ in ordered],
            "inertia": [float(np.minimum(neighbour, candidate.eps).sum()) for candidate, _ in ordered],
            **index_curves([index for _, index in ordered]),
        }
    }


FAMILY = Family("dbscan", fit, kept=("eps",), cost=("Cost", "sum of distances to the k-th neighbour, at most eps"))

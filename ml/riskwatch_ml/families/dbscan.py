"""DBSCAN: dense regions of any form. Core samples are condensed to prototypes; farther than a radius is noise.

The neighbourhood ``eps`` comes from the knee of the sorted distances to the min_samples-th neighbour. DBSCAN labels a
vector with a core sample's cluster if it lies within ``eps`` of one and calls it noise otherwise; with fewer prototypes
than core samples the radius grows by what the missing ones covered, and is set where the labels agree best.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from riskwatch_ml.families.base import Curves, Family, FamilyFit, Params, draw, fitted
from riskwatch_ml.families.condense import condense, part_means
from riskwatch_ml.families.prototype_map import ClusterMap, make_stage, nearest
from riskwatch_ml.families.search import cluster_indices, index_curves

if TYPE_CHECKING:
    from riskwatch_ml.core.arrays import BoolArray, FloatArray, IntArray

SAMPLE = 3_000
NOISE = -1
LEAST_RADIUS = 1e-9
MAX_NOISE = 0.1  # more noise than this in the level space means that eps is too small
QUANTILES = (0.9, 0.95, 0.98, 0.99)


@dataclass(frozen=True)
class _Trial:
    """DBSCAN with one ``eps``: label (n,) and whether it is a core sample, (n,), of each vector."""

    eps: float
    labels: IntArray
    core: BoolArray

    @property
    def clusters(self) -> int:
        return int(self.labels.max()) + 1

    @property
    def noise(self) -> float:
        return float(np.mean(self.labels == NOISE))


def fit(x: FloatArray, params: Params, seed: int) -> FamilyFit:
    """Fit vectors (n, d) on at most 3,000 of them; the map has at most ``params["budget"]`` prototypes.

    O(n squared) time and memory in the sample. Noise is the map's last label. Where no vector has enough neighbours
    the whole sample is one cluster.
    """
    sample = draw(x, SAMPLE, params, seed)
    seen = sample.x
    # Round the mean, the fast form of the distance tells even vectors far from the origin apart.
    centred = seen - seen.mean(axis=0)
    min_samples = max(1, min(20, max(5, 2 * x.shape[1]), len(seen) - 1))
    curves: Curves = {}
    if params.get("eps"):
        trial = _trial(centred, params["eps"], min_samples)
    elif params.get("clusters"):
        # In the behaviour space only the distance counts: the knee will do.
        trial = _trial(centred, _eps(_neighbour(centred, min_samples))[0], min_samples)
    else:
        neighbour = _neighbour(centred, min_samples)
        trials = [_trial(centred, eps, min_samples) for eps in _eps(neighbour)]
        indices = [_indices(seen, trial, seed) for trial in trials]
        trial = _choose(trials, indices)
        curves = _curves(trials, indices, neighbour)
    return fitted(
        _reduce(seen, trial, params["budget"], seed),
        sample,
        np.where(trial.labels == NOISE, trial.clusters, trial.labels).astype(np.int64),
        params={"eps": trial.eps, "min_samples": min_samples, "clusters": trial.clusters},
        figures={"noise": trial.noise},
        curves=curves,
    )


def _neighbour(x: FloatArray, place: int) -> FloatArray:
    """Distance from each vector (n, d) to its ``place``-th nearest other one, or the farthest of fewer, (n,)."""
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(n_neighbors=min(place + 1, len(x)), algorithm="brute").fit(x)
    distance: FloatArray = search.kneighbors(x)[0][:, -1]
    return distance


def _eps(neighbour: FloatArray) -> list[float]:
    """Values to try, the knee of the k-distance curve first."""
    ordered = np.sort(neighbour)
    floor = max(float(ordered[-1]) * 1e-6, 1e-9)
    spread = ordered[-1] - ordered[0]
    if spread <= floor:
        return [float(ordered[-1]) + floor]
    line = np.linspace(0.0, 1.0, len(ordered))
    knee = float(ordered[int(np.argmax(line - (ordered - ordered[0]) / spread))])
    others = [float(np.quantile(ordered, q)) for q in QUANTILES]
    return [max(knee, floor), *sorted({max(eps, floor) for eps in others} - {knee})]


def _trial(x: FloatArray, eps: float, min_samples: int) -> _Trial:
    from sklearn.cluster import DBSCAN

    model = DBSCAN(eps=eps, min_samples=min_samples, algorithm="brute").fit(x)
    labels = model.labels_.astype(np.int64)
    core = np.zeros(len(x), bool)
    core[model.core_sample_indices_] = True
    if not core.any():
        labels, core = np.zeros(len(x), np.int64), np.ones(len(x), bool)
    return _Trial(eps, labels, core)


def _indices(x: FloatArray, trial: _Trial, seed: int) -> dict[str, float]:
    """Silhouette and its kind of the vectors that are not noise."""
    inside = trial.labels != NOISE
    return cluster_indices(x[inside], trial.labels[inside], seed)


def _choose(trials: list[_Trial], indices: list[dict[str, float]]) -> _Trial:
    """Enough clusters for levels and little noise if there is such a trial; then the best separated one."""

    def merit(place: int) -> tuple[bool, int, float, float]:
        trial = trials[place]
        return trial.noise <= MAX_NOISE, min(trial.clusters, 3), indices[place]["silhouette"], -trial.noise

    return trials[max(range(len(trials)), key=merit)]


def _reduce(x: FloatArray, trial: _Trial, budget: int, seed: int) -> ClusterMap:
    core, labels = x[trial.core], trial.labels[trial.core]
    if trial.clusters == 1:
        prototypes = part_means(core, budget, seed)
        owner = np.zeros(len(prototypes), np.int64)
    else:
        prototypes, owner = condense(core, labels, budget, seed)
    if trial.noise == 0:
        return ClusterMap((make_stage(prototypes, owner),))
    distance = nearest(x, prototypes)[1]
    radius = _radius(distance, trial.labels == NOISE)
    return ClusterMap((make_stage(prototypes, owner, radius, trial.clusters),))


def _radius(distance: FloatArray, noise: BoolArray) -> float:
    """The radius that tells noise from clusters with the fewest mistakes."""
    order = np.argsort(distance, kind="stable")
    ordered, is_noise = distance[order], noise[order]
    # Cut after position i: noise up to i is wrongly inside, clusters after i are wrongly outside.
    mistakes = np.cumsum(is_noise) + (~is_noise).sum() - np.cumsum(~is_noise)
    cut = int(np.argmin(mistakes))
    after = ordered[min(cut + 1, len(ordered) - 1)]
    return max(float((ordered[cut] + after) / 2), LEAST_RADIUS)


def _curves(trials: list[_Trial], indices: list[dict[str, float]], neighbour: FloatArray) -> Curves:
    ordered = sorted(zip(trials, indices, strict=True), key=lambda pair: pair[0].eps)
    return {
        "dbscan": {
            "k": [float(trial.clusters) for trial, _ in ordered],
            "inertia": [float(np.minimum(neighbour, trial.eps).sum()) for trial, _ in ordered],
            **index_curves([found for _, found in ordered]),
        }
    }


FAMILY = Family("dbscan", fit, kept=("eps",), cost=("Cost", "sum of distances to the k-th neighbour, at most eps"))

"""DBSCAN: dense regions of any form. Core samples are condensed to prototypes; farther than a radius is noise.

The neighbourhood ``eps`` comes from the knee of the sorted distances to the min_samples-th neighbour. DBSCAN labels a
vector with a core sample's cluster if it lies within ``eps`` of one and calls it noise otherwise; with fewer prototypes
than core samples the radius grows by what the missing ones covered, and is set where the labels agree best.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ml.families.base import (
    ClusterMap,
    Curves,
    FamilyFit,
    Params,
    cluster_indices,
    condense,
    draw,
    fitted,
    make_stage,
    nearest,
    part_means,
)

if TYPE_CHECKING:
    from ml.features import BoolArray, FloatArray, IntArray

SAMPLE = 3_000
NOISE = -1
LEAST_RADIUS = 1e-9
MAX_NOISE = 0.1  # more noise than this in the level space means that eps is too small
QUANTILES = (0.9, 0.95, 0.98, 0.99)


@dataclass(frozen=True)
class _Trial:
    eps: float
    labels: IntArray
    core: BoolArray
    silhouette: float
    davies_bouldin: float

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
    from scipy.spatial.distance import pdist, squareform

    sample = draw(x, min(SAMPLE, params.get("sample", SAMPLE)), params, seed)
    seen = sample.x
    distances = squareform(pdist(seen))
    min_samples = max(1, min(20, max(5, 2 * x.shape[1]), len(seen) - 1))
    neighbour = np.partition(distances, min(min_samples, len(seen) - 1), axis=1)[:, min(min_samples, len(seen) - 1)]
    tried = _eps(neighbour)
    if params.get("clusters"):
        tried = tried[:1]  # in the behaviour space only the distance counts: the knee will do
    if params.get("eps"):
        tried = [params["eps"]]
    trials = [_trial(seen, distances, eps, min_samples, seed) for eps in tried]
    trial = _choose(trials)
    return fitted(
        _reduce(seen, trial, params["budget"], seed),
        sample,
        np.where(trial.labels == NOISE, trial.clusters, trial.labels).astype(np.int64),
        params={"eps": trial.eps, "min_samples": min_samples, "clusters": trial.clusters},
        figures={"noise": trial.noise},
        curves=_curves(trials, neighbour),
    )


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


def _trial(x: FloatArray, distances: FloatArray, eps: float, min_samples: int, seed: int) -> _Trial:
    from sklearn.cluster import DBSCAN

    model = DBSCAN(eps=eps, min_samples=min_samples, metric="precomputed").fit(distances)
    labels = model.labels_.astype(np.int64)
    core = np.zeros(len(x), bool)
    core[model.core_sample_indices_] = True
    if not core.any():
        labels, core = np.zeros(len(x), np.int64), np.ones(len(x), bool)
    inside = labels != NOISE
    indices = cluster_indices(x[inside], labels[inside], seed)
    return _Trial(eps, labels, core, indices["silhouette"], indices["davies_bouldin"])


def _choose(trials: list[_Trial]) -> _Trial:
    """Enough clusters for levels and little noise if there is such a trial; then the best separated one."""
    return max(trials, key=lambda t: (t.noise <= MAX_NOISE, min(t.clusters, 3), t.silhouette, -t.noise))


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


def _curves(trials: list[_Trial], neighbour: FloatArray) -> Curves:
    ordered = sorted(trials, key=lambda trial: trial.eps)
    return {
        "dbscan": {
            "k": [float(trial.clusters) for trial in ordered],
            "inertia": [float(np.minimum(neighbour, trial.eps).sum()) for trial in ordered],
            "silhouette": [trial.silhouette for trial in ordered],
            "davies_bouldin": [trial.davies_bouldin for trial in ordered],
        }
    }

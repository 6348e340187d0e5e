"""Hierarchical clustering: Ward's tree, cut at the elbow of its heights.

The tree is fitted to a sample. Condensed prototypes serve its labels.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

import numpy as np

from riskwatch_ml.families.base import Curves, Family, FamilyFit, FitSettings, agreement, draw, fitted
from riskwatch_ml.families.condense import condense
from riskwatch_ml.families.prototype_map import PrototypeMap, make_stage, nearest
from riskwatch_ml.families.search import by_elbow, candidate_clusters

if TYPE_CHECKING:
    from riskwatch_ml.core.arrays import FloatArray, IntArray

SAMPLE = 3_000
FAITHFUL = 0.98


def fit(x: FloatArray, settings: FitSettings, seed: int) -> FamilyFit:
    """Fit vectors (n, d) on at most 3,000 of them; the map keeps to the budget.

    Takes O(n squared) time and memory in the sample. Without ``settings.clusters`` the tree is cut at the elbow of
    24..48 clusters. If they are not given or equal the budget, the cut is then merged to the finest one that the
    prototypes can repeat. If they differ from the budget, as in a refresh, their number is kept, and the fidelity shows
    how well the map repeats them.
    """
    from scipy.cluster.hierarchy import linkage

    sample = draw(x, SAMPLE, settings, seed)
    if sample.most < 2:
        only = PrototypeMap((make_stage(sample.x.mean(axis=0, keepdims=True), [0]),))
        return fitted(only, sample, np.zeros(len(sample.x), np.int64), {"clusters": 1}, {}, {})
    tree = linkage(sample.x, method="ward")
    curves: Curves = {}
    clusters = sample.most
    if not settings.clusters:
        ks = candidate_clusters(sample.most)
        # A merge of height h adds h squared / 2 to the within-cluster sum of squares (Ward).
        added = np.cumsum(tree[:, 2] ** 2 / 2)
        costs = {k: float(added[len(added) - k]) if k <= len(added) else 0.0 for k in ks}
        clusters, curves["hierarchical"] = by_elbow(sample.x, costs, {k: _cut(tree, k) for k in ks}, seed)
    labels = _cut(tree, clusters)
    prototypes, owner = condense(sample.x, labels, settings.budget, seed)
    if (settings.clusters or settings.budget) == settings.budget:
        labels, owner = _faithful(tree, labels, owner, nearest(sample.x, prototypes)[0])
    return fitted(
        PrototypeMap((make_stage(prototypes, owner),)),
        sample,
        labels,
        params={"clusters": int(labels.max()) + 1, "linkage": "ward"},
        figures={"height": float(tree[-1, 2])},
        curves=curves,
        linkage=tree,
    )


def _cut(tree: FloatArray, clusters: int) -> IntArray:
    from scipy.cluster.hierarchy import fcluster

    labels = fcluster(tree, clusters, criterion="maxclust")
    return np.unique(labels, return_inverse=True)[1].astype(np.int64)


def _faithful(tree: FloatArray, labels: IntArray, owner: IntArray, index: IntArray) -> tuple[IntArray, IntArray]:
    """Return labels of vectors and prototypes, merged until the map repeats them.

    The merges follow the tree. With as many clusters as prototypes, nearest prototypes cannot follow the borders of the
    clusters. ``index`` (n,) is the prototype nearest to each vector. Prototypes and distances do not change.
    """
    representative = np.unique(labels, return_index=True)[1]
    finest = int(labels.max()) + 1

    def merged(clusters: int) -> tuple[IntArray, IntArray]:
        cut = _cut(tree, clusters)
        return cut, cut[representative[owner]]

    def is_faithful(merges: int) -> bool:
        cut, owners = merged(finest - merges)
        return agreement(cut, owners[index]) >= FAITHFUL

    # A merge keeps every agreement, so the share never falls on the way up the tree.
    return merged(finest - bisect_left(range(finest), True, key=is_faithful))


FAMILY = Family("hierarchical", fit, cost=("Inertia", "sum of squared distances to the means"))

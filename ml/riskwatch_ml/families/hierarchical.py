"""Hierarchical: Ward's tree on a sample, cut at the elbow of its merge heights, served by condensed neighbours."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

import numpy as np

from riskwatch_ml.families.base import Curves, Family, FamilyFit, Params, agreement, draw, fitted
from riskwatch_ml.families.condense import condense
from riskwatch_ml.families.prototype_map import ClusterMap, make_stage, nearest
from riskwatch_ml.families.search import by_elbow, candidate_clusters

if TYPE_CHECKING:
    from riskwatch_ml.core.arrays import FloatArray, IntArray

SAMPLE = 3_000
FAITHFUL = 0.98


def fit(x: FloatArray, params: Params, seed: int) -> FamilyFit:
    """Fit vectors (n, d) on at most 3,000 of them; the map has at most ``params["budget"]`` prototypes.

    O(n squared) time and memory in the sample. The tree is cut at the elbow of 24..48, or into as many clusters as the
    budget where ``params["clusters"]`` asks for that, and then merged to the finest cut that the prototypes can repeat.
    Fewer than the budget, as a refresh asks for, are kept: the figure says how faithfully.
    """
    from scipy.cluster.hierarchy import linkage

    sample = draw(x, SAMPLE, params, seed)
    if sample.most < 2:
        only = ClusterMap((make_stage(sample.x.mean(axis=0, keepdims=True), [0]),))
        return fitted(only, sample, np.zeros(len(sample.x), np.int64), {"clusters": 1}, {}, {})
    tree = linkage(sample.x, method="ward")
    curves: Curves = {}
    clusters = sample.most
    if not params.get("clusters"):
        ks = candidate_clusters(sample.most)
        # Ward's merge height h of two clusters adds h squared / 2 to the within-cluster sum of squares.
        added = np.cumsum(tree[:, 2] ** 2 / 2)
        costs = {k: float(added[len(added) - k]) if k <= len(added) else 0.0 for k in ks}
        clusters, curves["hierarchical"] = by_elbow(sample.x, costs, {k: _cut(tree, k) for k in ks}, seed)
    labels = _cut(tree, clusters)
    prototypes, owner = condense(sample.x, labels, params["budget"], seed)
    if params.get("clusters", params["budget"]) == params["budget"]:
        labels, owner = _faithful(tree, labels, owner, nearest(sample.x, prototypes)[0])
    return fitted(
        ClusterMap((make_stage(prototypes, owner),)),
        sample,
        labels,
        params={"clusters": int(labels.max()) + 1, "linkage": "ward"},
        figures={"height": float(tree[-1, 2])},
        curves=curves,
        linkage=tree,
    )


def _cut(tree: FloatArray, clusters: int) -> IntArray:
    from scipy.cluster.hierarchy import fcluster

    found = fcluster(tree, clusters, criterion="maxclust")
    return np.unique(found, return_inverse=True)[1].astype(np.int64)


def _faithful(tree: FloatArray, labels: IntArray, owner: IntArray, index: IntArray) -> tuple[IntArray, IntArray]:
    """Labels of the vectors and the prototypes, merged up the tree as far as the map needs to repeat them.

    With as many clusters as prototypes their borders lie where no nearest prototype can follow. ``index`` (n,) is the
    prototype nearest to each vector. The prototypes, and so the distances, stay as they are.
    """
    place = np.unique(labels, return_index=True)[1]
    finest = int(labels.max()) + 1

    def merged(clusters: int) -> tuple[IntArray, IntArray]:
        cut = _cut(tree, clusters)
        return cut, cut[place[owner]]

    def is_faithful(merges: int) -> bool:
        cut, owners = merged(finest - merges)
        return agreement(cut, owners[index]) >= FAITHFUL

    # A merge keeps every agreement there is: the share only grows on the way up.
    return merged(finest - bisect_left(range(finest), True, key=is_faithful))


FAMILY = Family("hierarchical", fit, cost=("Inertia", "sum of squared distances to the means"))

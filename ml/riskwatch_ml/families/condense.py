"""Prototypes for labels that an algorithm gave: few vectors whose nearest-prototype labels repeat them."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from riskwatch_ml.families.base import distinct
from riskwatch_ml.families.prototype_map import nearest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from riskwatch_ml.core.arrays import FloatArray, IntArray


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

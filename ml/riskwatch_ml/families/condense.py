"""Condensing: few prototypes that repeat the labels of an algorithm."""

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
    """Return at most ``budget`` prototypes (p, d) and their labels (p,).

    Their nearest-prototype labels repeat ``labels`` (n,) of ``x`` (n, d). Three quarters of the budget are means of the
    parts of each cluster, so that distances to them are meaningful. The rest follows Hart's condensed nearest neighbour
    rule: it adds vectors that the prototypes so far mislabel, the most distant ones first.
    """
    values, counts = np.unique(labels, return_counts=True)
    if len(values) > budget:
        largest = np.argsort(-counts, kind="stable")[:budget]
        values, counts = values[largest], counts[largest]
    shares = np.sqrt(counts) / np.sqrt(counts).sum() * max(budget * 3 // 4, len(values))
    cluster_means, cluster_labels = [], []
    for value, share in zip(values, np.maximum(1, np.floor(shares)).astype(int), strict=True):
        means = part_means(x[labels == value], int(share), seed)
        cluster_means.append(means)
        cluster_labels.append(np.full(len(means), value))
    prototypes, owner = np.concatenate(cluster_means)[:budget], np.concatenate(cluster_labels)[:budget]
    while len(prototypes) < budget:
        index, distance = nearest(x, prototypes)
        wrong = np.flatnonzero(owner[index] != labels)
        if not len(wrong):
            break
        room = min(budget - len(prototypes), max(1, budget // 16))
        worst = wrong[np.argsort(-distance[wrong], kind="stable")]
        added = worst[np.unique(index[worst], return_index=True)[1]][:room]
        prototypes, owner = np.concatenate([prototypes, x[added]]), np.concatenate([owner, labels[added]])
    return prototypes, owner.astype(np.int64)


def part_means(x: FloatArray, parts: int, seed: int) -> FloatArray:
    """Return the means of at most ``parts`` k-means clusters of vectors (n, d)."""
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
    """Suppress the warning of k-means about fewer clusters than requested.

    Rounded metrics repeat vectors, so fewer clusters are expected.
    """
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield

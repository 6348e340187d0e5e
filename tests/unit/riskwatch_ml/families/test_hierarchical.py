"""Hierarchical clustering: the cut of Ward's tree, and the labels it gives."""

import numpy as np
from scipy.cluster.hierarchy import fcluster

from riskwatch_ml.families import FAMILIES


def test_wards_clusters_stay_apart_where_the_map_can_tell_them(blobs):
    # GIVEN three blobs and more prototypes than blobs
    x, truth = blobs()
    fit = FAMILIES["hierarchical"](x, {"budget": 12, "clusters": 12}, 0)
    # THEN the tree is not cut coarser than the blobs
    labels = fit.map.assign(x).labels
    assert len(np.unique(labels)) >= 3
    assert all(len(np.unique(truth[labels == label])) == 1 for label in np.unique(labels))
    assert fit.figures["fidelity"] >= 0.98


def test_wards_clusters_are_merged_no_further_than_the_map_needs():
    # GIVEN a cloud that sixty prototypes divide otherwise than sixty of Ward's clusters
    x = np.random.default_rng(1).normal(size=(800, 2))
    # WHEN
    fit = FAMILIES["hierarchical"](x, {"budget": 60, "clusters": 60}, 0)
    # THEN one cluster more could not be told apart by the same prototypes
    finer = fcluster(fit.linkage, fit.params["clusters"] + 1, criterion="maxclust")
    index = fit.map.assign(x).index
    of_prototype = [np.bincount(finer[index == place]).argmax() for place in range(fit.map.size)]
    assert 1 < fit.params["clusters"] < 60
    assert np.mean(np.array(of_prototype)[index] == finer) < 0.98


def test_wards_tree_is_cut_as_asked_where_the_map_has_prototypes_to_spare():
    # GIVEN a cloud whose five clusters a few prototypes cannot repeat
    x = np.random.default_rng(1).normal(size=(800, 6))
    # WHEN five are asked for, as a refresh does for its level map
    fit = FAMILIES["hierarchical"](x, {"budget": 8, "clusters": 5}, 0)
    # THEN there are five, not the fewer that would look faithful, and the figure says how far off they are served
    assert fit.params["clusters"] == 5
    assert fit.figures["fidelity"] < 0.98

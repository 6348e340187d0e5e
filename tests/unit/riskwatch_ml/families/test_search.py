"""The search for the number of clusters: elbow and separation indices."""

import numpy as np

from riskwatch_ml.families.search import cluster_indices, elbow, index_curves


def test_elbow():
    # Costs fall by 50, 30, 5, 5: after the third k they hardly fall.
    assert elbow([2, 3, 4, 5, 6], [100, 50, 20, 15, 10]) == 4
    assert elbow([2, 3, 4, 5], [100, 10, 9, 8]) == 3
    # Costs that do not fall ask for no more clusters.
    assert elbow([2, 3, 4], [5, 5, 5]) == 2
    assert elbow([2], [7.0]) == 2
    assert elbow([1], [0.0]) == 1


def test_a_single_cluster_has_no_silhouette_on_its_curve():
    # GIVEN the indices of two clusters and of one
    x = np.array([[0.0], [0.1], [5.0], [5.1]])
    indices = [cluster_indices(x, np.array(labels), 0) for labels in ([0, 0, 1, 1], [0, 0, 0, 0])]
    # WHEN
    curves = index_curves(indices)
    # THEN what is not defined is no measurement
    assert np.isnan(curves["silhouette"]).tolist() == [False, True]
    assert np.isnan(curves["davies_bouldin"]).tolist() == [False, True]

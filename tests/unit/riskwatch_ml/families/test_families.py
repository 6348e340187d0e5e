import numpy as np
import pytest
from scipy.cluster.hierarchy import fcluster
from sklearn.metrics import homogeneity_score

from riskwatch_ml.families import FAMILIES
from riskwatch_ml.families.condense import condense
from riskwatch_ml.families.prototype_map import ClusterMap, Stage, make_stage, nearest
from riskwatch_ml.families.search import cluster_indices, elbow, index_curves


def blobs(n=900, d=4, seed=0):
    """Three well separated blobs, a third of the rows each."""
    rng = np.random.default_rng(seed)
    centers = np.array([[0.0] * d, [8.0] * d, [-8.0] + [8.0] * (d - 1)])
    truth = np.arange(n) % 3
    return centers[truth] + rng.normal(0, 0.5, (n, d)), truth


@pytest.mark.parametrize("family", list(FAMILIES))
def test_every_family_finds_the_blobs_and_its_map_repeats_its_labels(family):
    # GIVEN three blobs
    x, truth = blobs()
    # WHEN the family chooses its own number of clusters, under two seeds
    fit, other = (FAMILIES[family](x, {"budget": 64}, seed) for seed in (0, 1))
    # THEN no cluster mixes two of them under either, and the map is faithful and small
    labels = fit.map.assign(x).labels
    assert homogeneity_score(truth, labels) >= 0.95
    assert homogeneity_score(truth, other.map.assign(x).labels) >= 0.95
    assert fit.figures["fidelity"] >= 0.98
    assert fit.figures["fidelity"] == np.mean(fit.map.assign(x[fit.sample]).labels == fit.fitted_labels)
    assert fit.map.size <= 64
    assert labels.min() >= 0
    assert labels.max() < fit.map.n_labels
    for curve in fit.curves.values():
        assert set(curve) == {"k", "inertia", "silhouette", "davies_bouldin"}
        assert len({len(values) for values in curve.values()}) == 1


@pytest.mark.parametrize("family", list(FAMILIES))
def test_a_map_of_one_cloud_keeps_to_its_budget_and_measures_what_is_far(family):
    # GIVEN a cloud without clusters, as a fleet's behaviour mostly is, and vectors eight deviations away
    rng = np.random.default_rng(1)
    x = rng.normal(size=(800, 6))
    far = 8 * x[:50] / np.linalg.norm(x[:50], axis=1, keepdims=True)
    # WHEN as many clusters are asked for as the map may hold
    fit = FAMILIES[family](x, {"budget": 20, "clusters": 20}, 0)
    # THEN every far vector is farther than nearly all of the cloud
    assert fit.map.size <= 20
    assert fit.map.assign(far).distance.min() > np.quantile(fit.map.assign(x).distance, 0.99)


@pytest.mark.parametrize("family", ["kmeans", "kmedoids", "hierarchical"])
def test_a_map_of_one_cloud_is_faithful(family):
    x = np.random.default_rng(1).normal(size=(800, 6))
    fit = FAMILIES[family](x, {"budget": 20, "clusters": 20}, 0)
    assert fit.figures["fidelity"] >= 0.98
    assert fit.params["clusters"] == len(np.unique(fit.fitted_labels))


def test_centroids_that_half_precision_cannot_tell_apart_are_one():
    # GIVEN values of which two round to the same
    x = np.repeat([[1.0], [1.0 + 1e-9], [5.0]], 20, axis=0)
    # WHEN
    fit = FAMILIES["kmeans"](x, {"budget": 3, "clusters": 3}, 0)
    # THEN the map gives every row the label of its centroid
    assert fit.params["clusters"] == fit.map.size == 2
    assert fit.figures["fidelity"] == 1.0


def test_wards_clusters_stay_apart_where_the_map_can_tell_them():
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


@pytest.mark.parametrize("family", list(FAMILIES))
def test_the_same_seed_gives_the_same_map(family):
    x, _ = blobs(seed=3)
    one, two = (FAMILIES[family](x, {"budget": 24, "clusters": 24}, 5).map for _ in range(2))
    assert one.size <= 24
    assert all(np.array_equal(a.prototypes, b.prototypes) for a, b in zip(one.stages, two.stages, strict=True))


@pytest.mark.parametrize("family", list(FAMILIES))
@pytest.mark.parametrize("x", [np.ones((40, 3)), np.ones((1, 3)), np.array([[0.0], [1.0]] * 20)])
@pytest.mark.parametrize("params", [{"budget": 16}, {"budget": 16, "clusters": 16}])
def test_few_different_vectors_are_no_error(family, x, params):
    fit = FAMILIES[family](x, params, 0)
    assigned = fit.map.assign(x)
    assert np.isfinite(assigned.distance).all()
    assert fit.map.size <= 16


@pytest.mark.parametrize("family", list(FAMILIES))
def test_a_map_survives_its_document(family):
    # GIVEN a fitted map
    x, _ = blobs()
    fitted = FAMILIES[family](x, {"budget": 32}, 0).map
    # WHEN it goes through its document and float32 arrays
    document, arrays = fitted.to_document("m")
    again = ClusterMap.from_document(document, {name: values.astype(np.float32) for name, values in arrays.items()})
    # THEN it gives the same labels and distances
    far = np.concatenate([x, x * 10])
    assert np.array_equal(fitted.assign(far).labels, again.assign(far).labels)
    assert np.array_equal(fitted.assign(far).distance, again.assign(far).distance)


def test_nearest_gives_ties_to_the_lowest_index():
    # GIVEN a vector half way between two prototypes, and equal prototypes
    index, distance = nearest(np.array([[0.5, 0.0]]), np.array([[1.0, 0.0], [0.0, 0.0], [0.0, 0.0]]))
    # THEN
    assert index.tolist() == [0]
    assert distance.tolist() == [0.5]


def test_radius_outside_and_table():
    # GIVEN two stages on a line, the first with a radius of 1
    first = make_stage(np.array([[0.0], [10.0]]), [0, 1], radius=1.0, outside=2)
    second = Stage(np.array([[4.0]]), np.array([0]))
    where = ClusterMap((first, second), {(0, 0): 0, (1, 0): 1, (2, 0): 2})
    # WHEN a vector lies at the radius, beyond it, and near the other prototype
    assigned = where.assign(np.array([[1.0], [2.0], [9.5]]))
    # THEN the distance is the mean of both stages: (1 + 3) / 2, (2 + 2) / 2, (0.5 + 5.5) / 2
    assert assigned.labels.tolist() == [0, 2, 1]
    assert assigned.distance.tolist() == [2.0, 2.0, 3.0]
    assert where.n_labels == 3


def test_elbow():
    # Costs fall by 50, 30, 5, 5: after the third k they hardly fall.
    assert elbow([2, 3, 4, 5, 6], [100, 50, 20, 15, 10]) == 4
    assert elbow([2, 3, 4, 5], [100, 10, 9, 8]) == 3
    # Costs that do not fall ask for no more clusters.
    assert elbow([2, 3, 4], [5, 5, 5]) == 2
    assert elbow([2], [7.0]) == 2
    assert elbow([1], [0.0]) == 1


def test_condensing_keeps_labels_that_no_mean_can_tell():
    # GIVEN a ring around a core: both have the same mean
    angle = np.linspace(0, 2 * np.pi, 300, endpoint=False)
    ring = 5 * np.column_stack([np.cos(angle), np.sin(angle)])
    core = np.random.default_rng(0).normal(0, 0.3, (300, 2))
    x, labels = np.concatenate([ring, core]), np.repeat([0, 1], 300)
    # WHEN
    prototypes, owner = condense(x, labels, 24, seed=0)
    # THEN
    assert len(prototypes) <= 24
    assert np.mean(owner[nearest(x, prototypes)[0]] == labels) > 0.99


def test_the_ensemble_copes_with_more_dense_regions_than_prototypes():
    # GIVEN nine dense regions, and four prototypes for DBSCAN's stage
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(50 * place, 0.5, (300, 3)) for place in range(9)])
    # WHEN
    fit = FAMILIES["ensemble"](x, {"budget": 8, "clusters": 8, "eps": 5.0}, 0)
    # THEN the regions without a prototype are labelled as others, which fidelity tells
    assert fit.params["dbscan_clusters"] == 9
    assert fit.map.size <= 8
    assert 0 < fit.figures["fidelity"] < 1


def test_a_single_cluster_has_no_silhouette_on_its_curve():
    # GIVEN the indices of two clusters and of one
    x = np.array([[0.0], [0.1], [5.0], [5.1]])
    indices = [cluster_indices(x, np.array(labels), 0) for labels in ([0, 0, 1, 1], [0, 0, 0, 0])]
    # WHEN
    curves = index_curves(indices)
    # THEN what is not defined is no measurement
    assert np.isnan(curves["silhouette"]).tolist() == [False, True]
    assert np.isnan(curves["davies_bouldin"]).tolist() == [False, True]


@pytest.mark.filterwarnings("error::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("family", list(FAMILIES))
@pytest.mark.parametrize("params", [{"budget": 64}, {"budget": 64, "clusters": 64}])
def test_vectors_that_repeat_are_fitted_without_a_warning(family, params):
    # GIVEN 2,000 vectors of coarsely rounded metrics, which differ in their last digits only or not at all
    x = np.round(np.random.default_rng(0).normal(size=(2000, 2)))
    x[::3] += 1e-9
    # WHEN / THEN
    assert FAMILIES[family](x, params, 0).map.size <= 64

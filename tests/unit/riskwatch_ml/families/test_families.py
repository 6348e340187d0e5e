"""The contract that every family keeps."""

import numpy as np
import pytest
from sklearn.metrics import homogeneity_score

from riskwatch_ml.families import FAMILIES


@pytest.mark.parametrize("family", list(FAMILIES))
def test_every_family_finds_the_blobs_and_its_map_repeats_its_labels(family, blobs):
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


@pytest.mark.parametrize("family", list(FAMILIES))
def test_the_same_seed_gives_the_same_map(family, blobs):
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


@pytest.mark.filterwarnings("error::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("family", list(FAMILIES))
@pytest.mark.parametrize("params", [{"budget": 64}, {"budget": 64, "clusters": 64}])
def test_vectors_that_repeat_are_fitted_without_a_warning(family, params):
    # GIVEN 2,000 vectors of coarsely rounded metrics, which differ in their last digits only or not at all
    x = np.round(np.random.default_rng(0).normal(size=(2000, 2)))
    x[::3] += 1e-9
    # WHEN / THEN
    assert FAMILIES[family](x, params, 0).map.size <= 64

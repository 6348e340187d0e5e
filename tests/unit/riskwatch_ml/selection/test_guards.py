import pytest

from riskwatch_ml.selection.guards import GUARDS, RANKED_BY, vetoes

GOOD = {
    "fidelity": 1.0,
    "largest_cluster_share": 0.5,
    "noise_share": 0.02,
    "level_stability": 0.95,
    "severity_gap": 1.5,
    "load_correlation": 0.4,
    "prototypes": 160.0,
    "model_bytes": 40_000.0,
    "operations_per_column": 600.0,
}


def figures(vus=0.5, alerts=1.0, **more):
    return {**GOOD, "injected_vus_pr": vus, "alerts_per_instance_day": alerts, **more}


@pytest.mark.parametrize(
    ("figure", "bad", "limit", "words"),
    [
        ("fidelity", 0.979, 0.98, "fidelity 0.979 of the level map or a behaviour map is below 0.98"),
        ("largest_cluster_share", 0.971, 0.97, "one level cluster holds 97.1% of the rows, more than 97%"),
        ("noise_share", 0.21, 0.2, "21.0% of the rows are noise to the level map, more than 20%"),
        ("level_stability", 0.49, 0.5, "two halves of the rows agree on levels by 0.49 (adjusted Rand)"),
        ("severity_gap", 0.49, 0.5, "neighbouring levels are 0.49 deviations of severity apart"),
        ("load_correlation", 0.91, 0.9, "the score follows load with a rank correlation of 0.91, more than 0.9"),
        ("prototypes", 257.0, 256.0, "257 prototypes, not between 1 and 256"),
        ("model_bytes", 40_000_001.0, 40_000_000.0, "40,000,001 bytes of parameters, more than 40,000,000"),
        ("operations_per_column", 1_025.0, 1_024.0, "1,025 operations a row and column, more than 1,024"),
    ],
)
def test_a_guard_refuses_beyond_its_limit_in_words_and_allows_at_it(figure, bad, limit, words):
    (reason,) = vetoes(figures(**{figure: bad}))
    assert reason.startswith(words)
    assert vetoes(figures(**{figure: limit})) == []


def test_a_giant_cluster_is_no_veto_where_the_levels_tell_most_of_the_load():
    # GIVEN a fleet that is idle but for a nightly job, and a map that puts nearly all of a busy fleet in one cluster
    assert vetoes(figures(largest_cluster_share=0.99, severity_explained=0.5)) == []
    assert len(vetoes(figures(largest_cluster_share=0.99, severity_explained=0.49))) == 1


def test_every_guard_has_a_test_above():
    assert {guard.figure for guard in GUARDS} == set(GOOD)


def test_a_decisive_figure_that_is_not_finite_is_a_veto_and_an_index_is_not():
    for name in (*GOOD, *RANKED_BY):
        assert vetoes(figures(**{name: float("nan")})) == [f"not finite: {name}"]
    assert vetoes(figures(silhouette=float("nan"), davies_bouldin=float("inf"))) == []
    # A refresh is not ranked, only guarded.
    assert vetoes(GOOD) == []

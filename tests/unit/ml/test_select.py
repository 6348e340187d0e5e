import pytest

from ml.select import SelectionError, choose


def figures(vus=0.5, alerts=1.0, **more):
    known = {"fidelity": 1.0, "largest_cluster_share": 0.5, "prototypes": 160.0}
    return {**known, "injected_vus_pr": vus, "alerts_per_instance_day": alerts, **more}


def test_the_best_on_injected_incidents_wins():
    choice = choose({"kmeans": figures(0.50), "kmedoids": figures(0.60), "dbscan": figures(0.40)})
    assert choice.ranking == ["kmedoids", "kmeans", "dbscan"]
    assert choice.winner == "kmedoids"
    assert choice.vetoes == {}


def test_among_close_ones_the_quieter_wins():
    choice = choose({"kmeans": figures(0.601, alerts=1.0), "kmedoids": figures(0.600, alerts=0.5)})
    assert choice.ranking == ["kmedoids", "kmeans"]


def test_vetoes_come_first_and_say_why():
    choice = choose(
        {
            "hierarchical": figures(0.9, fidelity=0.97),
            "dbscan": figures(0.9, largest_cluster_share=0.99),
            "ensemble": figures(0.9, prototypes=300.0),
            "kmedoids": figures(0.9, silhouette=float("nan")),
            "kmeans": figures(0.1),
        }
    )
    assert choice.winner == "kmeans"
    assert {family: why[0].split()[0] for family, why in choice.vetoes.items()} == {
        "hierarchical": "fidelity", "dbscan": "one", "ensemble": "300", "kmedoids": "not",
    }  # fmt: skip


def test_no_candidate_left_is_an_error_that_lists_the_vetoes():
    with pytest.raises(SelectionError, match=r"dbscan: fidelity 0\.500"):
        choose({"dbscan": figures(fidelity=0.5)})
    with pytest.raises(SelectionError, match="no candidates"):
        choose({})

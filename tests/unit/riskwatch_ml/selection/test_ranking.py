import pytest

from riskwatch_ml.selection.ranking import SelectionError, choose
from tests.unit.riskwatch_ml.selection.test_guards import figures


def test_the_best_on_injected_incidents_wins():
    choice = choose({"kmeans": figures(0.50), "kmedoids": figures(0.60), "dbscan": figures(0.40)})
    assert choice.ranking == ["kmedoids", "kmeans", "dbscan"]
    assert choice.winner == "kmedoids"
    assert choice.vetoes == {}


def test_among_close_ones_the_quieter_wins():
    choice = choose({"kmeans": figures(0.601, alerts=1.0), "kmedoids": figures(0.600, alerts=0.5)})
    assert choice.ranking == ["kmedoids", "kmeans"]


def test_vetoes_come_first_and_the_vetoed_cannot_win():
    choice = choose({"dbscan": figures(0.9, noise_share=0.4, fidelity=0.9), "kmeans": figures(0.1)})
    assert choice.winner == "kmeans"
    assert len(choice.vetoes["dbscan"]) == 2


def test_no_candidate_left_is_an_error_that_lists_the_vetoes():
    with pytest.raises(SelectionError, match=r"dbscan: fidelity 0\.500"):
        choose({"dbscan": figures(fidelity=0.5)})
    with pytest.raises(SelectionError, match="no candidates"):
        choose({})

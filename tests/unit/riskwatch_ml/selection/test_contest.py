from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from riskwatch_ml.features.training_set import build_training_set
from riskwatch_ml.model.fit import Recipe, fit_model, refit_settings
from riskwatch_ml.model.fleet_model import level_labels
from riskwatch_ml.selection import contest as contests
from riskwatch_ml.selection.contest import CHANGE, CONTEST_S, REFRESH, Contest, Policy, contest_due, run_contest
from riskwatch_ml.selection.guard_figures import label_churn
from riskwatch_ml.selection.ranking import Choice, choose
from tests.support.fleets import CATALOGUE, INVENTORY, rows
from tests.unit.riskwatch_ml.selection.test_guards import GOOD


def contest(winner, vetoes=None, **vus):
    figures = {family: {"injected_vus_pr": value} for family, value in vus.items()}
    return Contest(figures, Choice([winner], vetoes or {}))


def test_the_first_winner_serves_at_once():
    decision = Policy().decide(contest("kmeans", kmeans=0.5, dbscan=0.4))
    assert (decision.family, decision.kind) == ("kmeans", CHANGE)
    assert "no champion" in decision.why


def test_a_challenger_needs_three_wins_in_a_row():
    # GIVEN a champion
    policy = Policy("kmeans")
    # WHEN it loses twice, wins once and loses three times
    wins = [contest("dbscan", kmeans=0.5, dbscan=0.6), contest("kmeans", kmeans=0.6, dbscan=0.5)]
    decisions = [policy.decide(wins[place]) for place in (0, 0, 1, 0, 0, 0)]
    # THEN only the last contest changes it
    assert [decision.family for decision in decisions] == ["kmeans"] * 5 + ["dbscan"]
    assert [decision.kind for decision in decisions] == [REFRESH] * 5 + [CHANGE]
    assert "its win 2 of 3 in a row" in decisions[1].why
    assert decisions[5].why == "dbscan won 3 contests in a row, the last by 0.100 over kmeans"


def test_two_challengers_do_not_share_their_wins():
    policy = Policy("kmeans")
    for winner in ("dbscan", "ensemble", "dbscan"):
        assert policy.decide(contest(winner, kmeans=0.5, dbscan=0.6, ensemble=0.6)).family == "kmeans"
    assert policy.wins == {"dbscan": 1}


def test_a_lead_within_noise_is_no_win():
    policy = Policy("kmeans", {"dbscan": 2})
    assert policy.decide(contest("dbscan", kmeans=0.500, dbscan=0.504)).kind == REFRESH
    assert policy.wins == {}


def test_a_vetoed_champion_is_replaced_at_once_and_the_reason_is_told():
    decision = Policy("kmeans").decide(contest("dbscan", {"kmeans": ["it is too big"]}, kmeans=0.9, dbscan=0.1))
    assert (decision.family, decision.kind) == ("dbscan", CHANGE)
    assert "it is too big" in decision.why


def test_a_champion_that_is_given_up_changes_even_where_its_family_wins():
    found = replace(contest("kmeans", kmeans=0.9, dbscan=0.1), unusable_because="its metrics changed")
    decision = Policy("kmeans").decide(found)
    assert (decision.family, decision.kind) == ("kmeans", CHANGE)
    assert "its metrics changed" in decision.why


def test_a_champion_that_failed_to_train_stays_and_so_do_the_wins_against_it():
    policy = Policy("kmeans", {"dbscan": 2})
    decision = policy.decide(contest("dbscan", dbscan=0.9))
    assert (decision.family, decision.kind, policy.wins) == ("kmeans", REFRESH, {"dbscan": 2})


def test_where_all_are_vetoed_the_champion_stays():
    assert Policy("kmeans").decide(Contest({}, None)).family == "kmeans"
    assert Policy().decide(Contest({}, None)).family is None


@pytest.mark.parametrize(
    ("champion", "since_s", "asked", "why"),
    [
        (None, 60, "", "there is no champion"),
        ("kmeans", 60, "drift", "drift"),
        ("kmeans", None, "", "no contest is on record"),
        ("kmeans", CONTEST_S, "", "the last contest is a week ago"),
        ("kmeans", CONTEST_S - 1, "", None),
    ],
)
def test_when_a_contest_is_due(champion, since_s, asked, why):
    assert contest_due(champion, since_s, asked) == why


def test_in_a_contest_the_champion_keeps_its_settings_and_the_others_choose():
    # GIVEN a small fleet and a champion that serves with five level clusters
    training_set = build_training_set(rows(names=("web-1", "db-1"), n=432), CATALOGUE, INVENTORY, 300)
    # WHEN
    found = run_contest(training_set, CATALOGUE, INVENTORY, Recipe("kmeans"), ("kmeans", {"clusters": 5}), ("kmeans",))
    other = run_contest(training_set, CATALOGUE, INVENTORY, Recipe("kmeans"), ("dbscan", {"eps": 1.0}), ("kmeans",))
    # THEN
    assert refit_settings(found.fits["kmeans"]) == {"clusters": 5}
    assert other.fits["kmeans"].recipe.level == {}
    assert found.choice is not None
    assert found.figures["kmeans"]["injected_vus_pr"] > 0.2


@pytest.mark.parametrize(
    ("ratings", "vetoed", "champion", "fitted"),
    [
        # The best one may serve, and nobody is close: that is all.
        ({"kmeans": 0.5, "dbscan": 0.6, "kmedoids": 0.4}, (), None, ["dbscan"]),
        # One that is close may be quieter, and the champion shows whether it can go on.
        ({"kmeans": 0.596, "dbscan": 0.6, "kmedoids": 0.4}, (), "kmedoids", ["kmedoids", "dbscan", "kmeans"]),
        # Who is vetoed keeps nobody out.
        ({"kmeans": 0.5, "dbscan": 0.6, "kmedoids": 0.4}, ("dbscan",), None, ["dbscan", "kmeans"]),
        ({"kmeans": 0.5, "dbscan": 0.6}, ("dbscan", "kmeans"), None, ["dbscan", "kmeans"]),
    ],
)
def test_who_is_too_far_behind_is_not_fitted(ratings, vetoed, champion, fitted, monkeypatch):
    # GIVEN ratings of the trial and guards by name
    monkeypatch.setattr(contests, "make_holdout", lambda *args, **options: None)
    monkeypatch.setattr(
        contests, "injected_vus_pr", lambda holdout, catalogue, inventory, recipe: ratings[recipe.family]
    )
    monkeypatch.setattr(contests, "fit_model", lambda *args: SimpleNamespace(recipe=args[-1], pages=1.0))
    bad = {family: {**GOOD, "fidelity": 0.5} for family in vetoed}
    monkeypatch.setattr(contests, "guard_figures", lambda fit, training_set, seed: bad.get(fit.recipe.family, GOOD))
    # WHEN
    found = run_contest(None, CATALOGUE, {}, Recipe("kmeans"), champion and (champion, {}), tuple(ratings))
    # THEN the choice is that between all, and the ratings of the others are kept
    assert list(found.fits) == fitted
    assert found.trials == {family: rating for family, rating in ratings.items() if family not in fitted}
    every = {f: {**bad.get(f, GOOD), "injected_vus_pr": r, "alerts_per_instance_day": 1.0} for f, r in ratings.items()}
    assert found.choice is None if len(vetoed) == len(ratings) else found.choice.winner == choose(every).winner


def test_a_champion_that_is_vetoed_with_its_settings_chooses_anew():
    # GIVEN a champion whose eps is so small that everything is noise
    training_set = build_training_set(rows(names=("web-1", "db-1"), n=432), CATALOGUE, INVENTORY, 300)
    # WHEN
    found = run_contest(training_set, CATALOGUE, INVENTORY, Recipe("dbscan"), ("dbscan", {"eps": 1e-6}), ("dbscan",))
    # THEN its family took part with another, and the contest says why
    assert refit_settings(found.fits["dbscan"])["eps"] > 1e-3
    assert found.unusable_because
    assert found.choice is None or Policy("dbscan").decide(found).kind == CHANGE


def test_label_churn_counts_rows_under_another_level():
    # GIVEN a model, and the same one with two of its levels swapped
    training_set = build_training_set(rows(n=432), CATALOGUE, INVENTORY, 300)
    model = fit_model(training_set, CATALOGUE, Recipe("kmeans")).model
    swap = {"Idle": "High Load", "High Load": "Idle", "Normal": "Normal"}
    other = replace(model, level=replace(model.level, names=tuple(swap[name] for name in model.level_names)))
    # WHEN / THEN every row that is not Normal changes
    labels = level_labels(model, training_set.table, training_set.baseline)
    expected = np.mean(np.array(model.level_names, object)[labels] != "Normal")
    assert label_churn(model, model, training_set.table, INVENTORY) == 0
    assert label_churn(model, other, training_set.table, INVENTORY) == pytest.approx(expected)
    assert 0.2 < expected < 0.9

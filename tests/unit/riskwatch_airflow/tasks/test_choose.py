"""Tasks choose and request of train_models: what serves next, and what happens when nothing may serve."""

from dataclasses import replace

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from riskwatch_airflow.assets import CANDIDATE_MODEL, RETRAIN_REQUEST
from riskwatch_airflow.tasks import choose
from riskwatch_ml.registry import serving
from riskwatch_ml.selection import contest_log
from tests.support.serving import agreeing
from tests.support.trainings import CHAMPION, TEN, candidate, training


def test_the_best_of_those_that_trained_is_registered(aws, training_run, recorded):
    # GIVEN three candidates, one vetoed; a fourth failed to train and returned nothing
    trained = [
        candidate(aws, "kmeans", injected_vus_pr=0.4),
        candidate(aws, "dbscan", injected_vus_pr=0.9, largest_cluster_share=0.99),
        candidate(aws, "ensemble", injected_vus_pr=0.6),
        None,
    ]

    # WHEN
    chosen = choose.choose(training_run, training(), trained)

    # THEN
    assert (chosen["family"], chosen["version"], chosen["key"]) == ("ensemble", "3", "candidates/T1/ensemble.zip")
    assert recorded["zip_bytes"] == b"ensemble"
    assert [row["family"] for row in recorded["ranking"]] == ["ensemble", "kmeans", "dbscan"]
    assert [bool(row["vetoes"]) for row in recorded["ranking"]] == [False, False, True]
    # AND it is announced together with those of other kinds
    choose.tell(training_run, [chosen, None])
    assert training_run["outlet_events"][CANDIDATE_MODEL].extra == {"challengers": [chosen]}


def test_nothing_may_serve(aws, training_run, recorded):
    # GIVEN one candidate whose figure was not finite, which JSON holds as null
    trained = [candidate(aws, "kmeans", injected_vus_pr=None)]

    # WHEN / THEN the training in MLflow is closed with the veto, and nothing is announced
    with pytest.raises(AirflowFailException, match="not finite: injected_vus_pr"):
        choose.choose(training_run, training(), trained)
    assert recorded["closed"][0]["vetoes"] == ["not finite: injected_vus_pr"]
    assert "train on more varied rows" in recorded["why"]
    assert training_run["outlet_events"] == {}


def test_a_refresh_is_registered_for_the_model_that_it_refreshes(aws, training_run, recorded, same_pages):
    # GIVEN the champion's family, fitted again, with a label in twenty changed
    trained = [candidate(aws, "kmeans", label_churn=0.05)]

    # WHEN
    chosen = choose.choose(training_run, training("refresh", CHAMPION, why="kmeans is refreshed"), trained)

    # THEN no contest is recorded
    assert (chosen["family"], chosen["kind"]) == ("kmeans", "refresh")
    assert (recorded["winner"]["refreshes"], recorded["winner"]["ask"]) == (CHAMPION.digest, "")
    assert aws.store.keys("contests/") == []


def test_a_refresh_that_changes_many_labels_asks(aws, training_run, recorded, same_pages):
    # GIVEN / WHEN
    choose.choose(training_run, training("refresh", CHAMPION), [candidate(aws, "kmeans", label_churn=0.11)])

    # THEN
    assert recorded["winner"]["ask"] == "11.0% of the rows would change their level, more than 10%"


def test_a_vetoed_refresh_is_followed_by_a_contest(aws, training_run, recorded):
    # GIVEN
    trained = [candidate(aws, "kmeans", noise_share=0.5)]

    # WHEN / THEN nothing is announced, and the reason waits for the next task
    with pytest.raises(AirflowSkipException, match="what serves stays"):
        choose.choose(training_run, training("refresh", CHAMPION), trained)
    assert "noise" in recorded["closed"][0]["vetoes"][0]
    assert training_run["outlet_events"] == {}
    asked = choose.request(training_run, "ec2", "ec2")
    assert training_run["outlet_events"][RETRAIN_REQUEST].extra == asked
    assert "50.0% of the rows are noise" in asked["reason"]


def test_a_contest_in_vain_is_not_repeated_daily(aws, training_run, recorded, supervisor):
    # GIVEN a contest in which every family was vetoed
    with pytest.raises(AirflowFailException):
        choose.choose(training_run, training("contest", CHAMPION), [candidate(aws, "kmeans", noise_share=0.5)])
    all_vetoed = contest_log.read(aws.store, "T2", "kmeans", "later").all_vetoed
    assert all_vetoed

    # WHEN the refresh of the day after is vetoed too / THEN nothing follows before the week is over
    with pytest.raises(
        AirflowSkipException, match="no contest follows: the guards vetoed every family of the last one"
    ):
        choose.choose(
            training_run,
            training("refresh", CHAMPION, in_vain=all_vetoed),
            [candidate(aws, "kmeans", noise_share=0.5)],
        )
    assert supervisor.xcoms == {}


def test_a_sound_refresh_asks_for_no_contest(training_run):
    # GIVEN / WHEN / THEN
    with pytest.raises(AirflowSkipException, match="no contest"):
        choose.request(training_run, "ec2", "ec2")


def test_wins_are_kept_and_the_third_in_a_row_changes_the_family(aws, training_run, recorded):
    # GIVEN a challenger that beats the champion
    trained = [candidate(aws, "kmeans", injected_vus_pr=0.4), candidate(aws, "dbscan", injected_vus_pr=0.6)]

    # WHEN it wins week after week
    kinds = []
    for week in ("T1", "T2", "T3"):
        wins = contest_log.read(aws.store, week, "kmeans", "later").wins
        chosen = choose.choose(training_run, training("contest", CHAMPION, training_id=week, wins=wins), trained)
        kinds.append((chosen["family"], chosen["kind"], recorded["winner"]["refreshes"]))

    # THEN the champion is refreshed twice, and then gives way
    assert kinds == [("kmeans", "refresh", CHAMPION.digest)] * 2 + [("dbscan", "change", "")]
    assert aws.store.get_json("contests/T2.json")["wins"] == {"dbscan": 2}
    assert "won 3 contests in a row" in aws.store.get_json("contests/T3.json")["decision"]["why"]


def test_a_vetoed_champion_gives_way_at_once(aws, training_run, recorded):
    # GIVEN
    trained = [candidate(aws, "kmeans", severity_gap=0.1), candidate(aws, "dbscan", injected_vus_pr=0.1)]

    # WHEN / THEN
    chosen = choose.choose(training_run, training("contest", CHAMPION), trained)
    assert (chosen["family"], chosen["kind"]) == ("dbscan", "change")
    assert "cannot go on (neighbouring levels" in chosen["why"]


def test_the_champion_that_wins_with_new_settings_is_a_change(aws, training_run, recorded):
    # GIVEN a contest in which the champion's family had to choose its settings anew
    summary = aws.store.get_json(candidate(aws, "kmeans")[0]["key"])
    aws.store.put_json("candidates/T1/kmeans.json", {**summary, "given_up": "it was all noise"})
    trained = [[{"family": "kmeans", "key": "candidates/T1/kmeans.json", "run_id": "kmeans"}]]

    # WHEN / THEN it refreshes nothing, so that it waits for an approval
    chosen = choose.choose(training_run, training("contest", CHAMPION), trained)
    assert (chosen["family"], chosen["kind"], recorded["winner"]["refreshes"]) == ("kmeans", "change", "")
    assert "cannot go on (it was all noise)" in chosen["why"]


def test_a_contest_in_which_all_are_vetoed_is_on_record(aws, training_run, recorded):
    # GIVEN / WHEN
    with pytest.raises(AirflowFailException, match="no family may serve"):
        choose.choose(training_run, training("contest", CHAMPION), [candidate(aws, "kmeans", noise_share=0.5)])

    # THEN tomorrow is no contest because of the calendar
    assert contest_log.read(aws.store, "T2", "kmeans", "later").contested_at == TEN


@pytest.mark.parametrize("kind", ["refresh", "contest"])
def test_no_family_came_out_of_the_training(aws, training_run, recorded, supervisor, kind):
    # GIVEN the only one ran out of memory / WHEN / THEN that is a failure, not a veto
    with pytest.raises(AirflowFailException, match="no family was trained"):
        choose.choose(training_run, training(kind, CHAMPION), [None])
    assert aws.store.keys("contests/") == []
    assert supervisor.xcoms == {}


def test_a_champion_that_failed_to_train_goes_on_serving(aws, training_run, recorded):
    # GIVEN a contest that the champion's family did not come out of
    trained = [candidate(aws, "dbscan", injected_vus_pr=0.9)]

    # WHEN / THEN nothing is registered, and the wins against it stand
    with pytest.raises(AirflowFailException, match="kmeans failed to train: what serves stays"):
        choose.choose(training_run, training("contest", CHAMPION, wins={"dbscan": 2}), trained)
    assert "winner" not in recorded
    assert contest_log.read(aws.store, "T2", "kmeans", "later").wins == {"dbscan": 2}


def test_a_refresh_of_unknown_churn_asks(aws, training_run, recorded, same_pages):
    # GIVEN a refresh that could not be compared with what serves / WHEN
    choose.choose(training_run, training("refresh", CHAMPION), [candidate(aws, "kmeans")])

    # THEN
    assert recorded["winner"]["ask"] == "the share of rows that would change their level is unknown"


def test_nothing_is_registered_if_the_alias_was_moved_during_the_training(aws, training_run, recorded):
    # GIVEN
    trained = [candidate(aws, "kmeans")]
    moved = serving.Disagreement(serving.ALIAS, "it was moved by hand")
    recorded["serving"] = replace(agreeing(CHAMPION), disagreements=(moved,))

    # WHEN / THEN
    with pytest.raises(serving.DisagreementError, match="moved by hand"):
        choose.choose(training_run, training("refresh", CHAMPION), trained)
    assert "winner" not in recorded

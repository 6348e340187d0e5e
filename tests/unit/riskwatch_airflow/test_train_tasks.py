"""Tasks of train_models: which rows are taken, what is chosen, and what happens when nothing may serve."""

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pandas as pd
import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from ml import artifact, catalogue, clock, standing, tracking
from ml.tracking import Registered
from ml.train import fit_candidate
from riskwatch_airflow.assets import CANDIDATE_MODEL, RETRAIN_REQUEST
from riskwatch_airflow.tasks import train
from tests.unit.ml.test_train import CATALOGUE, INVENTORY, rows

TEN = datetime(2026, 11, 22, 10, tzinfo=UTC)
GOOD = {
    "fidelity": 1.0,
    "largest_cluster_share": 0.5,
    "noise_share": 0.0,
    "level_stability": 0.9,
    "severity_gap": 1.0,
    "load_correlation": 0.4,
    "prototypes": 40.0,
    "model_bytes": 1000.0,
    "operations_per_column": 500.0,
    "injected_vus_pr": 0.5,
    "alerts_per_instance_day": 0.5,
}
CHAMPION = Registered("2", "ab" * 32, "old", "T0", "kmeans", "candidates/T0/kmeans.zip")
FIVE = ["kmeans", "dbscan", "ensemble", "hierarchical", "kmedoids"]


@pytest.fixture
def run(context):
    context["dag_run"] = SimpleNamespace(run_after=datetime(2026, 11, 22, 3, 30, tzinfo=UTC))
    return context


@pytest.fixture
def told(monkeypatch):
    """What MLflow was told."""
    told = {}
    monkeypatch.setattr(tracking, "open_training", lambda config, training_id, params: told.update(params) or "parent")
    monkeypatch.setattr(tracking, "close_training", lambda config, run_id, rows, why: told.update(closed=rows, why=why))
    monkeypatch.setattr(tracking, "register", lambda *given, **more: told.update(more) or "3")
    monkeypatch.setattr(tracking, "champion", lambda config: told.get("champion"))
    return told


@pytest.fixture
def validated(aws):
    """A row to train on."""
    rows = pd.DataFrame({"instance_id": "a", "timestamp": pd.DatetimeIndex([TEN]).as_unit("ms"), "cpu": 1.0})
    aws.store.write_hours("validated", rows, TEN, TEN + timedelta(hours=1))


@pytest.fixture(scope="module")
def served():
    """A model as the champion serves it."""
    return fit_candidate(rows(n=300), CATALOGUE, INVENTORY, "kmeans", training_id="T0", level={"clusters": 4})


@pytest.fixture
def kept(aws, served):
    """The champion's artifact where releases keep it."""
    aws.store.put_bytes(f"artifacts/{CHAMPION.digest}.zip", artifact.pack(served.document, served.arrays))


def training(kind="contest", champion=None, **more):
    """What prepare returns, as far as choose needs it."""
    known = {
        "training_id": "T1",
        "run_id": "parent",
        "kind": kind,
        "why": "weekly",
        "wins": {},
        "at": clock.iso(TEN),
        "in_vain": False,
    }
    return {**known, "champion": None if champion is None else asdict(champion), **more}


def candidate(aws, family, **figures):
    """Store a candidate as the task train does and return what that task returns."""
    key = f"candidates/T1/{family}"
    aws.store.put_bytes(f"{key}.zip", family.encode())
    figures = {**GOOD, **figures}
    summary = {
        "family": family,
        "run_id": family,
        "digest": "d",
        "s3_key": f"{key}.zip",
        "figures": figures,
        "params": {},
    }
    aws.store.put_json(f"{key}.json", summary)
    return {"family": family, "key": f"{key}.json", "run_id": family}


def test_the_newest_days_are_taken_whatever_the_time_is(aws, run, told):
    # GIVEN rows 40 days long, the newest a month before now, and two days to learn from
    moments = pd.date_range(TEN - timedelta(days=70), TEN - timedelta(days=30), freq="6h", unit="ms")
    rows = pd.DataFrame({"instance_id": "a", "timestamp": moments, "cpu_utilization": 1.0})
    aws.store.write_hours(
        "validated", rows, moments[0].to_pydatetime(), moments[-1].to_pydatetime() + timedelta(hours=1)
    )
    aws.use(history_days=2)

    # WHEN
    found = train.prepare(run)

    # THEN eight rows are four a day for two days: the interval ends with the newest hour
    known = {name: found[name] for name in ("training_id", "run_id", "key", "rows", "instances")}
    assert known == {
        "training_id": "20261122T033000Z",
        "run_id": "parent",
        "key": "training/20261122T033000Z/rows.parquet",
        "rows": 8,
        "instances": 1,
    }
    assert aws.store.get_frame(found["key"])["timestamp"].max() == moments[-1]
    assert told["last_row"] == "2026-10-23T10:00:00.000Z"


def test_no_rows_is_a_failure_that_says_what_to_run(aws, run, told):
    # GIVEN / WHEN / THEN
    with pytest.raises(AirflowFailException, match="run export_metrics"):
        train.prepare(run)


def test_the_best_of_those_that_trained_is_registered(aws, run, told):
    # GIVEN three candidates, one vetoed; a fourth failed to train and returned nothing
    trained = [
        candidate(aws, "kmeans", injected_vus_pr=0.4),
        candidate(aws, "dbscan", injected_vus_pr=0.9, largest_cluster_share=0.99),
        candidate(aws, "ensemble", injected_vus_pr=0.6),
        None,
    ]

    # WHEN
    chosen = train.choose(run, training(), trained)

    # THEN
    assert (chosen["family"], chosen["version"], chosen["key"]) == ("ensemble", "3", "candidates/T1/ensemble.zip")
    assert told["zip_bytes"] == b"ensemble"
    assert [row["family"] for row in told["ranking"]] == ["ensemble", "kmeans", "dbscan"]
    assert [bool(row["vetoes"]) for row in told["ranking"]] == [False, False, True]
    assert run["outlet_events"][CANDIDATE_MODEL].extra == chosen


def test_nothing_may_serve(aws, run, told):
    # GIVEN one candidate whose figure was not finite, which JSON holds as null
    trained = [candidate(aws, "kmeans", injected_vus_pr=None)]

    # WHEN / THEN the training in MLflow is closed with the veto, and nothing is announced
    with pytest.raises(AirflowFailException, match="not finite: injected_vus_pr"):
        train.choose(run, training(), trained)
    assert told["closed"][0]["vetoes"] == ["not finite: injected_vus_pr"]
    assert "train on more varied rows" in told["why"]
    assert run["outlet_events"] == {}


@pytest.mark.parametrize(
    ("champion", "days", "more", "families", "why"),
    [
        pytest.param(None, 1, {}, FIVE, "there is no champion", id="first"),
        pytest.param(CHAMPION, 1, {}, ["kmeans"], "kmeans is refreshed", id="daily"),
        pytest.param(CHAMPION, 7, {}, FIVE, "a week ago", id="weekly"),
        pytest.param(CHAMPION, None, {}, FIVE, "no contest is on record", id="unknown"),
        pytest.param(CHAMPION, 1, {"params": {"contest": True}}, FIVE, "asked for by an operator", id="param"),
        pytest.param(
            CHAMPION,
            1,
            {"triggering_asset_events": {RETRAIN_REQUEST: [SimpleNamespace(extra={"reason": "label distribution"})]}},
            FIVE,
            "a retrain was requested: label distribution",
            id="request",
        ),
    ],
)
def test_a_run_is_a_refresh_or_a_contest_and_says_why(
    aws, run, told, validated, kept, champion, days, more, families, why
):
    # GIVEN a contest some days before this run
    if days is not None:
        at = run["dag_run"].run_after - timedelta(days=days)
        standing.write(aws.store, "20261101T000000Z", at=at, champion="kmeans", wins={"dbscan": 2}, decision={})
    told["champion"] = champion

    # WHEN
    found = train.prepare({**run, **more})

    # THEN
    assert sorted(found["families"]) == sorted(families)
    assert found["kind"] == ("contest" if len(families) > 1 else "refresh")
    assert why in found["why"]
    assert (told["kind"], told["why"]) == (found["kind"], found["why"])
    assert found["wins"] == ({"dbscan": 2} if champion and days else {})


def test_a_refresh_is_registered_for_the_model_that_it_refreshes(aws, run, told):
    # GIVEN the champion's family, fitted again, with a label in twenty changed
    trained = [candidate(aws, "kmeans", label_churn=0.05)]

    # WHEN
    chosen = train.choose(run, training("refresh", CHAMPION, why="kmeans is refreshed"), trained)

    # THEN no contest is recorded
    assert (chosen["family"], chosen["kind"]) == ("kmeans", "refresh")
    assert (told["winner"]["refreshes"], told["winner"]["ask"]) == (CHAMPION.digest, "")
    assert aws.store.keys("contests/") == []


def test_a_refresh_that_changes_many_labels_asks(aws, run, told):
    # GIVEN / WHEN
    train.choose(run, training("refresh", CHAMPION), [candidate(aws, "kmeans", label_churn=0.11)])

    # THEN
    assert told["winner"]["ask"] == "11.0% of the rows would change their level, more than 10%"


def test_a_vetoed_refresh_is_followed_by_a_contest(aws, run, told):
    # GIVEN
    trained = [candidate(aws, "kmeans", noise_share=0.5)]

    # WHEN / THEN nothing is announced, and the reason waits for the next task
    with pytest.raises(AirflowSkipException, match="what serves stays"):
        train.choose(run, training("refresh", CHAMPION), trained)
    assert "noise" in told["closed"][0]["vetoes"][0]
    assert run["outlet_events"] == {}
    run["ti"].values["choose", train.AGAIN] = run["ti"].values.pop(("decide", train.AGAIN))
    asked = train.request(run)
    assert run["outlet_events"][RETRAIN_REQUEST].extra == asked
    assert "50.0% of the rows are noise" in asked["reason"]


def test_a_contest_in_vain_is_not_repeated_daily(aws, run, told):
    # GIVEN a contest in which every family was vetoed
    with pytest.raises(AirflowFailException):
        train.choose(run, training("contest", CHAMPION), [candidate(aws, "kmeans", noise_share=0.5)])
    in_vain = standing.read(aws.store, "T2", "kmeans").in_vain
    assert in_vain

    # WHEN the refresh of the day after is vetoed too / THEN nothing follows before the week is over
    with pytest.raises(AirflowSkipException, match="the last contest was in vain"):
        train.choose(run, training("refresh", CHAMPION, in_vain=in_vain), [candidate(aws, "kmeans", noise_share=0.5)])
    assert run["ti"].values == {}


def test_a_sound_refresh_asks_for_no_contest(run):
    # GIVEN / WHEN / THEN
    with pytest.raises(AirflowSkipException, match="no contest"):
        train.request(run)


def test_wins_are_kept_and_the_third_in_a_row_changes_the_family(aws, run, told):
    # GIVEN a challenger that beats the champion
    trained = [candidate(aws, "kmeans", injected_vus_pr=0.4), candidate(aws, "dbscan", injected_vus_pr=0.6)]

    # WHEN it wins week after week
    kinds = []
    for week in ("T1", "T2", "T3"):
        wins = standing.read(aws.store, week, "kmeans").wins
        chosen = train.choose(run, training("contest", CHAMPION, training_id=week, wins=wins), trained)
        kinds.append((chosen["family"], chosen["kind"], told["winner"]["refreshes"]))

    # THEN the champion is refreshed twice, and then gives way
    assert kinds == [("kmeans", "refresh", CHAMPION.digest)] * 2 + [("dbscan", "change", "")]
    assert aws.store.get_json("contests/T2.json")["wins"] == {"dbscan": 2}
    assert "won 3 contests in a row" in aws.store.get_json("contests/T3.json")["decision"]["why"]


def test_a_vetoed_champion_gives_way_at_once(aws, run, told):
    # GIVEN
    trained = [candidate(aws, "kmeans", severity_gap=0.1), candidate(aws, "dbscan", injected_vus_pr=0.1)]

    # WHEN / THEN
    chosen = train.choose(run, training("contest", CHAMPION), trained)
    assert (chosen["family"], chosen["kind"]) == ("dbscan", "change")
    assert "cannot go on (neighbouring levels" in chosen["why"]


def test_the_artifact_of_the_champion_must_be_there(aws, run):
    # GIVEN rows, and a champion whose artifact is gone
    rows = pd.DataFrame({"instance_id": "a", "timestamp": pd.DatetimeIndex([TEN]).as_unit("ms"), "cpu": 1.0})
    aws.store.put_frame("training/T1/rows.parquet", rows)

    # WHEN / THEN
    with pytest.raises(AirflowFailException, match="restore it from the bucket's versions"):
        train.train(training("refresh", CHAMPION, key="training/T1/rows.parquet"), "kmeans")


def packed_otherwise(aws, served):
    aws.store.put_bytes(f"artifacts/{CHAMPION.digest}.zip", b"no zip that this version knows")


def watching_less(aws, served):
    names = CATALOGUE.names
    fewer = catalogue.Catalogue(tuple(metric for metric in CATALOGUE.metrics if metric.name != names[-1]))
    other = fit_candidate(rows(n=300), fewer, INVENTORY, "kmeans", training_id="T0")
    aws.store.put_bytes(f"artifacts/{CHAMPION.digest}.zip", artifact.pack(other.document, other.arrays))


def without_settings(aws, served):
    document = {name: value for name, value in served.document.items() if name != "settings"}
    aws.store.put_bytes(f"artifacts/{CHAMPION.digest}.zip", artifact.pack(document, served.arrays))


@pytest.mark.parametrize(
    ("put", "why"),
    [
        (packed_otherwise, "version 2 was packed by another version of Riskwatch"),
        (without_settings, "version 2 was packed by another version of Riskwatch"),
        (watching_less, f"differ in the metrics: {CATALOGUE.names[-1]}"),
    ],
)
def test_a_champion_that_cannot_be_refreshed_is_contested(aws, run, told, validated, served, put, why):
    # GIVEN a contest yesterday, and a champion of another version or of other metrics
    put(aws, served)
    at = run["dag_run"].run_after - timedelta(days=1)
    standing.write(aws.store, "20261101T000000Z", at=at, champion="kmeans", wins={}, decision={})
    told["champion"] = CHAMPION

    # WHEN / THEN all families are fitted, the champion's with settings of its own choice, and the winner is a change
    found = train.prepare(run)
    assert sorted(found["families"]) == sorted(FIVE)
    assert why in found["why"]
    assert train._serving(aws.store, asdict(CHAMPION), CATALOGUE.names).settings is None


def test_the_champion_that_wins_with_new_settings_is_a_change(aws, run, told):
    # GIVEN a contest in which the champion's family had to choose its settings anew
    summary = aws.store.get_json(candidate(aws, "kmeans")["key"])
    aws.store.put_json("candidates/T1/kmeans.json", {**summary, "given_up": "it was all noise"})
    trained = [{"family": "kmeans", "key": "candidates/T1/kmeans.json", "run_id": "kmeans"}]

    # WHEN / THEN it refreshes nothing, so that it waits for an approval
    chosen = train.choose(run, training("contest", CHAMPION), trained)
    assert (chosen["family"], chosen["kind"], told["winner"]["refreshes"]) == ("kmeans", "change", "")
    assert "cannot go on (it was all noise)" in chosen["why"]


def test_a_contest_in_which_all_are_vetoed_is_on_record(aws, run, told):
    # GIVEN / WHEN
    with pytest.raises(AirflowFailException, match="no family may serve"):
        train.choose(run, training("contest", CHAMPION), [candidate(aws, "kmeans", noise_share=0.5)])

    # THEN tomorrow is no contest because of the calendar
    assert standing.read(aws.store, "T2", "kmeans").contested_at == TEN


@pytest.mark.parametrize("kind", ["refresh", "contest"])
def test_no_family_came_out_of_the_training(aws, run, told, kind):
    # GIVEN the only one ran out of memory / WHEN / THEN that is a failure, not a veto
    with pytest.raises(AirflowFailException, match="no family was trained"):
        train.choose(run, training(kind, CHAMPION), [None])
    assert aws.store.keys("contests/") == []
    assert run["ti"].values == {}


def test_a_champion_that_failed_to_train_goes_on_serving(aws, run, told):
    # GIVEN a contest that the champion's family did not come out of
    trained = [candidate(aws, "dbscan", injected_vus_pr=0.9)]

    # WHEN / THEN nothing is registered, and the wins against it stand
    with pytest.raises(AirflowFailException, match="kmeans failed to train: what serves stays"):
        train.choose(run, training("contest", CHAMPION, wins={"dbscan": 2}), trained)
    assert "winner" not in told
    assert standing.read(aws.store, "T2", "kmeans").wins == {"dbscan": 2}


def test_a_refresh_of_unknown_churn_asks(aws, run, told):
    # GIVEN a refresh that could not be compared with what serves / WHEN
    train.choose(run, training("refresh", CHAMPION), [candidate(aws, "kmeans")])

    # THEN
    assert told["winner"]["ask"] == "nobody could tell how many rows would change their level"


def test_a_vetoed_champion_is_fitted_again_with_settings_of_its_own_choice(aws, run, kept, monkeypatch):
    # GIVEN a champion of four clusters whose refresh puts nearly all rows into one, in a contest
    frame = rows(n=300)
    aws.store.put_frame("training/T1/rows.parquet", frame)
    monkeypatch.setattr(tracking, "log_candidate", lambda *given: "child")
    served_as = []

    def vetoed(figures):
        served_as.append(figures["fidelity"])
        return ["one level cluster holds too much"] if len(served_as) == 1 else []

    monkeypatch.setattr("ml.select.vetoes", vetoed)

    # WHEN
    done = train.train(training("contest", CHAMPION, key="training/T1/rows.parquet"), "kmeans")

    # THEN the second fit is the candidate
    summary = aws.store.get_json(done["key"])
    assert summary["given_up"] == "one level cluster holds too much"
    free = fit_candidate(frame, CATALOGUE, INVENTORY, "kmeans", training_id="T1")
    assert summary["params"]["level.clusters"] == free.params["level.clusters"] != 4

"""Tasks prepare and train of train_models: which rows are taken, which families are fitted, and how."""

from dataclasses import replace
from datetime import timedelta

import pandas as pd
import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from riskwatch_airflow import champion_model
from riskwatch_airflow.assets import RETRAIN_REQUEST
from riskwatch_airflow.tasks import train
from riskwatch_lambda.table import TableError
from riskwatch_ml.artifact import archive
from riskwatch_ml.features import history
from riskwatch_ml.model.fit import Recipe
from riskwatch_ml.registry import mlflow_registry, serving
from riskwatch_ml.schema import catalogue
from riskwatch_ml.selection import contest_log
from riskwatch_ml.selection.candidate import fit_candidate
from tests.support import episodes, runs
from tests.support.fleets import CATALOGUE, INVENTORY, rows
from tests.support.serving import agreeing
from tests.support.trainings import CHAMPION, FIVE, TEN, training

REQUESTED = runs.run(TEN, "asset_triggered", requests=[(RETRAIN_REQUEST, {"reason": "label distribution"})])
REFRESHED = runs.run(TEN, "asset_triggered", requests=[(RETRAIN_REQUEST, {"reason": "to learn", "kind": "refresh"})])
TO_LEARN = {"triggering_asset_events": runs.context(REFRESHED)["triggering_asset_events"]}
EVENTS = {"triggering_asset_events": runs.context(REQUESTED)["triggering_asset_events"]}


@pytest.fixture(scope="module")
def served():
    """A model as the champion serves it."""
    return fit_candidate(rows(n=300), CATALOGUE, INVENTORY, Recipe("kmeans", level={"clusters": 4}), "T0")


@pytest.fixture
def kept(aws, served):
    """The champion's artifact where releases keep it."""
    aws.store.put_bytes(f"artifacts/{CHAMPION.digest}.zip", archive.pack(served.document, served.arrays))


def test_the_newest_days_are_taken_whatever_the_time_is(aws, training_run, recorded):
    # GIVEN rows 40 days long, the newest a month before now, and two days to learn from
    moments = pd.date_range(TEN - timedelta(days=70), TEN - timedelta(days=30), freq="6h", unit="ms")
    rows = pd.DataFrame({"instance_id": "a", "timestamp": moments, "cpu_utilization": 1.0})
    aws.store.write_hours(
        "validated", rows, moments[0].to_pydatetime(), moments[-1].to_pydatetime() + timedelta(hours=1)
    )
    aws.use(history_days=2)

    # WHEN
    found = runs.handed_on(train.prepare(training_run))

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
    assert recorded["last_row"] == "2026-10-23T10:00:00.000Z"
    assert (recorded["left_out"], recorded["memory_gb"]) == ("nothing", 0.3)


@pytest.fixture
def ten_days(aws):
    """Ten days of two instances, a row every six hours."""
    moments = pd.date_range(TEN - timedelta(days=10), TEN, freq="6h", unit="ms", inclusive="right")
    for name in ("a", "b"):
        rows = pd.DataFrame({"instance_id": name, "timestamp": moments, "cpu_utilization": 1.0})
        aws.store.write_hours("validated", rows, TEN - timedelta(days=10), TEN + timedelta(hours=1), name)


def test_a_history_that_does_not_fit_into_memory_is_learned_from_in_part(
    aws, training_run, recorded, ten_days, monkeypatch, caplog
):
    # GIVEN room for half of the rows
    monkeypatch.setattr(history, "most_rows", lambda metrics, period_s: 40)

    # WHEN
    found = train.prepare(training_run)

    # THEN both instances have the newest two days, and log and MLflow say what is left out and why
    rows = aws.store.get_frame(found["key"])
    newest = rows[rows["timestamp"] > TEN - timedelta(days=2) + timedelta(hours=1)]
    assert newest.groupby("instance_id").size().tolist() == [8, 8]
    assert found["rows"] == recorded["rows"] == len(rows) <= 40
    assert recorded["left_out"].startswith(
        f"{80 - len(rows)} of 80 rows are left out, for a training to fit into 4.5 GB"
    )
    assert recorded["left_out"] in caplog.text


def test_newest_days_that_do_not_fit_are_trained_on_and_told(
    aws, training_run, recorded, ten_days, monkeypatch, caplog
):
    # GIVEN room for three rows
    monkeypatch.setattr(history, "most_rows", lambda metrics, period_s: 3)

    # WHEN / THEN
    found = train.prepare(training_run)
    assert found["rows"] >= 16
    assert f"the newest days alone are {found['rows']} rows, for which a train task needs about 0.3 GB" in caplog.text


@pytest.mark.parametrize(("kind", "outcome"), [("manual", AirflowFailException), ("scheduled", AirflowSkipException)])
def test_without_rows_a_run_by_hand_fails_and_a_scheduled_one_waits_for_them(aws, context, recorded, kind, outcome):
    # GIVEN / WHEN / THEN both say what to run
    with pytest.raises(outcome, match="run export_metrics"):
        train.prepare({**context, "dag_run": runs.run(TEN, kind)})


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
            EVENTS,
            FIVE,
            "a retrain was requested: label distribution",
            id="request",
        ),
        pytest.param(CHAMPION, 1, TO_LEARN, ["kmeans"], "kmeans is refreshed", id="request of a refresh"),
    ],
)
def test_a_run_is_a_refresh_or_a_contest_and_says_why(
    aws, training_run, recorded, validated, kept, champion, days, more, families, why
):
    # GIVEN a contest some days before this run
    if days is not None:
        at = training_run["dag_run"].run_after - timedelta(days=days)
        contest_log.write(
            aws.store, "20261101T000000Z", dag_run="earlier", at=at, champion="kmeans", wins={"dbscan": 2}, decision={}
        )
    recorded["champion"] = champion

    # WHEN
    found = runs.handed_on(train.prepare({**training_run, **more}))

    # THEN
    assert sorted(found["families"]) == sorted(families)
    assert found["kind"] == ("contest" if len(families) > 1 else "refresh")
    assert why in found["why"]
    assert (recorded["kind"], recorded["why"]) == (found["kind"], found["why"])
    assert found["wins"] == ({"dbscan": 2} if champion and days else {})


def test_the_artifact_of_the_champion_must_be_there(aws, training_run):
    # GIVEN rows, and a champion whose artifact is gone
    rows = pd.DataFrame({"instance_id": "a", "timestamp": pd.DatetimeIndex([TEN]).as_unit("ms"), "cpu": 1.0})
    aws.store.put_frame("training/T1/rows.parquet", rows)

    # WHEN / THEN
    with pytest.raises(AirflowFailException, match="restore it from the bucket's versions"):
        train.train_family(training("refresh", CHAMPION, key="training/T1/rows.parquet"), "kmeans")


def packed_otherwise(aws, served):
    aws.store.put_bytes(f"artifacts/{CHAMPION.digest}.zip", b"no zip that this version knows")


def watching_less(aws, served):
    names = CATALOGUE.names
    fewer = catalogue.Catalogue(tuple(metric for metric in CATALOGUE.metrics if metric.name != names[-1]))
    other = fit_candidate(rows(n=300), fewer, INVENTORY, Recipe("kmeans"), "T0")
    aws.store.put_bytes(f"artifacts/{CHAMPION.digest}.zip", archive.pack(other.document, other.arrays))


def without_settings(aws, served):
    document = {name: value for name, value in served.document.items() if name != "settings"}
    aws.store.put_bytes(f"artifacts/{CHAMPION.digest}.zip", archive.pack(document, served.arrays))


@pytest.mark.parametrize(
    ("put", "why"),
    [
        (packed_otherwise, "version 2 was packed by another version of Riskwatch"),
        (without_settings, "version 2 was packed by another version of Riskwatch"),
        (watching_less, f"differ in the metrics: {CATALOGUE.names[-1]}"),
    ],
)
def test_a_champion_that_cannot_be_refreshed_is_contested(aws, training_run, recorded, validated, served, put, why):
    # GIVEN a contest yesterday, and a champion of another version or of other metrics
    put(aws, served)
    at = training_run["dag_run"].run_after - timedelta(days=1)
    contest_log.write(aws.store, "20261101T000000Z", dag_run="earlier", at=at, champion="kmeans", wins={}, decision={})
    recorded["champion"] = CHAMPION

    # WHEN / THEN all families are fitted, the champion's with settings of its own choice, and the winner is a change
    found = train.prepare(training_run)
    assert sorted(found["families"]) == sorted(FIVE)
    assert why in found["why"]
    assert champion_model.read(aws.store, champion_model.version(CHAMPION, CATALOGUE), CATALOGUE, "ec2").settings == {}


def test_a_vetoed_champion_is_fitted_again_with_settings_of_its_own_choice(aws, training_run, kept, monkeypatch):
    # GIVEN a champion of four clusters whose refresh puts nearly all rows into one, in a contest
    frame = rows(n=300)
    aws.store.put_frame("training/T1/rows.parquet", frame)
    monkeypatch.setattr(mlflow_registry, "log_candidate", lambda *given: "child")
    served_as = []

    def vetoed(figures):
        served_as.append(figures["fidelity"])
        return ["one level cluster holds too much"] if len(served_as) == 1 else []

    monkeypatch.setattr("riskwatch_ml.selection.guards.vetoes", vetoed)

    # WHEN
    done = train.train_family(training("contest", CHAMPION, key="training/T1/rows.parquet"), "kmeans")

    # THEN the second fit is the candidate
    summary = aws.store.get_json(done["key"])
    assert summary["given_up"] == "one level cluster holds too much"
    free = fit_candidate(frame, CATALOGUE, INVENTORY, Recipe("kmeans"), "T1")
    assert summary["params"]["level.clusters"] == free.params["level.clusters"] != 4


def test_training_ids_sort_by_age_whatever_the_logical_dates(aws, context, recorded, validated):
    # GIVEN a run of today's date, and one that Airflow made later for yesterday
    today, yesterday = TEN, TEN - timedelta(days=1)
    first = runs.run(today, started=today + timedelta(seconds=2))
    catch_up = runs.run(yesterday, started=today + timedelta(minutes=5))

    # WHEN both prepare a training, the second one twice
    made = [train.prepare({**context, "dag_run": run})["training_id"] for run in (first, catch_up, catch_up)]

    # THEN the later training has the greater id, and a second try the same one
    assert made == ["20261122T100002Z", "20261122T100500Z", "20261122T100500Z"]


def test_nothing_is_refreshed_while_what_serves_is_unclear(aws, training_run, recorded, validated):
    # GIVEN an alias that was moved by hand
    moved = serving.Disagreement(serving.ALIAS, "it was moved by hand")
    recorded["serving"] = replace(agreeing(CHAMPION), disagreements=(moved,))

    # WHEN / THEN
    with pytest.raises(serving.DisagreementError, match="moved by hand"):
        train.prepare(training_run)
    assert aws.store.keys("training/") == []


def test_rows_ahead_of_now_do_not_move_the_interval_and_are_not_learned(aws, training_run, recorded, ten_days):
    # GIVEN rows that an earlier release has validated: one four months ahead, one later in this hour
    aws.use(history_days=2)
    for ahead in (timedelta(days=120), timedelta(minutes=50)):
        moment = TEN + ahead
        rows = pd.DataFrame({"instance_id": "c", "timestamp": [moment], "cpu_utilization": 1.0})
        rows["timestamp"] = rows["timestamp"].astype("datetime64[ms, UTC]")
        hour = moment.replace(minute=0)
        aws.store.write_hours("validated", rows, hour, hour + timedelta(hours=1), "csv")

    # WHEN
    train.prepare(training_run)

    # THEN the interval ends now, at 10:07:30, with the rows of the others
    assert (recorded["instances"], recorded["last_row"]) == (2, "2026-11-22T10:00:00.000Z")
    assert recorded["rows"] == 18 - 2


def test_rows_of_an_open_episode_are_left_out_and_those_of_a_new_normal_are_told(aws, training_run, recorded, ten_days):
    # GIVEN an episode that opened ten hours ago, and one that is older than the limit of a day
    episodes.write(aws.dynamodb, "a", TEN - timedelta(hours=10))
    busy = {**episodes.REASON, "feature": "cpu_utilization"}
    learned = episodes.write(aws.dynamodb, "b", TEN - timedelta(days=8, hours=-1), reasons=(busy,))

    # WHEN
    found = runs.handed_on(train.prepare(training_run))

    # THEN the rows of the one are left out, and those of the other before it opened
    kept = aws.store.get_frame(found["key"])
    assert (kept["instance_id"] == "a").sum() == 40 - 2
    assert kept.loc[kept["instance_id"] == "b", "timestamp"].min() == TEN - timedelta(days=7, hours=18)
    assert "2 rows in an open episode, 8 rows before the new normal of their instance" in recorded["left_out"]
    # AND the model is told which episode it ends, with what changed
    (entry,) = found["new_normals"]
    assert entry["episode_id"] == learned.episode_id
    assert [change["feature"] for change in entry["changes"]] == ["cpu_utilization"]


def test_a_training_whose_rows_all_lie_in_open_episodes_fails_and_says_so(aws, training_run, recorded, ten_days):
    for name in ("a", "b"):
        episodes.write(aws.dynamodb, name, TEN - timedelta(days=11))
    aws.use(new_normal_hours=24 * 30)
    with pytest.raises(AirflowFailException, match="all 80 rows lie in open episodes: what serves stays"):
        train.prepare(training_run)


def test_a_training_without_the_table_is_tried_again(aws, training_run, recorded, ten_days):
    aws.dynamodb.failing_reads = 100
    with pytest.raises(TableError):
        train.prepare(training_run)


def test_an_hour_that_cannot_be_read_is_left_out_named_and_counted(aws, training_run, recorded, ten_days, caplog):
    # GIVEN a damaged object
    key = aws.store.keys("validated/")[3]
    aws.store.put_bytes(key, b"PAR1 and then something else")

    # WHEN
    found = train.prepare(training_run)

    # THEN
    assert found["rows"] == 80 - 1
    assert recorded["left_out"] == "1 objects of validated/ that cannot be read"
    assert f"left out: s3://bucket/{key} is no Parquet file" in caplog.text


def test_a_training_without_a_readable_hour_fails_and_names_one(aws, training_run, recorded, ten_days):
    for key in aws.store.keys("validated/"):
        aws.store.put_bytes(key, b"")
    with pytest.raises(AirflowFailException, match=r"no hour of validated/ can be read; the first: s3://bucket/valid"):
        train.prepare(training_run)

"""Tasks of watch_model: when a retrain is asked for, and that the request is announced only then."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest
from airflow.sdk.exceptions import AirflowSkipException

from riskwatch_airflow import past_episodes
from riskwatch_airflow.assets import RETRAIN_REQUEST
from riskwatch_airflow.tasks import watch
from riskwatch_ml.artifact import archive
from riskwatch_ml.core import clock, settings
from riskwatch_ml.features.left_out import PastEpisode
from riskwatch_ml.monitoring import alert_volume
from riskwatch_ml.monitoring import retrain as monitoring_retrain
from riskwatch_ml.registry import serving
from riskwatch_ml.storage import keys, labelled_rows
from riskwatch_ml.storage.parquet import DamagedObjectError
from tests.support import runs
from tests.support.serving import agreeing
from tests.support.trainings import CHAMPION
from tests.unit.riskwatch_airflow.conftest import stand_in

NOW = datetime(2026, 11, 22, 10, 7, 30, tzinfo=UTC)
RUN = datetime(2026, 11, 22, 10, 5, tzinfo=UTC)


def report(hour, violated, retrain=False, model_id="m"):
    return {
        "at": f"2026-11-22T{hour:02d}:15:00.000Z",
        "model_id": model_id,
        "distribution": {"violated": violated},
        "retrain": retrain,
    }


@pytest.mark.parametrize(
    ("violated", "others", "wanted"),
    [
        (True, [], False),
        (True, [report(8, False), report(9, True)], True),
        (True, [report(8, True), report(9, False)], True),
        (True, [report(7, True), report(8, False), report(9, False)], False),  # only the two before count
        (False, [report(8, True), report(9, True)], False),  # the newest must violate
        (True, [report(8, True, retrain=True), report(9, True)], False),  # asked within the day
        (True, [report(8, True, model_id="old"), report(9, True, model_id="old")], False),
        # The model before asked within the day: its successor does not ask again.
        (True, [report(7, True, retrain=True, model_id="old"), report(8, True), report(9, True)], False),
        # A run of ten that is cleared later: what came after does not support it, a request of then stands against it.
        (True, [report(9, False), report(11, True), report(12, True)], False),
        (True, [report(9, True), report(11, True, retrain=True)], False),
    ],
)
def test_two_of_three_reports_and_the_newest_once_a_day(violated, others, wanted):
    # GIVEN / WHEN / THEN
    assert monitoring_retrain.retrain_wanted(report(10, violated), others) is wanted


def test_a_request_is_announced_only_when_asked_for(context):
    # GIVEN two reports
    asked = {"key": "watch/x.json", "model_id": "m", "retrain": True, "reason": "label distribution", "rows": 1}

    # WHEN / THEN
    with pytest.raises(AirflowSkipException):
        watch.request(context, {**asked, "retrain": False})
    assert context["outlet_events"] == {}
    watch.request(context, asked)
    assert context["outlet_events"][RETRAIN_REQUEST].extra["model_id"] == "m"


def test_an_episode_to_learn_asks_for_a_refresh(context):
    # GIVEN a report without drift
    asked = {"key": "k", "model_id": "m", "retrain": False, "reason": "label distribution", "rows": 1, "findings": []}

    # WHEN
    watch.request(context, {**asked, "refresh": ["web-1.1", "web-2.1"]})

    # THEN
    extra = context["outlet_events"][RETRAIN_REQUEST].extra
    assert (extra["kind"], extra["reason"]) == (
        "refresh",
        "open for long enough to be learned as normal: web-1.1, web-2.1",
    )


@pytest.fixture
def agreeing_champion(aws, context, monkeypatch):
    """A champion that learned half Idle, half Normal, in service; the bucket has no labelled rows."""
    document = {"model_id": "m", "reference": {"levels": {"Idle": 0.5, "Normal": 0.5}, "unusual": 0.0}}
    aws.serving = agreeing(replace(CHAMPION, digest="d"))
    for name in ("read", "read_without_mlflow"):
        stand_in(monkeypatch, serving, name, lambda *given: aws.serving)
    stand_in(monkeypatch, archive, "unpack", lambda zip_bytes: (document, {}))
    stand_in(monkeypatch, alert_volume, "count", lambda client, table, days, kinds: {"episodes": len(days)})
    aws.store.put_bytes("artifacts/d.zip", b"zip")
    context["dag_run"] = runs.run(RUN)
    return aws


@pytest.fixture
def champion(agreeing_champion, monkeypatch):
    """The champion in service; 300 of its rows are all Normal, an older model's all Idle."""
    aws = agreeing_champion
    aws.rows = pd.DataFrame(
        {
            "instance_id": "a",
            "timestamp": pd.date_range(RUN - timedelta(hours=23), periods=600, freq="2min", tz="UTC", unit="ms"),
            "level": ["Idle", "Normal"] * 300,
            "unusual": False,
            "model_id": ["old", "m"] * 300,
        }
    )
    stand_in(
        monkeypatch,
        labelled_rows,
        "recent",
        lambda store, start, end, columns: aws.rows.loc[
            (aws.rows["timestamp"] >= start) & (aws.rows["timestamp"] < end), ["timestamp", *columns]
        ],
    )
    return aws


def test_a_report_compares_only_the_rows_of_the_champion(champion, context):
    # GIVEN / WHEN the run of 10:05 is late, at 10:07:30
    recorded = runs.handed_on(watch.measure(context))

    # THEN the report is of the 24 hours before the run
    report = champion.store.get_json(recorded["key"])
    assert (recorded["key"], report["at"]) == ("watch/2026-11-22T10:05:00.000Z.json", "2026-11-22T10:05:00.000Z")
    assert (report["rows"], report["distribution"]["levels"]["Normal"]) == (300, 1.0)
    assert (report["distribution"]["violated"], report["distribution"]["hours"]) == (True, 21)
    assert report["alerts"] == {"days": ["2026-11-21", "2026-11-22"], "episodes": 2}
    assert recorded["retrain"] is False


@pytest.mark.usefixtures("agreeing_champion")
def test_labelled_rows_of_another_schema_are_named_not_left_out(aws, context):
    # GIVEN validated rows in the place of an hour of labelled ones
    key = keys.hour_key(keys.LABELLED_ROWS, RUN - timedelta(hours=3))
    moments = pd.date_range(RUN - timedelta(hours=3), periods=3, freq="min", unit="ms")
    aws.store.put_frame(key, pd.DataFrame({"instance_id": "a", "timestamp": moments, "cpu": 1.0}))

    # WHEN / THEN
    with pytest.raises(DamagedObjectError, match=f"{key} is no Parquet .* restore its previous version"):
        watch.measure(context)
    assert aws.store.keys(keys.REPORTS) == []


def test_a_retry_is_the_same_report_and_does_not_count_itself(champion, context, monkeypatch):
    # GIVEN a report of an hour before that violates, and one of the day before that asked, 24 hours ago
    at = RUN - timedelta(days=1)
    old = {"at": clock.iso(at), "model_id": "m", "distribution": {"violated": True}, "retrain": True}
    last = {**old, "at": clock.iso(RUN - timedelta(hours=1)), "retrain": False}
    for item in (old, last):
        champion.store.put_json(f"watch/{item['at']}.json", item)

    # WHEN the task runs, and again later, and the run after it measures the same
    first = watch.measure(context)
    monkeypatch.setattr(clock, "now", lambda: NOW + timedelta(minutes=3))
    again = watch.measure(context)
    context["dag_run"] = runs.run(RUN + timedelta(hours=1))
    following = watch.measure(context)

    # THEN a retrain is asked for both times by the one run, in one report, and not by the next run
    assert first == again
    assert (first["retrain"], following["retrain"]) == (True, False)
    assert len(champion.store.keys("watch/")) == 4


def test_promotions_do_not_make_a_chain_of_retrainings(champion, context):
    # GIVEN a model that has labelled two hours of one morning, enough rows, none of them as the whole day is
    champion.rows.loc[champion.rows["timestamp"] < RUN - timedelta(hours=5), "model_id"] = "old"
    champion.rows = champion.rows.loc[champion.rows.index.repeat(4)]

    # WHEN the runs of the next hours measure
    recorded = []
    for hours in range(3):
        context["dag_run"] = runs.run(RUN + timedelta(hours=hours))
        recorded.append(watch.measure(context))

    # THEN the distance is beyond the limit, and none is a violation
    report = champion.store.get_json(recorded[0]["key"])
    assert report["distribution"]["distance"] > report["distribution"]["limit"]
    assert (report["rows"] >= 100, report["distribution"]["enough"]) == (True, False)
    assert [each["retrain"] for each in recorded] == [False, False, False]


def test_without_a_champion_there_is_nothing_to_watch(aws, context, monkeypatch):
    # GIVEN / WHEN / THEN
    for name in ("read", "read_without_mlflow"):
        stand_in(monkeypatch, serving, name, lambda *given: agreeing(None))
    with pytest.raises(AirflowSkipException, match="no model is in service"):
        watch.measure(context)


def test_what_the_alias_serves_is_measured_and_zero_rows_is_a_finding(champion, context, monkeypatch):
    # GIVEN an alias moved by hand to another model, which has labelled nothing yet
    moved = serving.Disagreement(serving.ALIAS, "alias 'live' points to function version 2: it was moved by hand")
    champion.serving = replace(
        champion.serving, target=serving.AliasTarget("2", "e"), entry=None, disagreements=(moved,)
    )
    champion.store.put_bytes("artifacts/e.zip", b"zip")
    document = {"model_id": "m-2", "reference": {"levels": {"Idle": 0.5, "Normal": 0.5}, "unusual": 0.0}}
    stand_in(monkeypatch, archive, "unpack", lambda zip_bytes: (document, {}))

    # WHEN
    recorded = runs.handed_on(watch.measure(context))

    # THEN the report is about that model, and says that it measured nothing
    report = champion.store.get_json(recorded["key"])
    assert (report["model_id"], report["rows"]) == ("m-2", 0)
    assert report["findings"] == recorded["findings"]
    assert report["findings"][0] == moved.text
    assert "model m-2, which serves as function version 2, has labelled no row" in report["findings"][1]


def test_a_model_that_labels_rows_has_no_finding(champion, context):
    # GIVEN / WHEN / THEN
    assert watch.measure(context)["findings"] == []


def test_a_refresh_is_asked_for_once_for_each_episode_that_may_be_learned(champion, context, monkeypatch):
    # GIVEN rows of each hour, episodes that opened 13 and 11 hours before the run, one that ended as normal, and one of
    # a database, which no training learns
    def opened(name, hours, is_open=True):
        since_ms = clock.epoch_ms(RUN - timedelta(hours=hours))
        return PastEpisode(name, since_ms, is_open, f"{name}.1")

    for hour in range(3):
        champion.store.put_bytes(keys.hour_key(keys.VALIDATED, RUN - timedelta(hours=1 - hour)), b"rows")
    config = settings.Settings(**{**vars(settings.load()), "catalogue": ("ec2", "rds")})
    monkeypatch.setattr(settings, "load", lambda: config)
    episodes = [opened("b", 13), opened("a", 11), opened("c", 30, is_open=False), opened("rds/orders", 13)]
    stand_in(monkeypatch, past_episodes, "read", lambda config, start, end: episodes)

    # WHEN the task runs, is tried again, and runs in the two hours after
    asked = [watch.measure(context)["refresh"], watch.measure(context)["refresh"]]
    for hours in (1, 2):
        context["dag_run"] = runs.run(RUN + timedelta(hours=hours))
        asked.append(watch.measure(context)["refresh"])

    # THEN
    assert asked == [["b.1"], ["b.1"], ["a.1"], []]


def test_an_episode_is_learned_at_the_end_of_the_rows_of_a_training(champion, context, monkeypatch):
    # GIVEN rows until ten, and an episode that is twelve hours old at 10:03, before the run of 10:05
    champion.store.put_bytes(keys.hour_key(keys.VALIDATED, RUN - timedelta(hours=1)), b"rows")
    since_ms = clock.epoch_ms(RUN - timedelta(hours=12, minutes=2))
    episodes = [PastEpisode("a", since_ms, True, "a.1")]
    stand_in(monkeypatch, past_episodes, "read", lambda config, start, end: episodes)

    # WHEN / THEN a training would still leave it out; an hour later it learns it
    assert watch.measure(context)["refresh"] == []
    champion.store.put_bytes(keys.hour_key(keys.VALIDATED, RUN), b"rows")
    context["dag_run"] = runs.run(RUN + timedelta(hours=1))
    assert watch.measure(context)["refresh"] == ["a.1"]

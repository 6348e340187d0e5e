"""Tasks of watch_model: when a retrain is asked for, and that the request is announced only then."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pandas as pd
import pytest
from airflow.sdk.exceptions import AirflowSkipException

from ml import artifact, labelled, tracking
from riskwatch_airflow.assets import RETRAIN_REQUEST
from riskwatch_airflow.tasks import watch

NOW = datetime(2026, 11, 22, 10, 7, 30, tzinfo=UTC)


def report(violated, retrain=False, model_id="m"):
    return {"model_id": model_id, "distribution": {"violated": violated}, "retrain": retrain}


@pytest.mark.parametrize(
    ("newest", "earlier", "wanted"),
    [
        (True, [], False),
        (True, [report(False), report(True)], True),
        (True, [report(True), report(False)], True),
        (True, [report(True), report(False), report(False)], False),  # only the two before count
        (False, [report(True), report(True)], False),  # the newest must violate
        (True, [report(True, retrain=True), report(True)], False),  # asked within the day
        (True, [report(True, model_id="old"), report(True, model_id="old")], False),
    ],
)
def test_two_of_three_reports_and_the_newest(newest, earlier, wanted):
    # GIVEN / WHEN / THEN
    assert watch.retrain_wanted({"violated": newest}, earlier, "m") is wanted


def test_a_request_is_announced_only_when_asked_for(context):
    # GIVEN two reports
    asked = {"key": "watch/x.json", "model_id": "m", "retrain": True, "reason": "label distribution", "rows": 1}

    # WHEN / THEN
    with pytest.raises(AirflowSkipException):
        watch.request(context, {**asked, "retrain": False})
    assert context["outlet_events"] == {}
    watch.request(context, asked)
    assert context["outlet_events"][RETRAIN_REQUEST].extra["model_id"] == "m"


def test_a_report_compares_only_the_rows_of_the_champion(aws, context, monkeypatch):
    # GIVEN a champion that learned half Idle, half Normal; 300 of its rows are all Normal, an older model's all Idle
    rows = pd.DataFrame(
        {
            "instance_id": "a",
            "timestamp": pd.date_range(NOW - timedelta(hours=20), periods=600, freq="1min", unit="ms"),
            "level": ["Idle"] * 300 + ["Normal"] * 300,
            "unusual": False,
            "model_id": ["old"] * 300 + ["m"] * 300,
        }
    )
    document = {"model_id": "m", "reference": {"levels": {"Idle": 0.5, "Normal": 0.5}, "unusual": 0.0}}
    monkeypatch.setattr(tracking, "champion", lambda config: SimpleNamespace(version="1", digest="d", s3_key="k"))
    monkeypatch.setattr(artifact, "unpack", lambda zip_bytes: (document, {}))
    monkeypatch.setattr(labelled, "recent", lambda store, start, end: rows)
    monkeypatch.setattr(labelled, "alert_volume", lambda client, table, days: {"episodes": len(days)})
    aws.store.put_bytes("artifacts/d.zip", b"zip")

    # WHEN
    told = watch.measure(context)

    # THEN
    report = aws.store.get_json(told["key"])
    assert told["key"] == "watch/2026-11-22T10:07:30.000Z.json"
    assert (report["rows"], report["distribution"]["levels"]["Normal"]) == (300, 1.0)
    assert report["alerts"] == {"days": ["2026-11-21", "2026-11-22"], "episodes": 2}
    assert told["retrain"] is False


def test_without_a_champion_there_is_nothing_to_watch(aws, context, monkeypatch):
    # GIVEN / WHEN / THEN
    monkeypatch.setattr(tracking, "champion", lambda config: None)
    with pytest.raises(AirflowSkipException, match="no model is in service"):
        watch.measure(context)

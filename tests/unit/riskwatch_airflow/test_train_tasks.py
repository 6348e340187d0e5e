"""Tasks of train_models: which rows are taken, what is chosen, and what happens when nothing may serve."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pandas as pd
import pytest
from airflow.sdk.exceptions import AirflowFailException

from ml import tracking
from riskwatch_airflow.assets import CANDIDATE_MODEL
from riskwatch_airflow.tasks import train

TEN = datetime(2026, 11, 22, 10, tzinfo=UTC)
GOOD = {
    "fidelity": 1.0,
    "largest_cluster_share": 0.5,
    "prototypes": 40.0,
    "injected_vus_pr": 0.5,
    "alerts_per_instance_day": 0.5,
}


@pytest.fixture
def run(context):
    context["dag_run"] = SimpleNamespace(run_after=datetime(2026, 11, 22, 3, 30, tzinfo=UTC))
    return context


@pytest.fixture
def told(monkeypatch):
    """What MLflow was told."""
    told = {}
    monkeypatch.setattr(tracking, "open_training", lambda config, training_id, params: told.update(params) or "parent")
    monkeypatch.setattr(tracking, "close_training", lambda config, run_id, rows: told.update(closed=rows))
    monkeypatch.setattr(tracking, "register", lambda *given, **more: told.update(more) or "3")
    return told


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
    assert found == {
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
    chosen = train.choose(run, {"training_id": "T1", "run_id": "parent"}, trained)

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
        train.choose(run, {"training_id": "T1", "run_id": "parent"}, trained)
    assert told["closed"][0]["vetoes"] == ["not finite: injected_vus_pr"]
    assert run["outlet_events"] == {}

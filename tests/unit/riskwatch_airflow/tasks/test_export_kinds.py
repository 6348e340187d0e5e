"""Tasks of export_metrics for an installation with two kinds of resources."""

import pytest
from airflow.sdk.exceptions import AirflowFailException

from riskwatch_airflow.tasks import export
from riskwatch_ml.core import settings
from riskwatch_ml.schema import catalogue
from tests.support.exporting import NINE, TEN, exported


def reading(monkeypatch, *kinds):
    """Give the settings the catalogues of these kinds."""
    config = settings.Settings(**{**vars(settings.load()), "catalogue": kinds})
    monkeypatch.setattr(settings, "load", lambda: config)


@pytest.fixture
def two_kinds(aws, monkeypatch):
    """An hour of an instance and of two databases, one of which has no latency; one impossible value."""
    reading(monkeypatch, "ec2", "rds")
    aws.cloudwatch.databases |= {"orders", "users"}
    aws.cloudwatch.fill("CPUUtilization", "web-1", NINE, 12, 50.0)
    for name in ("orders", "users"):
        aws.cloudwatch.fill("CPUUtilization", name, NINE, 12, 30.0)
        aws.cloudwatch.fill("DatabaseConnections", name, NINE, 12, 8.0)
    aws.cloudwatch.fill("ReadLatency", "orders", NINE, 12, 0.002)
    aws.cloudwatch.values["ReadLatency", "orders"][NINE] = -1.0
    return aws


def test_each_kind_has_its_own_rows_metrics_and_counts(two_kinds, an_hour):
    # GIVEN / WHEN
    fetched = export.fetch(an_hour)
    report = export.validate(an_hour, export.joined([fetched]))

    # THEN one call reads both; ids of databases begin with their kind
    assert fetched["calls"] == fetched["least_calls"] == 1
    store = two_kinds.store
    assert set(store.read_hours("validated", NINE, TEN)["instance_id"]) == {"web-1"}
    databases = store.read_hours("validated/kind=rds", NINE, TEN)
    assert set(databases["instance_id"]) == {"rds/orders", "rds/users"}
    assert "memory_utilization" not in databases.columns
    assert databases["active_connections"].eq(8.0).all()

    # AND the counts are those of each kind, in the result and in the text
    assert fetched["kinds"] == {
        "ec2": {"rows": 12, "instances": 1, "metrics": 10},
        "rds": {"rows": 24, "instances": 2, "metrics": 24},
    }
    assert "ec2 12 rows of 1 instances, 10 metrics, $0.0001; rds 24 rows of 2 instances" in fetched["told"]
    assert report["kinds"] == {
        "ec2": {"rows": 12, "validated": 12, "quarantined": 0},
        "rds": {"rows": 24, "validated": 24, "quarantined": 0},
    }
    assert (report["rows"], report["values_refused"]) == (36, 1)
    assert fetched["missing"]["rds/latency_ms"] == 1
    assert fetched["missing"]["memory_utilization"] == 1
    assert len(report["data_docs"]) == 2


def test_refused_values_stay_with_their_kind(two_kinds, an_hour):
    # GIVEN / WHEN
    exported(an_hour)

    # THEN
    assert two_kinds.store.read_hours("quarantine/values", NINE, TEN).empty
    refused = two_kinds.store.read_hours("quarantine/values/kind=rds", NINE, TEN)
    assert refused[["instance_id", "metric"]].to_numpy().tolist() == [["rds/orders", "latency_ms"]]


def test_a_kind_without_instances_is_no_problem(two_kinds, an_hour):
    # GIVEN an installation whose databases are gone
    two_kinds.cloudwatch.values = {
        key: series for key, series in two_kinds.cloudwatch.values.items() if key[1] == "web-1"
    }

    # WHEN
    fetched = export.fetch(an_hour)

    # THEN
    assert fetched["kinds"]["rds"] == {"rows": 0, "instances": 0, "metrics": 0}
    assert not [name for name in (*fetched["missing"], *fetched["silent"]) if name.startswith("rds/")]


def test_an_instance_that_is_called_like_another_kind_is_not_read_as_one(two_kinds, an_hour, caplog):
    # GIVEN a host whose name begins like the id of a database
    two_kinds.cloudwatch.fill("CPUUtilization", "rds/host", NINE, 12, 50.0)

    # WHEN
    fetched = export.fetch(an_hour)

    # THEN it is left out by name
    assert fetched["kinds"]["ec2"]["instances"] == 1
    assert "rds/host" in caplog.text


def test_a_kind_that_the_settings_have_lost_is_named(two_kinds, an_hour, monkeypatch):
    # GIVEN
    fetched = export.joined([export.fetch(an_hour)])
    reading(monkeypatch, "ec2")

    # WHEN / THEN
    with pytest.raises(AirflowFailException, match="'rds', which the setting catalogue no longer has"):
        export.validate(an_hour, fetched)


def test_a_kind_that_is_quarantined_as_a_whole_is_named(two_kinds, an_hour):
    # GIVEN databases without a possible value
    for metric in catalogue.load("rds").metrics:
        for name in ("orders", "users"):
            two_kinds.cloudwatch.fill(metric.metric, name, NINE, 12, -1.0)

    # WHEN / THEN it fails though most rows of the other kind are valid, which stay written
    with pytest.raises(AirflowFailException, match="24 of 36 rows were quarantined, most of the kind rds"):
        export.validate(an_hour, export.joined([export.fetch(an_hour)]))
    assert len(two_kinds.store.read_hours("validated", NINE, TEN)) == 12

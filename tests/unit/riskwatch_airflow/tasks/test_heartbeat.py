"""The metric that says that a run has succeeded."""

from datetime import UTC, datetime

import pytest
from botocore.exceptions import ClientError

from riskwatch_airflow import clients
from riskwatch_airflow.tasks import heartbeat
from tests.support import runs
from tests.support.contract import imitates

TEN = datetime(2026, 11, 22, 10, tzinfo=UTC)


@imitates("cloudwatch")
class Metrics:
    """Takes datapoints, or refuses them with a code."""

    def __init__(self):
        self.put = []
        self.code = None

    def put_metric_data(self, **asked):
        if self.code:
            raise ClientError({"Error": {"Code": self.code, "Message": "no"}}, "PutMetricData")
        self.put.append(asked)


@pytest.fixture
def metrics(aws, monkeypatch):
    made = Metrics()
    monkeypatch.setattr(clients, "client", lambda config, name: {"cloudwatch": made}[name])
    return made


@pytest.mark.parametrize("kind", ["scheduled", "manual", "asset_triggered"])
def test_a_run_that_succeeds_is_one_datapoint_of_its_dag_and_function(metrics, kind):
    # GIVEN / WHEN
    heartbeat.report({"dag_run": runs.run(TEN, kind, dag_id="export_metrics")})

    # THEN
    (asked,) = metrics.put
    assert asked["Namespace"] == "Riskwatch"
    (datum,) = asked["MetricData"]
    assert (datum["MetricName"], datum["Value"]) == ("RunsSucceeded", 1.0)
    assert datum["Dimensions"] == [
        {"Name": "FunctionName", "Value": "risk"},
        {"Name": "DagId", "Value": "export_metrics"},
    ]


def test_a_backfill_says_nothing_of_the_schedule(metrics):
    heartbeat.report({"dag_run": runs.run(TEN, "backfill")})
    assert metrics.put == []


def test_a_missing_permission_is_named_and_leaves_the_run_green(metrics, caplog):
    # GIVEN a role that may not report
    metrics.code = "AccessDenied"

    # WHEN
    heartbeat.report({"dag_run": runs.run(TEN)})

    # THEN
    assert "allow cloudwatch:PutMetricData" in caplog.text


def test_any_other_refusal_is_tried_again_by_airflow(metrics):
    metrics.code = "Throttling"
    with pytest.raises(ClientError):
        heartbeat.report({"dag_run": runs.run(TEN)})

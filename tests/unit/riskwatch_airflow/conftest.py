"""AWS as the tasks reach it: bucket, stream, live function and metrics in memory, behind the one client factory."""

import io
import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from ml import clock, settings
from riskwatch_airflow import clients
from riskwatch_airflow.hooks.cloudwatch import CloudWatchMetricsHook
from tests.unit.bucket import Bucket

NOW = datetime(2026, 11, 22, 10, 7, 30, tzinfo=UTC)


class FakeKinesis:
    """Takes every record."""

    def __init__(self):
        self.records = []

    def put_records(self, **asked):
        self.records += [json.loads(item["Data"]) for item in asked["Records"]]
        return {"Records": [{"SequenceNumber": "1"} for _ in asked["Records"]]}


class FakeLambda:
    """Answers what `answers` has for the event's name, or raises as a function does."""

    def __init__(self):
        self.answers = {}
        self.events = []

    def invoke(self, **asked):
        event = json.loads(asked["Payload"])
        self.events.append((asked["FunctionName"], asked["Qualifier"], event))
        answer = self.answers[next(iter(event))]
        failed = {"FunctionError": "Unhandled"} if "errorMessage" in answer else {}
        return {"Payload": io.BytesIO(json.dumps(answer).encode()), **failed}


class FakeCloudWatch:
    """Metrics as {(metric, instance): {moment: value}}."""

    def __init__(self):
        self.values = {}

    def fill(self, metric, instance, start, count, value=1.0, step=timedelta(minutes=5)):
        series = self.values.setdefault((metric, instance), {})
        series.update({start + step * place: value for place in range(count)})

    def get_paginator(self, name):
        assert name == "list_metrics"
        return self

    def paginate(self, **asked):
        recent = clock.now() - timedelta(hours=3) if asked.get("RecentlyActive") == "PT3H" else None
        names = [
            instance
            for (metric, instance), series in self.values.items()
            if metric == asked["MetricName"] and (recent is None or max(series) >= recent)
        ]
        yield {"Metrics": [{"Dimensions": [{"Name": "InstanceId", "Value": name}]} for name in names]}

    def get_metric_data(self, **asked):
        results = []
        for query in asked["MetricDataQueries"]:
            metric = query["MetricStat"]["Metric"]
            series = self.values.get((metric["MetricName"], metric["Dimensions"][0]["Value"]), {})
            found = sorted(item for item in series.items() if asked["StartTime"] <= item[0] < asked["EndTime"])
            results.append(
                {
                    "Id": query["Id"],
                    "Timestamps": [item[0] for item in found],
                    "Values": [item[1] for item in found],
                    "StatusCode": "Complete",
                }
            )
        return {"MetricDataResults": results}


@pytest.fixture
def aws(monkeypatch):
    """The fakes, with settings that point to them and the clock at ten past ten."""
    made = SimpleNamespace(
        s3=Bucket(), kinesis=FakeKinesis(), function=FakeLambda(), cloudwatch=FakeCloudWatch(), dynamodb=object()
    )
    by_name = {"s3": made.s3, "kinesis": made.kinesis, "lambda": made.function, "dynamodb": made.dynamodb}
    monkeypatch.setattr(clients, "client", lambda config, name: by_name[name])
    monkeypatch.setattr(CloudWatchMetricsHook, "conn", made.cloudwatch)
    monkeypatch.setattr(CloudWatchMetricsHook, "region_name", "eu-west-1")
    monkeypatch.setattr(clock, "now", lambda: NOW)
    config = settings.Settings(
        bucket="bucket", stream="metrics", table="table", function="risk", mlflow_uri="http://mlflow"
    )
    made.config = config
    made.use = lambda **changes: monkeypatch.setattr(
        settings, "load", lambda: settings.Settings(**{**vars(config), **changes})
    )
    made.use()
    made.store = clients.store(config)
    return made


class Outlets(dict):
    """Outlet events as a task's context has them."""

    def __missing__(self, asset):
        self[asset] = SimpleNamespace(extra={})
        return self[asset]


class TaskInstance:
    """The XComs of a task instance."""

    def __init__(self):
        self.values = {}

    def xcom_push(self, key, value):
        self.values["decide", key] = json.loads(json.dumps(value))

    def xcom_pull(self, task_ids, key="return_value"):
        return self.values.get((task_ids, key))


@pytest.fixture
def context():
    """A task's context."""
    return {"outlet_events": Outlets(), "params": {}, "ti": TaskInstance()}

"""AWS as the tasks reach it: bucket, stream, live function and metrics in memory, behind the one client factory."""

import inspect
import json
from datetime import UTC, datetime, timedelta
from functools import wraps
from types import SimpleNamespace

import pandas as pd
import pytest
from airflow.sdk.execution_time import task_runner
from botocore.exceptions import ClientError
from dateutil.tz import tzlocal

from riskwatch_airflow import clients, last_day
from riskwatch_airflow.hooks.cloudwatch import CloudWatchMetricsHook
from riskwatch_ml.core import clock, settings
from riskwatch_ml.ingest.rate_limit import TokenBucket
from riskwatch_ml.registry import mlflow_registry, serving
from tests.support import exporting, runs
from tests.support.bucket import Bucket, body
from tests.support.contract import imitates
from tests.support.fakes import FakeDynamoDB
from tests.support.promotion import Topic
from tests.support.serving import agreeing
from tests.support.trainings import TEN

STATISTICS = {"Average": lambda values: sum(values) / len(values), "Sum": sum, "Maximum": max}
NOW = datetime(2026, 11, 22, 10, 7, 30, tzinfo=UTC)


@imitates("kinesis")
class FakeKinesis:
    """Takes every record."""

    def __init__(self):
        self.records = []

    def put_records(self, **asked):
        self.records += [json.loads(item["Data"]) for item in asked["Records"]]
        return {"Records": [{"SequenceNumber": "1"} for _ in asked["Records"]]}


@imitates("lambda")
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
        return {"Payload": body(json.dumps(answer).encode()), **failed}


@imitates("cloudwatch", pages="list_metrics")
class FakeCloudWatch:
    """Metrics as {(metric, instance): {moment: value}}; `dies_at` is the call, counted from 1, that fails.

    `databases` are the instances that a DBInstanceIdentifier names, all others have an InstanceId.

    Sums, averages and extremes over a longer period are made of the values in it.
    """

    def __init__(self):
        self.values = {}
        self.calls = []
        self.databases = set()
        self.dies_at = None

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
        wanted = {dimension["Name"] for dimension in asked.get("Dimensions", ())}
        listed = [{"Name": self._dimension(name), "Value": name} for name in names]
        yield {"Metrics": [{"Dimensions": [item]} for item in listed if not wanted or item["Name"] in wanted]}

    def _dimension(self, name):
        return "DBInstanceIdentifier" if name in self.databases else "InstanceId"

    def get_metric_data(self, **asked):
        self.calls.append(asked)
        if len(self.calls) == self.dies_at:
            raise ConnectionError("the machine went away")
        results = []
        for query in asked["MetricDataQueries"]:
            metric = query["MetricStat"]["Metric"]
            series = self.values.get((metric["MetricName"], metric["Dimensions"][0]["Value"]), {})
            found = {}
            for moment, value in sorted(series.items()):
                if asked["StartTime"] <= moment < asked["EndTime"]:
                    found.setdefault(clock.floor(moment, query["MetricStat"]["Period"]), []).append(value)
            made = STATISTICS[query["MetricStat"]["Stat"]]
            results.append(
                {
                    "Id": query["Id"],
                    # botocore reads times into the zone of the machine.
                    "Timestamps": [moment.astimezone(tzlocal()) for moment in found],
                    "Values": [made(values) for values in found.values()],
                    "StatusCode": "Complete",
                }
            )
        return {"MetricDataResults": results}


@imitates("resourcegroupstaggingapi", pages="get_resources")
class FakeTagging:
    """The tagging API: resources as {arn: {tag: value}}."""

    def __init__(self):
        self.resources = {}
        self.asked = []
        self.denied = False

    def get_paginator(self, name):
        assert name == "get_resources"
        return self

    def paginate(self, **asked):
        self.asked.append(asked)
        if self.denied:
            raise ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "GetResources")
        for arn, tags in self.resources.items():
            if asked["TagFilters"][0]["Key"] in tags:
                listed = [{"Key": key, "Value": value} for key, value in tags.items()]
                yield {"ResourceTagMappingList": [{"ResourceARN": arn, "Tags": listed}]}


@pytest.fixture
def aws(monkeypatch):
    """The fakes, with settings that point to them and the clock at ten past ten."""
    made = SimpleNamespace(
        s3=Bucket(),
        kinesis=FakeKinesis(),
        function=FakeLambda(),
        cloudwatch=FakeCloudWatch(),
        tagging=FakeTagging(),
        dynamodb=FakeDynamoDB(),
    )
    by_name = {"s3": made.s3, "kinesis": made.kinesis, "lambda": made.function, "dynamodb": made.dynamodb}
    monkeypatch.setattr(clients, "client", lambda config, name: by_name[name])
    monkeypatch.setattr(CloudWatchMetricsHook, "conn", made.cloudwatch)
    monkeypatch.setattr(CloudWatchMetricsHook, "_client_of", lambda hook, service: made.tagging)
    monkeypatch.setattr(CloudWatchMetricsHook, "region_name", "eu-west-1")
    monkeypatch.setattr(TokenBucket, "wait", lambda rate, points, age_s: None)
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


@pytest.fixture
def supervisor(monkeypatch):
    """What a task instance talks to."""
    made = runs.Supervisor()
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", made, raising=False)
    return made


@pytest.fixture
def context(supervisor):
    """The context of a task in a run by hand."""
    made = runs.context(runs.run(TEN, "manual"), "decide")
    yield made
    runs.check_events(made["outlet_events"])


@pytest.fixture
def an_hour(context):
    """A task's context in a run of export_metrics over the hour from nine."""
    return {**context, **runs.times(exporting.NINE, exporting.TEN), "dag_run": runs.run(exporting.TEN, "manual")}


@pytest.fixture
def training_run(supervisor):
    """The context of the task choose in a run of train_models on its schedule."""
    made = runs.context(runs.run(datetime(2026, 11, 22, 3, 30, tzinfo=UTC)), "choose")
    yield made
    runs.check_events(made["outlet_events"])


def stand_in(monkeypatch, module, name, answer):
    """Replace a function of a module by one that refuses the calls which the function itself would refuse."""
    original = getattr(module, name)

    @wraps(original)
    def replaced(*given, **more):
        inspect.signature(original).bind(*given, **more)
        return answer(*given, **more)

    monkeypatch.setattr(module, name, replaced)


@pytest.fixture
def recorded(monkeypatch):
    """What MLflow was told."""
    recorded = {}
    stand_in(
        monkeypatch,
        mlflow_registry,
        "open_training",
        lambda config, training_id, params: recorded.update(params) or "parent",
    )
    stand_in(
        monkeypatch, mlflow_registry, "close_training", lambda *given, why: recorded.update(closed=given[2], why=why)
    )
    stand_in(monkeypatch, mlflow_registry, "register", lambda *given, **more: recorded.update(more) or "3")
    stand_in(monkeypatch, serving, "read", lambda *given: recorded.get("serving") or agreeing(recorded.get("champion")))
    return recorded


@pytest.fixture
def topic(aws, monkeypatch):
    """The operations topic of an installation."""
    made, other = Topic(), clients.client
    monkeypatch.setattr(clients, "client", lambda config, name: made if name == "sns" else other(config, name))
    aws.use(operations_topic_arn="arn")
    return made


@pytest.fixture
def same_pages(monkeypatch):
    """A comparison with the champion that finds no difference."""
    stand_in(monkeypatch, last_day, "compared", lambda *given: ("", None))


@pytest.fixture
def validated(aws):
    """A row to train on."""
    rows = pd.DataFrame({"instance_id": "a", "timestamp": pd.DatetimeIndex([TEN]).as_unit("ms"), "cpu": 1.0})
    aws.store.write_hours("validated", rows, TEN, TEN + timedelta(hours=1))

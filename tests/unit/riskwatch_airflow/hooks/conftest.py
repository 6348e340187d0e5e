"""CloudWatch in memory, and the hook that reads it."""

from datetime import UTC, datetime, timedelta

import pytest

from riskwatch_airflow.hooks.cloudwatch import CloudWatchMetricsHook
from riskwatch_ml.ingest.call_plan import InstancesOfKind
from riskwatch_ml.ingest.rate_limit import TokenBucket
from riskwatch_ml.schema import catalogue
from riskwatch_ml.schema.catalogue import Catalogue
from tests.support.contract import imitates

TEN = datetime(2026, 11, 22, 10, tzinfo=UTC)
ALL = catalogue.load()
TWO = Catalogue(ALL.metrics[:3:2])  # cpu_utilization, and disk_read_mb with scale 1e-6


@imitates("cloudwatch", pages="list_metrics")
class CloudWatch:
    """CloudWatch with the limits of the real one: 500 queries, 100,800 points, pages of `page` results."""

    def __init__(self, page=500, script=lambda call, name: "Complete"):
        self.page = page
        self.script = script
        self.calls = []
        self.listed = []

    def get_metric_data(self, **asked):
        queries = asked["MetricDataQueries"]
        period = queries[0]["MetricStat"]["Period"]
        points = int((asked["EndTime"] - asked["StartTime"]).total_seconds()) // period
        assert len(queries) <= 500
        assert len(queries) * points <= 100_800
        assert asked["ScanBy"] == "TimestampAscending"
        self.calls.append(asked)
        first = int(asked.get("NextToken", 0))
        shown = queries[first : first + self.page]
        answer = {"MetricDataResults": [self._result(query, asked, points, period) for query in shown], "Messages": []}
        if first + self.page < len(queries):
            answer["NextToken"] = str(first + self.page)
        return answer

    def _result(self, query, asked, points, period):
        status = self.script(len(self.calls), query["Id"])
        kept = points if status == "Complete" else points // 2
        moments = [asked["StartTime"] + timedelta(seconds=period * place) for place in range(kept)]
        return {"Id": query["Id"], "Timestamps": moments, "Values": [2.0] * kept, "StatusCode": status, "Messages": []}

    def get_paginator(self, name):
        assert name == "list_metrics"
        return self

    def paginate(self, **asked):
        self.listed.append(asked)
        names = ["i-2", "i-1"] if asked["MetricName"] == "CPUUtilization" else ["i-3"]
        for name in names:
            yield {"Metrics": [{"Dimensions": [{"Name": "InstanceId", "Value": name}]}]}
        yield {
            "Metrics": [
                {"Dimensions": [{"Name": "InstanceId", "Value": "i-9"}, {"Name": "path", "Value": "/"}]},
                {"Dimensions": [{"Name": "ImageId", "Value": "ami-1"}]},
            ]
        }


def rows_of(reader, instances, catalogue, start, end, period_s, **kwargs):
    """Return the metric rows of instances of one kind."""
    (found,) = reader.metric_rows([InstancesOfKind(catalogue, instances)], start, end, period_s, **kwargs)
    return found


@pytest.fixture
def hook(monkeypatch):
    """A hook whose client is the CloudWatch given to it, and whose allowance is never used up."""

    def build(client, **kwargs):
        made = CloudWatchMetricsHook(aws_conn_id=None, **kwargs)
        monkeypatch.setattr(CloudWatchMetricsHook, "conn", client)
        monkeypatch.setattr(TokenBucket, "wait", lambda rate, points, age_s: None)
        monkeypatch.setattr(made.rate, "sleep", lambda seconds: None)
        return made

    return build

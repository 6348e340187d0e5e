"""The CloudWatch hook: calls within the limits, tokens, statuses, instances."""

import math
from datetime import UTC, datetime, timedelta

import pytest

from ml import catalogue
from riskwatch_airflow.hooks import cloudwatch
from riskwatch_airflow.hooks.cloudwatch import CloudWatchError, CloudWatchMetricsHook, aged_out, plan

TEN = datetime(2026, 11, 22, 10, tzinfo=UTC)
ALL = catalogue.load()
TWO = catalogue.Catalogue(ALL.metrics[:3:2])  # cpu_utilization, and disk_read_mb with scale 1e-6


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


@pytest.fixture
def hook(monkeypatch):
    """A hook whose client is the CloudWatch given to it."""

    def build(client):
        made = CloudWatchMetricsHook(aws_conn_id=None)
        monkeypatch.setattr(CloudWatchMetricsHook, "conn", client)
        return made

    return build


@pytest.mark.parametrize(
    ("queries", "points", "calls"),
    [
        (1, 1, 1),
        (500, 201, 1),  # 100,500 points
        (500, 202, 2),  # 101,000 points
        (501, 1, 2),
        (200, 8064, 16),  # 28 days at 300 s: 1,612,800 points are 16 calls exactly
        (1, 100_801, 2),
        (100_000, 13, 200),
    ],
)
def test_plan_needs_the_fewest_calls_within_both_limits(queries, points, calls):
    # GIVEN / WHEN
    width, span = plan(queries, points)

    # THEN
    assert width <= 500
    assert width * span <= 100_800
    assert math.ceil(queries / width) * math.ceil(points / span) == calls


def test_rows_of_a_long_interval_come_in_one_piece(hook):
    # GIVEN 300 instances of two metrics and two days: 600 queries of 576 points
    client = CloudWatch()
    instances = [f"i-{place:03d}" for place in range(300)]

    # WHEN
    found = hook(client).metric_rows(instances, TWO, TEN - timedelta(days=2), TEN, 300)

    # THEN 345,600 points need four calls at least, every point is there once, values are scaled
    assert len(client.calls) == 4
    assert len(found.rows) == 300 * 576
    assert found.duplicates == 0
    assert found.rows["timestamp"].min() == TEN - timedelta(days=2)
    assert found.rows["timestamp"].max() == TEN - timedelta(seconds=300)
    assert set(found.rows["cpu_utilization"]) == {2.0}
    assert set(found.rows["disk_read_mb"]) == {2e-6}


def test_tokens_are_followed(hook):
    # GIVEN pages of three results
    client = CloudWatch(page=3)

    # WHEN
    found = hook(client).metric_rows(["a", "b", "c", "d"], TWO, TEN, TEN + timedelta(minutes=10), 300)

    # THEN eight queries are three pages
    assert [call.get("NextToken") for call in client.calls] == [None, "3", "6"]
    assert len(found.rows) == 8


@pytest.mark.parametrize("status", ["PartialData", "InternalError"])
def test_incomplete_results_are_asked_for_again_alone(hook, status):
    # GIVEN one result that stays incomplete in the first call
    client = CloudWatch(script=lambda call, name: status if (call, name) == (1, "m1") else "Complete")

    # WHEN
    found = hook(client).metric_rows(["a", "b"], TWO, TEN, TEN + timedelta(hours=1), 300)

    # THEN only that one is asked for again, and what it had delivered is not counted twice
    assert [[query["Id"] for query in call["MetricDataQueries"]] for call in client.calls] == [
        ["m0", "m1", "m2", "m3"],
        ["m1"],
    ]
    assert found.rows.notna().all(axis=None) or found.rows[list(TWO.names)].notna().all(axis=None)
    assert found.duplicates == 0


def test_results_that_stay_incomplete_are_an_error(hook):
    # GIVEN
    client = CloudWatch(script=lambda call, name: "InternalError" if name == "m1" else "Complete")

    # WHEN / THEN
    with pytest.raises(CloudWatchError, match=r"1 results .* AWS/EC2 EBSReadBytes of a: InternalError"):
        hook(client).metric_rows(["a"], TWO, TEN, TEN + timedelta(hours=1), 300)
    assert len(client.calls) == cloudwatch.ATTEMPTS


def test_forbidden_is_an_error_at_once(hook):
    # GIVEN
    client = CloudWatch(script=lambda call, name: "Forbidden")

    # WHEN / THEN
    with pytest.raises(CloudWatchError, match="AWS/EC2 CPUUtilization of a may not be read: allow"):
        hook(client).metric_rows(["a"], TWO, TEN, TEN + timedelta(hours=1), 300)
    assert len(client.calls) == 1


@pytest.mark.parametrize(
    ("start", "end", "words"),
    [
        (TEN, TEN, "is empty"),
        (TEN + timedelta(hours=1), TEN, "is empty"),
        (TEN + timedelta(minutes=1), TEN + timedelta(hours=1), "start .* not on the grid of 300 s"),
    ],
)
def test_intervals_that_cannot_be_asked_for(hook, start, end, words):
    # GIVEN / WHEN / THEN
    with pytest.raises(CloudWatchError, match=words):
        hook(CloudWatch()).metric_rows(["a"], TWO, start, end, 300)


def test_instances_of_any_metric_with_exactly_the_dimensions_of_the_catalogue(hook):
    # GIVEN instances spread over two metrics, one with a further dimension
    client = CloudWatch()

    # WHEN
    found = hook(client).instances(TWO, recently_active=True)

    # THEN
    assert found == ["i-1", "i-2", "i-3"]
    assert client.listed[0] == {
        "Namespace": "AWS/EC2",
        "MetricName": "CPUUtilization",
        "Dimensions": [{"Name": "InstanceId"}],
        "RecentlyActive": "PT3H",
    }


def test_no_instance_is_no_call(hook):
    # GIVEN / WHEN
    client = CloudWatch()
    found = hook(client).metric_rows([], TWO, TEN, TEN + timedelta(hours=1), 300)

    # THEN
    assert found.rows.empty
    assert client.calls == []


def test_the_retention_cliff_is_named():
    # GIVEN / WHEN / THEN
    assert aged_out(TEN - timedelta(days=62), 300, TEN) is None
    assert "63 days" in aged_out(TEN - timedelta(days=64), 300, TEN)
    assert "15 days" in aged_out(TEN - timedelta(days=16), 60, TEN)
    assert "3 hours" in aged_out(TEN - timedelta(hours=4), 30, TEN)


def test_the_hook_is_the_providers_with_long_reads():
    # GIVEN / WHEN
    made = CloudWatchMetricsHook(aws_conn_id=None)

    # THEN
    assert made.client_type == "cloudwatch"
    assert made.config.read_timeout == 180

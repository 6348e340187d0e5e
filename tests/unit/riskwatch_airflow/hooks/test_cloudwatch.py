"""The CloudWatch hook: instances and tags of a shard, rows of any interval, and why a metric is silent."""

import logging
import re
from datetime import UTC, datetime, timedelta

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.stub import Stubber

from riskwatch_airflow.hooks.cloudwatch import CloudWatchMetricsHook
from riskwatch_ml.core import aws
from riskwatch_ml.core.accounts import Shard
from riskwatch_ml.ingest.rate_limit import Rate
from riskwatch_ml.ingest.reader import CloudWatchError, CredentialsError, ForbiddenError
from riskwatch_ml.schema import catalogue
from riskwatch_ml.schema.catalogue import Catalogue, Metric
from tests.support.contract import imitates

TEN = datetime(2026, 11, 22, 10, tzinfo=UTC)
ALL = catalogue.load()
TWO = Catalogue(ALL.metrics[:3:2])  # cpu_utilization, and disk_read_mb with scale 1e-6
ROLE = "arn:aws:iam::123456789012:role/riskwatch-reader"


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


@pytest.fixture
def hook(monkeypatch):
    """A hook whose client is the CloudWatch given to it, and whose allowance is never used up."""

    def build(client, **kwargs):
        made = CloudWatchMetricsHook(aws_conn_id=None, **kwargs)
        monkeypatch.setattr(CloudWatchMetricsHook, "conn", client)
        monkeypatch.setattr(Rate, "wait", lambda rate, points, age_s: None)
        monkeypatch.setattr(made.rate, "sleep", lambda seconds: None)
        return made

    return build


def test_rows_of_a_long_interval_come_in_one_piece(hook):
    # GIVEN 300 instances of two metrics and two days: 600 queries of 576 points
    client = CloudWatch()
    instances = [f"i-{place:03d}" for place in range(300)]

    # WHEN
    made = hook(client)
    found = made.metric_rows(instances, TWO, TEN - timedelta(days=2), TEN, 300)

    # THEN 345,600 points need four calls at least, every point is there once, values are scaled
    assert len(client.calls) == made.usage.calls == made.usage.least_calls == 4
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
    assert found.rows[list(TWO.names)].notna().all(axis=None)
    assert found.duplicates == 0


def test_the_log_has_calls_and_dollars_beside_the_least(hook, caplog):
    # GIVEN one result that has to be asked for again
    client = CloudWatch(script=lambda call, name: "InternalError" if (call, name) == (1, "m1") else "Complete")
    caplog.set_level(logging.INFO)

    # WHEN
    hook(client).metric_rows(["a", "b"], TWO, TEN, TEN + timedelta(hours=1), 300)

    # THEN both are there before and after
    assert "4 metrics of 2 instances over" in caplog.text
    assert "predicted 1 calls and $0.0000" in caplog.text
    assert (
        "2 calls of GetMetricData (the limits allow no fewer than 1), 5 metrics (4 predicted), $0.0001 ($0.0000 "
        "predicted)" in caplog.text
    )


def test_sums_of_a_coarser_period_are_given_for_the_rows_own(hook):
    # GIVEN an hour at 3,600 s in a fleet of 300 s rows; every value asked for is 2.0
    found = hook(CloudWatch()).metric_rows(["a"], TWO, TEN, TEN + timedelta(hours=1), 3600, sums_per_s=300)

    # THEN an average stays, a sum is the twelfth of it
    assert found.rows["cpu_utilization"].tolist() == [2.0]
    assert found.rows["disk_read_mb"].tolist() == pytest.approx([2e-6 / 12])


def test_a_metric_of_a_longer_period_stands_in_each_of_its_rows(hook):
    # GIVEN a sum that is published every 15 minutes beside a metric of 5 minutes, from 10:05 to 10:25
    slow = Metric("slow", "My/App", "Slow", "Sum", period_s=900)
    client = CloudWatch()

    # WHEN
    found = hook(client).metric_rows(
        ["a"], Catalogue((ALL.metrics[0], slow)), TEN + timedelta(minutes=5), TEN + timedelta(minutes=25), 300
    )

    # THEN it is asked for from the beginning of its period, and a row has its share of the sum
    assert client.calls[0]["StartTime"] == TEN
    assert [query["MetricStat"]["Period"] for query in client.calls[0]["MetricDataQueries"]] == [300, 900]
    assert found.rows["timestamp"].tolist() == [TEN + timedelta(minutes=minute) for minute in (5, 10, 15, 20)]
    assert found.rows["slow"].tolist() == pytest.approx([2 / 3] * 4)


def test_a_period_that_rows_do_not_divide_is_refused(hook):
    # GIVEN / WHEN / THEN
    with pytest.raises(CloudWatchError, match="slow: its period of 900 s is no multiple of the rows' 600 s"):
        hook(CloudWatch()).metric_rows(
            ["a"],
            Catalogue((Metric("slow", "My/App", "Slow", period_s=900),)),
            TEN - timedelta(hours=1),
            TEN,
            600,
        )


def test_duplicated_and_missing_values(hook):
    # GIVEN a service that delivers 10:00 twice, and one value that is not a number
    class Odd(CloudWatch):
        def _result(self, query, asked, points, period):
            return {
                "Id": query["Id"],
                "Timestamps": [TEN, TEN, TEN + timedelta(minutes=5)],
                "Values": [1.0, 2.0, float("nan")],
                "StatusCode": "Complete",
            }

    # WHEN
    found = hook(Odd()).metric_rows(["a"], Catalogue(ALL.metrics[:1]), TEN, TEN + timedelta(minutes=10), 300)

    # THEN the later of the two counts and the repetition is counted; what is no number is missing
    assert found.rows["cpu_utilization"].tolist()[:1] == [2.0]
    assert found.rows["cpu_utilization"].isna().tolist() == [False, True]
    assert found.duplicates == 1


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


@imitates("cloudwatch", pages="list_metrics")
class Lists:
    """ListMetrics as it answers for one metric, whose entries have these dimensions."""

    def __init__(self, *dimensions, error=None):
        self.dimensions, self.error = dimensions, error

    def get_paginator(self, name):
        return self

    def paginate(self, **asked):
        if self.error:
            raise ClientError({"Error": {"Code": self.error, "Message": "said the service"}}, "ListMetrics")
        named = {item["Name"] for item in asked.get("Dimensions", ())}
        entries = [list(item) for item in self.dimensions if named <= set(item)]
        yield {"Metrics": [{"Dimensions": [{"Name": name, "Value": "x"} for name in item]} for item in entries]}


@pytest.mark.parametrize(
    ("dimensions", "words"),
    [
        ((), "is unknown to CloudWatch, or has had no data for two weeks"),
        (
            (("InstanceId", "path"), ("ImageId",)),
            r"not with the dimensions InstanceId alone: CloudWatch has it with ImageId \| InstanceId, path",
        ),
        ((("InstanceId",),), "is listed, but has no value in the unit Percent in this interval"),
    ],
)
def test_a_silent_metric_is_explained(hook, dimensions, words):
    # GIVEN / WHEN / THEN an unknown one, one with other dimensions, one that vanished or changed its unit
    assert re.search(words, hook(Lists(*dimensions)).why_silent(ALL.metrics[0]))


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        ("AccessDenied", ForbiddenError, "cloudwatch:ListMetrics is not allowed"),
        ("ExpiredToken", CredentialsError, "cloudwatch:ListMetrics: the credentials are not valid any more"),
    ],
)
def test_refusals_of_listing_are_named(hook, code, kind, words):
    # GIVEN / WHEN / THEN
    with pytest.raises(kind, match=words):
        hook(Lists(error=code)).instances(TWO)


def test_ids_of_a_shard_are_its_own(hook):
    # GIVEN a database that CloudWatch of another region calls "orders"
    rds = Catalogue(catalogue.load("rds").metrics[:1])
    client = CloudWatch()
    client.paginate = lambda **asked: iter(
        [{"Metrics": [{"Dimensions": [{"Name": "DBInstanceIdentifier", "Value": "orders"}]}]}]
    )

    # WHEN
    made = hook(client, shard=Shard(region="eu-west-1"))
    names = made.instances(rds)
    found = made.metric_rows(names, rds, TEN, TEN + timedelta(minutes=10), 300)

    # THEN the fleet knows it with the shard, CloudWatch is asked for it without
    assert names == ["eu-west-1:orders"]
    assert found.rows["instance_id"].unique().tolist() == names
    asked = client.calls[0]["MetricDataQueries"][0]["MetricStat"]["Metric"]
    assert asked["Dimensions"] == [{"Name": "DBInstanceIdentifier", "Value": "orders"}]
    assert made.region_name == "eu-west-1"


def test_the_hook_is_the_providers_with_long_reads():
    # GIVEN / WHEN
    made = CloudWatchMetricsHook(aws_conn_id=None)

    # THEN
    assert made.client_type == "cloudwatch"
    assert made.config.read_timeout == 180


@pytest.fixture
def sts(monkeypatch):
    """A session whose STS answers what the test gives."""
    session = boto3.session.Session("own", "secret", region_name="eu-west-1")
    client = session.client("sts", config=Config(retries={"max_attempts": 1}))
    monkeypatch.setattr(boto3.session.Session, "client", lambda self, name, **_: client)
    with Stubber(client) as stubber:
        yield stubber, session


def test_a_role_is_assumed_and_renewed(sts):
    # GIVEN credentials that are about to expire, then others
    answers, session = sts
    soon, later = datetime.now(UTC) + timedelta(seconds=30), datetime.now(UTC) + timedelta(hours=1)
    for key, expires in (("first" * 4, soon), ("second" * 3, later)):
        credentials = {"AccessKeyId": key, "SecretAccessKey": "s", "SessionToken": "t", "Expiration": expires}
        answers.add_response(
            "assume_role", {"Credentials": credentials}, {"RoleArn": ROLE, "RoleSessionName": "riskwatch"}
        )

    # WHEN
    made = aws.assumed(session, ROLE)

    # THEN using them asks for new ones
    assert made.region_name == "eu-west-1"
    assert made.get_credentials().get_frozen_credentials().access_key == "second" * 3
    answers.assert_no_pending_responses()


def test_a_role_that_may_not_be_assumed_is_named(sts, monkeypatch):
    # GIVEN
    answers, session = sts
    answers.add_client_error("assume_role", "AccessDenied", "not you", 403)
    monkeypatch.setattr("airflow.providers.amazon.aws.hooks.base_aws.AwsGenericHook.get_session", lambda *_: session)

    # WHEN / THEN
    with pytest.raises(ForbiddenError, match=f"sts:AssumeRole of {ROLE} is not allowed .not you.: allow it"):
        CloudWatchMetricsHook(aws_conn_id=None, shard=Shard(ROLE)).get_session()

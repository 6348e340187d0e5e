"""Reading GetMetricData through botocore's Stubber: pages, statuses, refusals, and every call counted."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import boto3
import numpy as np
import pytest
from botocore.config import Config
from botocore.exceptions import NoCredentialsError
from botocore.stub import Stubber

from riskwatch_ml.ingest import call_plan, reader
from riskwatch_ml.ingest.call_plan import Call, Query, Usage
from riskwatch_ml.ingest.rate_limit import TokenBucket
from riskwatch_ml.ingest.reader import CloudWatchError, CredentialsError, ForbiddenError, Reader, ThrottledError
from riskwatch_ml.schema.metric import Metric

TEN = datetime(2026, 11, 22, 10, tzinfo=UTC)
HOUR = timedelta(hours=1)
CPU = Metric("cpu", "AWS/EC2", "CPUUtilization", cloudwatch_unit="Percent")


class Clock:
    """Seconds that pass by sleeping alone."""

    def __init__(self):
        self.seconds = 0.0
        self.pauses = []

    def sleep(self, seconds):
        self.seconds += seconds
        self.pauses.append(seconds)


@pytest.fixture
def stub():
    """A real client with answers from the test; `clock` passes when it sleeps."""
    client = boto3.client(
        "cloudwatch",
        region_name="eu-west-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(retries={"mode": "standard", "max_attempts": 1}),
    )
    clock = Clock()
    with Stubber(client) as stubber:
        yield SimpleNamespace(
            answers=stubber, clock=clock, reader=Reader(client, TokenBucket(lambda: clock.seconds, clock.sleep))
        )


def plan(count, hours=1):
    queries = [Query(f"i-{place}", CPU, 300) for place in range(count)]
    return list(call_plan.calls(queries, TEN - hours * HOUR, TEN, 300))


def expected(call, places, token=None):
    """Return the arguments of a request for the queries at `places` of a call."""
    return {
        "MetricDataQueries": [
            {
                "Id": f"m{place}",
                "MetricStat": {
                    "Metric": {
                        "Namespace": "AWS/EC2",
                        "MetricName": "CPUUtilization",
                        "Dimensions": [{"Name": "InstanceId", "Value": call.queries[place].instance_id}],
                    },
                    "Period": 300,
                    "Stat": "Average",
                    "Unit": "Percent",
                },
                "ReturnData": True,
            }
            for place in places
        ],
        "StartTime": call.start,
        "EndTime": call.end,
        "ScanBy": "TimestampAscending",
        "MaxDatapoints": 100_800,
        **({"NextToken": token} if token else {}),
    }


def result(call, place, first=0, count=12, status="Complete"):
    """Return a result with values that count the points of the hour."""
    moments = [call.start + timedelta(seconds=300 * step) for step in range(first, first + count)]
    return {
        "Id": f"m{place}",
        "Label": "cpu",
        "Timestamps": moments,
        "Values": [float(step) for step in range(first, first + count)],
        "StatusCode": status,
    }


def page(results, token=None, messages=()):
    return {"MetricDataResults": results, **({"NextToken": token} if token else {}), "Messages": list(messages)}


def read(stub, calls):
    """Return all series by instance and the usage of the calls together."""
    series, usage = {}, Usage()
    for _, found, taken in stub.reader.read(calls):
        series |= {item.instance_id: item for item in found}
        usage += taken
    stub.answers.assert_no_pending_responses()
    return series, usage


def whole(series):
    return series.values.tolist() == list(range(12)) and (np.diff(series.stamps) == 300_000).all()


@pytest.mark.parametrize(("count", "hours", "least"), [(1, 1, 1), (500, 1, 1), (501, 1, 2), (1_200, 24, 4)])
def test_the_calls_are_as_few_as_the_limits_allow(stub, count, hours, least):
    # GIVEN a service that answers each call in one page
    calls = plan(count, hours)
    for call in calls:
        results = [result(call, place) for place in range(len(call.queries))]
        stub.answers.add_response("get_metric_data", page(results), expected(call, range(len(call.queries))))

    # WHEN they are read, one at a time because the answers come in the order they were given
    answers, usages = zip(*(stub.reader._read(call) for call in calls), strict=True)

    # THEN requests are the planned calls, and those are the minimum
    usage = sum(usages, Usage())
    stub.answers.assert_no_pending_responses()
    assert (
        usage.calls
        == len(calls)
        == least
        == call_plan.min_calls([q for c in calls for q in c.queries][:count], calls[0].start, TEN)
    )
    assert usage.metrics == sum(len(call.queries) for call in calls)
    assert all(answer.values[0].tolist() == list(range(12)) for found in answers for answer in found)


def test_pages_are_followed_with_the_same_request(stub):
    # GIVEN three results, the middle one split over two pages
    (call,) = plan(3)
    stub.answers.add_response(
        "get_metric_data",
        page([result(call, 0), result(call, 1, 0, 5, "PartialData")], token="next"),
        expected(call, range(3)),
    )
    stub.answers.add_response(
        "get_metric_data", page([result(call, 1, 5, 7), result(call, 2)]), expected(call, range(3), "next")
    )

    # WHEN
    series, usage = read(stub, [call])

    # THEN nothing is missing or doubled, nothing was requested again
    assert all(whole(item) for item in series.values())
    assert len(series) == 3
    assert usage.calls == 2


def test_partial_data_and_internal_errors_go_on_with_the_token(stub):
    # GIVEN a result with an internal error in the first page and its datapoints in the second
    (call,) = plan(1)
    stub.answers.add_response("get_metric_data", page([result(call, 0, 0, 0, "InternalError")], token="again"))
    stub.answers.add_response("get_metric_data", page([result(call, 0)]), expected(call, [0], "again"))

    # WHEN / THEN
    series, usage = read(stub, [call])
    assert whole(series["i-0"])
    assert usage.calls == 2


@pytest.mark.parametrize("status", ["PartialData", "InternalError"])
def test_what_stays_incomplete_without_a_token_is_asked_for_alone(stub, status):
    # GIVEN
    (call,) = plan(3)
    incomplete = result(call, 1, 0, 5, status)
    stub.answers.add_response("get_metric_data", page([result(call, 0), incomplete, result(call, 2)]))
    stub.answers.add_response("get_metric_data", page([result(call, 1)]), expected(call, [1]))

    # WHEN
    series, usage = read(stub, [call])

    # THEN what it had delivered is not doubled; it waited before asking; both requests are paid for
    assert all(whole(item) for item in series.values())
    assert (usage.calls, usage.metrics) == (2, 4)
    assert stub.clock.pauses[0] == 2.0


def test_results_that_stay_incomplete_are_an_error(stub):
    # GIVEN
    (call,) = plan(1)
    for _ in range(reader.ATTEMPTS):
        answer = result(call, 0, 0, 3, "InternalError") | {"Messages": [{"Code": "500", "Value": "try later"}]}
        stub.answers.add_response("get_metric_data", page([answer]))

    # WHEN / THEN
    with pytest.raises(CloudWatchError, match=r"1 results .* AWS/EC2 CPUUtilization of i-0: InternalError try later"):
        read(stub, [call])


def test_a_token_that_never_ends_is_an_error(stub):
    # GIVEN a service that gives the same token again
    (call,) = plan(1)
    for _ in range(2):
        stub.answers.add_response("get_metric_data", page([result(call, 0, 0, 1, "PartialData")], token="same"))

    # WHEN / THEN
    with pytest.raises(CloudWatchError, match="same token twice"):
        read(stub, [call])


def test_a_forbidden_metric_is_named(stub):
    # GIVEN
    (call,) = plan(2)
    stub.answers.add_response("get_metric_data", page([result(call, 0), result(call, 1, 0, 0, "Forbidden")]))

    # WHEN / THEN
    with pytest.raises(ForbiddenError, match="AWS/EC2 CPUUtilization of i-1 may not be read: allow"):
        read(stub, [call])


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        ("ExpiredToken", CredentialsError, "credentials are not valid any more .* renew those of the connection"),
        ("InvalidClientTokenId", CredentialsError, "credentials are not valid any more"),
        ("AccessDenied", ForbiddenError, "cloudwatch:GetMetricData is not allowed .*: allow it to the role"),
    ],
)
def test_refusals_say_what_to_do(stub, code, kind, words):
    # GIVEN
    stub.answers.add_client_error("get_metric_data", code, "said the service", 403)

    # WHEN / THEN there is no second request
    with pytest.raises(kind, match=words):
        read(stub, plan(1))


def test_no_credentials_at_all():
    # GIVEN / WHEN / THEN
    with pytest.raises(CredentialsError, match="give the connection credentials"), reader.translate_aws_errors("x:Y"):
        raise NoCredentialsError


def test_throttling_is_waited_out(stub, caplog):
    # GIVEN nine minutes of throttling, then an answer
    (call,) = plan(1)
    for _ in range(36):
        stub.answers.add_client_error("get_metric_data", "Throttling", "Rate exceeded", 400)
    stub.answers.add_response("get_metric_data", page([result(call, 0)]))

    # WHEN
    series, usage = read(stub, [call])

    # THEN the log says for how long
    assert whole(series["i-0"])
    assert usage.calls == 1
    assert 540 <= stub.clock.seconds < 550
    assert "GetMetricData has been throttled for 525 s: waiting" in caplog.text


def test_ten_minutes_of_throttling_are_an_error(stub):
    # GIVEN
    for _ in range(60):
        stub.answers.add_client_error("get_metric_data", "Throttling", "Rate exceeded", 400)

    # WHEN / THEN
    with pytest.raises(ThrottledError, match="throttled for 10 minutes: ask for a higher quota"):
        for _ in stub.reader.read(plan(1)):
            pass
    assert 600 <= stub.clock.seconds < 620


def test_every_request_is_held_against_the_allowance(monkeypatch):
    # GIVEN calls of 100,800 points from yesterday on a client that answers at once, at ten past ten
    class Counted(TokenBucket):
        def wait(self, points, age_s):
            waited.append((points, age_s))

    def answer(**asked):
        return page([{"Id": "m0", "Timestamps": [], "Values": [], "StatusCode": "Complete"}])

    waited = []
    monkeypatch.setattr(reader.clock, "now", lambda: TEN + timedelta(minutes=10))
    calls = [Call([Query("i", CPU, 300)], TEN - 24 * HOUR, TEN, 100_800)] * 20

    # WHEN they are read by several threads
    found = list(Reader(SimpleNamespace(get_metric_data=answer), Counted()).read(calls))

    # THEN each has waited for its points, as one of an old interval
    assert len(found) == 20
    assert waited == [(100_800, 24 * 3600 + 600)] * 20

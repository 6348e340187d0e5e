"""Tasks of stream_metrics over in-memory AWS: what the live function asks for is what it gets."""

from datetime import UTC, datetime, timedelta

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from riskwatch_airflow.clients import LiveFunctionError
from riskwatch_airflow.tasks import streaming

TEN = datetime(2026, 11, 22, 10, tzinfo=UTC)
LIVE = {
    "model_id": "m-1",
    "features": ["disk_read_mb", "cpu_utilization"],
    "context_rows": 3,
    "max_gap_s": 1800,
    "period_s": 300,
}


@pytest.fixture
def live(aws):
    """A promoted model and an hour of an instance, until ten past ten; the clock stands at 10:07:30."""
    aws.function.answers = {"selftest": LIVE, "tick": {"resent": 0, "expired": 0, "open": 1}}
    aws.cloudwatch.fill("CPUUtilization", "a", TEN - timedelta(hours=1), 14, 50.0)
    aws.cloudwatch.fill("DiskReadBytes", "a", TEN - timedelta(hours=1), 14, 3e6)
    aws.store.put_bytes("config/inventory.json", b'{"instances": {"a": {"role": "web", "service": "shop"}}}')
    return aws


def minutes(record):
    return [round(moment / 1000 - TEN.timestamp()) / 60 for moment in record["ts"]]


def test_the_newest_settled_period_with_its_context(live, context):
    # GIVEN 10:07:30 and 180 s to settle: 10:04:30, so the newest full period is 9:55 to 10:00
    # WHEN
    told = streaming.publish(context)

    # THEN one record in the model's features and rows
    (record,) = live.kinesis.records
    assert minutes(record) == [-15, -10, -5]
    assert record["rows"] == [[3.0, 50.0]] * 3
    assert (record["service"], record["role"]) == ("shop", "web")
    assert (told["start"], told["end"]) == ("2026-11-22T09:55:00.000Z", "2026-11-22T10:00:00.000Z")
    assert (told["records"], told["instances"], told["model_id"]) == (1, 1, "m-1")
    assert live.function.events == [("risk", "live", {"selftest": {}})]


def test_context_may_lie_as_far_back_as_the_longest_gap_allows(live, context):
    # GIVEN rows only every half hour
    live.cloudwatch.values.clear()
    live.cloudwatch.fill("CPUUtilization", "a", TEN - timedelta(minutes=65), 3, step=timedelta(minutes=30))

    # WHEN
    streaming.publish(context)

    # THEN
    (record,) = live.kinesis.records
    assert minutes(record) == [-65, -35, -5]
    assert record["rows"] == [[None, 1.0]] * 3


def test_a_stretch_by_hand(live, context):
    # GIVEN
    context["params"] = {"start": "2026-11-22T09:10:00Z", "end": "2026-11-22T09:30:00Z"}

    # WHEN
    told = streaming.publish(context)

    # THEN four rows, the first with the context from before the stretch
    assert [minutes(record)[-1] for record in live.kinesis.records] == [-50, -45, -40, -35]
    assert minutes(live.kinesis.records[0]) == [-60, -55, -50]
    assert told["records"] == 4


def test_no_model_is_a_skip(live, context):
    # GIVEN
    live.function.answers["selftest"] = {"model_id": None}

    # WHEN / THEN
    with pytest.raises(AirflowSkipException, match="no model promoted yet"):
        streaming.publish(context)
    assert live.kinesis.records == []


def test_a_feature_that_the_catalogue_lost_is_named(live, context):
    # GIVEN
    live.function.answers["selftest"] = {**LIVE, "features": ["cpu_utilization", "gpu"]}

    # WHEN / THEN
    with pytest.raises(AirflowFailException, match="needs gpu, which the catalogue does not have"):
        streaming.publish(context)


def test_a_function_that_raises_is_an_error_with_its_words(live, context):
    # GIVEN
    live.function.answers["selftest"] = {"errorMessage": "damaged", "errorType": "ModelError"}

    # WHEN / THEN
    with pytest.raises(LiveFunctionError, match=r"risk:live raised on selftest: .*damaged"):
        streaming.publish(context)


def test_the_tick_has_the_end_of_the_interval_and_the_instances(live):
    # GIVEN / WHEN
    answer = streaming.tick({"end": "2026-11-22T10:00:00.000Z"})

    # THEN
    event = {"tick": {"now": round(TEN.timestamp() * 1000), "instances": ["a"]}}
    assert live.function.events == [("risk", "live", event)]
    assert answer["open"] == 1

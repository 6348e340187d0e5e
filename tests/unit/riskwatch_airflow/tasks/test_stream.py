"""Tasks of stream_metrics: the rows that the live function asks for, and the tick."""

from datetime import timedelta

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from riskwatch_airflow.tasks import stream
from riskwatch_ml.storage import keys
from riskwatch_ml.streaming.live_model import LiveError
from tests.support import runs
from tests.support.streaming import LIVE, TEN, entries, minutes, streamed, ticked


def test_the_newest_settled_period_with_its_context(live, context):
    # GIVEN 10:07:30 and 180 s to settle: 10:04:30, so the newest full period is 9:55 to 10:00
    # WHEN
    recorded = stream.publish(context)

    # THEN one row in the model's features, with two of context
    (pack,) = live.kinesis.records
    (entry,) = pack["instances"]
    assert (minutes(entry), entry["newest"]) == ([-15, -10, -5], 1)
    assert (pack["features"], entry["columns"]) == (LIVE["features"], [[3.0] * 3, [50.0] * 3])
    assert (pack["service"], entry["role"]) == ("shop", "web")
    assert (recorded["start"], recorded["end"]) == ("2026-11-22T09:55:00.000Z", "2026-11-22T10:00:00.000Z")
    assert (recorded["rows"], recorded["records"], recorded["instances"], recorded["model_id"]) == (1, 1, 1, "m-1")
    assert live.function.events == [("risk", "live", {"selftest": {}})]


def test_periods_shorter_than_the_schedule_are_all_streamed(live, context, at):
    # GIVEN a model of one-minute rows, and runs every five minutes
    live.function.answers["selftest"] = {**LIVE, "period_s": 60}
    live.cloudwatch.values.clear()
    live.cloudwatch.fill("CPUUtilization", "a", TEN - timedelta(minutes=30), 60, step=timedelta(minutes=1))

    # WHEN
    for passed in (10, 15, 20):
        at(passed)
        stream.publish(context)

    # THEN one row at first, then five a run, until three minutes ago
    assert streamed(live) == [6, *range(7, 12), *range(12, 17)]


def test_a_period_longer_than_the_schedule_is_streamed_once(live, context, at):
    # GIVEN a model of hourly rows, and runs every five minutes
    live.function.answers["selftest"] = {**LIVE, "period_s": 3600, "max_gap_s": 6 * 3600}
    live.cloudwatch.values.clear()
    live.cloudwatch.fill("CPUUtilization", "a", TEN - timedelta(hours=5), 7, step=timedelta(hours=1))

    # WHEN / THEN
    for passed in (5, 10, 15):
        at(passed)
        assert stream.publish(context)["end"] == "2026-11-22T10:00:00.000Z"
    assert streamed(live) == [-60]


def test_context_may_lie_as_far_back_as_the_longest_gap_allows(live, context):
    # GIVEN rows only every half hour
    live.cloudwatch.values.clear()
    live.cloudwatch.fill("CPUUtilization", "a", TEN - timedelta(minutes=65), 3, step=timedelta(minutes=30))

    # WHEN
    stream.publish(context)

    # THEN
    (entry,) = entries(live)
    assert minutes(entry) == [-65, -35, -5]
    assert entry["columns"] == [[None] * 3, [1.0] * 3]


def test_no_model_is_a_skip(live, context):
    # GIVEN
    live.function.answers["selftest"] = {"model_id": None}

    # WHEN / THEN
    with pytest.raises(AirflowSkipException, match="no model is promoted yet"):
        stream.publish(context)
    assert live.kinesis.records == []


def test_a_feature_that_the_catalogue_lost_is_named(live, context):
    # GIVEN
    live.function.answers["selftest"] = {**LIVE, "features": ["cpu_utilization", "gpu"]}

    # WHEN / THEN
    with pytest.raises(AirflowFailException, match="needs gpu, which the catalogue does not have"):
        stream.publish(context)


def test_a_function_that_raises_is_an_error_with_its_words(live, context):
    # GIVEN
    live.function.answers["selftest"] = {"errorMessage": "damaged", "errorType": "ModelError"}

    # WHEN / THEN
    with pytest.raises(LiveError, match=r"risk:live raised on selftest: .*damaged"):
        stream.publish(context)


def test_the_tick_names_those_of_the_inventory_that_are_silent(live, context, at):
    # GIVEN an inventory with two instances that report and one that stopped at 9:25, and a stranger that stopped then
    for name in ("silent", "stranger"):
        live.cloudwatch.fill("CPUUtilization", name, TEN - timedelta(hours=1), 6)
    live.cloudwatch.fill("CPUUtilization", "b", TEN - timedelta(hours=1), 14)
    live.store.put_bytes(
        "config/inventory.json", b'{"instances": {"a": {}, "b": {}, "silent": {"role": "db", "service": "shop"}}}'
    )
    live.store.put_json(keys.STREAM_MARK, {"end": "2026-11-22T09:00:00.000Z"})

    # WHEN a run has streamed from nine to ten
    published = runs.handed_on(stream.publish(context))
    answer = runs.handed_on(stream.tick(published))

    # THEN the tick has the end of the stretch, and the one instance with its service and its last row
    (tick,) = ticked(live)
    last = round((TEN - timedelta(minutes=35)).timestamp() * 1000)
    assert tick == {"now": round(TEN.timestamp() * 1000), "overdue": [["silent", "shop", last]]}
    assert answer["open"] == 1

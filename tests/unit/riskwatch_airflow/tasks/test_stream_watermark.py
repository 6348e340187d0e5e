"""Task publish of stream_metrics: runs begin where the last complete one ended."""

import logging
from datetime import timedelta

import pytest

from riskwatch_airflow.tasks import stream
from riskwatch_ml.storage import keys
from riskwatch_ml.streaming import watermark
from riskwatch_ml.streaming.packs import StreamError
from tests.support.streaming import TEN, streamed


def test_delayed_and_skipped_runs_leave_no_hole_and_double_nothing(live, context, at):
    # GIVEN an hour of datapoints more, and a first run at 10:07:30 that streams the newest period
    live.cloudwatch.fill("CPUUtilization", "a", TEN + timedelta(minutes=10), 12, 50.0)
    stream.publish(context)
    assert live.store.get_json(keys.STREAM_MARK)["end"] == "2026-11-22T10:00:00.000Z"

    # WHEN runs come at 10:07:48, 10:13 and, after a pause, 10:43:12
    recorded = []
    for passed in (7.8, 13, 43.2):
        at(passed)
        recorded.append(stream.publish(context))

    # THEN each begins where the last ended: nothing yet, two periods, six periods
    assert [each["rows"] for each in recorded] == [0, 2, 6]
    assert [each["records"] for each in recorded] == [0, 1, 1]
    assert streamed(live) == [-5, 0, 5, 10, 15, 20, 25, 30, 35]
    assert live.store.get_json(keys.STREAM_MARK)["end"] == "2026-11-22T10:40:00.000Z"


def test_the_mark_moves_only_after_the_put(live, context, at, monkeypatch):
    # GIVEN a run that has streamed until ten, and one that fails before anything is through
    stream.publish(context)
    at(13)
    with monkeypatch.context() as failing:

        def refuse(**asked):
            raise StreamError("throttled")

        failing.setattr(live.kinesis, "put_records", refuse)
        with pytest.raises(StreamError):
            stream.publish(context)

    # WHEN the next run comes, THEN it sends what the failed one owed
    at(18)
    assert stream.publish(context)["start"] == "2026-11-22T10:00:00.000Z"
    assert streamed(live) == [-5, 0, 5]


def test_what_is_longer_ago_than_the_catch_up_is_named(live, context, caplog):
    # GIVEN a mark of nine hours ago, and an instance that had data until two hours before the newest period
    live.store.put_json(keys.STREAM_MARK, {"end": "2026-11-22T01:00:00.000Z"})
    live.cloudwatch.values.clear()
    live.cloudwatch.fill("CPUUtilization", "gone", TEN - timedelta(hours=9), 12 * 5)

    # WHEN
    with caplog.at_level(logging.WARNING):
        recorded = stream.publish(context)

    # THEN six hours are caught up, with the instance that is not recently active, and the rest is told to be by hand
    assert (recorded["start"], recorded["end"]) == ("2026-11-22T04:00:00.000Z", "2026-11-22T10:00:00.000Z")
    assert recorded["left_out"] == [["2026-11-22T01:00:00.000Z", "2026-11-22T04:00:00.000Z"]]
    assert "[2026-11-22T01:00:00.000Z, 2026-11-22T04:00:00.000Z)" in caplog.text
    assert streamed(live) == list(range(-360, -240, 5))


def test_a_catch_up_that_one_run_cannot_send_goes_on_in_the_next(live, context, at, monkeypatch):
    # GIVEN room for four rows a run, one instance, and an hour to catch up
    monkeypatch.setattr(watermark, "MAX_ROWS", 4)
    live.store.put_json(keys.STREAM_MARK, {"end": "2026-11-22T09:00:00.000Z"})

    # WHEN / THEN each run sends 20 minutes from where the one before ended, none twice
    ends = [stream.publish(context)["end"][11:16] for _ in range(4)]
    assert ends == ["09:20", "09:40", "10:00", "10:00"]
    assert streamed(live) == list(range(-60, 0, 5))


@pytest.mark.parametrize("mark", [b"no json", b"[]", b'{"end": "0001-01-01T00:00:00+14:00"}'])
def test_a_damaged_mark_is_named_and_replaced(live, context, caplog, mark):
    # GIVEN
    live.store.put_bytes(keys.STREAM_MARK, mark)

    # WHEN
    with caplog.at_level(logging.WARNING):
        stream.publish(context)

    # THEN the newest period is streamed, and no person is needed for the next run
    assert "stream/mark.json cannot be read" in caplog.text
    assert streamed(live) == [-5]
    assert live.store.get_json(keys.STREAM_MARK)["end"] == "2026-11-22T10:00:00.000Z"


def test_a_mark_ahead_of_the_clock_does_not_stop_the_stream(live, context):
    # GIVEN a mark that a wrong clock has left
    live.store.put_json(keys.STREAM_MARK, {"end": "2027-01-01T00:00:00.000Z"})

    # WHEN / THEN
    stream.publish(context)
    assert streamed(live) == [-5]
    assert live.store.get_json(keys.STREAM_MARK)["end"] == "2026-11-22T10:00:00.000Z"


def test_a_clock_that_was_ahead_leaves_no_gap(live, context, at, caplog):
    # GIVEN two runs with a clock that is two hours ahead: the newest datapoint is of five past ten, then of ten past
    stream.publish(context)
    at(125)
    stream.publish(context)
    live.cloudwatch.fill("CPUUtilization", "a", TEN + timedelta(minutes=10), 1, 50.0)
    at(130)
    stream.publish(context)
    assert live.store.get_json(keys.STREAM_MARK)["end"] == "2026-11-22T12:05:00.000Z"

    # WHEN the clock is right again, after three quarters of an hour with more datapoints
    live.cloudwatch.fill("CPUUtilization", "a", TEN + timedelta(minutes=15), 6, 50.0)
    at(43)
    caplog.set_level(logging.WARNING)
    published = stream.publish(context)

    # THEN the stream goes on after the newest row, names the time, and every row is sent
    assert "are streamed again" in caplog.text
    assert set(streamed(live)) == set(range(-5, 40, 5))
    assert published["end"] == "2026-11-22T10:40:00.000Z"
    assert live.store.get_json(keys.STREAM_MARK)["end"] == "2026-11-22T10:40:00.000Z"


def test_a_mark_of_an_earlier_release_that_is_ahead_says_what_is_not_known(live, context, caplog):
    live.store.put_json(keys.STREAM_MARK, {"end": "2027-01-01T00:00:00.000Z"})
    stream.publish(context)
    assert "Run stream_metrics by hand for the time since the clock was wrong" in caplog.text


def test_a_false_mark_that_the_clock_has_passed_leaves_no_gap_either(live, context, at):
    # GIVEN a run with a clock that is half an hour ahead, and no other run until that time has passed
    stream.publish(context)
    at(40)
    stream.publish(context)
    live.cloudwatch.fill("CPUUtilization", "a", TEN + timedelta(minutes=10), 9, 50.0)

    # WHEN the next run comes at 10:53
    at(53)
    stream.publish(context)

    # THEN it sends what came meanwhile, too
    assert set(streamed(live)) == set(range(-5, 50, 5))

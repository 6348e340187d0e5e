"""The watermark of the stream: intervals from it, their length, and what is recorded."""

import logging
from datetime import UTC, datetime, timedelta

import pytest

from riskwatch_ml.core import clock
from riskwatch_ml.core.settings import Settings
from riskwatch_ml.storage import keys
from riskwatch_ml.storage.bucket import Store
from riskwatch_ml.streaming import watermark
from riskwatch_ml.streaming.watermark import StreamInterval, StreamIntervalError
from tests.support.bucket import Bucket

TEN = datetime(2026, 11, 22, 10, tzinfo=UTC)
HOUR = timedelta(hours=1)
CONFIG = Settings(
    bucket="bucket",
    stream="metrics",
    table="table",
    function="risk",
    mlflow_uri="http://mlflow",
    regions=("eu-west-1", "us-east-1"),
    settle_s=0,
)


@pytest.fixture
def store():
    return Store(Bucket(), "bucket")


def test_without_a_watermark_the_newest_period_is_pending(store):
    # GIVEN / WHEN / THEN both regions share it
    newest = StreamInterval(TEN - timedelta(minutes=5), TEN, ("eu-west-1", "us-east-1"))
    assert watermark.pending(CONFIG, store, 300, TEN) == [newest]


def test_regions_of_one_watermark_share_an_interval_and_the_newest_comes_first(store):
    # GIVEN one region at nine and one at eight
    watermark.record(store, TEN - HOUR, {"us-east-1": TEN - 2 * HOUR})

    # WHEN / THEN
    assert watermark.pending(CONFIG, store, 300, TEN) == [
        StreamInterval(TEN - HOUR, TEN, ("eu-west-1",)),
        StreamInterval(TEN - 2 * HOUR, TEN, ("us-east-1",)),
    ]


def test_what_lies_longer_ago_than_the_catch_up_is_left_out(store):
    # GIVEN nine hours WHEN / THEN six are pending
    watermark.record(store, TEN - 9 * HOUR, {})
    (interval,) = watermark.pending(CONFIG, store, 300, TEN)
    assert (interval.start, interval.left_out) == (TEN - 6 * HOUR, (TEN - 9 * HOUR, TEN - 6 * HOUR))


def test_a_newest_row_at_the_end_of_the_calendar_stops_no_stream(store):
    # GIVEN a watermark whose newest row lies less than a period before the year 10000 WHEN / THEN it does not count
    store.put_json(keys.STREAM_MARK, {"end": clock.iso(TEN - HOUR), "newest": "9999-12-31T23:59:59Z"})
    (interval,) = watermark.pending(CONFIG, store, 300, TEN)
    assert (interval.start, interval.end) == (TEN - HOUR, TEN)


def test_an_unread_region_stays_before_what_was_left_out():
    # GIVEN an interval with a part left out WHEN one of its regions cannot be read / THEN nothing of it is forgotten
    interval = StreamInterval(TEN - HOUR, TEN, ("a", "b"), left_out=(TEN - 3 * HOUR, TEN - HOUR))
    assert interval.reached({"b": OSError()}) == {"a": TEN, "b": TEN - 3 * HOUR}


def test_an_interval_is_cut_to_what_one_run_may_send(monkeypatch):
    # GIVEN room for 24 rows WHEN two instances have an hour each of five-minute rows, and three have / THEN
    monkeypatch.setattr(watermark, "MAX_ROWS", 24)
    hour = StreamInterval(TEN - HOUR, TEN, ("a",))
    assert hour.bounded(2, 300) == hour
    assert hour.bounded(3, 300).end == TEN - timedelta(minutes=20)
    with pytest.raises(StreamIntervalError, match="the first one until 2026-11-22T09:40:00"):
        StreamInterval(TEN - HOUR, TEN, ("a",), by_hand=True).bounded(3, 300)


def test_the_watermark_keeps_its_form(store):
    # GIVEN / WHEN / THEN
    watermark.record(store, TEN, {"us-east-1": TEN - HOUR})
    assert store.get_json(keys.STREAM_MARK) == {
        "end": "2026-11-22T10:00:00.000Z",
        "shards": {"us-east-1": "2026-11-22T09:00:00.000Z"},
    }
    watermark.record(store, TEN, {})
    assert store.get_json(keys.STREAM_MARK)["end"] == "2026-11-22T10:00:00.000Z"


@pytest.mark.parametrize(
    "mark",
    [
        b"no json",
        b"\xff",
        b"[" * 100_000,
        b"[]",
        b"{}",
        b"1e999",
        b'{"end": "yesterday"}',
        b'{"end": 5}',
        b'{"end": 1e999}',
        b'{"end": "0001-01-01T00:00:00+14:00"}',
        b'{"end": "2026-11-22T09:00:00Z", "shards": []}',
        b'{"end": "2026-11-22T09:00:00Z", "shards": {"us-east-1": null}}',
    ],
)
def test_a_damaged_watermark_is_named_and_counts_as_none(store, caplog, mark):
    # GIVEN
    store.put_bytes(keys.STREAM_MARK, mark)

    # WHEN
    with caplog.at_level(logging.WARNING):
        pending = watermark.pending(CONFIG, store, 300, TEN)

    # THEN the newest period is pending, and the log says what to do about the rest
    assert pending == [StreamInterval(TEN - timedelta(minutes=5), TEN, ("eu-west-1", "us-east-1"))]
    assert "s3://bucket/stream/mark.json cannot be read" in caplog.text
    assert "run stream_metrics by hand" in caplog.text

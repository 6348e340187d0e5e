"""Tasks of stream_metrics with start and end given by hand."""

from datetime import timedelta

import pytest
from airflow.sdk.exceptions import AirflowFailException

from riskwatch_airflow.tasks import stream
from riskwatch_ml.storage import keys
from riskwatch_ml.streaming import watermark
from tests.support.streaming import TEN, entries, minutes, ticked


def test_a_stretch_by_hand(live, context):
    # GIVEN
    context["params"] = {"start": "2026-11-22T09:10:00Z", "end": "2026-11-22T09:30:00Z"}

    # WHEN
    recorded = stream.publish(context)

    # THEN four rows in one pack, with the context from before the stretch
    (entry,) = entries(live)
    assert (minutes(entry), entry["newest"]) == ([-60, -55, -50, -45, -40, -35], 4)
    assert (recorded["rows"], recorded["records"]) == (4, 1)
    # AND the mark is not touched
    assert live.store.get_json(keys.STREAM_MARK) is None


def test_a_stretch_by_hand_that_is_too_long_is_refused_with_one_that_is_not(live, context, monkeypatch):
    # GIVEN room for four rows, and five asked for
    monkeypatch.setattr(watermark, "MAX_ROWS", 4)
    context["params"] = {"start": "2026-11-22T09:10:00Z", "end": "2026-11-22T09:35:00Z"}

    # WHEN / THEN
    with pytest.raises(AirflowFailException, match=r"at most 0\.333333 hours, the first one until 2026-11-22T09:30:00"):
        stream.publish(context)
    assert live.kinesis.records == []


def test_after_a_stretch_by_hand_no_instance_is_called_silent(live, context):
    # GIVEN a stretch of the past, in which no instance of today's inventory reports
    live.store.put_bytes("config/inventory.json", b'{"instances": {"new": {}}}')
    context["params"] = {"start": "2026-11-22T09:10:00Z", "end": "2026-11-22T09:30:00Z"}

    # WHEN it is streamed, THEN the tick says nothing about silence, and no row of it counts as seen
    stream.tick(stream.publish(context), daily_summary=True)
    assert ticked(live) == [{"now": round((TEN - timedelta(minutes=30)).timestamp() * 1000), "digest": True}]
    assert live.store.get_json("stream/seen.json") is None


def test_a_stretch_by_hand_names_the_region_that_failed(regions, context):
    # GIVEN
    regions.broken["eu-west-1"] = "get_metric_data"
    context["params"] = {"start": "2026-11-22T09:10:00Z", "end": "2026-11-22T09:30:00Z"}

    # WHEN
    published = stream.publish(context)

    # THEN
    assert published["rows"] == 4
    with pytest.raises(AirflowFailException, match=r"rows of eu-west-1 were not streamed.*run it by hand again"):
        stream.complete(published)

"""Compaction of labelled rows: the first verdict stands, whatever arrives twice, late, or in the middle of a crash."""

import gzip
import json
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from riskwatch_ml.storage import keys, labelled_objects, labelled_rows
from riskwatch_ml.storage.bucket import Store
from tests.support.labelled import T1, T2, T3, arrive, row

NOW = datetime(2026, 11, 22, 12, 15, tzinfo=UTC)


def rows_of(store: Store) -> pd.DataFrame:
    return labelled_rows.recent(store, NOW - timedelta(days=30), NOW + timedelta(days=1))


def test_rows_land_in_the_hour_of_the_event(bucket, store):
    # GIVEN an object that arrived at 11 with rows of 10:55 and 11:00
    arrive(bucket, "s0-1-2", [row("web-1", 55, T1, hour=10), row("web-1", 0, T1)])
    # WHEN it is compacted
    result = labelled_rows.compact(store, NOW)
    # THEN each row is in the object of its own hour, typed, its reasons as JSON text
    assert result == labelled_rows.Compacted(objects=1, rows_in=2, rows_out=2, duplicates=0)
    assert {key for key in bucket.objects if key.startswith("labelled/rows/")} == {
        "labelled/rows/dt=2026-11-22/hh=10/part-default.parquet",
        "labelled/rows/dt=2026-11-22/hh=11/part-default.parquet",
    }
    frame = rows_of(store)
    assert list(frame["timestamp"].dt.hour) == [10, 11]
    assert json.loads(frame["reasons"][0]) == [{"feature": "cpu_utilization", "share": 1.0}]
    assert frame["latency_ms"].dtype == "float64"
    assert frame["latency_ms"].isna().all()
    assert frame["alert"].dtype == bool
    assert frame["episode_id"].isna().all()


def test_the_earliest_arrival_wins_among_new_objects(bucket, store):
    # GIVEN three verdicts for one row; by key the latest comes first
    arrive(bucket, "s0-1-1", [row("web-1", 0, T3, "High Load")])
    arrive(bucket, "s0-2-2", [row("web-1", 0, T1, "Idle")])
    arrive(bucket, "s0-3-3", [row("web-1", 0, T1, "Normal")])
    # WHEN compacted
    result = labelled_rows.compact(store, NOW)
    # THEN the earliest arrival stands, and of equal arrivals the first key
    assert (result.rows_in, result.rows_out, result.duplicates) == (3, 1, 2)
    assert rows_of(store)["level"].tolist() == ["Idle"]


def test_a_compacted_row_stands_against_later_and_equal_arrivals(bucket, store):
    # GIVEN a compacted row
    arrive(bucket, "s0-5-5", [row("web-1", 0, T2, "Idle")])
    labelled_rows.compact(store, NOW)
    before = bucket.objects["labelled/rows/dt=2026-11-22/hh=11/part-default.parquet"]
    # WHEN a redelivery of the same record (same arrival, smaller key) and a second streaming of the row come
    arrive(bucket, "s0-1-1", [row("web-1", 0, T2, "High Load")])
    arrive(bucket, "s0-9-9", [row("web-1", 0, T3, "Normal")])
    result = labelled_rows.compact(store, NOW)
    # THEN not one byte of the table changes
    assert (result.rows_in, result.rows_out, result.duplicates) == (2, 0, 2)
    assert bucket.objects["labelled/rows/dt=2026-11-22/hh=11/part-default.parquet"] == before


def test_a_late_object_with_an_earlier_arrival_is_the_first_verdict(bucket, store):
    arrive(bucket, "s0-5-5", [row("web-1", 0, T2, "Idle")])
    labelled_rows.compact(store, NOW)
    arrive(bucket, "s1-1-1", [row("web-1", 0, T1, "High Load")])
    assert labelled_rows.compact(store, NOW).rows_out == 0
    assert rows_of(store)["level"].tolist() == ["High Load"]


def test_a_second_run_reads_and_changes_nothing(bucket, store):
    arrive(bucket, "s0-1-1", [row("web-1", 0, T1)])
    labelled_rows.compact(store, NOW)
    before = dict(bucket.objects)
    bucket.gets.clear()
    assert labelled_rows.compact(store, NOW) == labelled_rows.Compacted(0, 0, 0, 0)
    assert bucket.objects == before
    assert bucket.gets == [keys.COMPACTION_MARK]


@pytest.mark.parametrize(
    "damage",
    [
        b'{"done": [], "since": "2026-11',
        b"\xff",
        b"[]",
        b"{}",
        b'{"done": [], "since": 5}',
        b'{"done": [1], "since": null}',
        b'{"done": [], "since": "0001-01-01T00:00:00Z"}',
        b'{"done": [], "since": "0001-01-01T00:00:00+14:00"}',
    ],
)
def test_a_damaged_watermark_is_named_and_counts_as_none(bucket, store, caplog, damage):
    # GIVEN a row that is in the table, one that is not, and a damaged watermark
    arrive(bucket, "s0-1-1", [row("web-1", 0, T1)])
    labelled_rows.compact(store, NOW)
    arrive(bucket, "s0-2-2", [row("web-1", 5, T1)])
    bucket.objects[keys.COMPACTION_MARK] = damage

    # WHEN
    result = labelled_rows.compact(store, NOW)

    # THEN no row is lost and none is there twice
    assert (result.rows_in, result.rows_out, result.duplicates) == (2, 1, 1)
    assert "labelled/watermark.json cannot be read" in caplog.text
    assert len(labelled_rows.newest(store, NOW - timedelta(hours=2), NOW).rows) == 2
    assert labelled_rows.compact(store, NOW).objects == 0


@pytest.mark.parametrize("since", ["2027-11-22T11:00:00.000Z", "2001-01-01T00:00:00.000Z"])
def test_a_watermark_ahead_of_the_clock_or_of_long_ago_hides_no_object(bucket, store, since):
    # GIVEN a watermark that a wrong clock has left
    arrive(bucket, "s0-1-1", [row("web-1", 0, T1)])
    store.put_json(keys.COMPACTION_MARK, {"since": since, "done": []})

    # WHEN / THEN
    assert labelled_rows.compact(store, NOW).rows_out == 1
    assert store.get_json(keys.COMPACTION_MARK)["since"] == "2026-11-20T12:00:00.000Z"


def test_a_late_object_of_an_old_hour_is_found(bucket, store):
    # GIVEN a compaction that has seen the hour 11
    arrive(bucket, "s0-1-1", [row("web-1", 0, T1)])
    labelled_rows.compact(store, NOW)
    # WHEN a batch that was stuck for 47 hours is filed under its arrival hour
    arrive(bucket, "s0-2-2", [row("web-1", 5, T2)], hour=11)
    later = NOW + timedelta(hours=46)
    # THEN the run still sees it, and an hour older than that is out of sight
    assert labelled_rows.compact(store, later).rows_out == 1
    labelled_rows.compact(store, later + timedelta(hours=2))
    assert json.loads(bucket.objects[keys.COMPACTION_MARK]) == {"done": [], "since": "2026-11-22T12:00:00.000Z"}


def test_the_first_run_reads_the_whole_backlog(bucket, store):
    # GIVEN no watermark, and an object that is ten days old
    arrive(bucket, "s0-1-1", [row("web-1", 0, T1)], day=12)
    # THEN it is compacted; the next run no longer lists its hour
    assert labelled_rows.compact(store, NOW).rows_out == 1
    bucket.gets.clear()
    assert labelled_rows.compact(store, NOW).objects == 0


def test_a_long_pause_of_the_compaction_loses_nothing(bucket, store):
    labelled_rows.compact(store, NOW)
    arrive(bucket, "s0-1-1", [row("web-1", 0, T1)])
    assert labelled_rows.compact(store, NOW + timedelta(days=5)).rows_out == 1


@pytest.mark.parametrize("victim", ["hh=11/part", "watermark"])
def test_killed_midway_nothing_is_lost_or_doubled(bucket, store, monkeypatch, victim):
    # GIVEN chunks of one object each, and a crash while the second hour, or the watermark, is written
    monkeypatch.setattr(labelled_rows, "CHUNK_ROWS", 1)
    arrive(bucket, "s0-1-1", [row("web-1", 50, T1, "Idle", hour=10)])
    arrive(bucket, "s0-2-2", [row("web-1", 0, T1, "Idle")])
    bucket.broken = victim
    with pytest.raises(ConnectionError):
        labelled_rows.compact(store, NOW)
    # WHEN the next run comes
    bucket.broken = ""
    labelled_rows.compact(store, NOW)
    # THEN both rows are there once
    assert rows_of(store)["timestamp"].dt.minute.tolist() == [50, 0]
    assert labelled_rows.compact(store, NOW).objects == 0


def test_an_unreadable_object_is_named_and_does_not_stop_the_others(bucket, store):
    # GIVEN one object that is no gzip, one that lacks a column, and a good one
    bad = arrive(bucket, "s0-1-1", [])
    bucket.objects[bad] = b"not gzip"
    half = {name: value for name, value in row("web-1", 0, T1).items() if name != "level"}
    incomplete = arrive(bucket, "s0-2-2", [half])
    arrive(bucket, "s0-3-3", [row("web-1", 0, T1)])
    # WHEN compacted
    result = labelled_rows.compact(store, NOW)
    # THEN the good one is in, the others are named, and are tried again once they are repaired
    assert (result.rows_out, result.unreadable) == (1, (bad, incomplete))
    arrive(bucket, "s0-2-2", [row("web-2", 0, T1)])
    result = labelled_rows.compact(store, NOW)
    assert (result.rows_out, result.unreadable) == (1, (bad,))


def test_models_with_other_features_share_an_hour(bucket, store):
    # GIVEN a row of an older model, and one of a model with one more feature
    arrive(bucket, "s0-1-1", [row("web-1", 0, T1)])
    labelled_rows.compact(store, NOW)
    arrive(bucket, "s0-2-2", [row("web-1", 5, T2, queue=3, episode_id="web-1@x", alert=True)])
    labelled_rows.compact(store, NOW)
    # THEN the table has both, the absent value missing
    frame = rows_of(store)
    assert frame["queue"].isna().tolist() == [True, False]
    assert frame["episode_id"].tolist()[1] == "web-1@x"
    assert frame["alert"].tolist() == [False, True]


def test_recent_reads_the_columns_that_are_asked_for(bucket, store):
    # GIVEN
    arrive(bucket, "s0-1-2", [row("web-1", 0, T1), row("web-2", 0, T1, level="Idle")])
    labelled_rows.compact(store, NOW)

    # WHEN / THEN
    frame = labelled_rows.recent(store, NOW - timedelta(hours=2), NOW, columns=("level",))
    assert list(frame.columns) == ["instance_id", "timestamp", "level"]
    assert frame["level"].tolist() == ["Normal", "Idle"]


def test_recent_without_rows_has_the_columns(store):
    frame = labelled_rows.recent(store, NOW - timedelta(hours=1), NOW)
    assert frame.empty
    assert {"level", "unusual", "reasons", "arrived"} <= set(frame.columns)


@pytest.mark.parametrize("mark", [b"{", b"[]", b'{"since": 5, "done": []}', b'{"since": "yesterday", "done": []}'])
def test_a_damaged_watermark_means_none_and_doubles_nothing(store, bucket, mark):
    # GIVEN two batches that are compacted, and a damaged watermark
    for number in (1, 2):
        arrive(bucket, f"shard-{number}-{number}", [row("a", number, T1)])
    assert labelled_rows.compact(store, NOW).rows_out == 2
    bucket.objects[keys.COMPACTION_MARK] = mark

    # WHEN compaction comes again THEN it reads all of them and gains nothing
    again = labelled_rows.compact(store, NOW)
    assert (again.objects, again.rows_in, again.rows_out) == (2, 2, 0)


def test_an_object_that_unpacks_without_end_is_left_out(store, bucket, monkeypatch):
    # GIVEN a batch, and an object that unpacks to more than any batch has
    monkeypatch.setattr(labelled_objects, "_OBJECT_BYTES", 10_000)
    arrive(bucket, "shard-1-1", [row("a", 1, T1)])
    bomb = "labelled/arrived/dt=2026-11-22/hh=11/shard-2-2.json.gz"
    bucket.objects[bomb] = gzip.compress(b" " * 20_000)

    # WHEN / THEN
    found = labelled_rows.compact(store, NOW)
    assert (found.rows_out, found.unreadable) == (1, (bomb,))


def test_a_damaged_hour_of_the_table_is_named_and_costs_the_other_rows_nothing(store, bucket):
    # GIVEN a compacted hour that was damaged since, and rows of it and of another hour
    arrive(bucket, "shard-1-1", [row("a", 1, T1)])
    labelled_rows.compact(store, NOW)
    (hour,) = store.keys(keys.hours(keys.LABELLED_ROWS))
    whole = bucket.objects[hour]
    bucket.objects[hour] = b"PAR1"
    arrive(bucket, "shard-2-2", [row("a", 2, T2), row("b", 1, T1, hour=10)])

    # WHEN
    found = labelled_rows.compact(store, NOW)

    # THEN the row of the other hour is there, and the object is named
    assert (found.rows_out, found.unreadable) == (1, (hour,))
    # AND WHEN it is restored THEN nothing is missing and nothing is there twice
    bucket.objects[hour] = whole
    assert labelled_rows.compact(store, NOW).rows_out == 1
    assert len(rows_of(store)) == 3

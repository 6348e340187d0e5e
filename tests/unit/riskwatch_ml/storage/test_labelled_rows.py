"""Compaction of labelled rows: the first verdict stands, whatever arrives twice, late, or in the middle of a crash."""

# The fakes take the arguments under AWS's names.

import gzip
import json
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from riskwatch_ml.core import clock
from riskwatch_ml.storage import keys, labelled_rows
from riskwatch_ml.storage.bucket import Store
from tests.support.bucket import Bucket

NOW = datetime(2026, 11, 22, 12, 15, tzinfo=UTC)


class Noted(Bucket):
    """A bucket that notes what is read; writes of chosen keys can be made to fail."""

    def __init__(self) -> None:
        super().__init__()
        self.gets: list[str] = []
        self.broken = ""

    def put_object(self, **asked):
        if self.broken and self.broken in asked["Key"]:
            raise ConnectionError("the machine went away")
        super().put_object(**asked)

    def get_object(self, **asked):
        self.gets.append(asked["Key"])
        return super().get_object(**asked)


@pytest.fixture
def bucket() -> Noted:
    return Noted()


@pytest.fixture
def store(bucket) -> Store:
    return Store(bucket, "b")


def row(instance: str, minute: int, arrived: str, level: str = "Normal", hour: int = 11, **more) -> dict:
    return {
        "instance_id": instance,
        "service": "shop",
        "role": "web",
        "timestamp": clock.iso(datetime(2026, 11, 22, hour, minute, tzinfo=UTC)),
        "cpu_utilization": 12.5,
        "latency_ms": None,
        "score": 0.5,
        "level": level,
        "risk": level,
        "unusual": False,
        "alert": False,
        "episode_id": None,
        "context": True,
        "model_id": "m-1",
        "model_version": "3",
        "reasons": [{"feature": "cpu_utilization", "share": 1.0}],
        "arrived": arrived,
        **more,
    }


def arrive(bucket: Bucket, name: str, rows: list[dict], hour: int = 11, day: int = 22) -> str:
    key = f"labelled/arrived/dt=2026-11-{day:02d}/hh={hour:02d}/{name}.json.gz"
    bucket.objects[key] = gzip.compress("\n".join(map(json.dumps, rows)).encode())
    return key


def rows_of(store: Store) -> pd.DataFrame:
    return labelled_rows.recent(store, NOW - timedelta(days=30), NOW + timedelta(days=1))


T1, T2, T3 = (f"2026-11-22T11:0{minute}:00.000Z" for minute in (1, 2, 3))


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
    # THEN it is compacted; the run after it does not look back that far any more
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


# ---------------------------------------------------------------------------------------------------------- newest

START, END = NOW - timedelta(hours=24), NOW


def verdicts(found: labelled_rows.Newest) -> list[tuple[str, str, str]]:
    return [(item.instance_id, f"{item.timestamp:%H:%M}", item.level) for item in found.rows.itertuples()]


@pytest.fixture
def at_noon(monkeypatch):
    monkeypatch.setattr(clock, "now", lambda: NOW)


@pytest.mark.usefixtures("at_noon")
def test_newest_joins_compacted_and_arrived_rows_and_the_first_verdict_wins(bucket, store):
    # GIVEN a compacted row, and an object that repeats it with a later verdict and brings a new row
    arrive(bucket, "s0-1-2", [row("web-1", 0, T1)])
    labelled_rows.compact(store, NOW)
    arrive(bucket, "s0-3-4", [row("web-1", 0, T2, level="Idle"), row("web-1", 5, T2)])

    # WHEN the newest rows are read
    found = labelled_rows.newest(store, START, END)

    # THEN each row is there once, newest first, and the compacted verdict stands
    assert verdicts(found) == [("web-1", "11:05", "Normal"), ("web-1", "11:00", "Normal")]
    assert found.complete
    assert found.since == START


@pytest.mark.usefixtures("at_noon")
def test_newest_does_not_read_a_compacted_object_again(bucket, store):
    arrive(bucket, "s0-1-2", [row("web-1", 0, T1)])
    labelled_rows.compact(store, NOW)
    bucket.gets.clear()
    assert len(labelled_rows.newest(store, START, END).rows) == 1
    assert [key for key in bucket.gets if key.startswith("labelled/arrived/")] == []


@pytest.mark.usefixtures("at_noon")
def test_newest_keeps_to_the_interval_and_skips_what_it_cannot_read(bucket, store):
    # GIVEN a row before the interval, one at its end, one inside, and an object that is none
    day_before = clock.iso(START - timedelta(minutes=5))
    rows = [row("old", 0, T1, timestamp=day_before), row("late", 0, T1, timestamp=clock.iso(END)), row("in", 0, T1)]
    arrive(bucket, "s0-1-2", rows)
    bucket.objects["labelled/arrived/dt=2026-11-22/hh=11/s0-8-9.json.gz"] = b"no gzip"
    # THEN only the one inside is found
    assert verdicts(labelled_rows.newest(store, START, END)) == [("in", "11:00", "Normal")]


@pytest.mark.usefixtures("at_noon")
def test_newest_stops_at_its_limit_and_says_so(bucket, store):
    # GIVEN one row an hour for ten hours, compacted
    arrive(bucket, "s0-1-2", [row("web-1", 0, T1, hour=hour) for hour in range(1, 11)])
    labelled_rows.compact(store, NOW)
    bucket.gets.clear()

    # WHEN three rows are asked for
    found = labelled_rows.newest(store, START, END, limit=3)

    # THEN they are the newest three, it says from when they are, and not every hour was read
    assert verdicts(found) == [("web-1", f"{hour}:00".zfill(5), "Normal") for hour in (10, 9, 8)]
    assert not found.complete
    assert found.since == datetime(2026, 11, 22, 8, tzinfo=UTC)
    assert sum(key.startswith("labelled/rows/") for key in bucket.gets) < 10


@pytest.mark.usefixtures("at_noon")
def test_newest_bounds_the_objects_that_it_reads(bucket, store, monkeypatch):
    # GIVEN three hundred objects and compaction that stands still
    monkeypatch.setattr(labelled_rows, "FRESH_OBJECTS", 128)
    for number in range(300):
        minute, second = divmod(number, 60)
        stamp = f"2026-11-22T11:{minute:02d}:{second:02d}.000Z"
        arrive(bucket, f"s0-{number:05d}-{number:05d}", [row("web-1", 0, T1, timestamp=stamp)])
    # WHEN the newest rows are read
    found = labelled_rows.newest(store, START, END)
    # THEN the newest objects were, and the answer says that there are more
    assert len(found.rows) == 128
    assert not found.complete
    assert found.rows["timestamp"].iloc[0] == pd.Timestamp("2026-11-22T11:04:59Z")


@pytest.mark.usefixtures("at_noon")
def test_newest_of_an_empty_bucket_is_empty(store):
    found = labelled_rows.newest(store, START, END)
    assert found.rows.empty
    assert found.complete
    assert "risk" in found.rows.columns

"""The newest labelled rows, compacted or not, and how far they were read."""

from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from riskwatch_ml.core import clock
from riskwatch_ml.storage import labelled_objects, labelled_rows
from tests.support.labelled import T1, T2, arrive, row

NOW = datetime(2026, 11, 22, 12, 15, tzinfo=UTC)
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
@pytest.mark.parametrize("compacted", [True, False])
def test_newest_counts_only_rows_of_matching_instances(bucket, store, compacted):
    # GIVEN one row of web-1 that is older than five rows of web-11
    arrive(bucket, "s0-1-2", [row("web-1", 0, T1, hour=3), *(row("web-11", 5 * index, T1) for index in range(5))])
    if compacted:
        labelled_rows.compact(store, NOW)
    # WHEN at most two rows of web-1 are read THEN its row is found, and the whole range was read
    found = labelled_rows.newest(store, START, END, limit=2, instances=lambda name: name == "web-1")
    assert verdicts(found) == [("web-1", "03:00", "Normal")]
    assert (found.complete, found.since) == (True, START)


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
def test_newest_does_not_claim_rows_of_objects_that_it_did_not_read(bucket, store, monkeypatch):
    # GIVEN compacted rows of the hours before ten, and three objects since then of which only one is read
    arrive(bucket, "s0-1-2", [row("web-1", 0, T1, hour=hour) for hour in range(1, 10)])
    labelled_rows.compact(store, NOW)
    monkeypatch.setattr(labelled_rows, "FRESH_OBJECTS", 1)
    monkeypatch.setattr(labelled_objects, "READ_AT_ONCE", 1)
    for number in range(3):
        arrive(bucket, f"s0-{number + 3}-{number + 3}", [row("web-1", 10 * number, T2)])

    # WHEN more rows are asked for than there are newer ones
    found = labelled_rows.newest(store, START, END, limit=5)

    # THEN it reads down to the last compacted row that it took, and says that it knows all rows since the object only
    assert not found.complete
    assert found.since == pd.Timestamp("2026-11-22T11:20:00Z")


@pytest.mark.usefixtures("at_noon")
def test_newest_of_an_empty_bucket_is_empty(store):
    found = labelled_rows.newest(store, START, END)
    assert found.rows.empty
    assert found.complete
    assert "risk" in found.rows.columns

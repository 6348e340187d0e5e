"""Sparse old rows share the object of their year; a row is in one place and counts once."""

from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from riskwatch_ml.core import clock
from riskwatch_ml.storage import keys, labelled_objects, labelled_rows, labelled_table
from riskwatch_ml.storage.bucket import Store
from riskwatch_ml.storage.parquet import DamagedObjectError
from tests.support.labelled import T1, T2, Noted, arrive, row

NOW = datetime(2026, 11, 22, 12, 15, tzinfo=UTC)
LONG_AGO = datetime(2002, 3, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _now(monkeypatch):
    monkeypatch.setattr(clock, "now", lambda: NOW)


def history(count, step, newest, arrived=T1, level="Normal"):
    """Give rows of web-1, a step apart."""
    return [
        row("web-1", 0, arrived, level, timestamp=clock.iso(newest - step * back)) for back in reversed(range(count))
    ]


def table_keys(bucket):
    return sorted(key.removeprefix("labelled/rows/") for key in bucket.objects if key.startswith("labelled/rows/"))


def read(store, start=LONG_AGO - timedelta(days=40), end=LONG_AGO + timedelta(days=40)):
    return labelled_rows.recent(store, start, end)


def test_one_row_a_day_of_years_makes_one_object_a_year(bucket, store):
    # GIVEN a row a day from 2002 on, in one object, WHEN it is compacted
    arrive(bucket, "s0-1-1", history(400, timedelta(days=1), LONG_AGO))
    result = labelled_rows.compact(store, NOW)

    # THEN the years have one object each, and all rows are read back, in order
    assert (result.rows_in, result.rows_out) == (400, 400)
    assert table_keys(bucket) == ["dt=2001-01-01/year.parquet", "dt=2002-01-01/year.parquet"]
    rows = read(store, LONG_AGO - timedelta(days=400))
    assert len(rows) == 400
    assert rows["timestamp"].is_monotonic_increasing
    inside = labelled_rows.recent(store, LONG_AGO - timedelta(days=2), LONG_AGO, ("level",))
    assert list(inside) == ["instance_id", "timestamp", "level"]
    assert [f"{moment:%m-%d}" for moment in inside["timestamp"]] == ["02-27", "02-28"]
    # AND the view finds them, by instance
    newest = labelled_rows.newest(store, LONG_AGO - timedelta(days=9), LONG_AGO, instances=lambda name: name == "web-1")
    assert len(newest.rows) == 9
    assert labelled_rows.newest(store, LONG_AGO - timedelta(days=9), LONG_AGO, instances=lambda name: False).rows.empty


def test_a_sparse_history_needs_no_more_requests_than_the_same_rows_in_succession():
    # GIVEN the same number of rows, one a day of 25 years or one each five minutes, up to now, WHEN compacted
    requests = {}
    for step in (timedelta(days=1), timedelta(minutes=5)):
        bucket = Noted()
        store = Store(bucket, "bucket")
        arrive(bucket, "s0-1-1", history(2500, step, NOW - timedelta(minutes=15)))
        assert labelled_rows.compact(store, NOW).rows_out == 2500
        requests[step] = len(bucket.gets)

    # THEN the sparse ones are read and written as few times
    assert requests[timedelta(days=1)] <= requests[timedelta(minutes=5)]


def test_the_first_verdict_of_an_old_row_stands(bucket, store):
    arrive(bucket, "s0-1-1", history(3, timedelta(days=1), LONG_AGO, T1, "Idle"))
    labelled_rows.compact(store, NOW)
    before = dict(bucket.objects)
    arrive(bucket, "s0-2-2", history(3, timedelta(days=1), LONG_AGO, T2, "High Load"))
    result = labelled_rows.compact(store, NOW)
    assert (result.rows_out, result.duplicates) == (0, 3)
    assert read(store)["level"].tolist() == ["Idle"] * 3
    assert {key: bucket.objects[key] for key in before if "rows/" in key} == {
        key: content for key, content in before.items() if "rows/" in key
    }


def test_an_hour_that_has_an_object_keeps_it(bucket, store):
    # GIVEN an hour that was compacted when it was new
    first = arrive(bucket, "s0-1-1", history(1, timedelta(days=1), LONG_AGO, T1, "Idle"))
    ((_, frame, _),) = labelled_objects.chunks(store, [first], 10)
    assert labelled_table.merge(store, frame, LONG_AGO + timedelta(hours=1), []) == 1
    del bucket.objects[first]
    assert table_keys(bucket) == ["dt=2002-03-01/hh=00/part-default.parquet"]

    # WHEN old rows come for this hour and for others
    again = history(1, timedelta(days=1), LONG_AGO, T2, "High Load")
    later = history(1, timedelta(days=1), LONG_AGO + timedelta(minutes=5), T2)
    arrive(bucket, "s0-2-2", [*again, *later, *history(1, timedelta(days=1), LONG_AGO + timedelta(days=3))])
    result = labelled_rows.compact(store, NOW)

    # THEN the hour has its rows, the year the others, and none is counted twice
    assert (result.rows_out, result.duplicates) == (2, 1)
    assert table_keys(bucket) == ["dt=2002-01-01/year.parquet", "dt=2002-03-01/hh=00/part-default.parquet"]
    assert read(store)["level"].tolist() == ["Idle", "Normal", "Normal"]


@pytest.mark.parametrize("killed", [False, True])
def test_a_year_with_too_many_rows_moves_to_its_hours(bucket, store, monkeypatch, killed):
    # GIVEN a year near its limit WHEN more old rows come, and the machine perhaps dies before the year is removed
    monkeypatch.setattr(labelled_table, "YEAR_ROWS", 5)
    arrive(bucket, "s0-1-1", history(4, timedelta(days=1), LONG_AGO + timedelta(days=10)))
    labelled_rows.compact(store, NOW)
    arrive(bucket, "s0-2-2", history(4, timedelta(days=1), LONG_AGO + timedelta(days=20)))
    rows_out = 4
    if killed:
        with monkeypatch.context() as patched:
            patched.setattr(type(store), "delete", _die)
            with pytest.raises(ConnectionError):
                labelled_rows.compact(store, NOW)
        # THEN a reader counts each row once
        assert len(read(store)) == 8
        rows_out = 0
    result = labelled_rows.compact(store, NOW)

    # THEN each row is there once, in the object of its hour unless the run was killed
    assert (result.rows_out, result.duplicates) == (rows_out, 4 - rows_out)
    assert len(read(store)) == 8
    assert len([key for key in table_keys(bucket) if "hh=" in key]) == 8
    assert any("year" in key for key in table_keys(bucket)) == killed


def _die(*_):
    raise ConnectionError("the machine went away")


def test_a_new_interval_asks_for_no_year(store, bucket, monkeypatch):
    asked = []
    monkeypatch.setattr(type(store), "get_frame", lambda self, key, check=None: asked.append(key))
    read(store, NOW - timedelta(days=6), NOW)
    assert asked == []


def _validated(frame):
    return frame[["instance_id", "timestamp", "cpu_utilization"]]


OTHER_SCHEMAS = {
    "validated rows": (_validated, "labelled rows have service, role, level"),
    "a level of another type": (lambda frame: frame.assign(level=1), "level: doubled, or of a type"),
    "a metric of texts": (lambda frame: frame.assign(cpu_utilization="much"), "cpu_utilization: doubled"),
    "a flag without values": (lambda frame: frame.assign(unusual=None), "unusual: doubled"),
}


@pytest.mark.parametrize(("change", "reason"), OTHER_SCHEMAS.values(), ids=OTHER_SCHEMAS)
@pytest.mark.parametrize("newest", [NOW, LONG_AGO], ids=["of an hour", "of a year"])
def test_an_object_of_another_schema_is_named_with_its_cure_by_each_reader(bucket, store, newest, change, reason):
    # GIVEN compacted rows, of which one object got another schema by hand, and another row of it
    start = newest - timedelta(minutes=30)
    arrive(bucket, "s0-1-1", history(1, timedelta(days=1), start))
    labelled_rows.compact(store, NOW)
    (key,) = store.keys(keys.hours(keys.LABELLED_ROWS))
    whole = bucket.objects[key]
    store.put_frame(key, change(store.get_frame(key)))
    arrive(bucket, "s0-2-2", history(1, timedelta(days=1), start + timedelta(minutes=5)))

    # WHEN the watch, the view of an interval and the view of no interval read it THEN each names it
    for reader in (
        lambda: labelled_rows.recent(store, start, newest, ("level", "unusual", "model_id")),
        lambda: labelled_rows.recent(store, start, newest),
        lambda: labelled_rows.newest(store, start, newest),
        lambda: labelled_table.newest_time(store),
    ):
        with pytest.raises(DamagedObjectError, match=rf"{key} is no Parquet .*{reason}.*restore its previous version"):
            reader()
    # AND compaction leaves its rows out until it is restored
    assert labelled_rows.compact(store, NOW).unreadable == (key,)
    bucket.objects[key] = whole
    assert labelled_rows.compact(store, NOW).rows_out == 1
    assert len(read(store, start, newest)) == 2


def test_rows_without_any_value_of_a_column_are_labelled_rows(bucket, store):
    # GIVEN an object of an earlier release: no kind, and columns without values have no type
    arrive(bucket, "s0-1-1", history(1, timedelta(days=1), NOW - timedelta(minutes=30)))
    labelled_rows.compact(store, NOW)
    (key,) = store.keys(keys.hours(keys.LABELLED_ROWS))
    old = store.get_frame(key).drop(columns=["resource_kind", "missing", "refused_values"])
    store.put_frame(key, old.assign(episode_id=None, score=None, latency_ms=pd.Series([None], dtype=object)))

    # WHEN / THEN
    assert labelled_rows.newest(store, NOW - timedelta(hours=1), NOW).rows["level"].tolist() == ["Normal"]

"""Hour partitions: a rerun replaces exactly its interval, equal rows are equal bytes."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from riskwatch_ml.storage.bucket import Store, StoreError
from riskwatch_ml.storage.keys import hour_key
from tests.support.bucket import Bucket

TEN = datetime(2026, 11, 22, 10, tzinfo=UTC)
HOUR = timedelta(hours=1)


def rows(*items, **extra):
    """Metric rows of (instance, minutes after ten, value)."""
    return pd.DataFrame(
        {
            "instance_id": [item[0] for item in items],
            "timestamp": pd.DatetimeIndex([TEN + timedelta(minutes=item[1]) for item in items]).as_unit("ms"),
            "cpu": [float(item[2]) for item in items],
            **extra,
        }
    )


@pytest.fixture
def store():
    return Store(Bucket(), "bucket")


def values(frame):
    return [(row.instance_id, (row.timestamp - TEN) // timedelta(minutes=1), row.cpu) for row in frame.itertuples()]


def test_round_trip_is_sorted_and_typed(store):
    # GIVEN rows of two hours in any order, one value missing
    frame = rows(("b", 0, 1), ("a", 65, 2), ("a", 5, np.nan))

    # WHEN they are written and read
    keys = store.write_hours("raw", frame, TEN, TEN + 2 * HOUR)
    found = store.read_hours("raw", TEN, TEN + 2 * HOUR)

    # THEN
    assert keys == ["raw/dt=2026-11-22/hh=10/part-default.parquet", "raw/dt=2026-11-22/hh=11/part-default.parquet"]
    assert list(found["instance_id"]) == ["a", "a", "b"]
    assert found["cpu"].isna().tolist() == [True, False, False]
    assert str(found["timestamp"].dtype) == "datetime64[ms, UTC]"
    assert found["cpu"].dtype == np.float64


def test_a_rerun_replaces_its_interval_and_nothing_else(store):
    # GIVEN an hour with rows at :00, :20 and :40, and one at 11:00
    store.write_hours("raw", rows(("a", 0, 0), ("a", 20, 1), ("a", 40, 2), ("a", 60, 3)), TEN, TEN + 2 * HOUR)
    store.client.puts.clear()

    # WHEN [10:10, 10:30) is written again with other rows
    start, end = TEN + timedelta(minutes=10), TEN + timedelta(minutes=30)
    store.write_hours("raw", rows(("a", 15, 9), ("b", 25, 8)), start, end)

    # THEN :20 is gone, :00 and :40 stand, and 11:00 was not touched
    assert values(store.read_hours("raw", TEN, TEN + 2 * HOUR)) == [
        ("a", 0, 0.0),
        ("a", 15, 9.0),
        ("a", 40, 2.0),
        ("a", 60, 3.0),
        ("b", 25, 8.0),
    ]
    assert store.client.puts == [hour_key("raw", TEN)]


def test_an_hour_without_rows_loses_its_object(store):
    # GIVEN an hour
    store.write_hours("raw", rows(("a", 0, 0)), TEN, TEN + HOUR)

    # WHEN it is written again without a row
    keys = store.write_hours("raw", rows(("a", 0, 0)).iloc[:0], TEN, TEN + HOUR)

    # THEN that is a change, and the last one
    assert keys == [hour_key("raw", TEN)]
    assert store.keys("raw/") == []
    assert store.write_hours("raw", rows(("a", 0, 0)).iloc[:0], TEN, TEN + HOUR) == []
    assert store.read_hours("raw", TEN, TEN + HOUR).empty


def test_equal_rows_are_equal_bytes_and_not_written_again(store):
    # GIVEN rows of three hours, the middle one without any
    frame = rows(("b", 0, 1), ("a", 5, 2), ("a", 0, 3), ("a", 130, 4))
    store.write_hours("raw", frame, TEN, TEN + 3 * HOUR)
    first = dict(store.client.objects)
    store.client.puts.clear()

    # WHEN they are written again the other way round, then with one other value
    again = store.write_hours("raw", frame.iloc[::-1], TEN, TEN + 3 * HOUR)
    puts = list(store.client.puts)
    changed = store.write_hours("raw", frame.assign(cpu=[1.0, 2.0, 3.0, 5.0]), TEN, TEN + 3 * HOUR)

    # THEN the first time nothing is written, the second time only the hour that differs
    assert (again, puts) == ([], [])
    assert changed == store.client.puts == [hour_key("raw", TEN + 2 * HOUR)]
    assert store.client.objects[hour_key("raw", TEN)] == first[hour_key("raw", TEN)]


def test_a_killed_writer_leaves_each_hour_old_or_new(store):
    # GIVEN four hours, and a machine that goes away at the third write
    before = rows(*(("a", 60 * hour, 1) for hour in range(4)))
    after = before.assign(cpu=2.0)
    store.write_hours("raw", before, TEN, TEN + 4 * HOUR)
    old = dict(store.client.objects)
    other = Store(Bucket(), "bucket")
    other.write_hours("raw", after, TEN, TEN + 4 * HOUR)
    new = dict(other.client.objects)
    store.client.dies_at = hour_key("raw", TEN + 2 * HOUR)

    # WHEN they are written anew
    with pytest.raises(ConnectionError):
        store.write_hours("raw", after, TEN, TEN + 4 * HOUR)

    # THEN each object is whole, the one that failed is the old one, and a rerun completes the rest
    found = store.client.objects
    assert found.keys() == old.keys()
    assert all(found[key] in (old[key], new[key]) for key in old)
    assert found[store.client.dies_at] == old[store.client.dies_at]
    store.client.dies_at = None
    store.write_hours("raw", after, TEN, TEN + 4 * HOUR)
    assert store.client.objects == new


def test_an_object_that_is_replaced_meanwhile_is_read_again(store):
    # GIVEN half an hour to write, and another writer that replaces the other half between our reading and writing
    store.write_hours("raw", rows(("a", 40, 1)), TEN, TEN + HOUR)
    other = Store(Bucket(), "bucket")
    other.write_hours("raw", rows(("a", 40, 7)), TEN, TEN + HOUR)
    store.client.overtaken = [other.client.objects[hour_key("raw", TEN)]]

    # WHEN
    store.write_hours("raw", rows(("a", 0, 2)), TEN, TEN + HOUR / 2)

    # THEN the other writer's rows are kept
    assert values(store.read_hours("raw", TEN, TEN + HOUR)) == [("a", 0, 2.0), ("a", 40, 7.0)]


def test_an_object_that_is_replaced_over_and_over_is_named(store):
    # GIVEN a writer that is always faster
    versions = []
    for value in range(9):
        store.write_hours("raw", rows(("a", 40, value)), TEN, TEN + HOUR)
        versions.append(store.client.objects[hour_key("raw", TEN)])
    store.client.overtaken = versions

    # WHEN / THEN
    with pytest.raises(StoreError, match=r"hh=10/part-default.parquet was replaced by another writer 4 times"):
        store.write_hours("raw", rows(("a", 0, 2)), TEN, TEN + HOUR)


def test_a_corrupt_object_is_named_and_a_whole_export_replaces_it(store):
    # GIVEN an hour whose object is cut off
    store.write_hours("raw", rows(("a", 0, 1), ("a", 40, 1)), TEN, TEN + HOUR)
    key = hour_key("raw", TEN)
    store.client.objects[key] = store.client.objects[key][:100]

    # WHEN / THEN reading it, or keeping a part of it, says which it is and what to do, and changes nothing
    for use in (
        lambda: store.read_hours("raw", TEN, TEN + HOUR),
        lambda: store.write_hours("raw", rows(("a", 0, 2)), TEN, TEN + HOUR / 2),
    ):
        with pytest.raises(StoreError, match=r"s3://bucket/raw/.*hh=10.* is no Parquet file .* restore"):
            use()
    assert len(store.client.objects[key]) == 100

    # AND exporting the whole hour again replaces it
    assert store.write_hours("raw", rows(("a", 0, 2)), TEN, TEN + HOUR) == [key]
    assert values(store.read_hours("raw", TEN, TEN + HOUR)) == [("a", 0, 2.0)]


def test_reading_cuts_to_the_interval_and_takes_all_parts(store):
    # GIVEN two parts in one hour, the second with a further column
    store.write_hours("raw", rows(("a", 0, 0), ("a", 30, 1)), TEN, TEN + HOUR)
    store.write_hours("raw", rows(("b", 10, 2), reasons=["x"]), TEN, TEN + HOUR, part="late")

    # WHEN half of the hour is read
    found = store.read_hours("raw", TEN, TEN + timedelta(minutes=30))

    # THEN
    assert values(found) == [("a", 0, 0.0), ("b", 10, 2.0)]
    assert found["reasons"].tolist()[1] == "x"


def test_one_part_or_all_but_one_can_be_read(store):
    # GIVEN an hour in two parts
    store.write_hours("raw", rows(("a", 0, 1)), TEN, TEN + HOUR)
    store.write_hours("raw", rows(("b", 0, 2)), TEN, TEN + HOUR, part="csv")

    # WHEN / THEN
    assert values(store.read_hours("raw", TEN, TEN + HOUR, part="csv")) == [("b", 0, 2.0)]
    assert values(store.read_hours("raw", TEN, TEN + HOUR, without="csv")) == [("a", 0, 1.0)]


@pytest.mark.parametrize("minutes", [-1, 60])
def test_rows_outside_the_interval_are_refused(store, minutes):
    # GIVEN / WHEN / THEN
    with pytest.raises(StoreError, match="do not all lie"):
        store.write_hours("raw", rows(("a", minutes, 0)), TEN, TEN + HOUR)
    assert store.client.objects == {}


def test_an_empty_interval_is_refused(store):
    # GIVEN / WHEN / THEN
    with pytest.raises(StoreError, match="is empty"):
        store.read_hours("raw", TEN, TEN)


def test_if_absent_keeps_the_first(store):
    # GIVEN an entry
    assert store.put_json("ledger/a.json", {"by": "first"}, if_absent=True)

    # WHEN it is written again
    again = store.put_json("ledger/a.json", {"by": "second"}, if_absent=True)

    # THEN
    assert not again
    assert store.get_json("ledger/a.json") == {"by": "first"}
    assert store.get_json("ledger/b.json") is None

"""Hour partitions: a rerun replaces exactly its interval, equal rows are equal bytes."""

import io
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from riskwatch_ml.storage.bucket import Store
from riskwatch_ml.storage.keys import hour_key
from riskwatch_ml.storage.parquet import DamagedObjectError, StoreError
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

    # WHEN they are written again
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


@pytest.fixture
def two_hours(store):
    """The keys of two hours of a layer."""
    return store.write_hours("validated", rows(("a", 0, 1), ("a", 60, 2)), TEN, TEN + 2 * HOUR)


@pytest.mark.parametrize(
    "damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"PAR1" + data[4:40]]
)
def test_a_damaged_hour_is_named_with_its_cure_or_left_out(store, two_hours, damage):
    # GIVEN
    store.put_bytes(two_hours[1], damage(store.get_bytes(two_hours[1])))

    # WHEN / THEN the error names it
    with pytest.raises(DamagedObjectError, match=rf"s3://bucket/{two_hours[1]} is no Parquet file .* restore"):
        store.read_hours("validated", TEN, TEN + 2 * HOUR)
    # AND who can go on without it gets the others and its name
    damaged = []
    assert len(store.read_hours("validated", TEN, TEN + 2 * HOUR, damaged=damaged)) == 1
    assert [two_hours[1] in text for text in damaged] == [True]


def test_every_flipped_byte_is_read_or_named(store, two_hours):
    # GIVEN the bytes of an hour WHEN one of them is flipped
    data = store.get_bytes(two_hours[1])
    outcomes = set()
    for position in range(len(data)):
        store.put_bytes(two_hours[1], data[:position] + bytes([data[position] ^ 0xFF]) + data[position + 1 :])
        damaged = []
        store.read_hours("validated", TEN, TEN + 2 * HOUR, damaged=damaged)
        outcomes.add(bool(damaged))
    # THEN no other error comes out, and most flips are found
    assert True in outcomes


def test_a_frame_of_another_kind_is_damaged(store):
    table = pa.table({"other": [1]})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    store.put_bytes(hour_key("validated", TEN, "default"), sink.getvalue().to_pybytes())
    with pytest.raises(DamagedObjectError, match="the column instance_id is missing"):
        store.read_hours("validated", TEN, TEN + HOUR)


@pytest.mark.parametrize("data", [b"{", b"\xff", b"[" * 100_000])
def test_damaged_json_is_named_and_a_state_begins_anew(store, caplog, data):
    store.put_bytes("stream/x.json", data)
    with pytest.raises(DamagedObjectError, match=r"s3://bucket/stream/x\.json is not JSON"):
        store.get_json("stream/x.json")
    assert store.get_state("stream/x.json", dict) is None
    assert "s3://bucket/stream/x.json cannot be read" in caplog.text


def test_a_state_of_another_shape_counts_as_none(store):
    store.put_json("x.json", [])
    assert store.get_state("x.json", lambda value: value["since"]) is None
    assert store.get_state("absent.json", dict) is None
    store.put_json("x.json", {"since": 1})
    assert store.get_state("x.json", lambda value: value["since"]) == 1


@pytest.mark.parametrize("damage", [b"{", b"\xff\xfe", b"[" * 100_000, b"1" * 5_000])
def test_an_object_that_is_no_json_is_named(store, damage):
    # GIVEN / WHEN / THEN
    store.put_bytes("watch/a.json", damage)
    with pytest.raises(StoreError, match=r"s3://bucket/watch/a\.json is not JSON .* restore its previous version"):
        store.get_json("watch/a.json")


@pytest.mark.parametrize(
    "table",
    [
        pa.table({"timestamp": pa.array([TEN], pa.timestamp("ms", tz="UTC"))}),
        pa.table({"instance_id": ["a"], "timestamp": ["2026-11-22"]}),
        pa.table({"instance_id": [1], "timestamp": pa.array([TEN], pa.timestamp("ms", tz="UTC"))}),
        pa.table(
            {
                "instance_id": pa.array([b"\xff"]).view(pa.string()),
                "timestamp": pa.array([TEN], pa.timestamp("ms", tz="UTC")),
            }
        ),
    ],
    ids=["a key is missing", "times are texts", "ids are numbers", "an id is not UTF-8"],
)
def test_a_parquet_file_that_holds_no_rows_is_named(store, table):
    # GIVEN
    sink = io.BytesIO()
    pq.write_table(table, sink)
    key = hour_key("validated", TEN)
    store.put_bytes(key, sink.getvalue())

    # WHEN / THEN
    for read in (lambda: store.get_frame(key), lambda: store.read_hours("validated", TEN, TEN + HOUR)):
        with pytest.raises(StoreError, match=r"s3://bucket/validated/.*hh=10.* is no Parquet file of rows .* restore"):
            read()


def test_a_changed_byte_in_the_footer_is_named(store):
    # GIVEN an hour with the first byte of its footer changed
    key = hour_key("validated", TEN)
    store.write_hours("validated", rows(("a", 0, 1)), TEN, TEN + HOUR)
    data = bytearray(store.get_bytes(key))
    data[-8 - int.from_bytes(data[-8:-4], "little")] ^= 0xFF
    store.put_bytes(key, bytes(data))

    # WHEN / THEN
    with pytest.raises(StoreError, match=r"hh=10.* is no Parquet file of rows"):
        store.read_hours("validated", TEN, TEN + HOUR)

"""Labelled rows of several kinds: one table with the columns of all, and null where a kind has no such metric."""

from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from riskwatch_ml.core import clock
from riskwatch_ml.storage import labelled_objects, labelled_rows
from riskwatch_ml.storage.bucket import Store
from tests.support.labelled import T1, T2, T3, Noted, arrive, row

NOW = datetime(2026, 11, 22, 12, 15, tzinfo=UTC)
LONG_AGO = datetime(2002, 3, 1, tzinfo=UTC)
ORDERS = "rds/orders"


def database(minute, arrived=T1, instance=ORDERS, **more):
    """Give a labelled row of a database: it has one metric of its own, and one that other kinds have, too."""
    known = row(instance, minute, arrived, resource_kind="rds", connections=40.0, **more)
    return {name: value for name, value in known.items() if name != "cpu_utilization"}


def server(minute, arrived=T1, instance="web-1", **more):
    return row(instance, minute, arrived, resource_kind="ec2", **more)


def older(minute, arrived=T1, **more):
    """Give a row as an earlier release wrote it, without a kind."""
    return row("web-0", minute, arrived, **more)


def recent(store, columns=None, start=NOW - timedelta(hours=2)):
    return labelled_rows.recent(store, start, NOW, columns)


def check(frame):
    """Assert that the rows have the kind and the metrics that they came with, and no others."""
    rows = frame.set_index("instance_id")
    assert rows["resource_kind"].fillna("").to_dict() == {ORDERS: "rds", "web-0": "", "web-1": "ec2"}
    assert rows["connections"].dropna().to_dict() == {ORDERS: 40.0}
    assert rows["cpu_utilization"].dropna().to_dict() == {"web-0": 12.5, "web-1": 12.5}


def test_rows_of_all_kinds_share_an_object(bucket, store):
    # GIVEN a batch with rows of two kinds, and one of an earlier release WHEN they are compacted
    arrive(bucket, "s0-1-3", [server(0), database(0), older(0)])
    result = labelled_rows.compact(store, NOW)

    # THEN each row has its metrics, and null for those of the other kinds
    assert (result.rows_in, result.rows_out, result.unreadable) == (3, 3, ())
    check(recent(store))


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_a_kind_that_comes_later_joins_the_table(bucket, store, order):
    # GIVEN rows of an earlier release, of the first kind and of another one WHEN each is compacted by itself
    batches = [older(0, T1), server(0, T2), database(0, T3)]
    for place in order:
        arrive(bucket, f"s0-{place}-{place}", [batches[place]])
        labelled_rows.compact(store, NOW)

    # THEN
    check(recent(store))


def test_the_newest_rows_have_their_kind_compacted_or_not(bucket, store, monkeypatch):
    # GIVEN a compacted row of an earlier release, and arrived rows of two kinds WHEN they are read
    monkeypatch.setattr(clock, "now", lambda: NOW)
    arrive(bucket, "s0-1-1", [older(0)])
    labelled_rows.compact(store, NOW)
    arrive(bucket, "s0-2-3", [server(0, T2), database(0, T2)])
    found = labelled_rows.newest(store, NOW - timedelta(hours=2), NOW)

    # THEN
    assert found.complete
    check(found.rows)


def test_columns_that_older_rows_lack_are_null(bucket, store, monkeypatch):
    # GIVEN rows of an earlier release only: some recent, some of long ago in the object of their year
    monkeypatch.setattr(clock, "now", lambda: NOW)
    arrive(bucket, "s0-1-1", [older(0), older(0, timestamp=clock.iso(LONG_AGO))])
    labelled_rows.compact(store, NOW)

    # WHEN columns are read that they do not have THEN these are null
    for start, count in ((NOW - timedelta(hours=2), 1), (LONG_AGO, 2)):
        frame = recent(store, ("level", "resource_kind", "connections"), start)
        assert list(frame.columns) == ["instance_id", "timestamp", "level", "resource_kind", "connections"]
        assert len(frame) == count
        assert frame[["resource_kind", "connections"]].isna().all().all()
        assert frame["resource_kind"].fillna("").tolist() == [""] * count


def test_old_rows_of_a_kind_are_read_beside_those_of_another(bucket, store, monkeypatch):
    # GIVEN a year object of rows without a kind, and a newer row of a database WHEN both are read by column
    monkeypatch.setattr(clock, "now", lambda: NOW)
    arrive(bucket, "s0-1-2", [older(0, timestamp=clock.iso(LONG_AGO)), database(0)])
    labelled_rows.compact(store, NOW)
    frame = recent(store, ("resource_kind", "connections", "cpu_utilization"), LONG_AGO)

    # THEN
    assert frame["resource_kind"].fillna("").tolist() == ["rds", ""]
    assert frame["connections"].fillna(-1).tolist() == [40.0, -1]
    assert frame["cpu_utilization"].fillna(-1).tolist() == [-1, 12.5]


def test_a_kind_deep_in_a_large_text_is_read(bucket, store):
    # GIVEN some megabytes of rows of one kind, and one row of another at their end WHEN they are read
    lines = [server(0, timestamp=clock.iso(NOW - timedelta(seconds=n))) for n in range(6000)]
    key = arrive(bucket, "s0-1-9", [*lines, database(0)])
    ((_, frame, bad),) = labelled_objects.chunks(store, [key], 100_000)

    # THEN
    assert bad == []
    assert frame["connections"].dropna().tolist() == [40.0]
    assert frame["resource_kind"].value_counts().to_dict() == {"ec2": 6000, "rds": 1}


_KINDS = {
    None: {"cpu_utilization": 1.0},
    "ec2": {"cpu_utilization": 2.0, "disk": 3.0},
    "rds": {"cpu_utilization": 4.0, "connections": 5.0},
    "alb": {"requests": 6.0},
}


@given(
    st.lists(
        st.tuples(st.sampled_from(list(_KINDS)), st.integers(0, 59), st.integers(0, 1), st.booleans()),
        min_size=1,
        max_size=8,
        unique_by=lambda item: (item[0], item[1]),
    )
)
@settings(max_examples=25)
def test_any_rows_come_back_with_their_own_metrics(items):
    # GIVEN rows of several kinds in several objects, compacted in between WHEN they are read
    bucket = Noted()
    store = Store(bucket, "b")
    for number in range(2):
        lines = [
            _line(kind, minute, is_null) for kind, minute, object_number, is_null in items if object_number == number
        ]
        if lines:
            arrive(bucket, f"s0-{number}-{number}", lines)
            labelled_rows.compact(store, NOW)
    frame = labelled_rows.recent(store, NOW - timedelta(hours=2), NOW)

    # THEN every row is there once, with its values, and with null for all else
    assert len(frame) == len(items)
    metrics = [name for name in frame.columns if name not in (*labelled_objects.HEAD, *labelled_objects.TAIL)]
    values = {(kind, minute): {} if is_null else _KINDS[kind] for kind, minute, _, is_null in items}
    for line in frame.to_dict("records"):
        kind = None if pd.isna(line["resource_kind"]) else line["resource_kind"]
        assert {name: line[name] for name in metrics if pd.notna(line[name])} == values[kind, line["timestamp"].minute]


def _line(kind, minute, is_null):
    """Give a row of a kind; null values stand in the row as the function writes them."""
    metrics = {name: None if is_null else value for name, value in _KINDS[kind].items()}
    known = row(f"{kind}/1", minute, T1, **({} if kind is None else {"resource_kind": kind}))
    return {**{k: v for k, v in known.items() if k not in ("cpu_utilization", "latency_ms")}, **metrics}

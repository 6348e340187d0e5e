"""Packs: context, gaps, missing values, sizes and order."""

import base64
import json
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from riskwatch_lambda.model.row_schema import RowSchema
from riskwatch_lambda.scoring.records import decode
from riskwatch_ml.schema.catalogue import Catalogue
from riskwatch_ml.schema.inventory import Instance
from riskwatch_ml.schema.metric import metric_without_entry
from riskwatch_ml.streaming import packs as stream
from riskwatch_ml.streaming.packs import Packer, StreamError

TEN = datetime(2026, 11, 22, 10, tzinfo=UTC)
MS = int(TEN.timestamp() * 1000)
FEATURES = ("cpu", "lat")
INVENTORY = {"a": Instance("a", "web", "shop"), "b": Instance("b", "web", "shop"), "c": Instance("c", "db", "bank")}


def rows(*items):
    """Rows of (instance, minutes after ten, cpu, lat)."""
    return pd.DataFrame(
        {
            "instance_id": [item[0] for item in items],
            "timestamp": pd.DatetimeIndex([TEN + timedelta(minutes=item[1]) for item in items]).as_unit("ms"),
            "cpu": [item[2] for item in items],
            "lat": [float(item[3]) for item in items],
        }
    )


def many(count, instances="a", step=5):
    """Count rows of each instance with values of many digits."""
    rng = np.random.default_rng(5)
    return rows(*[(name, step * place, *rng.uniform(0, 100, 2)) for name in instances for place in range(count)])


def packs(frame, context_rows=3, start=0, end=100_000, features=FEATURES, kind=None):
    metrics = Catalogue(tuple(replace(metric_without_entry(name, "Test"), lower=0.0) for name in features))
    packer = Packer(frame, INVENTORY, context_rows, 1800, metrics, kind)
    queues = packer.packs(TEN + timedelta(minutes=start), TEN + timedelta(minutes=end))
    return [pack for queue in queues for pack in queue]


def build(frame, **options):
    """The documents of the packs."""
    return [json.loads(pack.data) for pack in packs(frame, **options)]


def test_a_pack_names_a_kind_that_is_not_the_first():
    # GIVEN rows WHEN they are packed for the first kind, and for another one
    frame = rows(("a", 0, 1.0, 2.0), ("c", 0, 1.0, 2.0))

    # THEN each pack of the other kind names it, and is decoded as of that kind
    assert [document.get("kind") for document in build(frame)] == [None, None]
    for pack in packs(frame, kind="rds"):
        schemas = {"rds": RowSchema(FEATURES, ((0, None),) * 2, 3, "rds")}
        first = RowSchema(("other",), ((None, None),), 3, "ec2")
        (record,), refused = decode(base64.b64encode(pack.data).decode(), first, None, schemas)
        assert (record.resource_kind, record.rows, refused) == ("rds", ((1.0, 2.0),), ())


def minutes(entry):
    """The times of an instance: those of its context, those to label."""
    ts = [(moment - MS) // 60_000 for moment in entry["ts"]]
    return ts[: -entry["newest"]], ts[-entry["newest"] :]


def test_context_comes_from_before_the_interval_and_is_cut_to_size():
    # GIVEN five rows of one instance WHEN the two newest are to be labelled
    (document,) = build(rows(*[("a", 5 * place, place, place) for place in range(5)]), start=15)

    # THEN the first of them has the two before it, oldest first
    assert (document["v"], document["service"], document["features"]) == (2, "shop", ["cpu", "lat"])
    (entry,) = document["instances"]
    assert (entry["id"], entry["role"]) == ("a", "web")
    assert minutes(entry) == ([5, 10], [15, 20])
    assert entry["columns"] == [[1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0]]


def test_an_impossible_row_is_sent_and_is_not_context():
    # GIVEN six rows, the second and the fifth without a possible value
    frame = rows(*[("a", 5 * place, *((-3, -1) if place in (1, 4) else (place, 1))) for place in range(6)])

    # WHEN the three newest are to be labelled
    ((entry,),) = [document["instances"] for document in build(frame, start=15)]

    # THEN the window reaches past the one of the context, as in training, and the other is for the function to refuse
    assert minutes(entry) == ([0, 10], [15, 20, 25])
    assert entry["columns"][0] == [0.0, 2.0, 3.0, -3.0, 5.0]


def test_a_row_with_an_impossible_value_is_context():
    # GIVEN a row with an impossible value before the rows to label, WHEN / THEN it is sent as it is
    frame = rows(("a", 0, 0, 1), ("a", 5, -3, 1), ("a", 10, 2, 1), ("a", 15, 3, np.inf))
    (pack,) = packs(frame, start=10)
    (entry,) = json.loads(pack.data)["instances"]
    assert minutes(entry) == ([0, 5], [10, 15])
    # AND an infinite value is sent as the largest float, and counted
    assert entry["columns"] == [[0.0, -3.0, 2.0, 3.0], [1.0, 1.0, 1.0, sys.float_info.max]]
    assert (pack.rows, pack.values) == (2, 4)


def test_an_impossible_row_at_the_start_leaves_the_next_its_context():
    # GIVEN three rows and an impossible one, then a possible one
    frame = rows(("a", 0, 0, 1), ("a", 5, 1, 1), ("a", 10, 2, 1), ("a", 15, -1, np.nan), ("a", 20, 4, 1))

    # WHEN / THEN
    ((entry,),) = [document["instances"] for document in build(frame, start=15)]
    assert minutes(entry) == ([5, 10], [15, 20])


def test_impossible_rows_alone_have_no_context():
    # GIVEN / WHEN / THEN
    ((entry,),) = [document["instances"] for document in build(rows(("a", 0, 1, 1), ("a", 5, -1, np.nan)), start=5)]
    assert minutes(entry) == ([], [5])


def test_context_never_crosses_a_long_gap():
    # GIVEN a gap of exactly 30 minutes, then one of 35
    frame = rows(("a", 0, 1, 1), ("a", 30, 1, 1), ("a", 65, 1, 1), ("a", 70, 1, 1))

    # WHEN / THEN 1800 s are allowed, 2100 s are not
    found = [build(frame, context_rows=10, start=start, end=start + 1) for start in (30, 65, 70)]
    assert [minutes(document["instances"][0]) for (document,) in found] == [([0], [30]), ([], [65]), ([65], [70])]


def test_a_service_is_a_pack():
    # GIVEN two instances of a service, one of another, one outside the inventory; rows in no order
    frame = rows(("b", 5, 1, 1), ("a", 5, 1, 1), ("c", 0, 1, 1), ("b", 0, 1, 1), ("a", 0, 1, 1), ("new", 5, 1, 1))

    # WHEN
    found = build(frame)

    # THEN an instance outside the inventory is its own service
    names = {document["service"]: [entry["id"] for entry in document["instances"]] for document in found}
    assert names == {"shop": ["a", "b"], "bank": ["c"], "new": ["new"]}
    assert found[1]["service"] == "new"
    assert found[1]["instances"][0]["role"] == "default"
    assert sum(pack.rows for pack in packs(frame)) == 6


def test_missing_values_are_null_and_rows_without_any_are_left_out():
    # GIVEN a row with one value and one without any
    frame = rows(("a", 0, np.nan, 2), ("a", 5, np.nan, np.nan), ("a", 10, 1, 2))

    # WHEN / THEN
    ((entry,),) = [document["instances"] for document in build(frame)]
    assert minutes(entry) == ([], [0, 10])
    assert entry["columns"] == [[None, 1.0], [2.0, 2.0]]


def test_features_are_in_the_order_of_the_model():
    # GIVEN / WHEN
    (document,) = build(rows(("a", 0, 1, 2)), features=("lat", "cpu"))

    # THEN
    assert document["features"] == ["lat", "cpu"]
    assert document["instances"][0]["columns"] == [[2.0], [1.0]]


@pytest.mark.parametrize(
    ("frame", "arguments", "words"),
    [
        (rows(("a", 0, 1, 1)), {"features": ["mem"]}, "no mem, which the model needs"),
        (rows(("a", 0, "hot", 1)), {}, "a value that is not a number: .*hot"),
        (rows(("a", 0, 1, 1), ("a", 0, 2, 2)), {}, "a has two rows of 2026-11-22T10:00:00.000Z"),
        (rows(("a", 0, 1, 1)), {"context_rows": 0}, "context_rows is 0"),
    ],
)
def test_rows_that_cannot_be_streamed(frame, arguments, words):
    # GIVEN / WHEN / THEN
    with pytest.raises(StreamError, match=words):
        packs(frame, **arguments)


def test_a_row_that_the_function_would_not_take_is_named(monkeypatch):
    # GIVEN a function that takes less than a row has
    monkeypatch.setattr(stream, "MAX_PACK_BYTES", 100)

    # WHEN / THEN
    with pytest.raises(StreamError, match=r"a row of a has .* bytes with its context"):
        packs(rows(("a", 0, 1, 1)))


def test_no_rows_are_no_packs():
    # GIVEN / WHEN / THEN
    assert packs(rows(("a", 0, 1, 1)), start=5) == []
    assert packs(rows(("a", 0, np.nan, np.nan))) == []


def test_packs_of_a_service_are_bounded_and_follow_in_time():
    # GIVEN 9,000 rows of two instances of one service
    frame = many(4_500, "ab")

    # WHEN
    found = packs(frame)

    # THEN no pack is too large or needlessly small, none begins before the one before it has ended, and no row is lost
    assert all(len(pack.data) <= stream.PACK_BYTES for pack in found)
    assert len(found) <= 8
    times = [
        [ms for entry in json.loads(pack.data)["instances"] for ms in entry["ts"][-entry["newest"] :]] for pack in found
    ]
    assert all(max(earlier) < min(later) for earlier, later in pairwise(times))
    assert sum(pack.rows for pack in found) == sum(map(len, times)) == 9_000


def test_rows_of_one_time_that_do_not_fit_are_cut_by_instance(monkeypatch):
    # GIVEN room for a few hundred bytes, and one time of two instances with context
    monkeypatch.setattr(stream, "PACK_BYTES", 300)

    # WHEN / THEN
    found = build(many(5, "ab"), start=20)
    assert [[entry["id"] for entry in document["instances"]] for document in found] == [["a"], ["b"]]


def test_the_function_reads_what_is_packed():
    # GIVEN two weeks of one instance with a missing and two impossible values, one of them alone, cut into packs
    frame = many(4_032)
    frame.loc[7, "cpu"] = np.nan
    frame.loc[8, "cpu"] = -1.0
    frame.loc[9, ["cpu", "lat"]] = [-1.0, np.nan]
    found = packs(frame)

    # WHEN the function decodes them
    row_schema = RowSchema(FEATURES, ((0.0, None), (0.0, None)), 3)
    decoded = [decode(base64.b64encode(pack.data).decode(), row_schema) for pack in found]

    # THEN every row is there once, to be labelled or refused, with two rows of context in every pack but the first
    records = [record for part in decoded for record in part.records]
    assert [len(record.ts) - record.newest for record in records] == [0, *[2] * (len(found) - 1)]
    labelled = {ms: row for each in records for ms, row in list(zip(each.ts, each.rows, strict=True))[-each.newest :]}
    assert len(labelled) == 4_031
    assert labelled[MS + 7 * 300_000] == (None, frame.loc[7, "lat"])
    assert labelled[MS + 8 * 300_000] == (None, frame.loc[8, "lat"])
    kept = sum(value is not None for row in labelled.values() for value in row)
    assert sum(pack.values for pack in found) == 2 * 4_032 - 2 == kept + 1 + 1
    assert [part.reason for each in decoded for part in each.refused] == ["cpu is -1, below its lower bound 0"]

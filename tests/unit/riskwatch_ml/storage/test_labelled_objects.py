"""Arrived objects: one frame of many; a damaged object is named and does not stop the others."""

import gzip
import json

import pytest

from riskwatch_ml.storage import keys as storage_keys
from riskwatch_ml.storage import labelled_objects
from riskwatch_ml.storage.bucket import Store
from tests.support.bucket import Bucket

ROW = {
    "instance_id": "web-1",
    "service": "shop",
    "role": "web",
    "timestamp": "2026-11-22T11:00:00.000Z",
    "cpu_utilization": 12.5,
    "latency_ms": None,
    "score": 0.5,
    "level": "Normal",
    "risk": "Normal",
    "unusual": False,
    "alert": False,
    "episode_id": None,
    "context": True,
    "model_id": "m-1",
    "model_version": "3",
    "reasons": [],
    "arrived": "2026-11-22T11:01:00.000Z",
}


@pytest.fixture
def store():
    return Store(Bucket(), "b")


def arrive(store, name, *rows):
    key = f"{storage_keys.ARRIVED}dt=2026-11-22/hh=11/{name}.json.gz"
    store.put_bytes(key, gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    return key


def read(store, keys, most_rows=1_000):
    return list(labelled_objects.chunks(store, keys, most_rows))


REASON = {"feature": "cpu_utilization", "value": 1.5, "low": 1e-7, "high": 123456789.0, "share": 0.5, "direction": "up"}


@pytest.mark.parametrize(
    "reasons",
    [
        [],
        [REASON, {**REASON, "value": None}, {**REASON, "value": 3}],
        [{"feature": 'a "quoted" \\ name\n', "direction": "größer", "certain": True}],
        ["plain text", None],
        [{"feature": "x", "range": [1.5, 2.5]}],
    ],
)
def test_reasons_are_the_same_when_their_text_is_read(store, reasons):
    # GIVEN a row with reasons between two rows without any
    key = arrive(store, "s0-1-3", ROW, {**ROW, "reasons": reasons}, ROW)

    # WHEN
    ((_, frame, bad),) = read(store, [key])

    # THEN
    assert [json.loads(text) for text in frame["reasons"]] == [[], reasons, []]
    assert bad == []


def test_missing_metrics_and_refused_values_are_read_and_rows_of_an_earlier_release_have_neither(store):
    # GIVEN a row of an earlier release between rows of this one
    refused = [{"feature": "cpu_utilization", "value": 288.0, "reason": "cpu_utilization is 288, above …"}]
    now = {**ROW, "missing": ["cpu_utilization", "latency_ms"], "refused_values": refused}
    key = arrive(store, "s0-1-3", now, ROW, {**ROW, "missing": [], "refused_values": []})

    # WHEN
    ((_, frame, bad),) = read(store, [key])

    # THEN
    assert bad == []
    assert frame["missing"].map(json.loads, na_action="ignore").fillna("old").tolist() == [
        ["cpu_utilization", "latency_ms"],
        "old",
        [],
    ]
    assert json.loads(frame["refused_values"][0]) == refused
    assert frame["refused_values"].isna().tolist() == [False, True, False]


def test_rows_of_an_earlier_release_alone_have_the_columns(store):
    # GIVEN / WHEN / THEN
    ((_, frame, _),) = read(store, [arrive(store, "s0-1-1", ROW)])
    assert frame[["missing", "refused_values"]].isna().all().all()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"score": "high"}, "score"),
        ({"unusual": "no"}, "unusual"),
        ({"level": 3}, "level"),
        ({"cpu_utilization": "many"}, "cpu_utilization"),
        ({"timestamp": "yesterday"}, "yesterday"),
        ({"instance_id": None}, "a row without instance_id"),
        ({"timestamp": None}, "a row without timestamp"),
    ],
)
def test_one_wrong_value_condemns_its_object_and_no_other(store, caplog, change, why):
    # GIVEN three objects, the second of them with a value that is wrong in one way
    keys = [arrive(store, "1", ROW), arrive(store, "2", ROW, {**ROW, **change}), arrive(store, "3", ROW)]

    # WHEN
    ((good, frame, bad),) = read(store, keys)

    # THEN
    assert (good, bad, len(frame)) == ([keys[0], keys[2]], [keys[1]], 2)
    assert keys[1] in caplog.text
    assert why in caplog.text


@pytest.mark.parametrize(
    "data",
    [b"no gzip", gzip.compress(b"{", mtime=0), gzip.compress(b"[1]", mtime=0), gzip.compress(b'{"a": 1}', mtime=0)],
)
def test_what_is_no_labelled_rows_is_named(store, caplog, data):
    key = arrive(store, "1")
    store.put_bytes(key, data)
    ((good, frame, bad),) = read(store, [key])
    assert (good, bad, len(frame)) == ([], [key], 0)
    assert key in caplog.text


def test_a_truncated_or_vanished_object_is_named(store):
    # GIVEN
    whole, gone = arrive(store, "1", ROW), f"{storage_keys.ARRIVED}dt=2026-11-22/hh=11/gone.json.gz"
    store.put_bytes(whole, store.get_bytes(whole)[:-9])

    # WHEN / THEN
    assert read(store, [whole, gone])[0][2] == [whole, gone]


def test_chunks_end_at_their_size_and_keep_the_order(store, monkeypatch):
    # GIVEN five objects of two rows each, decoded one by one
    monkeypatch.setattr(labelled_objects, "READ_AT_ONCE", 1)
    keys = [arrive(store, str(number), *[{**ROW, "score": number}] * 2) for number in range(5)]

    # WHEN chunks of three rows are asked for
    found = read(store, keys, most_rows=3)

    # THEN
    assert [good for good, _, _ in found] == [keys[:2], keys[2:4], keys[4:]]
    assert [frame["score"].tolist() for _, frame, _ in found] == [[0, 0, 1, 1], [2, 2, 3, 3], [4, 4]]


def test_an_object_without_rows_is_read(store):
    assert read(store, [arrive(store, "1")])[0][0] == [f"{storage_keys.ARRIVED}dt=2026-11-22/hh=11/1.json.gz"]


def test_whole_numbers_and_absent_features_are_features_too(store):
    # GIVEN one row with a whole number, one with a feature of another model
    ((_, frame, _),) = read(store, [arrive(store, "1", {**ROW, "cpu_utilization": 3}, {**ROW, "queue": 7})])

    # THEN
    assert frame["cpu_utilization"].tolist() == [3.0, 12.5]
    assert frame["queue"].isna().tolist() == [True, False]
    assert str(frame["queue"].dtype) == str(frame["latency_ms"].dtype) == "float64"


@pytest.mark.parametrize(
    "line",
    [b"null", b" null ", b"5", b'{"a":' + b"[" * 20_000 + b"]" * 20_000 + b"}", b'{"a":' * 9_000 + b"1" + b"}" * 9_000],
)
def test_a_line_that_stops_arrow_is_left_out_before_it(store, line, caplog):
    # GIVEN an object of such a line beside a good one, whose names hold as many brackets
    good = arrive(store, "b", {**ROW, "instance_id": "[{" * 100, "service": "{" * 255, "role": "[" * 255})
    bad = good.replace("b.json", "a.json")
    store.put_bytes(bad, gzip.compress(line))

    # WHEN / THEN
    ((readable, rows, left_out),) = labelled_objects.chunks(store, [bad, good], 100)
    assert (readable, left_out, rows["instance_id"].tolist()) == ([good], [bad], ["[{" * 100])
    assert f"labelled object {bad} cannot be read" in caplog.text

"""Stream records and their way into Kinesis: context, gaps, order, partial failures."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from ml import stream
from ml.catalogue import Catalogue, unknown
from ml.inventory import Instance
from ml.stream import StreamError

TEN = datetime(2026, 11, 22, 10, tzinfo=UTC)
MS = int(TEN.timestamp() * 1000)
FEATURES = ["cpu", "lat"]
INVENTORY = {"a": Instance("a", "web", "shop"), "b": Instance("b", "web", "shop")}


def rows(*items):
    """Rows of (instance, minutes after ten, cpu, lat)."""
    return pd.DataFrame(
        {
            "instance_id": [item[0] for item in items],
            "timestamp": pd.DatetimeIndex([TEN + timedelta(minutes=item[1]) for item in items]).as_unit("ms"),
            "cpu": [float(item[2]) for item in items],
            "lat": [float(item[3]) for item in items],
        }
    )


def build(frame, context_rows=3, start=0, end=1000, features=FEATURES):
    interval = (TEN + timedelta(minutes=start), TEN + timedelta(minutes=end))
    metrics = Catalogue(tuple(replace(unknown(name, "Test"), lower=0.0) for name in features))
    return list(stream.records(frame, INVENTORY, context_rows, 1800, *interval, metrics))


def minutes(record):
    return [(moment - MS) // 60_000 for moment in record["ts"]]


def test_context_comes_from_before_the_interval_and_is_cut_to_size():
    # GIVEN five rows of one instance
    frame = rows(*[("a", 5 * place, place, place) for place in range(5)])

    # WHEN only the newest is to be labelled
    (record,) = build(frame, start=20)

    # THEN it carries the two before it, oldest first
    assert minutes(record) == [10, 15, 20]
    assert record["rows"] == [[2.0, 2.0], [3.0, 3.0], [4.0, 4.0]]
    assert (record["service"], record["role"], record["instance_id"], record["v"]) == ("shop", "web", "a", 1)


def test_an_impossible_row_is_sent_alone_and_is_nobodys_context():
    # GIVEN four rows, the second of them with a negative value where none can be
    frame = rows(("a", 0, 1, 1), ("a", 5, -3, 1), ("a", 10, 2, 2), ("a", 15, 3, 3))

    # WHEN / THEN every row has its record, and windows reach past the impossible one, as in training
    assert [minutes(record) for record in build(frame)] == [[0], [5], [0, 10], [0, 10, 15]]


def test_context_never_crosses_a_long_gap():
    # GIVEN a gap of exactly 30 minutes, then one of 35
    frame = rows(("a", 0, 1, 1), ("a", 30, 1, 1), ("a", 65, 1, 1), ("a", 70, 1, 1))

    # WHEN / THEN 1800 s are allowed, 2100 s are not
    assert [minutes(record) for record in build(frame, context_rows=10)] == [[0], [0, 30], [65], [65, 70]]


def test_all_instances_of_a_time_come_together():
    # GIVEN two instances, rows in no order
    frame = rows(("b", 5, 1, 1), ("a", 5, 1, 1), ("b", 0, 1, 1), ("a", 0, 1, 1), ("new", 5, 1, 1))

    # WHEN
    found = build(frame)

    # THEN by time, then by instance; an instance outside the inventory is its own service
    assert [(record["instance_id"], minutes(record)[-1]) for record in found] == [
        ("a", 0),
        ("b", 0),
        ("a", 5),
        ("b", 5),
        ("new", 5),
    ]
    assert found[-1]["service"] == "new"
    assert found[-1]["role"] == "default"


def test_missing_values_are_null_and_rows_without_any_are_left_out():
    # GIVEN a row with one value and one without any
    frame = rows(("a", 0, np.nan, 2), ("a", 5, np.nan, np.nan), ("a", 10, 1, 2))

    # WHEN
    found = build(frame)

    # THEN
    assert [minutes(record) for record in found] == [[0], [0, 10]]
    assert found[0]["rows"] == [[None, 2.0]]
    json.dumps(found, allow_nan=False)


def test_features_are_in_the_order_of_the_model():
    # GIVEN / WHEN
    (record,) = build(rows(("a", 0, 1, 2)), features=["lat", "cpu"])

    # THEN
    assert record["rows"] == [[2.0, 1.0]]


@pytest.mark.parametrize(
    ("frame", "arguments", "words"),
    [
        (rows(("a", 0, 1, 1)), {"features": ["mem"]}, "no mem, which the model needs"),
        (rows(("a", 0, 1, 1), ("a", 0, 2, 2)), {}, "two rows of 2026-11-22T10:00:00.000Z"),
        (rows(("a", 0, 1, 1)), {"context_rows": 0}, "context_rows is 0"),
    ],
)
def test_rows_that_cannot_be_streamed(frame, arguments, words):
    # GIVEN / WHEN / THEN
    with pytest.raises(StreamError, match=words):
        build(frame, **arguments)


class Kinesis:
    """A stream that refuses the records for which `refuses(call, place, record)` says so."""

    def __init__(self, refuses=lambda call, place, record: False):
        self.refuses = refuses
        self.calls = []
        self.taken = []

    def put_records(self, **asked):
        items = asked["Records"]
        assert 0 < len(items) <= 500
        assert sum(len(item["Data"]) + len(item["PartitionKey"]) for item in items) <= 5_000_000
        self.calls.append(len(items))
        answers = []
        for place, item in enumerate(items):
            record = json.loads(item["Data"])
            if self.refuses(len(self.calls), place, record):
                answers.append({"ErrorCode": "ProvisionedThroughputExceededException", "ErrorMessage": "slow"})
            else:
                self.taken.append((item["PartitionKey"], record["instance_id"], record["ts"][-1]))
                answers.append({"SequenceNumber": "1", "ShardId": "s"})
        return {"Records": answers, "FailedRecordCount": sum("ErrorCode" in item for item in answers)}


def record(instance, moment, size=1):
    return {"v": 1, "service": "shop", "role": "r", "instance_id": instance, "ts": [moment], "rows": [[0.5] * size]}


def test_calls_hold_at_most_500_records():
    # GIVEN 1,001 instances
    client = Kinesis()

    # WHEN
    sent = stream.put(client, "metrics", (record(f"i{place}", 1) for place in range(1001)))

    # THEN
    assert client.calls == [500, 500, 1]
    assert (sent.records, sent.calls, sent.retried) == (1001, 3, 0)


def test_calls_hold_at_most_five_megabytes():
    # GIVEN twelve records of about 0.8 MB ("0.5," is four bytes)
    client = Kinesis()

    # WHEN
    sent = stream.put(client, "metrics", [record(f"i{place}", 1, 200_000) for place in range(12)])

    # THEN six fit into 5 MB
    assert client.calls == [6, 6]
    assert sent.records == 12


def test_only_refused_records_are_sent_again_before_what_follows():
    # GIVEN three instances at two times; the second record is refused twice
    client = Kinesis(lambda call, place, item: item["instance_id"] == "b" and call <= 2)
    pauses = []

    # WHEN
    items = [record(instance, moment) for moment in (1, 2) for instance in "abc"]
    sent = stream.put(client, "metrics", items, pause=pauses.append)

    # THEN b of time 1 goes through before anything of time 2
    assert client.calls == [3, 1, 1, 3]
    assert [item[1:] for item in client.taken] == [("a", 1), ("c", 1), ("b", 1), ("a", 2), ("b", 2), ("c", 2)]
    assert (sent.records, sent.calls, sent.retried) == (6, 4, 2)
    assert len(pauses) == 2
    assert 0.05 <= pauses[0] <= 0.1 <= pauses[1] <= 0.2


def test_a_replay_shares_calls_between_rows_of_an_instance():
    # GIVEN 600 rows of each of two instances, and a caller who wants to know how far it is
    client, told = Kinesis(), []
    items = [record(instance, moment) for moment in range(1, 601) for instance in "ab"]

    # WHEN
    sent = stream.put(client, "metrics", items, replay=True, progress=told.append)

    # THEN three calls are enough, in the order given
    assert client.calls == [500, 500, 200]
    assert told == [500, 1000, 1200]
    assert [item[1:] for item in client.taken] == [(item["instance_id"], item["ts"][-1]) for item in items]
    assert sent.calls == 3


def test_a_replay_that_was_refused_something_shares_no_call_any_more():
    # GIVEN a stream that refuses one record of the first call
    client = Kinesis(lambda call, place, item: call == 1 and place == 7)
    items = [record("a", moment) for moment in range(1, 504)]

    # WHEN
    sent = stream.put(client, "metrics", items, replay=True, pause=lambda seconds: None)

    # THEN the refused one goes first, and what follows goes one by one
    assert client.calls == [500, 1, 1, 1, 1]
    assert [item[2] for item in client.taken[-4:]] == [8, 501, 502, 503]
    assert (sent.records, sent.retried) == (503, 1)


def test_a_stream_that_keeps_refusing_is_an_error_with_counts():
    # GIVEN one instance that never goes through
    client = Kinesis(lambda call, place, item: item["instance_id"] == "b")

    # WHEN / THEN
    with pytest.raises(StreamError, match=r"1 of 3 records .*ProvisionedThroughput.* 2 records are through"):
        stream.put(client, "metrics", [record(instance, 1) for instance in "abc"], pause=lambda seconds: None)


def test_a_record_above_one_megabyte_is_refused():
    # GIVEN / WHEN / THEN
    with pytest.raises(StreamError, match="the record of a has"):
        stream.put(Kinesis(), "metrics", [record("a", 1, 300_000)])

"""Packs on their way into Kinesis: sizes of calls, order within a service, refused records."""

import base64
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from riskwatch_lambda.model.row_schema import RecordError, RowSchema
from riskwatch_lambda.scoring.records import decode
from riskwatch_ml.schema.catalogue import Catalogue
from riskwatch_ml.schema.inventory import Instance
from riskwatch_ml.schema.metric import metric_without_entry
from riskwatch_ml.streaming import kinesis
from riskwatch_ml.streaming.packs import Pack, Packer, StreamError
from tests.support.contract import imitates

TEN = datetime(2026, 11, 22, 10, tzinfo=UTC)


def packer(frame, inventory, features, context_rows=3):
    return Packer(
        frame, inventory, context_rows, 1800, Catalogue(tuple(metric_without_entry(name, "Test") for name in features))
    )


@imitates("kinesis")
class Kinesis:
    """A stream that refuses the records for which `refuses(call, place, key)` says so."""

    def __init__(self, refuses=lambda call, place, key: False):
        self.refuses = refuses
        self.calls = []
        self.taken = []

    def put_records(self, **asked):
        items = asked["Records"]
        keys = [item["PartitionKey"] for item in items]
        assert 0 < len(items) <= 500
        assert all(1 <= len(key.encode("utf-16-le")) // 2 <= 256 for key in keys), "AWS refuses the whole call"
        assert len(set(keys)) == len(keys), "a service has one pack at most on its way"
        assert sum(len(item["Data"]) + len(item["PartitionKey"]) for item in items) <= 10 * 1024 * 1024
        self.calls.append(len(items))
        answers = []
        for place, item in enumerate(items):
            if self.refuses(len(self.calls), place, item["PartitionKey"]):
                answers.append({"ErrorCode": "ProvisionedThroughputExceededException", "ErrorMessage": "slow"})
            else:
                self.taken.append((item["PartitionKey"], item["Data"][:1].decode()))
                answers.append({"SequenceNumber": "1", "ShardId": "s"})
        return {"Records": answers, "FailedRecordCount": sum("ErrorCode" in item for item in answers)}


def queue(service, count=1, size=10, of=3):
    """A service's packs, numbered from 1, of so many bytes and rows."""
    return iter([Pack(service, str(place + 1).encode().ljust(size), of) for place in range(count)])


def test_two_weeks_of_five_minutes_take_a_handful_of_calls():
    # GIVEN 4,032 rows of ten metrics of one instance
    rng = np.random.default_rng(1)
    names = tuple(f"metric_{number}" for number in range(10))
    times = pd.date_range(TEN, periods=4_032, freq="5min").as_unit("ms")
    frame = pd.DataFrame(
        {"instance_id": "a", "timestamp": times} | {name: rng.uniform(0, 100, 4_032) for name in names}
    )
    queues = packer(frame, {"a": Instance("a", "web", "shop")}, names, 12).packs(TEN, TEN + timedelta(days=14))
    client = Kinesis()

    # WHEN
    sent = kinesis.put(client, "metrics", queues)

    # THEN
    assert sent.rows == 4_032
    assert sent.calls <= 8


def test_calls_hold_at_most_500_records():
    # GIVEN 1,001 services
    client, progress = Kinesis(), []

    # WHEN
    sent = kinesis.put(client, "metrics", [queue(f"s{number}") for number in range(1001)], progress=progress.append)

    # THEN progress is reported after each call
    assert client.calls == [500, 500, 1]
    assert (sent.rows, sent.records, sent.calls, sent.retried) == (3003, 1001, 3, 0)
    assert progress == [1500, 3000, 3003]


def test_calls_hold_at_most_ten_megabytes():
    # GIVEN fifteen packs of 0.75 MiB
    client = Kinesis()

    # WHEN
    sent = kinesis.put(client, "metrics", [queue(f"s{number:02}", size=786_432 - 3) for number in range(15)])

    # THEN thirteen fit into 10 MiB
    assert client.calls == [13, 2]
    assert sent.records == 15


def test_the_packs_of_a_service_go_one_after_the_other():
    # GIVEN a service of three packs and one of one
    client = Kinesis()

    # WHEN
    kinesis.put(client, "metrics", [queue("shop", 3), queue("bank")])

    # THEN no call holds two of one service, and calls are shared
    assert client.taken == [("shop", "1"), ("bank", "1"), ("shop", "2"), ("shop", "3")]
    assert client.calls == [2, 1, 1]


def test_only_refused_packs_are_sent_again_before_what_follows():
    # GIVEN three services of two packs; the second service is refused twice
    client = Kinesis(lambda call, place, key: key == "b" and call <= 2)
    pauses = []

    # WHEN
    sent = kinesis.put(client, "metrics", [queue(name, 2) for name in "abc"], pause=pauses.append)

    # THEN its first pack goes through before the second of any service
    assert client.calls == [3, 1, 1, 3]
    assert client.taken == [("a", "1"), ("c", "1"), ("b", "1"), ("a", "2"), ("b", "2"), ("c", "2")]
    assert (sent.rows, sent.records, sent.calls, sent.retried) == (18, 6, 4, 2)
    assert len(pauses) == 2
    assert 0.05 <= pauses[0] <= 0.1 <= pauses[1] <= 0.2


def test_a_stream_that_keeps_refusing_is_an_error_with_counts():
    # GIVEN one service that never goes through
    client = Kinesis(lambda call, place, key: key == "b")

    # WHEN / THEN
    with pytest.raises(StreamError, match=r"1 of 3 records .*ProvisionedThroughput.* 6 rows are through"):
        kinesis.put(client, "metrics", [queue(name, 2) for name in "abc"], pause=lambda seconds: None)
    assert client.calls == [3, *[1] * 7]


@pytest.mark.parametrize("service", ["s" * 300, "\U0001f600" * 200, "half of a pair: \ud83d"])
def test_a_service_that_cannot_be_a_key_does_not_stop_the_others(service):
    # GIVEN an instance with a service too long for a partition key, or not text, and one of another service
    inventory = {"a": Instance("a", "web", service), "b": Instance("b", "web", "shop")}
    times = pd.DatetimeIndex([TEN, TEN]).as_unit("ms")
    frame = pd.DataFrame({"instance_id": ["a", "b"], "timestamp": times, "cpu": [1, 2], "lat": [1.0, 2.0]})
    queues = packer(frame, inventory, ("cpu", "lat")).packs(TEN, TEN + timedelta(minutes=5))
    client, taken = Kinesis(), []
    put_records = client.put_records
    client.put_records = lambda **asked: taken.extend(asked["Records"]) or put_records(**asked)

    # WHEN
    sent = kinesis.put(client, "metrics", queues)

    # THEN both go through, and the function labels the one and refuses the other with a reason
    assert (sent.rows, sent.records) == (2, 2)
    row_schema = RowSchema(("cpu", "lat"), ((None, None),) * 2, 3)
    reasons = []
    for entry in taken:
        try:
            records = decode(base64.b64encode(entry["Data"]).decode(), row_schema).records
            assert [record.instance_id for record in records] == ["b"]
        except RecordError as error:
            reasons.append((str(error), error.rows))
    assert len(reasons) == 1
    assert reasons[0][0].startswith("service ")
    assert reasons[0][1] == 1

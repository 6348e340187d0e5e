"""Refused stream records: sent again as they came, moved once they are through, and left where nothing can be sent."""

import base64
import gzip
import json
from datetime import UTC, datetime, timedelta

import pytest

from riskwatch_lambda import arrival
from riskwatch_ml.storage import keys
from riskwatch_ml.storage.bucket import Store
from riskwatch_ml.streaming import kinesis as streaming_kinesis
from riskwatch_ml.streaming import packs, resend
from riskwatch_ml.streaming.resend import RefusedError, Resent
from tests.support.bucket import Bucket
from tests.support.contract import imitates

TEN = datetime(2026, 11, 22, 10, tzinfo=UTC)
NOON = TEN + timedelta(hours=2)


@imitates("kinesis")
class Kinesis:
    """Accepts records unless `refuses` is set."""

    def __init__(self):
        self.records = []
        self.refuses = False

    def put_records(self, StreamName, Records):  # noqa: N803
        if self.refuses:
            return {"Records": [{"ErrorCode": "ProvisionedThroughputExceededException"} for _ in Records]}
        self.records += [(item["PartitionKey"], json.loads(item["Data"])) for item in Records]
        return {"Records": [{"SequenceNumber": "1"} for _ in Records]}


@pytest.fixture
def store():
    return Store(Bucket(), "bucket")


@pytest.fixture
def kinesis():
    return Kinesis()


def document(record, reason="cpu is 300, above its upper bound 100", service="shop", rows=1, **more):
    data = record if isinstance(record, bytes) else json.dumps(record).encode()
    encoded = base64.b64encode(data).decode()
    return {
        "reason": reason,
        "rows": rows,
        "shard": "0",
        "partition_key": service,
        "truncated": False,
        "data": encoded,
        **more,
    }


def refuse(store, name, *documents, hour=10):
    key = f"{keys.REFUSED}dt=2026-11-22/hh={hour}/{name}.json.gz"
    store.put_bytes(key, gzip.compress("".join(json.dumps(item) + "\n" for item in documents).encode()))
    return key


def test_refused_records_go_again_to_their_service_and_move(store, kinesis):
    # GIVEN two objects of two hours, one of them with records of two services
    refuse(store, "s0-1-3", document({"n": 1}, rows=3), document({"n": 2}, service="billing"), document({"n": 3}))
    refuse(store, "s0-4-4", document({"n": 4}), hour=11)

    # WHEN they are sent again
    done = resend.send_again(store, kinesis, "metrics", TEN, NOON)

    # THEN every one is through, those of a service in their order, and none is in quarantine any more
    assert done == Resent(6, 6, 0, {})
    assert [record["n"] for service, record in kinesis.records if service == "shop"] == [1, 3, 4]
    assert [record["n"] for service, record in kinesis.records if service == "billing"] == [2]
    assert store.keys("quarantine/") == [
        "quarantine/sent/dt=2026-11-22/hh=10/s0-1-3.json.gz",
        "quarantine/sent/dt=2026-11-22/hh=11/s0-4-4.json.gz",
    ]
    # AND a second replay finds nothing
    assert resend.send_again(store, kinesis, "metrics", TEN, NOON) == Resent(0, 0, 0, {})
    assert len(kinesis.records) == 4


@pytest.mark.parametrize("data", [b"no json", b"[1]", b'{"v": 1, "rows'])
def test_what_is_no_record_stays_with_its_reason(store, kinesis, data):
    # GIVEN a record that can be sent between two that cannot
    broken = document(data, reason="data is not JSON")
    cut = document({"n": 2}, reason="data has 2000000 base64 characters", truncated=True)
    key = refuse(store, "s0-1-3", broken, document({"n": 1}), cut)

    # WHEN
    done = resend.send_again(store, kinesis, "metrics", TEN, NOON)

    # THEN
    assert done == Resent(3, 1, 2, {"data is not JSON": 1, "data has 2000000 base64 characters": 1})
    assert list(resend.read_quarantined(store, TEN, NOON)) == [(key, [broken, cut])]
    # AND it does so again
    assert resend.send_again(store, kinesis, "metrics", TEN, NOON).left == 2
    assert len(kinesis.records) == 1


def test_only_the_hours_asked_for_are_sent(store, kinesis):
    refuse(store, "a", document({"n": 1}), hour=10)
    refuse(store, "b", document({"n": 2}), hour=11)
    assert resend.send_again(store, kinesis, "metrics", TEN + timedelta(hours=1), NOON).sent == 1
    assert [record["n"] for _, record in kinesis.records] == [2]


def test_while_the_stream_refuses_nothing_moves(store, kinesis, monkeypatch):
    # GIVEN
    monkeypatch.setattr(streaming_kinesis, "ATTEMPTS", 1)
    key = refuse(store, "a", document({"n": 1}))
    kinesis.refuses = True

    # WHEN / THEN
    with pytest.raises(packs.StreamError, match="ProvisionedThroughputExceeded"):
        resend.send_again(store, kinesis, "metrics", TEN, NOON)
    assert store.keys("quarantine/") == [key]


def test_killed_after_sending_a_record_goes_twice_and_is_not_lost(store, kinesis, monkeypatch):
    # GIVEN a replay that dies before the object has moved
    key = refuse(store, "a", document({"n": 1}))
    monkeypatch.setattr(Store, "put_bytes", lambda *given: (_ for _ in ()).throw(ConnectionError()))
    with pytest.raises(ConnectionError):
        resend.send_again(store, kinesis, "metrics", TEN, NOON)
    assert store.keys("quarantine/") == [key]
    monkeypatch.undo()

    # WHEN / THEN
    assert resend.send_again(store, kinesis, "metrics", TEN, NOON).sent == 1
    assert len(kinesis.records) == 2


@pytest.mark.parametrize(
    "content", [b"no gzip", gzip.compress(b"{", mtime=0), gzip.compress(b"{}", mtime=0), gzip.compress(b"[1]", mtime=0)]
)
def test_an_object_that_the_function_did_not_write_is_named(store, content):
    key = refuse(store, "a")
    store.put_bytes(key, content)
    with pytest.raises(RefusedError, match=key):
        list(resend.read_quarantined(store, TEN, NOON))


def test_a_record_that_came_from_the_future_stays(store, kinesis):
    # GIVEN a record refused for its time, and one refused for a bound, in one object
    reason = arrival.refusal(arrival.TIME_ZONE)
    key = refuse(store, "s0-1-2", document({"n": 1}, reason=reason), document({"n": 2}))

    # WHEN they are sent again, long after the time of both
    done = resend.send_again(store, kinesis, "stream", TEN, NOON)

    # THEN only the second is sent: the time of the first is still wrong
    assert done == Resent(2, 1, 1, {reason: 1})
    assert [record["n"] for _, record in kinesis.records] == [2]
    assert store.get_bytes(key) is not None

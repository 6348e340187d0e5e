"""The accounts of a campaign of faults: rows by identity, messages by episode."""

import base64
import gzip
import json
from collections import Counter

from bench.faults import accounts
from bench.faults.accounts import Listed, RowAccount
from riskwatch_ml.storage import keys

TEN = 1_795_341_600_000  # 2026-11-22T10:00:00Z
ARRIVED = f"{keys.ARRIVED}dt=2026-11-22/hh=10/"
REFUSED = f"{keys.REFUSED}dt=2026-11-22/hh=10/"


class Bucket:
    """Objects in memory."""

    def __init__(self, **objects):
        self.objects = objects

    def keys(self, prefix):
        return sorted(key for key in self.objects if key.startswith(prefix))

    def get_bytes(self, key):
        return self.objects[key]


def lines(*documents):
    return gzip.compress("\n".join(map(json.dumps, documents)).encode())


def refused(number, record):
    return {"sequence_number": number, "reason": "no", "data": base64.b64encode(json.dumps(record).encode()).decode()}


def test_a_row_is_labelled_or_refused_or_missing():
    # GIVEN a row that is labelled twice, a refused pack, and a refused record that is no record
    row = {"instance_id": "web-1", "timestamp": "2026-11-22T10:00:00.000Z"}
    pack = {"instances": [{"id": "web-2", "ts": [TEN - 1, TEN], "newest": 1}]}
    bucket = Bucket(
        **{
            f"{ARRIVED}a": lines(row),
            f"{ARRIVED}b": lines(row),
            f"{REFUSED}c": lines(refused("7", pack), refused("8", 1)),
        }
    )
    account = RowAccount(bucket)

    # WHEN / THEN
    assert account.missing({("web-1", TEN), ("web-2", TEN), ("web-2", TEN - 1)}) == {("web-2", TEN - 1)}
    assert account.labelled == Counter({("web-1", TEN): 2})
    assert account.refused_records == {"7", "8"}


def test_a_damaged_object_is_read_once_it_is_restored():
    # GIVEN
    whole = lines({"instance_id": "web-1", "timestamp": "2026-11-22T10:00:00.000Z"})
    bucket = Bucket(**{f"{ARRIVED}a": whole[:20]})
    account = RowAccount(bucket)
    assert account.missing({("web-1", TEN)}) == {("web-1", TEN)}

    # WHEN
    bucket.objects[f"{ARRIVED}a"] = whole

    # THEN
    assert account.missing({("web-1", TEN)}) == set()


def test_a_paged_episode_without_a_message_is_undelivered():
    episodes = [Listed("a", "sent"), Listed("b", "sent"), Listed("c", "budget"), Listed("d", "")]
    assert accounts.undelivered(episodes, ["a"]) == ["b"]

"""Whatever an object of refused records holds, it is read, or named, and what is sent is a JSON object."""

import base64
import gzip
import json
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from riskwatch_ml.core.errors import RiskwatchError
from riskwatch_ml.storage import keys
from riskwatch_ml.storage.bucket import Store
from riskwatch_ml.streaming import resend
from tests.support.bucket import Bucket
from tests.support.fuzzing import damaged, json_bytes, mutated, outcome

TEN = datetime(2026, 11, 22, 10, tzinfo=UTC)
KEY = f"{keys.hour_prefix(keys.REFUSED, TEN)}s0-1-1.json.gz"
_DATA = st.one_of(json_bytes(st.just({"v": 2, "service": "shop"})), st.just(b'{"v":' + b"[" * 5_000))
_DOCUMENTS = st.fixed_dictionaries(
    {
        "reason": st.just("cpu is 300"),
        "rows": st.integers(1, 3),
        "shard": st.just("0"),
        "partition_key": st.sampled_from(["shop", ""]),
        "truncated": st.booleans(),
        "data": _DATA.map(lambda data: base64.b64encode(data).decode()),
    },
    optional={"values": st.integers(0, 3)},
)
_OBJECTS = mutated(st.lists(_DOCUMENTS, min_size=1, max_size=2)).map(
    lambda lines: gzip.compress(
        "\n".join(map(json.dumps, lines if isinstance(lines, list) else [lines])).encode(), mtime=0
    )
)


class Kinesis:
    """Accepts every record."""

    def __init__(self):
        self.sent = []

    def put_records(self, StreamName, Records):  # noqa: N803
        self.sent += [item["Data"] for item in Records]
        return {"Records": [{"SequenceNumber": "1"} for _ in Records]}


@given(st.one_of(_OBJECTS, damaged(_OBJECTS), st.binary(max_size=40)))
def test_any_refused_records_are_sent_again_kept_or_named(content):
    # GIVEN
    bucket, kinesis = Bucket(), Kinesis()
    bucket.objects[KEY] = content
    store = Store(bucket, "bucket")

    # WHEN
    result, refusal = outcome(
        lambda: resend.send_again(store, kinesis, "metrics", TEN, TEN + timedelta(hours=1)), RiskwatchError
    )

    # THEN
    assert all(isinstance(json.loads(data), dict) for data in kinesis.sent)
    if result is None:
        assert KEY in refusal
        assert bucket.objects[KEY] == content
    else:
        assert result.rows == result.sent + result.left

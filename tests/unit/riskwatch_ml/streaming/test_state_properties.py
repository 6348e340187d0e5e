"""Whatever the stored state of the stream holds, a run goes on: damaged state counts as none."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from riskwatch_ml.core import clock
from riskwatch_ml.core.settings import Settings
from riskwatch_ml.schema.inventory import Instance
from riskwatch_ml.storage import keys
from riskwatch_ml.storage.bucket import Store
from riskwatch_ml.streaming import last_seen, watermark
from tests.support.bucket import Bucket
from tests.support.fuzzing import NUMBERS, TEXTS, json_bytes

TEN = datetime(2026, 11, 22, 10, tzinfo=UTC)
PERIOD_S = 300
REGIONS = ("eu-west-1", "us-east-1")
EXPECTED = {name: Instance(name, service="shop") for name in ("a", "eu-west-1:b")}
CONFIG = Settings(
    bucket="bucket", stream="s", table="t", function="f", mlflow_uri="http://mlflow", regions=REGIONS, settle_s=0
)
_TIMES = st.one_of(
    st.timedeltas(timedelta(days=-2), timedelta(days=1)).map(lambda span: clock.iso(TEN + span)),
    st.sampled_from(["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00", "9999-12-31T23:59:59Z", "soon"]),
)
_MARKS = st.fixed_dictionaries(
    {"end": _TIMES},
    optional={"shards": st.dictionaries(st.sampled_from([*REGIONS, "gone"]), _TIMES), "newest": _TIMES},
)
_SEEN = st.fixed_dictionaries(
    {
        "end": _TIMES,
        "period_s": st.sampled_from([60, 300, 0, -300, 10**30]),
        "last": st.dictionaries(st.one_of(st.sampled_from([*EXPECTED, "gone"]), TEXTS), NUMBERS, max_size=3),
    },
    optional={"behind": st.dictionaries(st.sampled_from(REGIONS), _TIMES, max_size=2), "anew": _TIMES},
)


def stored(key, content):
    store = Store(Bucket(), "bucket")
    store.put_bytes(key, content)
    return store


@given(json_bytes(_MARKS))
def test_any_watermark_leaves_something_to_stream(content):
    # GIVEN
    store = stored(keys.STREAM_MARK, content)

    # WHEN
    pending = watermark.pending(CONFIG, store, PERIOD_S, TEN)

    # THEN each region is streamed up to now, from at most the catch-up ago, and the next watermark is written
    assert sorted(name for interval in pending for name in interval.account_regions) == sorted(REGIONS)
    for interval in pending:
        assert interval.end == TEN
        assert TEN - watermark.CATCH_UP <= interval.start <= TEN
    watermark.record(store, TEN, {})
    assert store.get_json(keys.STREAM_MARK)["end"] == clock.iso(TEN)


@given(json_bytes(_SEEN))
def test_any_last_seen_is_read_or_replaced(content):
    # GIVEN
    store = stored(keys.LAST_SEEN, content)

    # WHEN / THEN a tick gets times that the function can write, of instances of the inventory, or none
    for entry in last_seen.overdue(store, EXPECTED) or ():
        name, _, moment = entry
        assert name in (*EXPECTED, "*")
        assert clock.iso(moment)

    # AND the next run replaces it
    newest = {"a": clock.epoch_ms(TEN) - PERIOD_S * 1000}
    last_seen.update_last_seen(store, EXPECTED, newest, TEN, PERIOD_S)
    after = store.get_json(keys.LAST_SEEN)
    assert after["end"] == clock.iso(TEN)
    assert set(after["last"]) == set(EXPECTED)
    assert all(0 < moment < clock.epoch_ms(TEN) for moment in after["last"].values())

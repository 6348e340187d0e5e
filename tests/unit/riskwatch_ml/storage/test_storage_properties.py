"""Whatever an object of the bucket holds, it is read, or named with its cure."""

import gzip
import json
from datetime import UTC, datetime, timedelta

import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from riskwatch_ml.storage import keys, labelled_objects, labelled_rows
from riskwatch_ml.storage.bucket import Store
from riskwatch_ml.storage.parquet import StoreError
from tests.support.bucket import Bucket
from tests.support.fuzzing import damaged, json_bytes, mutated, outcome
from tests.support.labelled import T1, arrive, row

TEN = datetime(2026, 11, 22, 10, tzinfo=UTC)
HOUR = timedelta(hours=1)
KEY = keys.hour_key(keys.VALIDATED, TEN)


def _parquet():
    store = Store(Bucket(), "bucket")
    stamps = pd.date_range(TEN, periods=40, freq="min", unit="ms")
    frame = pd.DataFrame({"instance_id": [f"web-{n % 3}" for n in range(40)], "timestamp": stamps, "cpu": range(40)})
    store.put_frame(KEY, frame)
    return store.get_bytes(KEY)


PARQUET = _parquet()


@given(st.one_of(damaged(st.just(PARQUET)), st.binary(max_size=60)))
def test_any_hour_is_read_or_named(content):
    # GIVEN
    store = Store(Bucket(), "bucket")
    store.put_bytes(KEY, content)

    # WHEN
    for read in (
        lambda: store.get_frame(KEY),
        lambda: store.read_hours(keys.VALIDATED, TEN, TEN + HOUR),
        lambda: store.read_hours(keys.VALIDATED, TEN, TEN + HOUR, columns=["cpu"], instances=lambda name: True),
    ):
        frame, refusal = outcome(read, StoreError)

        # THEN
        if frame is None:
            assert f"s3://bucket/{KEY} is no Parquet file of rows" in refusal
        else:
            assert {"instance_id", "timestamp"} <= set(frame.columns)


@given(json_bytes(st.fixed_dictionaries({"at": st.just("now"), "retrain": st.booleans()})))
def test_any_json_is_read_or_named(content):
    # GIVEN
    store = Store(Bucket(), "bucket")
    store.put_bytes("watch/a.json", content)

    # WHEN / THEN
    _, refusal = outcome(lambda: store.get_json("watch/a.json"), StoreError)
    assert refusal == "" or refusal.startswith("s3://bucket/watch/a.json is not JSON")


_LINES = mutated(st.lists(st.sampled_from([row("web-1", 0, T1), row("web-2", 5, T1)]), min_size=1, max_size=2))
_ARRIVED = _LINES.map(
    lambda lines: gzip.compress(
        "\n".join(json.dumps(line) for line in (lines if isinstance(lines, list) else [lines])).encode(), mtime=0
    )
)


@settings(max_examples=settings.default.max_examples // 4)
@given(st.one_of(_ARRIVED, damaged(_ARRIVED), st.binary(max_size=40)))
def test_any_arrived_object_is_compacted_or_left_out_and_stops_no_other(content):
    # GIVEN an object of any content between two good ones
    bucket = Bucket()
    store = Store(bucket, "bucket")
    arrive(bucket, "s0-1-1", [row("good", 0, T1)])
    bucket.objects["labelled/arrived/dt=2026-11-22/hh=11/s0-2-2.json.gz"] = content
    arrive(bucket, "s0-3-3", [row("good", 5, T1)])

    # WHEN
    found = list(labelled_objects.chunks(store, store.keys(keys.ARRIVED), 100))

    # THEN
    good = [key for chunk in found for key in chunk[0]]
    bad = [key for chunk in found for key in chunk[2]]
    assert sorted(good + bad) == store.keys(keys.ARRIVED)
    rows = labelled_objects.joined([chunk[1] for chunk in found])
    assert (rows["instance_id"] == "good").sum() == 2


_COMPACTION = st.fixed_dictionaries(
    {
        "since": st.sampled_from([None, "2026-11-20T10:00:00.000Z", "2027-01-01T00:00:00.000Z", "soon"]),
        "done": st.lists(st.sampled_from(["labelled/arrived/dt=2026-11-22/hh=11/x.json.gz", "y"]), max_size=2),
    }
)


@settings(max_examples=settings.default.max_examples // 4)
@given(json_bytes(_COMPACTION))
def test_any_watermark_of_the_compaction_is_read_or_begins_again(content):
    # GIVEN
    bucket = Bucket()
    store = Store(bucket, "bucket")
    arrive(bucket, "s0-1-1", [row("web-1", 0, T1)])
    bucket.objects[keys.COMPACTION_MARK] = content

    # WHEN
    labelled_rows.compact(store, TEN + 2 * HOUR)

    # THEN it is written anew, so the next run reads it
    after = store.get_json(keys.COMPACTION_MARK)
    assert set(after) == {"since", "done"}

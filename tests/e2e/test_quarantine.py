"""Validation, replay and compaction against the services themselves: conditions, content types, order of records."""

import base64
import gzip
import json
from datetime import UTC, datetime, timedelta

import boto3
import httpx
import pandas as pd
import pytest

from riskwatch_expectations import data_docs, revalidate
from riskwatch_expectations.pipeline import split_interval
from riskwatch_expectations.validate import Interval
from riskwatch_ml.schema.catalogue import Catalogue
from riskwatch_ml.schema.metric import Metric
from riskwatch_ml.storage import keys, labelled_rows
from riskwatch_ml.storage.bucket import Store
from riskwatch_ml.streaming import resend
from tests.unit.riskwatch_ml.storage.test_labelled_rows import arrive, row

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]
TEN = datetime(2026, 11, 22, 10, tzinfo=UTC)
HOUR = timedelta(hours=1)
INTERVAL = Interval(TEN, TEN + HOUR, 300)


@pytest.fixture
def store(request, aws):
    name = "quarantine-" + request.node.name.replace("_", "-")[-40:].strip("-")
    client = boto3.client("s3")
    client.create_bucket(Bucket=name)
    return Store(client, name)


def catalogue(upper):
    return Catalogue((Metric("cpu", "Test", "CPU", lower=0.0, upper=upper),))


def test_rows_come_back_and_the_page_opens_in_a_browser(store):
    # GIVEN an hour of which one row is beyond a bound
    moments = pd.date_range(TEN, periods=12, freq="5min", unit="ms")
    rows = pd.DataFrame({"instance_id": "web-1", "timestamp": moments, "cpu": [150.0, *[float(n) for n in range(11)]]})
    store.write_hours("raw", rows.astype({"instance_id": "str"}), TEN, TEN + HOUR)

    # WHEN it is validated, and judged again by another bound
    outcome = split_interval(store, catalogue(100.0), INTERVAL)
    answer = httpx.get(data_docs.link(store, data_docs.write(store, outcome.outcomes, INTERVAL, "default")))
    done = revalidate.revalidate(store, catalogue(200.0), INTERVAL)

    # THEN
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "Great Expectations" in answer.text
    assert (done.rows, done.validated) == (1, 1)
    assert len(store.read_hours("validated", TEN, TEN + HOUR)) == 12
    assert not [key for key in store.keys("quarantine/") if key.endswith(".parquet")]


def test_refused_records_go_through_a_real_stream(store):
    # GIVEN three refused records of one service
    kinesis = boto3.client("kinesis")
    kinesis.create_stream(StreamName="again", ShardCount=1)
    kinesis.get_waiter("stream_exists").wait(StreamName="again", WaiterConfig={"Delay": 1})
    documents = [
        {
            "reason": "cpu is 150, above its upper bound 100",
            "rows": 1,
            "partition_key": "shop",
            "truncated": False,
            "data": base64.b64encode(json.dumps({"v": 2, "n": number}).encode()).decode(),
        }
        for number in range(3)
    ]
    content = gzip.compress("".join(json.dumps(item) + "\n" for item in documents).encode())
    store.put_bytes(f"{keys.REFUSED}dt=2026-11-22/hh=10/s-1-3.json.gz", content)

    # WHEN they are sent again, twice
    first = resend.send_again(store, kinesis, "again", TEN, TEN + HOUR)
    second = resend.send_again(store, kinesis, "again", TEN, TEN + HOUR)

    # THEN each is in the stream once, in order
    shard = kinesis.list_shards(StreamName="again")["Shards"][0]["ShardId"]
    place = kinesis.get_shard_iterator(StreamName="again", ShardId=shard, ShardIteratorType="TRIM_HORIZON")
    records = kinesis.get_records(ShardIterator=place["ShardIterator"])["Records"]
    assert [json.loads(record["Data"])["n"] for record in records] == [0, 1, 2]
    assert (first.sent, second.rows) == (3, 0)


def test_compaction_on_the_bucket_reads_every_object_once(store):
    # GIVEN two objects that hold the same row
    class Objects(dict):
        def __setitem__(self, key, data):
            store.put_bytes(key, data)

    bucket = type("Bucket", (), {"objects": Objects()})()
    arrive(bucket, "s0-1-1", [row("web-1", 0, "2026-11-22T11:01:00.000Z", "Idle")])
    arrive(bucket, "s0-2-2", [row("web-1", 0, "2026-11-22T11:02:00.000Z", "Normal")])

    # WHEN
    now = TEN + 2 * HOUR
    done, again = labelled_rows.compact(store, now), labelled_rows.compact(store, now)

    # THEN
    assert (done.objects, done.rows_out, done.duplicates) == (2, 1, 1)
    assert again.objects == 0
    assert labelled_rows.recent(store, TEN, now)["level"].tolist() == ["Idle"]

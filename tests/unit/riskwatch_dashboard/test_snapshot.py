"""The data of the views: shared among requests, and advice if they cannot be read."""

import threading

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from fastapi.testclient import TestClient

from riskwatch_dashboard import app as app_module
from riskwatch_dashboard import snapshot
from riskwatch_dashboard.snapshot import Snapshot, SnapshotCache, UnavailableError
from riskwatch_ml.core import settings
from riskwatch_ml.storage import keys
from riskwatch_ml.storage.parquet import DamagedObjectError


@pytest.fixture
def config():
    return settings.Settings(bucket="my-bucket", stream="s", table="t", function="f", mlflow_uri="http://mlflow")


@pytest.mark.usefixtures("open_to_all")
def test_without_settings_the_view_says_which_is_missing(monkeypatch):
    def load():
        raise settings.SettingsError("bucket is missing: set RISKWATCH_BUCKET")

    monkeypatch.setattr(settings, "load", load)
    client = TestClient(app_module.build())
    answer = client.get("/")
    assert answer.status_code == 503
    assert "RISKWATCH_BUCKET" in answer.text
    assert client.get("/api/rows").status_code == 503


@pytest.mark.usefixtures("open_to_all")
@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ClientError({"Error": {"Code": "NoSuchBucket"}}, "ListObjectsV2"), "does not exist"),
        (ClientError({"Error": {"Code": "AccessDenied"}}, "GetObject"), "s3:ListBucket"),
        (ClientError({"Error": {"Code": "SlowDown", "Message": "wait"}}, "GetObject"), "SlowDown"),
        (EndpointConnectionError(endpoint_url="http://nowhere"), "cannot be reached"),
        (DamagedObjectError("s3://my-bucket/ledger/1.json cannot be read: restore it"), "ledger/1.json cannot be read"),
    ],
)
def test_a_bucket_that_does_not_answer_is_a_view_too(monkeypatch, config, error, message):
    def fail(config, kind):
        raise error

    monkeypatch.setattr(settings, "load", lambda: config)
    monkeypatch.setattr(snapshot, "_client", fail)
    answer = TestClient(app_module.build()).get("/")
    assert answer.status_code == 503
    assert message in answer.text
    assert "my-bucket" in answer.text
    assert "Traceback" not in answer.text


@pytest.mark.usefixtures("open_to_all")
@pytest.mark.parametrize("hours", [1, 30], ids=["of the view", "older than the view"])
def test_labelled_rows_of_another_schema_are_named_by_the_view(monkeypatch, config, store, fill, row, at, hours):
    # GIVEN validated rows in the place of compacted ones
    fill([row("web-1", at(60 * hours))], compacted=True)
    (key,) = store.keys(keys.hours(keys.LABELLED_ROWS))
    store.put_frame(key, store.get_frame(key)[["instance_id", "timestamp", "cpu_utilization"]])
    monkeypatch.setattr(settings, "load", lambda: config)
    monkeypatch.setattr(snapshot, "_kept", snapshot._Kept())
    monkeypatch.setattr(snapshot, "_client", lambda config, kind: store.client)

    # WHEN
    answer = TestClient(app_module.build()).get("/")

    # THEN
    assert answer.status_code == 503
    assert f"s3://my-bucket/{key} is no Parquet file of rows" in answer.text
    assert "restore its previous version" in answer.text


def test_data_are_shared_and_failures_are_remembered_for_a_while():
    # GIVEN a cache whose clock stands at 0, and reads that are counted
    now, looks = [0.0], []

    def look():
        looks.append(now[0])
        if now[0] >= 100:
            raise UnavailableError("gone", "wait")
        return Snapshot(reading=len(looks))

    source = SnapshotCache(look, lambda: now[0])
    # WHEN visitors come within fifteen seconds, and one after them
    assert [source.get().reading for now[0] in (0.0, 14.9, 15.1)] == [1, 1, 2]
    # THEN a failure is remembered, and not every visitor reads again
    for now[0] in (100.0, 101.0, 104.9, 105.1):
        with pytest.raises(UnavailableError):
            source.get()
    assert looks == [0.0, 15.1, 100.0, 105.1]


def test_while_one_request_reads_another_gets_the_previous_data():
    # GIVEN data that are old, and a second read that takes its time
    now, started, finish = [0.0], threading.Event(), threading.Event()
    results = iter([1, 2])

    def look():
        value = next(results)
        if value == 2:
            started.set()
            assert finish.wait(30)
        return Snapshot(reading=value)

    source = SnapshotCache(look, lambda: now[0])
    source.get()
    now[0] = 20.0
    slow = threading.Thread(target=source.get)
    slow.start()
    assert started.wait(30)
    # WHEN another request comes meanwhile THEN it does not wait
    assert source.get().reading == 1
    finish.set()
    slow.join(30)
    assert source.get().reading == 2

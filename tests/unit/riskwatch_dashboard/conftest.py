"""An in-memory bucket with labelled rows and a ledger, for the tests of the views."""

import gzip
import json
import os
import tempfile
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

# Airflow reads this when it is first imported, which is earlier than any fixture.
os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="riskwatch-airflow-"))

from riskwatch_dashboard import kind_models, served_parts
from riskwatch_ml.artifact import archive
from riskwatch_ml.core import clock
from riskwatch_ml.registry import ledger
from riskwatch_ml.storage import keys, labelled_rows
from riskwatch_ml.storage.bucket import Store
from tests.support import kinds, tiny
from tests.support.bucket import Bucket

NOW = datetime(2026, 11, 22, 12, 2, tzinfo=UTC)
REASON = {
    "feature": "latency_ms",
    "value": 812.0,
    "low": 40.0,
    "high": 190.0,
    "share": 0.9,
    "direction": "up",
}


def labelled_row(instance, moment, risk="Normal", **more):
    alert = risk == "Critical"
    return {
        "instance_id": instance,
        "service": "shop",
        "role": "web",
        "timestamp": clock.iso(moment),
        "cpu_utilization": 12.5,
        "latency_ms": None,
        "score": 2.5 if alert else 0.5,
        "level": "Normal" if alert else risk,
        "risk": risk,
        "unusual": alert,
        "alert": alert,
        "episode_id": f"{instance}@{clock.iso(moment)}" if alert else None,
        "context": True,
        "model_id": "m-1",
        "model_version": "3",
        "reasons": [REASON],
        "arrived": clock.iso(moment + timedelta(minutes=4)),
        **more,
    }


@pytest.fixture
def store(monkeypatch):
    monkeypatch.setattr(clock, "now", lambda: NOW)
    return Store(Bucket(), "bucket")


@pytest.fixture
def fill(store):
    """Put rows into the bucket: `fill(rows)` as they arrive, `fill(rows, compacted=True)` compacted."""

    def put(rows, compacted=False, name="s0-1-2"):
        hour = clock.parse(rows[0]["arrived"])
        key = f"labelled/arrived/dt={hour:%Y-%m-%d}/hh={hour:%H}/{name}.json.gz"
        store.put_bytes(key, gzip.compress("\n".join(map(json.dumps, rows)).encode()))
        if compacted:
            labelled_rows.compact(store, NOW)

    return put


@pytest.fixture
def promote(store):
    """Write a promotion, or another action, to the ledger."""

    def write(function_version, hour, action="promote", **more):
        entry = {
            "action": action,
            "at": f"2026-11-2{1 + hour // 24}T{hour % 24:02d}:00:00.000Z",
            "digest": f"{function_version}a" * 32,
            "family": "kmeans",
            "version": f"{10 + int(function_version)}",
            "model_id": f"m-{function_version}",
            "function_version": function_version,
            "by": "ada",
        }
        ledger.write(store, {**entry, **more})

    return write


@pytest.fixture
def two_kinds(store, promote, monkeypatch):
    """A model of instances and databases in service: a refresh of databases, after a promotion of both."""
    monkeypatch.setattr(served_parts, "_cache", served_parts._Cache())
    monkeypatch.setattr(kind_models, "_cache", kind_models._Cache())
    refreshed = {"model_id": "d-2", "family": "kmedoids", "trained_at": "2026-11-22T03:30:00.000Z"}
    zip_bytes = artifact_of_two({"model_id": "m-1", "trained_at": "2026-11-21T03:30:00.000Z"}, refreshed)
    digest = archive.checksum(zip_bytes)
    store.put_bytes(keys.artifact(digest), zip_bytes)
    promote("2", 1, model_id="m-1", by="bob", kinds={"rds": "d-1", "ec2": "m-1"}, resource_kinds=["ec2", "rds"])
    changes = {"model_id": "m-1", "kinds": {"rds": "d-2", "ec2": "m-1"}, "resource_kinds": ["rds"]}
    promote("3", 4, digest=digest, **changes)
    return digest


def artifact_of_two(instances, databases):
    """Return an artifact of the tiny models of two kinds, with some values of their documents replaced."""
    first = {"resource_kind": "ec2", "level": {**tiny.DOCUMENT["level"], "relative": False}, **instances}
    document = tiny.document(**first, kinds={"rds": {**kinds.DOCUMENT, **databases}})
    arrays = {**tiny.ARRAYS, **{f"rds/{name}": values for name, values in kinds.ARRAYS.items()}}
    return archive.pack(document, {name: np.array(values, np.float32) for name, values in arrays.items()})


@pytest.fixture
def row():
    """Make a labelled row as the Lambda writes it."""
    return labelled_row


@pytest.fixture
def at():
    """Return the time that many minutes before noon."""
    return lambda minutes: datetime(2026, 11, 22, 12, tzinfo=UTC) - timedelta(minutes=minutes)


@pytest.fixture
def open_to_all(monkeypatch):
    """Let every visitor in, as if Airflow had checked the login."""
    from riskwatch_dashboard import app as app_module

    monkeypatch.setattr(app_module, "_access", lambda: lambda: None)

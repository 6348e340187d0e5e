"""An in-memory bucket with labelled rows and a ledger, for the tests of the views."""

import gzip
import json
import os
import tempfile
from datetime import UTC, datetime, timedelta

import pytest

# Airflow reads this when it is first imported, which is earlier than any fixture.
os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="riskwatch-airflow-"))

from riskwatch_ml.core import clock
from riskwatch_ml.registry import ledger
from riskwatch_ml.storage import labelled_rows
from riskwatch_ml.storage.bucket import Store
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

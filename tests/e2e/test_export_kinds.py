"""An export of the four kinds of the demo from the embedded AWS, over HTTP: rows come back as simulated."""

from datetime import UTC, datetime, timedelta

import boto3
import pandas as pd
import pytest

from riskwatch_airflow.tasks import export
from riskwatch_local.demo import data, publish
from riskwatch_ml.core import clock, settings
from riskwatch_ml.schema import inventory
from riskwatch_ml.storage import keys
from riskwatch_ml.storage.bucket import Store
from tests.support import runs

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


@pytest.fixture
def source():
    """The simulated fleet until two hours ago, on full hours."""
    return data.simulated(
        clock.floor(datetime.now(UTC), 3600) - timedelta(hours=2, minutes=-10), stream_hours=6, days=1
    )


@pytest.fixture
def store(stack, source, monkeypatch):
    """The stack's bucket with the inventory; the settings name the catalogues of four kinds."""
    chosen = {
        "BUCKET": stack.bucket,
        "STREAM": stack.stream,
        "TABLE": stack.table,
        "FUNCTION": stack.function,
        "MLFLOW_URI": "http://127.0.0.1:1",
        "CATALOGUE": ",".join(metrics.kind for metrics in source.catalogues),
    }
    for name, value in chosen.items():
        monkeypatch.setenv(f"RISKWATCH_{name}", value)
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", "aws://")
    settings.load.cache_clear()
    bucket = Store(boto3.client("s3"), stack.bucket)
    bucket.put_bytes(keys.INVENTORY, inventory.dumps(source.inventory).encode())
    yield bucket
    settings.load.cache_clear()


def test_every_kind_comes_back_as_it_was_simulated(store, source):
    # GIVEN the newest hours of the fleet, with their incidents, in CloudWatch
    for metrics, rows in source.newest():
        publish.publish(publish.client(), rows, metrics)
    context = runs.context(runs.run(source.end, "manual", start=source.cut, end=source.end))

    # WHEN they are exported and validated
    report = export.validate(context, export.joined([export.fetch(context)]))

    # THEN each kind has its rows and values, those of absent metrics too
    assert set(report["kinds"]) == {"ec2", "rds", "alb", "lambda"}
    for metrics, rows in source.newest():
        exported = store.read_hours(keys.of_kind(keys.RAW, metrics), source.cut, source.end)
        expected = rows[exported.columns].sort_values(["instance_id", "timestamp"]).reset_index(drop=True)
        exported = exported.sort_values(["instance_id", "timestamp"]).reset_index(drop=True)
        pd.testing.assert_frame_equal(exported, expected, rtol=1e-9, check_dtype=False)
        counts = report["kinds"][metrics.kind]
        assert counts["rows"] == len(rows) == counts["validated"] + counts["quarantined"]
    assert {kind for kind, counts in report["kinds"].items() if counts["quarantined"]} == {"ec2"}

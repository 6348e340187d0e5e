"""An export of two accounts and two regions of the embedded AWS, by assumed roles, over HTTP."""

from datetime import UTC, datetime, timedelta

import boto3
import pandas as pd
import pytest

from riskwatch_airflow.tasks import export
from riskwatch_local.demo import publish
from riskwatch_ml.core import aws as clients
from riskwatch_ml.core import clock, settings
from riskwatch_ml.core.accounts import AccountRegion
from riskwatch_ml.schema import catalogue
from riskwatch_ml.schema.catalogue import Catalogue
from riskwatch_ml.storage.bucket import Store
from tests.support import runs

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

ROLE = "arn:aws:iam::123456789012:role/riskwatch-reader"
METRICS = Catalogue(catalogue.load().metrics[:2])


@pytest.fixture
def store(stack, tmp_path, monkeypatch):
    """The stack's bucket; the settings read two accounts in two regions."""
    (tmp_path / "catalogue.toml").write_text(catalogue.dumps(METRICS), encoding="utf-8")
    chosen = {
        "BUCKET": stack.bucket,
        "STREAM": stack.stream,
        "TABLE": stack.table,
        "FUNCTION": stack.function,
        "MLFLOW_URI": "http://127.0.0.1:1",
        "CATALOGUE": str(tmp_path / "catalogue.toml"),
        "ROLE_ARNS": f"own,{ROLE}",
        "REGIONS": "us-east-1,eu-west-1",
    }
    for name, value in chosen.items():
        monkeypatch.setenv(f"RISKWATCH_{name}", value)
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", "aws://")
    settings.load.cache_clear()
    yield Store(boto3.client("s3"), stack.bucket)
    settings.load.cache_clear()


def put(shard, names, start, value):
    """Publish an hour of metrics of some instances in one account and region."""
    session = boto3.session.Session(region_name=shard.region)
    if shard.role_arn:
        session = clients.session_in_role(session, shard.role_arn)
    times = pd.date_range(start, periods=12, freq="300s").as_unit("ms")
    rows = pd.concat(
        [
            pd.DataFrame({"instance_id": name, "timestamp": times, **dict.fromkeys(METRICS.names, value)})
            for name in names
        ]
    )
    publish.publish(session.client("cloudwatch"), rows, METRICS)


def test_accounts_and_regions_are_read_under_their_own_roles(store):
    # GIVEN a host of the same name in three of four shards, with values of its own in each
    start = clock.floor(datetime.now(UTC), 3600) - timedelta(hours=2)
    put(AccountRegion(None, "us-east-1"), ["host", "i-00000000000000001"], start, 10.0)
    put(AccountRegion(ROLE, "us-east-1"), ["host"], start, 20.0)
    put(AccountRegion(ROLE, "eu-west-1"), ["host"], start, 30.0)
    context = runs.context(runs.run(start, "manual", start=start, end=start + timedelta(hours=1)))

    # WHEN every shard is fetched
    fetched = [export.fetch(context, shard.name) for shard in settings.account_regions()]

    # THEN each has seen its own account and region, one of them nothing, with one call of the fewest possible
    assert {item["shard"]: item["rows"] for item in fetched} == {
        "us-east-1": 24,
        "eu-west-1": 0,
        "123456789012.us-east-1": 12,
        "123456789012.eu-west-1": 12,
    }
    rows = store.read_hours("raw", start, start + timedelta(hours=1))
    assert rows.groupby("instance_id")["cpu_utilization"].agg(["min", "max", "size"]).to_dict("index") == {
        "us-east-1:host": {"min": 10.0, "max": 10.0, "size": 12},
        "i-00000000000000001": {"min": 10.0, "max": 10.0, "size": 12},
        "123456789012.us-east-1:host": {"min": 20.0, "max": 20.0, "size": 12},
        "123456789012.eu-west-1:host": {"min": 30.0, "max": 30.0, "size": 12},
    }
    joined = export.joined(fetched)
    assert (joined["calls"], joined["least_calls"], joined["rows"]) == (3, 3, 48)
    assert len(joined["chunks"]) == 3

    # AND again, nothing is written
    assert [item["objects"] for item in fetched] == [1, 0, 1, 1]
    assert [export.fetch(context, shard.name)["objects"] for shard in settings.account_regions()] == [0, 0, 0, 0]

"""A live function with metrics to stream to it, in one region and in two."""

from datetime import timedelta

import pytest
from botocore.exceptions import ClientError

from riskwatch_airflow.hooks.cloudwatch import CloudWatchMetricsHook
from riskwatch_ml.core import clock
from tests.support.streaming import LIVE, TEN
from tests.unit.riskwatch_airflow.conftest import FakeCloudWatch


@pytest.fixture
def live(aws):
    """A promoted model and an hour of an instance, until ten past ten; the clock stands at 10:07:30."""
    aws.function.answers = {"selftest": LIVE, "tick": {"sent": 0, "expired": 0, "open": 1}}
    aws.cloudwatch.fill("CPUUtilization", "a", TEN - timedelta(hours=1), 14, 50.0)
    aws.cloudwatch.fill("EBSReadBytes", "a", TEN - timedelta(hours=1), 14, 3e6)
    aws.store.put_bytes("config/inventory.json", b'{"instances": {"a": {"role": "web", "service": "shop"}}}')
    return aws


@pytest.fixture
def at(monkeypatch):
    """Sets the clock to so many minutes after ten."""
    return lambda passed: monkeypatch.setattr(clock, "now", lambda: TEN + timedelta(minutes=passed))


@pytest.fixture
def regions(live, monkeypatch):
    """Two regions with a host of 10:05 each, in the inventory; `broken` are those that refuse, and how."""
    fakes = {"eu-west-1": FakeCloudWatch(), "us-east-1": FakeCloudWatch()}
    live.broken = {}
    for name, fake in fakes.items():
        fake.fill("CPUUtilization", "host", TEN - timedelta(hours=1), 24, 50.0)
        for method in ("paginate", "get_metric_data"):
            monkeypatch.setattr(fake, method, _breaking(live.broken, name, method, getattr(fake, method)))
    monkeypatch.setattr(CloudWatchMetricsHook, "conn", property(lambda hook: fakes[hook.account_region.region]))
    live.use(regions=tuple(fakes))
    named = {f"{name}:host": {"role": "web", "service": "shop"} for name in fakes}
    live.store.put_json("config/inventory.json", {"instances": named})
    return live


def _breaking(broken, name, method, answer):
    def call(**asked):
        if broken.get(name) == method:
            raise ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, method)
        return answer(**asked)

    return call

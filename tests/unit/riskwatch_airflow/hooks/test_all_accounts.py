"""All shards as one fleet."""

from datetime import UTC, datetime, timedelta

from riskwatch_airflow.hooks.all_accounts import AllAccounts
from riskwatch_airflow.hooks.cloudwatch import CloudWatchMetricsHook
from riskwatch_ml.core import settings
from riskwatch_ml.schema import catalogue
from tests.unit.riskwatch_airflow.conftest import FakeCloudWatch
from tests.unit.riskwatch_airflow.hooks.conftest import rows_of

TEN = datetime(2026, 11, 22, 10, tzinfo=UTC)
CPU = catalogue.Catalogue(catalogue.load().metrics[:1])


def test_rows_of_all_shards_come_together(aws, monkeypatch):
    # GIVEN two regions with a host of one name, and an instance in the second
    regions = {"eu-west-1": FakeCloudWatch(), "us-east-1": FakeCloudWatch()}
    for place, fake in enumerate(regions.values()):
        fake.fill("CPUUtilization", "host", TEN - timedelta(minutes=10), 2, 10.0 * place)
    regions["us-east-1"].fill("CPUUtilization", "i-00000000", TEN - timedelta(minutes=10), 2, 30.0)
    monkeypatch.setattr(CloudWatchMetricsHook, "conn", property(lambda hook: regions[hook.account_region.region]))
    aws.use(regions=tuple(regions))
    # WHEN
    fleet = AllAccounts(settings.load())
    names = fleet.instances(CPU, recently_active=True)
    found = rows_of(fleet, names, CPU, TEN - timedelta(minutes=10), TEN, 300)

    # THEN each instance was asked for where it is, and nowhere else
    assert names == ["eu-west-1:host", "i-00000000", "us-east-1:host"]
    assert found.rows["instance_id"].tolist() == [name for name in names for _ in range(2)]
    assert found.rows["cpu_utilization"].tolist() == [0.0, 0.0, 30.0, 30.0, 10.0, 10.0]
    assert [len(fake.calls[0]["MetricDataQueries"]) for fake in regions.values()] == [1, 2]


def test_one_shard_is_as_its_hook(aws):
    # GIVEN the default shard, empty
    fleet = AllAccounts(aws.config)

    # WHEN / THEN
    assert fleet.instances(CPU) == []
    assert rows_of(fleet, [], CPU, TEN - timedelta(minutes=10), TEN, 300).rows.empty

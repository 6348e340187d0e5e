"""Tasks of export_metrics over several accounts and regions, the inventory that they leave, and what is not there."""

from datetime import timedelta

import pytest
from airflow.sdk.exceptions import AirflowFailException

from riskwatch_airflow.assets import VALIDATED_METRICS
from riskwatch_airflow.tasks import export
from riskwatch_ml.schema.inventory import Instance
from riskwatch_ml.storage import known_instances
from riskwatch_ml.storage.keys import hour_key
from tests.support.exporting import NINE, TEN, exported, from_run

COUNTS = ("rows", "instances", "duplicates", "objects", "calls", "least_calls", "metrics", "predicted_metrics")


def test_an_instance_that_is_gone_stays_in_its_old_hours(aws, an_hour):
    # GIVEN an hour of three weeks ago, exported then, of an instance that CloudWatch lists no more
    start = NINE - timedelta(days=21)
    aws.cloudwatch.fill("CPUUtilization", "gone", start, 12, 50.0)
    export.fetch(from_run(an_hour, start, start + timedelta(hours=1)))
    before = dict(aws.s3.objects)
    aws.cloudwatch.paginate = lambda **asked: iter(())

    # WHEN it is exported again
    recorded = export.fetch(from_run(an_hour, start, start + timedelta(hours=1)))

    # THEN its rows are still there
    assert recorded["rows"] == 12
    assert aws.s3.objects == before


def test_metrics_without_a_value_are_explained(aws, an_hour, caplog):
    # GIVEN one metric with values, one that vanished, and eight that CloudWatch never heard of
    aws.cloudwatch.fill("CPUUtilization", "a", NINE, 12, 50.0)
    aws.cloudwatch.fill("NetworkIn", "a", NINE - timedelta(days=2), 12)

    # WHEN
    recorded = export.fetch(an_hour)

    # THEN the export goes on, and each is named with the likely cause
    assert recorded["rows"] == 12
    assert "network_in_mb" in recorded["silent"]
    assert (
        "network_in_mb has no datapoint: AWS/EC2 NetworkIn is listed, but has no value in the unit Bytes" in caplog.text
    )
    assert "latency_ms has no datapoint: CWAgent latency_ms is unknown to CloudWatch" in caplog.text


def test_tags_are_left_for_everybody_who_needs_role_and_service(aws, an_hour):
    # GIVEN two tagged instances
    aws.cloudwatch.fill("CPUUtilization", "a", NINE, 12, 50.0)
    arn = "arn:aws:ec2:eu-west-1:123456789012:instance/"
    aws.tagging.resources = {
        f"{arn}a": {"riskwatch:role": "web", "riskwatch:service": "shop", "Name": "x"},
        f"{arn}b": {"riskwatch:service": "shop"},
    }

    # WHEN the hour is exported, and again after a tag was changed
    export.fetch(an_hour)
    first = known_instances.load(None, aws.store)
    aws.tagging.resources[f"{arn}a"]["riskwatch:role"] = "worker"
    export.fetch(an_hour)

    # THEN the inventory has them, the one without a datapoint too: it should report
    assert first["a"] == Instance("a", "web", "shop", "default")
    assert first["b"] == Instance("b", "default", "shop", "default")
    assert known_instances.load(None, aws.store)["a"].role == "worker"
    assert {item["ResourceTypeFilters"][0] for item in aws.tagging.asked} == {"ec2:instance"}


def test_without_leave_to_read_tags_the_export_goes_on(aws, an_hour, caplog):
    # GIVEN
    aws.cloudwatch.fill("CPUUtilization", "a", NINE, 12, 50.0)
    aws.tagging.denied = True

    # WHEN / THEN
    assert export.fetch(an_hour)["rows"] == 12
    assert "tag:GetResources is not allowed (no): allow it to the role in use" in caplog.text


def test_every_shard_has_its_own_part(aws, an_hour):
    # GIVEN two regions that share a fake: each has the same database and instance
    aws.use(regions=("eu-west-1", "us-east-1"))
    aws.cloudwatch.fill("CPUUtilization", "i-00000000", NINE, 12, 50.0)
    aws.cloudwatch.fill("CPUUtilization", "host", NINE, 12, 50.0)
    aws.store.put_json("inventory/default.json", {"instances": {"left": {}}})

    # WHEN
    first = export.fetch(an_hour, "eu-west-1")
    recorded = export.validate(an_hour, export.joined([first, export.fetch(an_hour, "us-east-1")]))

    # THEN the host is two instances, what two regions claim to be one instance is validated once
    rows = aws.store.read_hours("validated", NINE, TEN)
    assert sorted(rows["instance_id"].unique()) == ["eu-west-1:host", "i-00000000", "us-east-1:host"]
    assert (recorded["rows"], recorded["validated"], recorded["quarantined"]) == (48, 36, 12)
    assert {key for key in aws.s3.objects if key.startswith("raw/")} == {
        hour_key("raw", NINE, "eu-west-1"),
        hour_key("raw", NINE, "us-east-1"),
    }
    # AND what a shard left that is no more is gone
    assert known_instances.load(None, aws.store) == {}


def test_a_shard_without_rows_does_not_stop_the_others(aws, an_hour):
    # GIVEN two regions, nothing in either
    aws.use(regions=("eu-west-1", "us-east-1"))

    # WHEN
    empty = export.fetch(an_hour, "eu-west-1")

    # THEN only if all are empty there is nothing to validate
    assert (empty["rows"], empty["chunks"]) == (0, [])
    with pytest.raises(AirflowFailException, match="no account-region has a datapoint"):
        export.joined([empty, empty])


def test_a_shard_that_fails_is_named_after_the_others_were_validated(aws, an_hour):
    # GIVEN two regions, of which the first may not be read: its fetch returns nothing
    aws.use(regions=("eu-west-1", "us-east-1"))
    aws.cloudwatch.fill("CPUUtilization", "host", NINE, 12, 50.0)
    fetched = [export.fetch(an_hour, "us-east-1")]

    # WHEN
    recorded = export.validate(an_hour, export.joined(fetched))

    # THEN the rows of the other are validated, and the run ends in an error that names the first
    assert recorded["validated"] == 12
    with pytest.raises(AirflowFailException, match="no rows of eu-west-1: fetch failed there"):
        export.complete(fetched)
    # AND with all of them there is no error
    export.complete([*fetched, export.fetch(an_hour, "eu-west-1")])


def test_what_the_shards_returned_is_asked_of_airflow_once(aws, an_hour, supervisor):
    # GIVEN what three shards returned, as Airflow hands it to the task that follows
    item = {"chunks": [{"start": "s", "end": "e"}], **dict.fromkeys(COUNTS, 2)}
    fetched = supervisor.of_mapped(an_hour, [item] * 3)

    # WHEN
    joined = export.joined(fetched)

    # THEN each is asked for once, besides their number and the end
    assert {joined[name] for name in COUNTS} == {6}
    assert len(supervisor.asked) == 5


def test_a_shard_that_the_settings_lost_is_named(aws, an_hour):
    # GIVEN / WHEN / THEN
    with pytest.raises(AirflowFailException, match="no account-region 'eu-west-1' any more"):
        export.fetch(an_hour, "eu-west-1")


def test_instances_that_cloudwatch_no_longer_lists_come_from_the_inventory(aws, an_hour):
    # GIVEN data of an instance that ListMetrics has forgotten
    aws.cloudwatch.fill("CPUUtilization", "old", NINE, 12, 50.0)
    aws.cloudwatch.paginate = lambda **asked: iter(())
    aws.store.put_bytes("config/inventory.json", b'{"instances": {"old": {}}}')

    # WHEN / THEN
    assert export.fetch(an_hour)["rows"] == 12


def test_an_instance_that_fell_silent_is_told_and_stops_nothing(aws, an_hour, caplog):
    # GIVEN an instance with data, and one that the inventory alone knows
    aws.cloudwatch.fill("CPUUtilization", "a", NINE, 12, 50.0)
    aws.store.put_bytes("config/inventory.json", b'{"instances": {"a": {}, "gone": {}}}')

    # WHEN
    recorded = exported(an_hour)

    # THEN
    assert recorded["findings"]["silent"] == 1
    assert "gone: no data; newest row: never" in caplog.text
    assert VALIDATED_METRICS in an_hour["outlet_events"]

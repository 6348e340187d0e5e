"""The CloudWatch hook: instances of an account and region, and why a metric has no datapoint."""

import re
from datetime import timedelta

import pytest
from botocore.exceptions import ClientError

from riskwatch_ml.core.accounts import AccountRegion
from riskwatch_ml.ingest.reader import CredentialsError, ForbiddenError
from riskwatch_ml.schema import catalogue
from riskwatch_ml.schema.catalogue import Catalogue
from tests.support.contract import imitates
from tests.unit.riskwatch_airflow.hooks.conftest import ALL, TEN, TWO, CloudWatch, rows_of


def test_instances_of_any_metric_with_exactly_the_dimensions_of_the_catalogue(hook):
    # GIVEN instances spread over two metrics, one with a further dimension
    client = CloudWatch()

    # WHEN
    found = hook(client).instances(TWO, recently_active=True)

    # THEN
    assert found == ["i-1", "i-2", "i-3"]
    assert client.listed[0] == {
        "Namespace": "AWS/EC2",
        "MetricName": "CPUUtilization",
        "Dimensions": [{"Name": "InstanceId"}],
        "RecentlyActive": "PT3H",
    }


@imitates("cloudwatch", pages="list_metrics")
class Lists:
    """ListMetrics as it answers for one metric, whose entries have these dimensions."""

    def __init__(self, *dimensions, error=None):
        self.dimensions, self.error = dimensions, error

    def get_paginator(self, name):
        return self

    def paginate(self, **asked):
        if self.error:
            raise ClientError({"Error": {"Code": self.error, "Message": "said the service"}}, "ListMetrics")
        named = {item["Name"] for item in asked.get("Dimensions", ())}
        entries = [list(item) for item in self.dimensions if named <= set(item)]
        yield {"Metrics": [{"Dimensions": [{"Name": name, "Value": "x"} for name in item]} for item in entries]}


@pytest.mark.parametrize(
    ("dimensions", "words"),
    [
        ((), "is unknown to CloudWatch, or has had no data for two weeks"),
        (
            (("InstanceId", "path"), ("ImageId",)),
            r"not with the dimensions InstanceId alone: CloudWatch has it with ImageId \| InstanceId, path",
        ),
        ((("InstanceId",),), "is listed, but has no value in the unit Percent in this interval"),
    ],
)
def test_a_silent_metric_is_explained(hook, dimensions, words):
    # GIVEN / WHEN / THEN an unknown one, one with other dimensions, one that vanished or changed its unit
    assert re.search(words, hook(Lists(*dimensions)).why_no_data(ALL.metrics[0]))


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        ("AccessDenied", ForbiddenError, "cloudwatch:ListMetrics is not allowed"),
        ("ExpiredToken", CredentialsError, "cloudwatch:ListMetrics: the credentials are not valid any more"),
    ],
)
def test_refusals_of_listing_are_named(hook, code, kind, words):
    # GIVEN / WHEN / THEN
    with pytest.raises(kind, match=words):
        hook(Lists(error=code)).instances(TWO)


def test_ids_of_a_shard_are_its_own(hook):
    # GIVEN a database that CloudWatch of another region calls "orders"
    rds = Catalogue(catalogue.load("rds").metrics[:1])
    client = CloudWatch()
    client.paginate = lambda **asked: iter(
        [{"Metrics": [{"Dimensions": [{"Name": "DBInstanceIdentifier", "Value": "orders"}]}]}]
    )

    # WHEN
    made = hook(client, account_region=AccountRegion(region="eu-west-1"))
    names = made.instances(rds)
    found = rows_of(made, names, rds, TEN, TEN + timedelta(minutes=10), 300)

    # THEN the fleet knows it with the shard, CloudWatch is asked for it without
    assert names == ["eu-west-1:orders"]
    assert found.rows["instance_id"].unique().tolist() == names
    asked = client.calls[0]["MetricDataQueries"][0]["MetricStat"]["Metric"]
    assert asked["Dimensions"] == [{"Name": "DBInstanceIdentifier", "Value": "orders"}]
    assert made.region_name == "eu-west-1"


@imitates("cloudwatch", pages="list_metrics")
class Listed:
    """ListMetrics as it answers for these (metric, {dimension: value}) entries."""

    def __init__(self, *entries):
        self.entries = entries

    def get_paginator(self, name):
        return self

    def paginate(self, **asked):
        for metric, dimensions in self.entries:
            matches = all(
                item["Name"] in dimensions and item.get("Value", dimensions[item["Name"]]) == dimensions[item["Name"]]
                for item in asked.get("Dimensions", ())
            )
            if metric == asked["MetricName"] and matches:
                yield {"Metrics": [{"Dimensions": [{"Name": k, "Value": v} for k, v in dimensions.items()]}]}


FINER = {"AutoScalingGroupName": "asg", "ImageId": "ami", "InstanceId": "i-2", "InstanceType": "t3"}
MEMORY = ALL.by_name["memory_utilization"]


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (
            ("mem_used_percent", FINER),
            "CloudWatch has it of them with AutoScalingGroupName, ImageId, InstanceId, InstanceType: "
            'set aggregation_dimensions [["InstanceId"]] in the configuration of the CloudWatch agent',
        ),
        (("mem_used_percent", {"InstanceId": "i-2"}), "it stopped, or its unit changed"),
        (
            ("CPUUtilization", {"InstanceId": "i-2"}),
            "CloudWatch has it of none of them: check that the agent runs there",
        ),
    ],
)
def test_a_metric_that_part_of_a_fleet_lacks_is_explained_for_those_instances(hook, entry, words):
    # GIVEN memory of i-1 as the catalogue has it, and of i-2 in another way or not at all
    lists = Listed(("mem_used_percent", {"InstanceId": "i-1"}), entry)

    # WHEN it is explained, THEN the instance, what CloudWatch has of it, and the cure are named
    text = hook(lists).why_missing(ALL, MEMORY, ["i-2"], 2)
    assert text.startswith("memory_utilization: 1 of 2 instances have no value (i-2); ")
    assert words in text


def test_an_explanation_names_and_asks_about_five_instances(hook):
    # GIVEN seven instances without memory, WHEN they are explained
    text = hook(Listed()).why_missing(ALL, MEMORY, [f"i-{number}" for number in range(7)], 9)

    # THEN
    assert "7 of 9 instances have no value (i-0, i-1, i-2, i-3, i-4 and 2 more)" in text


def test_an_unresolved_placeholder_of_an_agent_is_no_instance_and_is_named(hook, caplog):
    # GIVEN an agent that published its placeholder as its id
    lists = Listed(("CPUUtilization", {"InstanceId": "i-1"}), ("CPUUtilization", {"InstanceId": "${aws:InstanceId}"}))

    # WHEN the instances are listed, THEN it is left out, with a warning
    assert hook(lists).instances(TWO) == ["i-1"]
    assert "refused as an instance: ${aws:InstanceId}" in caplog.text

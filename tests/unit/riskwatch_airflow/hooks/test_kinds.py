"""Every packaged kind through the hook: which instances CloudWatch's lists name, their values, and their tags.

`tests/fixtures/kinds` has a file for each kind, in the shapes of the APIs: a list of metrics with the dimension sets
that AWS documents, the answers of two periods of 300 s with gaps, and resources of the kind and of its neighbours. A
new kind needs such a file only.
"""

import json
from datetime import timedelta
from pathlib import Path

import pytest

from riskwatch_ml.core import clock
from riskwatch_ml.core.accounts import AccountRegion
from riskwatch_ml.ingest.call_plan import InstancesOfKind
from riskwatch_ml.schema import catalogue
from riskwatch_ml.schema.inventory import Instance
from tests.support.contract import imitates
from tests.unit.riskwatch_airflow.hooks.conftest import TEN, rows_of

RECORDED = Path(__file__).parents[3] / "fixtures" / "kinds"
KINDS = sorted(catalogue.PROFILES)
END = TEN + timedelta(minutes=10)


def recorded(kind):
    return json.loads((RECORDED / f"{kind}.json").read_text(encoding="utf-8"))


def as_named(dimensions):
    return [{"Name": name, "Value": value} for name, value in dimensions.items()]


def as_values(dimensions):
    return {item["Name"]: item["Value"] for item in dimensions}


@imitates("cloudwatch", pages="list_metrics")
class CloudWatch:
    """CloudWatch that has recorded metrics: it lists them by filters, and answers queries of exactly their names."""

    def __init__(self, record):
        self.listed = record["list_metrics"]
        self.series = record["get_metric_data"]
        self.asked = []

    def get_paginator(self, name):
        assert name == "list_metrics"
        return self

    def paginate(self, **asked):
        named = {item["Name"]: item.get("Value") for item in asked.get("Dimensions", ())}
        entries = [
            {"Namespace": namespace, "MetricName": metric, "Dimensions": as_named(dimensions)}
            for namespace, metric, dimensions in self.listed
            if (namespace, metric) == (asked["Namespace"], asked["MetricName"])
            and all(name in dimensions and value in (None, dimensions[name]) for name, value in named.items())
        ]
        for first in range(0, max(1, len(entries)), 2):
            yield {"Metrics": entries[first : first + 2]}

    def get_metric_data(self, **asked):
        self.asked += asked["MetricDataQueries"]
        return {"MetricDataResults": [self._result(query, asked) for query in asked["MetricDataQueries"]]}

    def _result(self, query, asked):
        wanted = query["MetricStat"]
        points = [
            (clock.parse(stamp), value)
            for series in self.series
            if self._matches(series, wanted)
            for stamp, value in zip(series["Timestamps"], series["Values"], strict=True)
            if asked["StartTime"] <= clock.parse(stamp) < asked["EndTime"]
        ]
        return {
            "Id": query["Id"],
            "Label": wanted["Metric"]["MetricName"],
            "Timestamps": [stamp for stamp, _ in points],
            "Values": [value for _, value in points],
            "StatusCode": "Complete",
        }

    @staticmethod
    def _matches(series, wanted):
        metric = wanted["Metric"]
        source = [metric["Namespace"], metric["MetricName"], as_values(metric["Dimensions"])]
        is_of_unit = wanted.get("Unit") in (None, series["Unit"])
        return source == series["Metric"] and wanted["Stat"] == series["Stat"] and is_of_unit


@imitates("resourcegroupstaggingapi", pages="get_resources")
class Tags:
    """The tagging API with recorded resources: it filters by tag, and by the beginning of the type."""

    def __init__(self, record):
        self.resources = record["resources"]

    def get_paginator(self, name):
        assert name == "get_resources"
        return self

    def paginate(self, **asked):
        keys = {item["Key"] for item in asked["TagFilters"]}
        yield {
            "ResourceTagMappingList": [
                {"ResourceARN": arn, "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}
                for kind, arn, tags in self.resources
                if keys <= set(tags) and any(kind.startswith(wanted) for wanted in asked["ResourceTypeFilters"])
            ]
        }


def test_every_kind_is_recorded():
    assert sorted(path.stem for path in RECORDED.glob("*.json")) == KINDS


@pytest.mark.parametrize("kind", KINDS)
def test_instances_are_those_with_exactly_the_dimensions_of_the_kind(hook, kind):
    # GIVEN lists with further, fewer and foreign dimensions, WHEN / THEN
    record = recorded(kind)
    assert hook(CloudWatch(record)).instances(catalogue.load(kind)) == record["instances"]


def test_a_metric_of_several_statistics_is_listed_once(hook, monkeypatch):
    # GIVEN the kind with three statistics of Duration, WHEN its instances are listed
    client = CloudWatch(recorded("lambda"))
    names = []
    monkeypatch.setattr(
        client, "paginate", lambda **asked: names.append(asked["MetricName"]) or CloudWatch.paginate(client, **asked)
    )
    hook(client).instances(catalogue.load("lambda"))

    # THEN
    assert sorted(names) == sorted(
        {"ConcurrentExecutions", "DeadLetterErrors", "Duration", "Errors", "Invocations", "Throttles"}
    )


@pytest.mark.parametrize("kind", KINDS)
def test_an_instance_is_asked_for_by_the_dimensions_that_name_it(kind):
    # GIVEN the dimension sets of a list that a metric of the kind has, WHEN / THEN names and dimensions fit
    for namespace, name, dimensions in recorded(kind)["list_metrics"]:
        for metric in catalogue.load(kind).metrics:
            instance = metric.instance_of(as_named(dimensions))
            if (metric.namespace, metric.metric) == (namespace, name) and instance:
                assert metric.dimensions_of(instance) == as_named(dimensions)


@pytest.mark.parametrize("kind", KINDS)
def test_values_are_of_the_statistic_and_in_the_unit_of_the_catalogue(hook, kind):
    # GIVEN two periods, in which some metrics have a gap or no datapoint
    record = recorded(kind)
    metrics = catalogue.load(kind)
    client = CloudWatch(record)

    # WHEN an instance is read
    rows = rows_of(hook(client), [record["instance"]], metrics, TEN, END, 300).rows

    # THEN every feature has the recorded values, what is absent has its value, and the rest is missing
    assert set(rows["instance_id"]) == {record["instance"]}
    assert rows["timestamp"].tolist() == [TEN, TEN + timedelta(minutes=5)]
    assert list(record["rows"]) == list(metrics.names)
    for name, expected in record["rows"].items():
        wanted = [float("nan") if value is None else value for value in expected]
        assert rows[name].tolist() == pytest.approx(wanted, nan_ok=True), name
    assert len(client.asked) == len(metrics.names)


def test_kinds_that_are_read_together_share_their_calls_and_keep_their_rows(hook, caplog):
    # GIVEN a database and a table that are both called "orders", and a queue; CloudWatch has what each record has
    caplog.set_level("INFO")
    kinds = ["rds", "dynamodb", "sqs"]
    records = {kind: json.loads(json.dumps(recorded(kind)).replace("carts", "orders")) for kind in kinds}
    client = CloudWatch({key: [item for one in records.values() for item in one[key]] for key in recorded("rds")})
    fleet = [InstancesOfKind(catalogue.load(kind), [records[kind]["instance"]]) for kind in kinds]
    made = hook(client)

    # WHEN
    found = made.metric_rows(fleet, TEN, END, 300)

    # THEN one call reads the 29 metrics, and the rows of each kind are those that it has alone
    assert (made.usage.calls, made.usage.min_calls, made.usage.metrics) == (1, 1, 29)
    for kind, rows in zip(kinds, found, strict=True):
        alone = rows_of(hook(client), [records[kind]["instance"]], catalogue.load(kind), TEN, END, 300)
        assert rows.rows.equals(alone.rows)
        assert rows.rows["instance_id"].unique().tolist() == [records[kind]["instance"]]
    assert "rds 12 metrics of 1 instances ($0.0001), dynamodb 10 metrics of 1 instances ($0.0001), sqs" in caplog.text


@pytest.mark.parametrize("kind", KINDS)
def test_tags_are_those_of_resources_of_the_kind(hook, kind, monkeypatch):
    # GIVEN resources of the kind and of its neighbours, all with tags
    record = recorded(kind)
    made = hook(CloudWatch(record), account_region=AccountRegion(region="eu-west-1"))
    monkeypatch.setattr(made, "_client_of", lambda service: Tags(record))

    # WHEN / THEN only those of the kind are instances, by the name that CloudWatch has for them
    qualify = AccountRegion(region="eu-west-1").qualify
    assert made.tagged(catalogue.load(kind)) == {
        qualify(name): Instance(qualify(name), **entry, account_region="eu-west-1")
        for name, entry in record["tagged"].items()
    }
    assert set(record["tagged"]) <= set(record["instances"])


@pytest.mark.parametrize("kind", KINDS)
def test_the_file_of_a_kind_says_what_an_operator_needs(kind):
    # GIVEN / WHEN
    metrics = catalogue.load(kind)

    # THEN the name is the file's, the load is told by metrics that exist, and CSV files may use names of CloudWatch
    assert metrics.kind == kind
    assert metrics.title
    assert {name for group in metrics.load_metrics for name in group} <= set(metrics.names)
    assert "\n# Load: " in f"\n{catalogue.PROFILES[kind].read_text(encoding='utf-8')}"
    assert [metric.name for metric in metrics.metrics if not metric.aliases] == []
    assert [metric.name for metric in metrics.metrics if metric.lower is None] == []

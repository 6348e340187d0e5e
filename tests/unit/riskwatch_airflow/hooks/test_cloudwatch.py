"""The CloudWatch hook: metric rows of any interval."""

import logging
from dataclasses import replace
from datetime import timedelta

import pytest

from riskwatch_ml.ingest.call_plan import InstancesOfKind
from riskwatch_ml.ingest.reader import CloudWatchError
from riskwatch_ml.schema import catalogue
from riskwatch_ml.schema.catalogue import Catalogue
from riskwatch_ml.schema.metric import Metric
from tests.unit.riskwatch_airflow.hooks.conftest import ALL, TEN, TWO, CloudWatch, rows_of


def test_rows_of_a_long_interval_come_in_one_piece(hook):
    # GIVEN 300 instances of two metrics and two days: 600 queries of 576 points
    client = CloudWatch()
    instances = [f"i-{place:03d}" for place in range(300)]

    # WHEN
    made = hook(client)
    found = rows_of(made, instances, TWO, TEN - timedelta(days=2), TEN, 300)

    # THEN 345,600 points need four calls at least, every point is there once, values are scaled
    assert len(client.calls) == made.usage.calls == made.usage.min_calls == 4
    assert len(found.rows) == 300 * 576
    assert found.duplicates == 0
    assert found.rows["timestamp"].min() == TEN - timedelta(days=2)
    assert found.rows["timestamp"].max() == TEN - timedelta(seconds=300)
    assert set(found.rows["cpu_utilization"]) == {2.0}
    assert set(found.rows["disk_read_mb"]) == {2e-6}


def test_tokens_are_followed(hook):
    # GIVEN pages of three results
    client = CloudWatch(page=3)

    # WHEN
    found = rows_of(hook(client), ["a", "b", "c", "d"], TWO, TEN, TEN + timedelta(minutes=10), 300)

    # THEN eight queries are three pages
    assert [call.get("NextToken") for call in client.calls] == [None, "3", "6"]
    assert len(found.rows) == 8


@pytest.mark.parametrize("status", ["PartialData", "InternalError"])
def test_incomplete_results_are_asked_for_again_alone(hook, status):
    # GIVEN one result that stays incomplete in the first call
    client = CloudWatch(script=lambda call, name: status if (call, name) == (1, "m1") else "Complete")

    # WHEN
    found = rows_of(hook(client), ["a", "b"], TWO, TEN, TEN + timedelta(hours=1), 300)

    # THEN only that one is asked for again, and what it had delivered is not counted twice
    assert [[query["Id"] for query in call["MetricDataQueries"]] for call in client.calls] == [
        ["m0", "m1", "m2", "m3"],
        ["m1"],
    ]
    assert found.rows[list(TWO.names)].notna().all(axis=None)
    assert found.duplicates == 0


def test_the_log_has_calls_and_dollars_beside_the_least(hook, caplog):
    # GIVEN one result that has to be asked for again
    client = CloudWatch(script=lambda call, name: "InternalError" if (call, name) == (1, "m1") else "Complete")
    caplog.set_level(logging.INFO)

    # WHEN
    rows_of(hook(client), ["a", "b"], TWO, TEN, TEN + timedelta(hours=1), 300)

    # THEN both are there before and after
    assert "4 metrics of 2 instances over" in caplog.text
    assert "predicted 1 calls and $0.0000" in caplog.text
    assert (
        "2 calls of GetMetricData (the limits allow no fewer than 1), 5 metrics (4 predicted), $0.0001 ($0.0000 "
        "predicted)" in caplog.text
    )


def test_sums_of_a_coarser_period_are_given_for_the_rows_own(hook):
    # GIVEN an hour at 3,600 s in a fleet of 300 s rows; every value asked for is 2.0
    found = rows_of(hook(CloudWatch()), ["a"], TWO, TEN, TEN + timedelta(hours=1), 3600, sums_per_s=300)

    # THEN an average stays, a sum is the twelfth of it
    assert found.rows["cpu_utilization"].tolist() == [2.0]
    assert found.rows["disk_read_mb"].tolist() == pytest.approx([2e-6 / 12])


def test_a_metric_of_a_longer_period_stands_in_each_of_its_rows(hook):
    # GIVEN a sum that is published every 15 minutes beside a metric of 5 minutes, from 10:05 to 10:25
    slow = Metric("slow", "My/App", "Slow", "Sum", period_s=900)
    client = CloudWatch()

    # WHEN
    found = rows_of(
        hook(client),
        ["a"],
        Catalogue((ALL.metrics[0], slow)),
        TEN + timedelta(minutes=5),
        TEN + timedelta(minutes=25),
        300,
    )

    # THEN it is asked for from the beginning of its period, and a row has its share of the sum
    assert client.calls[0]["StartTime"] == TEN
    assert [query["MetricStat"]["Period"] for query in client.calls[0]["MetricDataQueries"]] == [300, 900]
    assert found.rows["timestamp"].tolist() == [TEN + timedelta(minutes=minute) for minute in (5, 10, 15, 20)]
    assert found.rows["slow"].tolist() == pytest.approx([2 / 3] * 4)


def test_a_period_that_rows_do_not_divide_is_refused(hook):
    # GIVEN / WHEN / THEN
    with pytest.raises(CloudWatchError, match="slow: its period of 900 s is no multiple of the rows' 600 s"):
        rows_of(
            hook(CloudWatch()),
            ["a"],
            Catalogue((Metric("slow", "My/App", "Slow", period_s=900),)),
            TEN - timedelta(hours=1),
            TEN,
            600,
        )


def test_duplicated_and_missing_values(hook):
    # GIVEN a service that delivers 10:00 twice, and one value that is not a number
    class Odd(CloudWatch):
        def _result(self, query, asked, points, period):
            return {
                "Id": query["Id"],
                "Timestamps": [TEN, TEN, TEN + timedelta(minutes=5)],
                "Values": [1.0, 2.0, float("nan")],
                "StatusCode": "Complete",
            }

    # WHEN
    found = rows_of(hook(Odd()), ["a"], Catalogue(ALL.metrics[:1]), TEN, TEN + timedelta(minutes=10), 300)

    # THEN the later of the two counts and the repetition is counted; what is no number is missing
    assert found.rows["cpu_utilization"].tolist()[:1] == [2.0]
    assert found.rows["cpu_utilization"].isna().tolist() == [False, True]
    assert found.duplicates == 1


@pytest.mark.parametrize(
    ("start", "end", "words"),
    [
        (TEN, TEN, "is empty"),
        (TEN + timedelta(hours=1), TEN, "is empty"),
        (TEN + timedelta(minutes=1), TEN + timedelta(hours=1), "start .* not on the grid of 300 s"),
    ],
)
def test_intervals_that_cannot_be_asked_for(hook, start, end, words):
    # GIVEN / WHEN / THEN
    with pytest.raises(CloudWatchError, match=words):
        rows_of(hook(CloudWatch()), ["a"], TWO, start, end, 300)


def test_no_instance_is_no_call(hook):
    # GIVEN / WHEN
    client = CloudWatch()
    found = rows_of(hook(client), [], TWO, TEN, TEN + timedelta(hours=1), 300)

    # THEN
    assert found.rows.empty
    assert client.calls == []


def test_kinds_share_calls(hook):
    # GIVEN 300 instances of two metrics and 20 databases of eleven: 820 queries of twelve points
    first, databases = catalogue.load_all(("ec2", "rds"))
    client = CloudWatch()
    fleet = [
        InstancesOfKind(replace(first, metrics=TWO.metrics), [f"i-{place:03d}" for place in range(300)]),
        InstancesOfKind(databases, [f"rds/db-{place}" for place in range(20)]),
    ]

    # WHEN
    made = hook(client)
    found, of_databases = made.metric_rows(fleet, TEN, TEN + timedelta(hours=1), 300)

    # THEN two calls read both, where each kind alone would need two and one
    assert len(client.calls) == made.usage.min_calls == made.min_calls(fleet, TEN, TEN + timedelta(hours=1), 300) == 2
    assert (len(found.rows), len(of_databases.rows)) == (300 * 12, 20 * 12)
    assert list(of_databases.rows.columns[2:]) == list(databases.names)
    assert sorted(of_databases.rows["instance_id"].unique())[0] == "rds/db-0"
    asked = [query["MetricStat"]["Metric"] for call in client.calls for query in call["MetricDataQueries"]]
    assert {"Name": "DBInstanceIdentifier", "Value": "db-0"} in [metric["Dimensions"][0] for metric in asked]

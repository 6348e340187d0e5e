"""Tasks of export_metrics over in-memory AWS: raw, then validated and quarantined, counts announced."""

from datetime import UTC, datetime, timedelta

import pytest
from airflow.sdk.exceptions import AirflowFailException
from botocore.exceptions import ClientError

from riskwatch_airflow.assets import VALIDATED_METRICS
from riskwatch_airflow.tasks import export
from riskwatch_ml.ingest import cloudwatch
from riskwatch_ml.schema import catalogue
from tests.support.exporting import NINE, TEN, exported, from_run


def test_an_interval_is_exported_and_split(aws, an_hour):
    # GIVEN an hour of two instances, one value of one of them impossible, and a row outside of the hour
    aws.cloudwatch.fill("CPUUtilization", "a", NINE - timedelta(minutes=5), 14, 50.0)
    aws.cloudwatch.fill("EBSReadBytes", "a", NINE, 12, 2e6)
    aws.cloudwatch.fill("CPUUtilization", "b", NINE, 12, 40.0)
    aws.cloudwatch.values["CPUUtilization", "b"][NINE] = 400.0

    # WHEN
    fetched = export.fetch(an_hour)
    recorded = export.validate(an_hour, export.joined([fetched]))

    # THEN 24 rows came in by one call, one went to the quarantine with its reason
    silent = sorted(set(catalogue.load().names) - {"cpu_utilization", "disk_read_mb"})
    asked = "1 calls of GetMetricData (the limits allow no fewer than 1), 20 metrics (20 predicted), $0.0002 ($0.0002"
    assert fetched == {
        "shard": "default",
        "told": f"default: 24 rows of 2 instances by {asked} predicted)",
        "chunks": [
            {
                "start": "2026-11-22T09:00:00.000Z",
                "end": "2026-11-22T10:00:00.000Z",
                "period_s": 300,
                "part": "default",
                "resource_kind": "ec2",
            }
        ],
        "kinds": {"ec2": {"rows": 24, "instances": 2, "metrics": 20}},
        "instances": 2,
        "rows": 24,
        "duplicates": 0,
        "objects": 1,
        "calls": 1,
        "least_calls": 1,
        "metrics": 20,
        "predicted_metrics": 20,
        "left_out": [],
        "silent": silent,
        "missing": {"disk_read_mb": 1} | dict.fromkeys(silent, 2),
    }
    assert (recorded["rows"], recorded["validated"], recorded["quarantined"]) == (24, 23, 1)
    validated = aws.store.read_hours("validated", NINE, TEN)
    quarantined = aws.store.read_hours("quarantine", NINE, TEN)
    assert len(validated) == 23
    assert quarantined["reasons"].tolist() == ["most values are impossible; cpu_utilization outside [0, 100] %"]
    assert validated["disk_read_mb"].max() == 2.0
    extra = an_hour["outlet_events"][VALIDATED_METRICS].extra
    assert (extra["validated"], extra["metrics_requested"], extra["cost"]) == (23, 20, "$0.0002")

    # AND the page about it can be opened
    page = "docs/validation/2026-11-22T0900Z--2026-11-22T1000Z-default.html"
    assert recorded["data_docs"] == [f"http://127.0.0.1:4566/bucket/{page}"]
    assert b"cpu_utilization" in aws.s3.objects[page]


def test_a_long_interval_is_read_in_chunks_that_fit_into_memory(aws, an_hour, monkeypatch, caplog):
    # GIVEN 50 hours of one instance, and room for a day of it
    start = NINE - timedelta(hours=49)
    aws.cloudwatch.fill("CPUUtilization", "a", start, 600, 50.0)
    monkeypatch.setattr(cloudwatch, "CHUNK_POINTS", 288 * 10)

    # WHEN
    recorded = exported(from_run(an_hour, start, TEN))
    fetched = export.fetch(from_run(an_hour, start, TEN))

    # THEN nothing is missing
    assert [chunk["start"] for chunk in fetched["chunks"]] == [
        "2026-11-20T08:00:00.000Z",
        "2026-11-21T08:00:00.000Z",
        "2026-11-22T08:00:00.000Z",
    ]
    assert recorded["rows"] == recorded["validated"] == 600
    # AND what is told is the least for the whole, which one call would read, beside what the three took and cost
    assert (fetched["calls"], fetched["least_calls"]) == (3, 1)
    assert fetched["metrics"] == fetched["predicted_metrics"] == 3 * 10
    assert "3 calls of GetMetricData (the limits allow no fewer than 1)" in fetched["told"]
    assert "read in 3 chunks, to fit into memory" in caplog.text


@pytest.mark.parametrize("coarsen", [False, True])
def test_what_is_older_than_cloudwatch_keeps_is_refused_or_coarsened(aws, an_hour, coarsen, caplog):
    # GIVEN two hours of 70 days ago
    start = NINE - timedelta(days=70)
    aws.cloudwatch.fill("CPUUtilization", "a", start, 24, 50.0)
    aws.cloudwatch.fill("EBSReadBytes", "a", start, 24, 2e6)

    # WHEN a backfill asks for them
    asked = from_run(an_hour, start, start + timedelta(hours=2), "backfill", {"coarsen": coarsen})
    if not coarsen:
        with pytest.raises(AirflowFailException, match=r"300 s for 63 days: .* set coarsen .* rows of 3600 s"):
            export.fetch(asked)
        assert aws.s3.objects == {}
        return
    recorded = exported(asked)

    # THEN with leave to do so there is a row an hour, its sum that of a row's 300 s, and the log says so
    rows = aws.store.read_hours("validated", start, start + timedelta(hours=2))
    assert recorded["validated"] == len(rows) == 2
    assert rows["cpu_utilization"].tolist() == [50.0, 50.0]
    assert rows["disk_read_mb"].tolist() == pytest.approx([2.0, 2.0])
    assert "is read in rows of 3600 s instead of 300 s" in caplog.text


def test_the_hour_that_clocks_repeat_is_one_hour(aws, an_hour):
    # GIVEN two hours around the end of summer time, and 02:00 to 02:00 of a local clock that is put back between them
    start = datetime(2026, 10, 25, 0, tzinfo=UTC)
    aws.cloudwatch.fill("CPUUtilization", "a", start, 24, 50.0)

    # WHEN it is given by hand
    given = {"start": "2026-10-25T02:00:00+02:00", "end": "2026-10-25T02:00:00+01:00"}
    recorded = exported(from_run(an_hour, None, None, params=given))

    # THEN it is the hour from 00:00 UTC, every row once
    assert (recorded["start"], recorded["end"], recorded["validated"]) == (
        "2026-10-25T00:00:00.000Z",
        "2026-10-25T01:00:00.000Z",
        12,
    )
    # AND the run of the next hour has the other rows
    exported(from_run(an_hour, start + timedelta(hours=1), start + timedelta(hours=2), "scheduled"))
    rows = aws.store.read_hours("validated", start, start + timedelta(hours=2))
    assert rows["timestamp"].is_unique
    assert len(rows) == 24


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("ExpiredToken", "connection aws_default, account-region default: .* credentials are not valid any more"),
        ("AccessDenied", "cloudwatch:GetMetricData is not allowed"),
    ],
)
def test_what_a_retry_cannot_mend_fails_for_good(aws, an_hour, monkeypatch, code, words):
    # GIVEN an exported hour
    aws.cloudwatch.fill("CPUUtilization", "a", NINE, 12, 50.0)
    export.fetch(an_hour)
    before = dict(aws.s3.objects)

    def refused(**asked):
        raise ClientError({"Error": {"Code": code, "Message": "no"}}, "GetMetricData")

    # WHEN / THEN
    monkeypatch.setattr(aws.cloudwatch, "get_metric_data", refused)
    with pytest.raises(AirflowFailException, match=words):
        export.fetch(an_hour)
    assert aws.s3.objects == before


def test_an_interval_without_data_says_what_was_asked(aws, an_hour):
    # GIVEN data of another hour only
    aws.cloudwatch.fill("CPUUtilization", "a", TEN, 1)

    # WHEN / THEN
    with pytest.raises(AirflowFailException) as error:
        export.fetch(an_hour)
    for word in ("09:00:00.000Z", "10 metrics", "1 instances", "AWS/EC2, CWAgent", "eu-west-1", "aws_default"):
        assert word in str(error.value)
    assert aws.s3.objects == {}


def test_a_run_without_interval_takes_the_last_whole_hour(aws, context):
    # GIVEN the time is 10:07:30
    aws.cloudwatch.fill("CPUUtilization", "a", NINE, 12)
    # WHEN / THEN
    (chunk,) = export.fetch(context)["chunks"]
    assert (chunk["start"], chunk["end"]) == ("2026-11-22T09:00:00.000Z", "2026-11-22T10:00:00.000Z")


def test_the_newest_datapoints_are_given_time_to_settle(aws, an_hour, monkeypatch):
    # GIVEN an interval that ended 450 s ago and a floor of 480 s
    aws.cloudwatch.fill("CPUUtilization", "a", NINE, 12)
    aws.use(settle_s=480)
    waits = []
    monkeypatch.setattr(export.time, "sleep", waits.append)

    # WHEN
    export.fetch(an_hour)

    # THEN it waits for what is left
    assert waits == [30.0]


def test_more_refused_than_good_rows_are_a_failure(aws, an_hour):
    # GIVEN seven of twelve rows that are impossible
    aws.cloudwatch.fill("CPUUtilization", "a", NINE, 7, 500.0)
    aws.cloudwatch.fill("CPUUtilization", "a", NINE + timedelta(minutes=35), 5, 50.0)

    # WHEN / THEN the rows are split, and nothing is announced
    with pytest.raises(AirflowFailException, match=r"7 of 12 rows were quarantined: .*Data Docs: http"):
        exported(an_hour)
    assert len(aws.store.read_hours("validated", NINE, TEN)) == 5
    assert an_hour["outlet_events"] == {}


def test_not_a_single_good_row_is_a_failure_with_reasons(aws, an_hour):
    # GIVEN
    aws.cloudwatch.fill("CPUUtilization", "a", NINE, 12, 500.0)

    # WHEN / THEN the quarantine holds them, nothing is announced
    with pytest.raises(AirflowFailException, match=r"all 12 rows were quarantined: .*cpu_utilization outside"):
        exported(an_hour)
    assert len(aws.store.read_hours("quarantine", NINE, TEN)) == 12
    assert an_hour["outlet_events"] == {}


def test_a_metric_that_part_of_the_fleet_lacks_is_named_each_time_and_counted(aws, an_hour, caplog):
    # GIVEN two instances that report, and memory of the first alone
    for name in ("a", "b"):
        aws.cloudwatch.fill("CPUUtilization", name, NINE, 12, 50.0)
    aws.cloudwatch.fill("mem_used_percent", "a", NINE, 12, 50.0)

    # WHEN the hour is exported twice
    reports = [exported(an_hour), exported(an_hour)]

    # THEN each report counts it, and the log names the instance
    assert [report["missing"]["memory_utilization"] for report in reports] == [1, 1]
    assert caplog.text.count("memory_utilization: 1 of 2 instances have no value (b); ") == 2
    assert aws.store.get_json("health/reported.json")["missing memory_utilization"] == (
        "memory_utilization is missing for 1 of 2 instances"
    )


def test_a_backfill_reports_no_problem_of_the_data(aws, an_hour, monkeypatch):
    # GIVEN an hour of two days ago with a metric that one instance lacks
    two_days = timedelta(days=2)
    for name in ("a", "b"):
        aws.cloudwatch.fill("CPUUtilization", name, NINE - two_days, 12, 50.0)
    aws.cloudwatch.fill("mem_used_percent", "a", NINE - two_days, 12, 50.0)

    # WHEN it is exported, THEN the report counts it, and the state of today is not touched
    report = exported(from_run(an_hour, NINE - two_days, TEN - two_days))
    assert report["missing"]["memory_utilization"] == 1
    assert aws.store.keys("health/") == []

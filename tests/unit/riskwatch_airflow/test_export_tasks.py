"""Tasks of export_metrics over in-memory AWS: raw, then validated and quarantined, counts announced."""

from datetime import UTC, datetime, timedelta

import pytest
from airflow.sdk.exceptions import AirflowFailException

from riskwatch_airflow.assets import VALIDATED_METRICS
from riskwatch_airflow.tasks import export

NINE = datetime(2026, 11, 22, 9, tzinfo=UTC)
TEN = NINE + timedelta(hours=1)


@pytest.fixture
def run(context):
    context["data_interval_start"], context["data_interval_end"] = NINE, TEN
    return context


def test_an_interval_is_exported_and_split(aws, run):
    # GIVEN an hour of two instances, one value of one of them impossible, and a row outside of the hour
    aws.cloudwatch.fill("CPUUtilization", "a", NINE - timedelta(minutes=5), 14, 50.0)
    aws.cloudwatch.fill("EBSReadBytes", "a", NINE, 12, 2e6)
    aws.cloudwatch.fill("CPUUtilization", "b", NINE, 12, 40.0)
    aws.cloudwatch.values["CPUUtilization", "b"][NINE] = 400.0

    # WHEN
    fetched = export.fetch(run)
    told = export.validate(run, fetched)

    # THEN 24 rows came in, one went to the quarantine with its reason
    assert fetched == {
        "start": "2026-11-22T09:00:00.000Z",
        "end": "2026-11-22T10:00:00.000Z",
        "instances": 2,
        "rows": 24,
        "duplicates": 0,
        "objects": 1,
    }
    assert (told["rows"], told["validated"], told["quarantined"]) == (24, 23, 1)
    validated = aws.store.read_hours("validated", NINE, TEN)
    quarantined = aws.store.read_hours("quarantine", NINE, TEN)
    assert len(validated) == 23
    assert quarantined["reasons"].tolist() == ["cpu_utilization outside [0, 100] %"]
    assert validated["disk_read_mb"].max() == 2.0
    assert run["outlet_events"][VALIDATED_METRICS].extra["validated"] == 23

    # AND the page about it can be opened
    page = "docs/validation/2026-11-22T0900Z--2026-11-22T1000Z-default.html"
    assert told["data_docs"] == f"http://127.0.0.1:4566/bucket/{page}"
    assert b"cpu_utilization" in aws.s3.objects[page]


def layers(s3):
    """All objects but the page about the validation, in which every element has an id of its own."""
    return {key: data for key, data in s3.objects.items() if not key.startswith("docs/")}


def test_a_rerun_gives_the_same_objects(aws, run):
    # GIVEN an exported hour
    aws.cloudwatch.fill("CPUUtilization", "a", NINE, 12, 50.0)
    export.validate(run, export.fetch(run))
    before = layers(aws.s3)

    # WHEN
    export.validate(run, export.fetch(run))

    # THEN
    assert layers(aws.s3) == before


def test_rows_of_a_file_stay_as_they_are_and_are_not_validated_twice(aws, run):
    # GIVEN validated rows of a file: an instance of its own, and one row of an instance that is exported too
    aws.cloudwatch.fill("CPUUtilization", "a", NINE, 12, 50.0)
    export.validate(run, export.fetch(run))
    rows = aws.store.read_hours("validated", NINE, TEN).iloc[:2].assign(instance_id=["file", "a"])
    for layer in ("raw", "validated"):
        aws.store.write_hours(layer, rows, NINE, TEN, "csv")

    # WHEN the hour is exported again
    told = export.validate(run, export.fetch(run))

    # THEN the file's rows are in place, and nothing is there twice
    assert (told["rows"], told["validated"], told["quarantined"]) == (12, 11, 1)
    assert told["reasons"] == {"a row of the same instance and time was validated from another source": 1}
    validated = aws.store.read_hours("validated", NINE, TEN)
    assert validated["instance_id"].tolist() == ["a"] * 12 + ["file"]
    assert not validated.duplicated(["instance_id", "timestamp"]).any()


def test_instances_that_cloudwatch_no_longer_lists_come_from_the_inventory(aws, run):
    # GIVEN data of an instance that ListMetrics has forgotten
    aws.cloudwatch.fill("CPUUtilization", "old", NINE, 12, 50.0)
    aws.cloudwatch.paginate = lambda **asked: iter(())
    aws.store.put_bytes("config/inventory.json", b'{"instances": {"old": {}}}')

    # WHEN / THEN
    assert export.fetch(run)["rows"] == 12


def test_an_interval_without_data_says_what_was_asked(aws, run):
    # GIVEN data of another hour only
    aws.cloudwatch.fill("CPUUtilization", "a", TEN, 1)

    # WHEN / THEN
    with pytest.raises(AirflowFailException) as error:
        export.fetch(run)
    for word in ("09:00:00.000Z", "10 metrics", "1 instances", "AWS/EC2, CWAgent", "eu-west-1", "aws_default"):
        assert word in str(error.value)
    assert aws.s3.objects == {}


def test_a_run_without_interval_says_what_to_give(aws, context):
    # GIVEN / WHEN / THEN
    with pytest.raises(AirflowFailException, match="give start and end"):
        export.fetch(context)


def test_the_newest_datapoints_are_given_time_to_settle(aws, run, monkeypatch):
    # GIVEN an interval that ended 450 s ago and a floor of 480 s
    aws.cloudwatch.fill("CPUUtilization", "a", NINE, 12)
    aws.use(settle_s=480)
    waits = []
    monkeypatch.setattr(export.time, "sleep", waits.append)

    # WHEN
    export.fetch(run)

    # THEN it waits for what is left
    assert waits == [30.0]


def test_an_instance_that_fell_silent_is_told_and_stops_nothing(aws, run, caplog):
    # GIVEN an instance with data, and one that the inventory alone knows
    aws.cloudwatch.fill("CPUUtilization", "a", NINE, 12, 50.0)
    aws.store.put_bytes("config/inventory.json", b'{"instances": {"a": {}, "gone": {}}}')

    # WHEN
    told = export.validate(run, export.fetch(run))

    # THEN
    assert told["findings"]["silent"] == 1
    assert "gone: no row; the newest one is of never" in caplog.text
    assert VALIDATED_METRICS in run["outlet_events"]


def test_more_refused_than_good_rows_are_a_failure(aws, run):
    # GIVEN seven of twelve rows that are impossible
    aws.cloudwatch.fill("CPUUtilization", "a", NINE, 7, 500.0)
    aws.cloudwatch.fill("CPUUtilization", "a", NINE + timedelta(minutes=35), 5, 50.0)

    # WHEN / THEN the rows are split, and nothing is announced
    with pytest.raises(AirflowFailException, match=r"7 of 12 rows were quarantined: .*Data Docs: http"):
        export.validate(run, export.fetch(run))
    assert len(aws.store.read_hours("validated", NINE, TEN)) == 5
    assert run["outlet_events"] == {}


def test_not_a_single_good_row_is_a_failure_with_reasons(aws, run):
    # GIVEN
    aws.cloudwatch.fill("CPUUtilization", "a", NINE, 12, 500.0)

    # WHEN / THEN the quarantine holds them, nothing is announced
    with pytest.raises(AirflowFailException, match=r"all 12 rows were quarantined: .*cpu_utilization outside"):
        export.validate(run, export.fetch(run))
    assert len(aws.store.read_hours("quarantine", NINE, TEN)) == 12
    assert run["outlet_events"] == {}

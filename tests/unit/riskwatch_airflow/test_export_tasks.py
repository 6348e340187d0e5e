"""Tasks of export_metrics over in-memory AWS: raw, then validated and quarantined, counts announced."""

import random
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from airflow.sdk.exceptions import AirflowFailException
from botocore.exceptions import ClientError

from ml import catalogue, clock, inventory, metric_plan
from ml.inventory import Instance
from ml.store import StoreError, hour_key
from riskwatch_airflow.assets import VALIDATED_METRICS
from riskwatch_airflow.tasks import export

NINE = datetime(2026, 11, 22, 9, tzinfo=UTC)
TEN = NINE + timedelta(hours=1)


@pytest.fixture
def run(context):
    context["data_interval_start"], context["data_interval_end"] = NINE, TEN
    return context


def exported(context, *shards):
    """Run the DAG's tasks: fetch for every shard, validate."""
    return export.validate(context, export.joined([export.fetch(context, shard) for shard in shards or ("default",)]))


def of_run(context, start, end, kind="manual", params=None):
    """Return the context of another run."""
    return {
        **context,
        "data_interval_start": start,
        "data_interval_end": end,
        "dag_run": SimpleNamespace(run_type=kind),
        "params": params or {},
    }


def test_an_interval_is_exported_and_split(aws, run):
    # GIVEN an hour of two instances, one value of one of them impossible, and a row outside of the hour
    aws.cloudwatch.fill("CPUUtilization", "a", NINE - timedelta(minutes=5), 14, 50.0)
    aws.cloudwatch.fill("EBSReadBytes", "a", NINE, 12, 2e6)
    aws.cloudwatch.fill("CPUUtilization", "b", NINE, 12, 40.0)
    aws.cloudwatch.values["CPUUtilization", "b"][NINE] = 400.0

    # WHEN
    fetched = export.fetch(run)
    told = export.validate(run, export.joined([fetched]))

    # THEN 24 rows came in by one call, one went to the quarantine with its reason
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
            }
        ],
        "instances": 2,
        "rows": 24,
        "duplicates": 0,
        "objects": 1,
        "calls": 1,
        "least_calls": 1,
        "metrics": 20,
        "predicted_metrics": 20,
        "silent": sorted(set(catalogue.load().names) - {"cpu_utilization", "disk_read_mb"}),
    }
    assert (told["rows"], told["validated"], told["quarantined"]) == (24, 23, 1)
    validated = aws.store.read_hours("validated", NINE, TEN)
    quarantined = aws.store.read_hours("quarantine", NINE, TEN)
    assert len(validated) == 23
    assert quarantined["reasons"].tolist() == ["cpu_utilization outside [0, 100] %"]
    assert validated["disk_read_mb"].max() == 2.0
    extra = run["outlet_events"][VALIDATED_METRICS].extra
    assert (extra["validated"], extra["metrics_requested"], extra["cost"]) == (23, 20, "$0.0002")

    # AND the page about it can be opened
    page = "docs/validation/2026-11-22T0900Z--2026-11-22T1000Z-default.html"
    assert told["data_docs"] == [f"http://127.0.0.1:4566/bucket/{page}"]
    assert b"cpu_utilization" in aws.s3.objects[page]


def layers(s3):
    """All objects but the page about the validation, in which every element has an id of its own."""
    return {key: data for key, data in s3.objects.items() if not key.startswith("docs/")}


def test_a_rerun_gives_the_same_objects_and_writes_none(aws, run):
    # GIVEN an exported hour
    aws.cloudwatch.fill("CPUUtilization", "a", NINE, 12, 50.0)
    exported(run)
    before = layers(aws.s3)
    aws.s3.puts.clear()

    # WHEN
    exported(run)

    # THEN
    assert layers(aws.s3) == before
    assert [key for key in aws.s3.puts if not key.startswith("docs/")] == []


def test_any_order_of_hours_rereads_and_backfills_gives_the_same_bytes(aws, context, monkeypatch):
    # GIVEN a day of two instances of which every seventh value comes late, and the day exported at once in the end
    day = datetime(2026, 11, 21, tzinfo=UTC)
    for name, value in (("a", 50.0), ("b", 60.0)):
        for step in range(288):
            aws.cloudwatch.fill("CPUUtilization", name, day + timedelta(minutes=5 * step), 1, value + step / 10)
    everything = aws.cloudwatch.values
    export.fetch(of_run(context, day, day + timedelta(days=1)))
    at_once = dict(aws.s3.objects)
    aws.s3.objects.clear()

    # WHEN hours are exported in any order while values are missing, then all again by schedule, by hand and in a
    # backfill of six-hour runs, in another order
    aws.cloudwatch.values = {
        key: {moment: value for step, (moment, value) in enumerate(series.items()) if step % 7}
        for key, series in everything.items()
    }
    order = random.Random(5)
    hours = [day + timedelta(hours=hour) for hour in range(24)]
    for hour in order.sample(hours, 24):
        export.fetch(
            of_run(context, hour, hour + timedelta(hours=1), order.choice(["scheduled", "manual", "backfill"]))
        )
    assert aws.s3.objects != at_once
    aws.cloudwatch.values = everything
    for hour in order.sample(hours[::6], 4):
        export.fetch(of_run(context, hour, hour + timedelta(hours=6), "backfill"))

    # THEN the objects of the day are those of the export at once, byte by byte
    assert aws.s3.objects.items() >= at_once.items()
    of_day = {key for key in aws.s3.objects if "dt=2026-11-21" in key}
    assert of_day == set(at_once)


def test_late_values_come_with_the_next_scheduled_run(aws, run):
    # GIVEN an exported hour, a value of it that comes late, and one of five hours before
    aws.cloudwatch.fill("CPUUtilization", "a", NINE - timedelta(hours=6), 84, 50.0)
    late = [(NINE - timedelta(minutes=20), 70.0), (NINE - timedelta(hours=5), 80.0)]
    for moment, _ in late:
        del aws.cloudwatch.values["CPUUtilization", "a"][moment]
    for hour in range(6):
        start = NINE - timedelta(hours=6 - hour)
        export.fetch(of_run(run, start, start + timedelta(hours=1)))
    aws.cloudwatch.values["CPUUtilization", "a"].update(late)
    aws.s3.puts.clear()

    # WHEN the next hour is exported on schedule
    told = export.fetch(of_run(run, NINE, TEN, "scheduled"))

    # THEN the three hours before it were read again at no price, and of these only the one that changed was written
    assert told["chunks"][0]["start"] == "2026-11-22T06:00:00.000Z"
    assert (told["calls"], told["metrics"]) == (1, 10)
    assert sorted(aws.s3.puts) == [hour_key("raw", NINE - timedelta(hours=1)), hour_key("raw", NINE)]
    assert 70.0 in set(aws.store.read_hours("raw", NINE - timedelta(hours=1), NINE)["cpu_utilization"])

    # AND the first run of the day reads three days again
    first = datetime(2026, 11, 22, tzinfo=UTC)
    aws.cloudwatch.fill("CPUUtilization", "a", first, 12, 50.0)
    assert export.fetch(of_run(run, first, first + timedelta(hours=1), "scheduled"))["chunks"][0]["start"] == (
        "2026-11-19T00:00:00.000Z"
    )


@pytest.mark.parametrize("where", ["reading", "writing"])
def test_a_killed_export_leaves_the_previous_objects(aws, run, monkeypatch, where):
    # GIVEN three exported hours that have other values by now
    start = NINE - timedelta(hours=2)
    aws.cloudwatch.fill("CPUUtilization", "a", start, 36, 50.0)
    monkeypatch.setattr(metric_plan, "MAX_POINTS", 100)
    export.fetch(of_run(run, start, TEN))
    before = dict(aws.s3.objects)
    aws.cloudwatch.fill("CPUUtilization", "a", start, 36, 60.0)
    if where == "reading":
        aws.cloudwatch.dies_at = 2 * len(aws.cloudwatch.calls)
    else:
        aws.s3.dies_at = hour_key("raw", NINE)

    # WHEN the machine goes away in the last call, or at the last object
    with pytest.raises(ConnectionError):
        export.fetch(of_run(run, start, TEN))

    # THEN nothing has changed, or each hour is whole: old or new
    assert len(aws.cloudwatch.calls) > 4
    assert aws.s3.objects.keys() == before.keys()
    if where == "reading":
        assert aws.s3.objects == before
    else:
        assert aws.s3.objects[hour_key("raw", NINE)] == before[hour_key("raw", NINE)]
    values = aws.store.read_hours("raw", start, TEN).groupby(lambda row: row // 12)["cpu_utilization"]
    assert values.nunique().tolist() == [1, 1, 1]

    # AND the retry completes it
    aws.s3.dies_at = aws.cloudwatch.dies_at = None
    export.fetch(of_run(run, start, TEN))
    assert set(aws.store.read_hours("raw", start, TEN)["cpu_utilization"]) == {60.0}


def test_a_long_interval_is_read_in_chunks_that_fit_into_memory(aws, run, monkeypatch, caplog):
    # GIVEN 50 hours of one instance, and room for a day of it
    start = NINE - timedelta(hours=49)
    aws.cloudwatch.fill("CPUUtilization", "a", start, 600, 50.0)
    monkeypatch.setattr(export, "CHUNK_POINTS", 288 * 10)

    # WHEN
    told = exported(of_run(run, start, TEN))
    fetched = export.fetch(of_run(run, start, TEN))

    # THEN nothing is missing
    assert [chunk["start"] for chunk in fetched["chunks"]] == [
        "2026-11-20T08:00:00.000Z",
        "2026-11-21T08:00:00.000Z",
        "2026-11-22T08:00:00.000Z",
    ]
    assert told["rows"] == told["validated"] == 600
    # AND what is told is the least for the whole, which one call would read, beside what the three took and cost
    assert (fetched["calls"], fetched["least_calls"]) == (3, 1)
    assert fetched["metrics"] == fetched["predicted_metrics"] == 3 * 10
    assert "3 calls of GetMetricData (the limits allow no fewer than 1)" in fetched["told"]
    assert "read in 3 stretches that fit into memory" in caplog.text


@pytest.mark.parametrize("coarsen", [False, True])
def test_what_is_older_than_cloudwatch_keeps_is_refused_or_coarsened(aws, run, coarsen, caplog):
    # GIVEN two hours of 70 days ago
    start = NINE - timedelta(days=70)
    aws.cloudwatch.fill("CPUUtilization", "a", start, 24, 50.0)
    aws.cloudwatch.fill("EBSReadBytes", "a", start, 24, 2e6)

    # WHEN a backfill asks for them
    asked = of_run(run, start, start + timedelta(hours=2), "backfill", {"coarsen": coarsen})
    if not coarsen:
        with pytest.raises(AirflowFailException, match=r"300 s for 63 days: .* set coarsen .* rows of 3600 s"):
            export.fetch(asked)
        assert aws.s3.objects == {}
        return
    told = exported(asked)

    # THEN with leave to do so there is a row an hour, its sum that of a row's 300 s, and the log says so
    rows = aws.store.read_hours("validated", start, start + timedelta(hours=2))
    assert told["validated"] == len(rows) == 2
    assert rows["cpu_utilization"].tolist() == [50.0, 50.0]
    assert rows["disk_read_mb"].tolist() == pytest.approx([2.0, 2.0])
    assert "is read in rows of 3600 s instead of 300 s" in caplog.text


def test_an_instance_that_is_gone_stays_in_its_old_hours(aws, run):
    # GIVEN an hour of three weeks ago, exported then, of an instance that CloudWatch lists no more
    start = NINE - timedelta(days=21)
    aws.cloudwatch.fill("CPUUtilization", "gone", start, 12, 50.0)
    export.fetch(of_run(run, start, start + timedelta(hours=1)))
    before = dict(aws.s3.objects)
    aws.cloudwatch.paginate = lambda **asked: iter(())

    # WHEN it is exported again
    told = export.fetch(of_run(run, start, start + timedelta(hours=1)))

    # THEN its rows are still there
    assert told["rows"] == 12
    assert aws.s3.objects == before


def test_the_hour_that_clocks_repeat_is_one_hour(aws, run):
    # GIVEN two hours around the end of summer time, and 02:00 to 02:00 of a local clock that is put back between them
    start = datetime(2026, 10, 25, 0, tzinfo=UTC)
    aws.cloudwatch.fill("CPUUtilization", "a", start, 24, 50.0)

    # WHEN it is given by hand
    given = {"start": "2026-10-25T02:00:00+02:00", "end": "2026-10-25T02:00:00+01:00"}
    told = exported(of_run(run, None, None, params=given))

    # THEN it is the hour from 00:00 UTC, every row once
    assert (told["start"], told["end"], told["validated"]) == (
        "2026-10-25T00:00:00.000Z",
        "2026-10-25T01:00:00.000Z",
        12,
    )
    # AND the run of the next hour has the other rows
    exported(of_run(run, start + timedelta(hours=1), start + timedelta(hours=2), "scheduled"))
    rows = aws.store.read_hours("validated", start, start + timedelta(hours=2))
    assert rows["timestamp"].is_unique
    assert len(rows) == 24


def test_metrics_without_a_value_are_explained(aws, run, caplog):
    # GIVEN one metric with values, one that vanished, and eight that CloudWatch never heard of
    aws.cloudwatch.fill("CPUUtilization", "a", NINE, 12, 50.0)
    aws.cloudwatch.fill("NetworkIn", "a", NINE - timedelta(days=2), 12)

    # WHEN
    told = export.fetch(run)

    # THEN the export goes on, and each is named with the likely cause
    assert told["rows"] == 12
    assert "network_in_mb" in told["silent"]
    assert (
        "network_in_mb has no datapoint: AWS/EC2 NetworkIn is listed, but has no value in the unit Bytes" in caplog.text
    )
    assert "latency_ms has no datapoint: CWAgent latency_ms is unknown to CloudWatch" in caplog.text


def test_tags_are_left_for_everybody_who_needs_role_and_service(aws, run):
    # GIVEN two tagged instances
    aws.cloudwatch.fill("CPUUtilization", "a", NINE, 12, 50.0)
    arn = "arn:aws:ec2:eu-west-1:123456789012:instance/"
    aws.tagging.resources = {
        f"{arn}a": {"riskwatch:role": "web", "riskwatch:service": "shop", "Name": "x"},
        f"{arn}b": {"riskwatch:service": "shop"},
    }

    # WHEN the hour is exported, and again after a tag was changed
    export.fetch(run)
    first = inventory.load(None, aws.store)
    aws.tagging.resources[f"{arn}a"]["riskwatch:role"] = "worker"
    export.fetch(run)

    # THEN the inventory has them, the one without a datapoint too: it should report
    assert first["a"] == Instance("a", "web", "shop", "default")
    assert first["b"] == Instance("b", "default", "shop", "default")
    assert inventory.load(None, aws.store)["a"].role == "worker"
    assert {item["ResourceTypeFilters"][0] for item in aws.tagging.asked} == {"ec2:instance"}


def test_without_leave_to_read_tags_the_export_goes_on(aws, run, caplog):
    # GIVEN
    aws.cloudwatch.fill("CPUUtilization", "a", NINE, 12, 50.0)
    aws.tagging.denied = True

    # WHEN / THEN
    assert export.fetch(run)["rows"] == 12
    assert "tag:GetResources is not allowed (no): allow it to the role in use" in caplog.text


def test_every_shard_has_its_own_part(aws, run):
    # GIVEN two regions that share a fake: each has the same database and instance
    aws.use(regions=("eu-west-1", "us-east-1"))
    aws.cloudwatch.fill("CPUUtilization", "i-00000000", NINE, 12, 50.0)
    aws.cloudwatch.fill("CPUUtilization", "host", NINE, 12, 50.0)
    aws.store.put_json("inventory/default.json", {"instances": {"left": {}}})

    # WHEN
    first = export.fetch(run, "eu-west-1")
    told = export.validate(run, export.joined([first, export.fetch(run, "us-east-1")]))

    # THEN the host is two instances, what two regions claim to be one instance is validated once
    rows = aws.store.read_hours("validated", NINE, TEN)
    assert sorted(rows["instance_id"].unique()) == ["eu-west-1:host", "i-00000000", "us-east-1:host"]
    assert (told["rows"], told["validated"], told["quarantined"]) == (48, 36, 12)
    assert {key for key in aws.s3.objects if key.startswith("raw/")} == {
        hour_key("raw", NINE, "eu-west-1"),
        hour_key("raw", NINE, "us-east-1"),
    }
    # AND what a shard left that is no more is gone
    assert inventory.load(None, aws.store) == {}


def test_a_shard_without_rows_does_not_stop_the_others(aws, run):
    # GIVEN two regions, nothing in either
    aws.use(regions=("eu-west-1", "us-east-1"))

    # WHEN
    empty = export.fetch(run, "eu-west-1")

    # THEN only if all are empty there is nothing to validate
    assert (empty["rows"], empty["chunks"]) == (0, [])
    with pytest.raises(AirflowFailException, match="no shard has a datapoint"):
        export.joined([empty, empty])


def test_a_shard_that_fails_is_named_after_the_others_were_validated(aws, run):
    # GIVEN two regions, of which the first may not be read: its fetch returns nothing
    aws.use(regions=("eu-west-1", "us-east-1"))
    aws.cloudwatch.fill("CPUUtilization", "host", NINE, 12, 50.0)
    fetched = [export.fetch(run, "us-east-1")]

    # WHEN
    told = export.validate(run, export.joined(fetched))

    # THEN the rows of the other are validated, and the run ends in an error that names the first
    assert told["validated"] == 12
    with pytest.raises(AirflowFailException, match="no rows of eu-west-1: fetch failed there"):
        export.complete(fetched)
    # AND with all of them there is no error
    export.complete([*fetched, export.fetch(run, "eu-west-1")])


def test_a_shard_that_the_settings_lost_is_named(aws, run):
    # GIVEN / WHEN / THEN
    with pytest.raises(AirflowFailException, match="no shard 'eu-west-1' any more"):
        export.fetch(run, "eu-west-1")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("ExpiredToken", "connection aws_default, shard default: .* credentials are not valid any more"),
        ("AccessDenied", "cloudwatch:GetMetricData is not allowed"),
    ],
)
def test_what_a_retry_cannot_mend_fails_for_good(aws, run, monkeypatch, code, words):
    # GIVEN an exported hour
    aws.cloudwatch.fill("CPUUtilization", "a", NINE, 12, 50.0)
    export.fetch(run)
    before = dict(aws.s3.objects)

    def refused(**asked):
        raise ClientError({"Error": {"Code": code, "Message": "no"}}, "GetMetricData")

    # WHEN / THEN
    monkeypatch.setattr(aws.cloudwatch, "get_metric_data", refused)
    with pytest.raises(AirflowFailException, match=words):
        export.fetch(run)
    assert aws.s3.objects == before


def test_a_corrupt_object_is_replaced_by_the_next_export(aws, run):
    # GIVEN an exported hour whose object was cut off
    aws.cloudwatch.fill("CPUUtilization", "a", NINE, 12, 50.0)
    exported(run)
    before = layers(aws.s3)
    key = hour_key("raw", NINE)
    aws.s3.objects[key] = aws.s3.objects[key][:50]

    # WHEN / THEN validating it says which it is; exporting the hour again mends it
    with pytest.raises(StoreError, match=r"hh=09/part-default\.parquet is no Parquet file"):
        export.validate(run, export.joined([{**_fetched(), "rows": 12}]))
    exported(run)
    assert layers(aws.s3) == before


def _fetched():
    chunk = {"start": clock.iso(NINE), "end": clock.iso(TEN), "period_s": 300, "part": "default"}
    counts = ("rows", "instances", "duplicates", "objects", "calls", "least_calls", "metrics", "predicted_metrics")
    return {"chunks": [chunk], **dict.fromkeys(counts, 0)}


def test_rows_of_a_file_stay_as_they_are_and_are_not_validated_twice(aws, run):
    # GIVEN validated rows of a file: an instance of its own, and one row of an instance that is exported too
    aws.cloudwatch.fill("CPUUtilization", "a", NINE, 12, 50.0)
    exported(run)
    rows = aws.store.read_hours("validated", NINE, TEN).iloc[:2].assign(instance_id=["file", "a"])
    for layer in ("raw", "validated"):
        aws.store.write_hours(layer, rows, NINE, TEN, "csv")

    # WHEN the hour is exported again
    told = exported(run)

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
    told = exported(run)

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
        exported(run)
    assert len(aws.store.read_hours("validated", NINE, TEN)) == 5
    assert run["outlet_events"] == {}


def test_not_a_single_good_row_is_a_failure_with_reasons(aws, run):
    # GIVEN
    aws.cloudwatch.fill("CPUUtilization", "a", NINE, 12, 500.0)

    # WHEN / THEN the quarantine holds them, nothing is announced
    with pytest.raises(AirflowFailException, match=r"all 12 rows were quarantined: .*cpu_utilization outside"):
        exported(run)
    assert len(aws.store.read_hours("quarantine", NINE, TEN)) == 12
    assert run["outlet_events"] == {}

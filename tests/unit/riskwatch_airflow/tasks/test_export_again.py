"""Hours exported again: reruns, backfills, late values, an export that was killed, objects that are corrupt."""

import random
from datetime import UTC, datetime, timedelta

import pytest

from riskwatch_airflow.tasks import export
from riskwatch_ml.core import clock
from riskwatch_ml.ingest import call_plan
from riskwatch_ml.storage.keys import hour_key
from riskwatch_ml.storage.parquet import StoreError
from tests.support.exporting import NINE, TEN, exported, from_run


def layers(s3):
    """All objects but the page about the validation, in which every element has an id of its own."""
    return {key: data for key, data in s3.objects.items() if not key.startswith("docs/")}


def test_a_rerun_gives_the_same_objects_and_writes_none(aws, an_hour):
    # GIVEN an exported hour
    aws.cloudwatch.fill("CPUUtilization", "a", NINE, 12, 50.0)
    exported(an_hour)
    before = layers(aws.s3)
    aws.s3.puts.clear()

    # WHEN
    exported(an_hour)

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
    export.fetch(from_run(context, day, day + timedelta(days=1)))
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
            from_run(context, hour, hour + timedelta(hours=1), order.choice(["scheduled", "manual", "backfill"]))
        )
    assert aws.s3.objects != at_once
    aws.cloudwatch.values = everything
    for hour in order.sample(hours[::6], 4):
        export.fetch(from_run(context, hour, hour + timedelta(hours=6), "backfill"))

    # THEN the objects of the day are those of the export at once, byte by byte
    assert aws.s3.objects.items() >= at_once.items()
    of_day = {key for key in aws.s3.objects if "dt=2026-11-21" in key}
    assert of_day == set(at_once)


def test_late_values_come_with_the_next_scheduled_run(aws, an_hour):
    # GIVEN an exported hour, a value of it that comes late, and one of five hours before
    aws.cloudwatch.fill("CPUUtilization", "a", NINE - timedelta(hours=6), 84, 50.0)
    late = [(NINE - timedelta(minutes=20), 70.0), (NINE - timedelta(hours=5), 80.0)]
    for moment, _ in late:
        del aws.cloudwatch.values["CPUUtilization", "a"][moment]
    for hour in range(6):
        start = NINE - timedelta(hours=6 - hour)
        export.fetch(from_run(an_hour, start, start + timedelta(hours=1)))
    aws.cloudwatch.values["CPUUtilization", "a"].update(late)
    aws.s3.puts.clear()

    # WHEN the next hour is exported on schedule
    recorded = export.fetch(from_run(an_hour, NINE, TEN, "scheduled"))

    # THEN the three hours before it were read again at no price, and of these only the one that changed was written
    assert recorded["chunks"][0]["start"] == "2026-11-22T06:00:00.000Z"
    assert (recorded["calls"], recorded["metrics"]) == (1, 10)
    assert sorted(aws.s3.puts) == [hour_key("raw", NINE - timedelta(hours=1)), hour_key("raw", NINE)]
    assert 70.0 in set(aws.store.read_hours("raw", NINE - timedelta(hours=1), NINE)["cpu_utilization"])

    # AND the first run of the day reads three days again
    first = datetime(2026, 11, 22, tzinfo=UTC)
    aws.cloudwatch.fill("CPUUtilization", "a", first, 12, 50.0)
    assert export.fetch(from_run(an_hour, first, first + timedelta(hours=1), "scheduled"))["chunks"][0]["start"] == (
        "2026-11-19T00:00:00.000Z"
    )


@pytest.mark.parametrize("where", ["reading", "writing"])
def test_a_killed_export_leaves_the_previous_objects(aws, an_hour, monkeypatch, where):
    # GIVEN three exported hours that have other values by now
    start = NINE - timedelta(hours=2)
    aws.cloudwatch.fill("CPUUtilization", "a", start, 36, 50.0)
    monkeypatch.setattr(call_plan, "MAX_POINTS", 100)
    export.fetch(from_run(an_hour, start, TEN))
    before = dict(aws.s3.objects)
    aws.cloudwatch.fill("CPUUtilization", "a", start, 36, 60.0)
    if where == "reading":
        aws.cloudwatch.dies_at = 2 * len(aws.cloudwatch.calls)
    else:
        aws.s3.dies_at = hour_key("raw", NINE)

    # WHEN the machine goes away in the last call, or at the last object
    with pytest.raises(ConnectionError):
        export.fetch(from_run(an_hour, start, TEN))

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
    export.fetch(from_run(an_hour, start, TEN))
    assert set(aws.store.read_hours("raw", start, TEN)["cpu_utilization"]) == {60.0}


def test_a_corrupt_object_is_replaced_by_the_next_export(aws, an_hour):
    # GIVEN an exported hour whose object was cut off
    aws.cloudwatch.fill("CPUUtilization", "a", NINE, 12, 50.0)
    exported(an_hour)
    before = layers(aws.s3)
    key = hour_key("raw", NINE)
    aws.s3.objects[key] = aws.s3.objects[key][:50]

    # WHEN / THEN validating it says which it is; exporting the hour again mends it
    with pytest.raises(StoreError, match=r"hh=09/part-default\.parquet is no Parquet file"):
        export.validate(an_hour, export.joined([{**_fetched(), "rows": 12}]))
    exported(an_hour)
    assert layers(aws.s3) == before


def _fetched():
    chunk = {"start": clock.iso(NINE), "end": clock.iso(TEN), "period_s": 300, "part": "default"}
    counts = ("rows", "instances", "duplicates", "objects", "calls", "least_calls", "metrics", "predicted_metrics")
    return {"chunks": [chunk], **dict.fromkeys(counts, 0)}


def test_rows_of_a_file_stay_as_they_are_and_are_not_validated_twice(aws, an_hour):
    # GIVEN validated rows of a file: an instance of its own, and one row of an instance that is exported too
    aws.cloudwatch.fill("CPUUtilization", "a", NINE, 12, 50.0)
    exported(an_hour)
    rows = aws.store.read_hours("validated", NINE, TEN).iloc[:2].assign(instance_id=["file", "a"])
    for layer in ("raw", "validated"):
        aws.store.write_hours(layer, rows, NINE, TEN, "csv")

    # WHEN the hour is exported again
    recorded = exported(an_hour)

    # THEN the file's rows are in place, and nothing is there twice
    assert (recorded["rows"], recorded["validated"], recorded["quarantined"]) == (12, 11, 1)
    assert recorded["reasons"] == {"a row of the same instance and time was validated from another source": 1}
    validated = aws.store.read_hours("validated", NINE, TEN)
    assert validated["instance_id"].tolist() == ["a"] * 12 + ["file"]
    assert not validated.duplicated(["instance_id", "timestamp"]).any()

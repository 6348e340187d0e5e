"""The stored reports of the watch: which are read, and what they say of each kind."""

from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from riskwatch_ml.core import clock
from riskwatch_ml.monitoring import watch_report
from riskwatch_ml.storage import keys
from riskwatch_ml.storage.bucket import Store
from tests.support.bucket import Bucket

TEN = datetime(2026, 11, 22, 10, 5, tzinfo=UTC)
OF_ONE = {"model_id": "m", "rows": 1, "retrain": False, "distribution": {"violated": True}}


def stored(store, hours, **more):
    at = TEN - timedelta(hours=hours)
    store.put_json(keys.report(at), {"at": clock.iso(at), **OF_ONE, **more})


def test_reports_of_a_kind_are_those_that_have_it():
    # GIVEN reports of an earlier release, of a model with a part for databases, and of one without it again
    store = Store(Bucket(), "bucket")
    stored(store, 3)
    stored(store, 2, kinds={"rds": {**OF_ONE, "model_id": "d", "retrain": True, "to_learn": ["rds/orders.1"]}})
    stored(store, 1, kinds={"sqs": {**OF_ONE, "model_id": "q"}})

    # WHEN they are read, without the report of now
    stored(store, 0)
    reports = watch_report.others(store, keys.report(TEN), TEN)

    # THEN that of databases has the time of its report, and the others none
    assert [report["at"] for report in reports] == [clock.iso(TEN - timedelta(hours=hours)) for hours in (3, 2, 1)]
    (databases,) = watch_report.of_kind(reports, "rds")
    assert (databases["at"], databases["model_id"], databases["retrain"]) == ("2026-11-22T08:05:00.000Z", "d", True)
    assert databases["to_learn"] == ["rds/orders.1"]


@pytest.mark.parametrize(
    "damaged",
    [[], {"rds": []}, {"rds": {**OF_ONE, "distribution": None}}, {"rds": {"model_id": "d", "retrain": False}}, "rds"],
)
def test_a_report_with_a_damaged_kind_counts_as_none(damaged):
    # GIVEN a report of an hour ago whose further kinds cannot be read; without any, the report is sound
    store = Store(Bucket(), "bucket")
    stored(store, 1, kinds=damaged)

    # WHEN / THEN
    assert len(watch_report.others(store, keys.report(TEN), TEN)) == (0 if damaged else 1)


def test_a_part_is_measured_against_its_own_reference():
    # GIVEN a day of rows, all Normal, and a reference of half Idle
    times = pd.date_range(TEN - timedelta(hours=24), periods=240, freq="6min", unit="ms")
    rows = pd.DataFrame({"timestamp": times, "level": "Normal", "unusual": False})
    model = {"model_id": "d", "reference": {"levels": {"Idle": 0.5, "Normal": 0.5}, "unusual": 0.0}}

    # WHEN
    measured = watch_report.measure(rows, model)

    # THEN
    assert (measured["model_id"], measured["rows"], measured["retrain"]) == ("d", 240, False)
    assert measured["distribution"]["violated"] is True
    assert measured["distribution"]["reference_levels"]["Idle"] == 0.5

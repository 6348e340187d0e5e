"""Findings: problems that no single row causes, with instance, metric and numbers."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from riskwatch_expectations import reference
from riskwatch_expectations.reference import Reference
from riskwatch_expectations.suites import series
from riskwatch_expectations.validate import Finding, Interval, validate
from riskwatch_ml.schema.catalogue import Catalogue
from riskwatch_ml.schema.metric import Metric
from riskwatch_ml.storage.bucket import Store
from tests.support.bucket import Bucket

TEN = datetime(2026, 11, 22, 10, tzinfo=UTC)
HOUR = timedelta(hours=1)
CATALOGUE = Catalogue((Metric("cpu", "Test", "CPU", upper=100.0), Metric("net", "Test", "Net", lower=0.0)))
INTERVAL = Interval(TEN, TEN + HOUR, 300)


def rows(start, hours, instances="abc", seed=7):
    """Rows of every five minutes, values between 10 and 90."""
    moments = [start + timedelta(minutes=5 * place) for place in range(12 * hours)]
    keys = [(name, moment) for name in instances for moment in moments]
    frame = pd.DataFrame(keys, columns=["instance_id", "timestamp"])
    values = np.random.default_rng(seed).uniform(10, 90, (len(frame), 2))
    frame = frame.astype({"instance_id": "str", "timestamp": "datetime64[ms, UTC]"})
    return frame.assign(cpu=values[:, 0], net=values[:, 1])


@pytest.fixture
def fresh():
    return rows(TEN, 1)


def found(fresh, old=None, expected="abc"):
    old = rows(TEN - 24 * HOUR, 24, seed=8) if old is None else old
    outcome = validate(fresh, CATALOGUE, INTERVAL, Reference(old, frozenset(expected)))
    assert len(outcome.validated) == len(fresh)
    return list(outcome.findings)


def warning(check, text, instance=None, metric=None):
    return Finding(check, "warning", text, instance, metric)


def test_rows_as_before_have_no_finding(fresh):
    assert found(fresh) == []


def test_a_gap_is_found_with_its_start(fresh):
    # GIVEN an instance without four of its rows
    assert found(fresh.drop(index=[15, 16, 17, 18])) == [
        warning("gap", "b: 5 periods between two rows, starting at 2026-11-22T10:10:00.000Z", "b")
    ]


def test_a_gap_since_the_time_before_counts(fresh):
    # GIVEN a reference in which one instance ends four periods early
    old = rows(TEN - 24 * HOUR, 24, seed=8)
    old = old[(old["instance_id"] != "c") | (old["timestamp"] < TEN - timedelta(minutes=20))]
    assert found(fresh, old) == [
        warning("gap", "c: 5 periods between two rows, starting at 2026-11-22T09:35:00.000Z", "c")
    ]


def test_rows_that_end_early_and_an_instance_without_any_are_found(fresh):
    # GIVEN one instance that stops half way, one that is silent, one that the inventory alone knows
    kept = fresh[(fresh["instance_id"] != "c") & ~((fresh["instance_id"] == "a") & (fresh["timestamp"].dt.minute > 25))]
    assert found(kept, expected="abcd") == [
        warning("row_count", "18 rows of 48 expected"),
        warning("silent", "c: no data; newest row: 2026-11-22T09:55:00.000Z", "c"),
        warning("silent", "d: no data; newest row: never", "d"),
        warning("freshness", "a: newest row at 2026-11-22T10:25:00.000Z, 6 periods before the end", "a"),
    ]


def test_a_stuck_metric_is_found_where_it_used_to_move(fresh):
    # GIVEN a metric that stands still for the hour, and one that has always stood still for an hour
    fresh.loc[fresh["instance_id"] == "b", "cpu"] = 42.5
    old = rows(TEN - 24 * HOUR, 24, seed=8)
    for frame in (old, fresh):
        frame.loc[frame["instance_id"] == "c", "net"] = frame["timestamp"].dt.hour.astype("float64") + 40
    assert found(fresh, old) == [warning("stuck", "b: cpu is 42.5 for 12 rows, before for at most 1", "b", "cpu")]


def test_a_run_that_began_before_the_interval_counts_as_one(fresh):
    # GIVEN a metric that stands still since an hour before
    old = rows(TEN - 24 * HOUR, 24, seed=8)
    old.loc[(old["instance_id"] == "b") & (old["timestamp"] >= TEN - HOUR), "cpu"] = 42.5
    fresh.loc[fresh["instance_id"] == "b", "cpu"] = 42.5
    assert found(fresh, old) == [warning("stuck", "b: cpu is 42.5 for 24 rows, before for at most 1", "b", "cpu")]


def test_a_metric_that_vanished_is_found(fresh):
    fresh.loc[fresh["instance_id"] == "a", "net"] = np.nan
    assert found(fresh) == [warning("vanished", "a: net has no values, but 288 in the reference", "a", "net")]


@pytest.mark.parametrize(("factor", "times"), [(1e6, "1e+06"), (1e-6, "1e-06")])
def test_another_unit_is_found(fresh, factor, times):
    # GIVEN bytes for megabytes, or the other way round, of an instance whose values are the same otherwise
    old = rows(TEN - 24 * HOUR, 24, seed=8)
    for frame in (fresh, old):
        frame.loc[frame["instance_id"] == "b", "net"] = np.arange(len(frame[frame["instance_id"] == "b"])) % 12 + 50.0
    fresh.loc[fresh["instance_id"] == "b", "net"] *= factor
    text = f"b: the median of net is {times} times that of the reference: did its unit change?"
    assert found(fresh, old) == [warning("unit", text, "b", "net")]


def test_another_distribution_is_found_by_the_median(fresh):
    # GIVEN a fleet whose metric has moved as a whole
    fresh["net"] += 60
    old = rows(TEN - 24 * HOUR, 24, seed=8)
    low, high = old["net"].quantile([0.05, 0.95])
    text = f"the median of net is {fresh['net'].median():.4g}; nine of ten rows of the reference lie in "
    assert found(fresh, old) == [warning("distribution", f"{text}[{low:.4g}, {high:.4g}]")]


def test_without_a_reference_nothing_is_compared(fresh):
    fresh["net"] *= 1e6
    assert validate(fresh, CATALOGUE, INTERVAL).findings == ()


def test_a_new_instance_is_compared_with_nothing(fresh):
    # GIVEN a reference of other instances, too short for a distribution
    fresh["cpu"] = 42.5
    assert found(fresh, rows(TEN - HOUR, 1, "xyz"), expected="") == [Finding("constant", "info", "cpu never changes")]


def test_the_series_of_no_common_instance_are_empty(fresh):
    assert series.table(fresh, rows(TEN - HOUR, 1, "x"), CATALOGUE).empty


# ------------------------------------------------------------------------------------------------- the reference


def test_the_reference_are_the_validated_rows_of_the_day_before():
    # GIVEN rows of thirty hours, an instance that ended five hours ago, and a column of another catalogue
    store = Store(Bucket(), "bucket")
    old = rows(TEN - 30 * HOUR, 30, "ab").assign(other=1.0)
    old = old[(old["instance_id"] != "b") | (old["timestamp"] < TEN - 5 * HOUR)]
    store.write_hours("validated", old, TEN - 30 * HOUR, TEN)

    # WHEN
    read = reference.read(store, CATALOGUE, TEN, known=["c"])

    # THEN
    assert list(read.rows.columns) == ["instance_id", "timestamp", "cpu", "net"]
    assert read.rows["timestamp"].min() == pd.Timestamp(TEN - 24 * HOUR)
    assert read.rows["timestamp"].max() < pd.Timestamp(TEN)
    assert read.expected == {"a", "c"}


def test_the_reference_of_a_large_fleet_is_shorter(monkeypatch):
    # GIVEN room for two hours of rows
    monkeypatch.setattr(reference, "MAX_ROWS", 60)
    store = Store(Bucket(), "bucket")
    store.write_hours("validated", rows(TEN - 5 * HOUR, 5, "ab"), TEN - 5 * HOUR, TEN)

    # WHEN / THEN
    assert reference.read(store, CATALOGUE, TEN).rows["timestamp"].min() == pd.Timestamp(TEN - 2 * HOUR)


def test_without_any_rows_before_the_reference_is_empty():
    read = reference.read(Store(Bucket(), "bucket"), CATALOGUE, TEN)
    assert read.rows.empty
    assert read.expected == frozenset()

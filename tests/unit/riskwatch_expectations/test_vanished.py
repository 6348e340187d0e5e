"""A metric that vanished is found in each validation until it comes back."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from riskwatch_expectations.pipeline import split_interval
from riskwatch_expectations.validate import Finding, Interval
from riskwatch_ml.schema.catalogue import Catalogue
from riskwatch_ml.schema.metric import Metric
from riskwatch_ml.storage.bucket import Store
from tests.support.bucket import Bucket

TEN = datetime(2026, 11, 20, 10, tzinfo=UTC)
HOUR = timedelta(hours=1)
CATALOGUE = Catalogue((Metric("cpu", "Test", "CPU"), Metric("memory", "Test", "Memory")))


@pytest.fixture
def store():
    return Store(Bucket(), "bucket")


def validated(store, start, *, hours=1, names="ab", without=(), metrics=CATALOGUE):
    """Export and validate some hours from a start; these instances lack memory. Return the findings of vanished."""
    end = start + hours * HOUR
    times = pd.date_range(start, end, freq="5min", inclusive="left").as_unit("ms")
    parts = []
    for name in names:
        values = np.random.default_rng(len(parts)).uniform(10, 90, (len(times), 2))
        frame = pd.DataFrame({"instance_id": name, "timestamp": times, "cpu": values[:, 0], "memory": values[:, 1]})
        if name in without:
            frame["memory"] = np.nan
        parts.append(frame)
    store.write_hours("raw", pd.concat(parts, ignore_index=True), start, end)
    outcome = split_interval(store, metrics, Interval(start, end, 300))
    return [finding for finding in outcome.findings if finding.check == "vanished"]


def test_a_metric_that_vanished_is_found_every_time_until_it_comes_back(store):
    # GIVEN a day of two instances, and then two days in which b has no memory
    validated(store, TEN - 24 * HOUR, hours=24)
    first = validated(store, TEN, without="b")
    second = validated(store, TEN + HOUR, hours=24, without="b")
    third = [validated(store, TEN + hour * HOUR, without="b") for hour in (25, 26)]

    # THEN the first finding names the values before, and each later one when they ended, also after a day
    remembered = Finding(
        "vanished", "warning", "b: memory has had no values since 2026-11-20T10:00:00.000Z", "b", "memory"
    )
    assert [finding.text for finding in first] == ["b: memory has no values, but 288 in the reference"]
    assert [finding.text for finding in second] == ["b: memory has no values, but 276 in the reference"]
    assert third == [[remembered], [remembered]]

    # WHEN it comes back, THEN it is forgotten, even if it is missing again before a reference exists
    assert validated(store, TEN + 27 * HOUR) == []
    assert store.get_json("health/vanished-default.json")["since"] == {}


def test_an_instance_without_rows_is_not_found_and_forgotten_after_two_weeks(store):
    # GIVEN memory of b that vanished, and then b itself
    validated(store, TEN - 24 * HOUR, hours=24)
    validated(store, TEN, without="b")

    # WHEN only a reports, THEN nothing vanished, but b is remembered for two weeks
    assert validated(store, TEN + HOUR, names="a") == []
    assert len(validated(store, TEN + 2 * HOUR, without="b")) == 1
    assert validated(store, TEN + 15 * 24 * HOUR, names="a") == []
    assert store.get_json("health/vanished-default.json")["since"] == {}


def test_a_metric_that_leaves_the_catalogue_is_forgotten(store):
    # GIVEN memory of b that vanished, WHEN the catalogue drops the metric
    validated(store, TEN - 24 * HOUR, hours=24)
    validated(store, TEN, without="b")
    found = validated(store, TEN + HOUR, metrics=Catalogue(CATALOGUE.metrics[:1]))

    # THEN
    assert found == []
    assert store.get_json("health/vanished-default.json")["since"] == {}


def test_a_backfill_neither_reads_nor_changes_the_memory(store):
    # GIVEN memory of b that vanished
    validated(store, TEN - 24 * HOUR, hours=24)
    validated(store, TEN, without="b")
    kept = store.get_json("health/vanished-default.json")

    # WHEN an earlier day is exported again, where b had its memory, THEN it stays known as vanished
    assert validated(store, TEN - 20 * HOUR) == []
    assert store.get_json("health/vanished-default.json") == kept
    assert len(validated(store, TEN + HOUR, without="b")) == 1


def test_a_fleet_without_a_problem_writes_nothing(store):
    # GIVEN / WHEN / THEN
    validated(store, TEN - 24 * HOUR, hours=24)
    validated(store, TEN)
    assert store.keys("health/") == []

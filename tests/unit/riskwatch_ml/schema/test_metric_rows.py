"""Series to metric rows: scale, missing values, duplicates; CSV files by alias."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from riskwatch_ml.core import clock
from riskwatch_ml.schema import catalogue, metric_rows
from riskwatch_ml.schema.catalogue import Catalogue
from riskwatch_ml.schema.metric import Metric
from riskwatch_ml.schema.metric_rows import DatasetError

TEN = datetime(2026, 11, 22, 10, tzinfo=UTC)
STEP = timedelta(minutes=5)
CATALOGUE = catalogue.load()


def series(instance, feature, moments, values):
    stamps = np.array([clock.epoch_ms(moment) for moment in moments], dtype=np.int64)
    return metric_rows.Series(instance, feature, stamps, np.array(values, dtype=float))


def test_rows_are_scaled_and_missing_stays_missing():
    # GIVEN cpu at 10:00 and 10:05, bytes read only at 10:05, another instance without cpu
    found = metric_rows.pivot(
        [
            series("b", "cpu_utilization", [TEN, TEN + STEP], [10.0, 20.0]),
            series("b", "disk_read_mb", [TEN + STEP], [3_000_000.0]),
            series("a", "latency_ms", [TEN], [7.0]),
        ],
        CATALOGUE,
    )

    # WHEN / THEN three rows by instance and time, 3,000,000 bytes are 3 MB
    rows = found.rows
    assert list(rows.columns) == ["instance_id", "timestamp", *CATALOGUE.names]
    assert list(zip(rows["instance_id"], rows["timestamp"], strict=True)) == [("a", TEN), ("b", TEN), ("b", TEN + STEP)]
    assert rows.loc[2, "disk_read_mb"] == 3.0
    assert np.isnan(rows.loc[1, "disk_read_mb"])
    assert np.isnan(rows.loc[0, "cpu_utilization"])
    assert found.duplicates == 0
    assert str(rows["timestamp"].dtype) == "datetime64[ms, UTC]"


def test_a_metric_that_is_published_only_if_something_happened_has_its_value_in_other_rows():
    # GIVEN errors in bytes of a period at 10:05 only, in a catalogue that says what no datapoint means
    errors = Metric("errors_kb", "N", "Errors", "Sum", scale=1e-3, absent=0.5)
    found = metric_rows.pivot(
        [series("a", "latency_ms", [TEN], [7.0]), series("a", "errors_kb", [TEN + STEP], [3_000.0])],
        Catalogue((CATALOGUE.by_name["latency_ms"], errors)),
    )

    # WHEN / THEN the row of 10:00 has it unscaled, other metrics stay missing, and no row is made
    assert found.rows["errors_kb"].tolist() == [0.5, 3.0]
    assert found.rows["latency_ms"].isna().tolist() == [False, True]


def test_duplicates_are_resolved_and_counted():
    # GIVEN the value of 10:00 delivered twice, once in another order
    delivered = [
        series("a", "cpu_utilization", [TEN + STEP, TEN, TEN], [1.0, 2.0, 3.0]),
        series("a", "cpu_utilization", [TEN + STEP], [4.0]),
    ]

    # WHEN
    found = metric_rows.pivot(delivered, CATALOGUE)

    # THEN the last one stands
    assert found.rows["cpu_utilization"].tolist() == [3.0, 4.0]
    assert found.duplicates == 2


def test_values_that_are_not_finite_are_missing():
    # GIVEN / WHEN
    found = metric_rows.pivot([series("a", "cpu_utilization", [TEN, TEN + STEP], [np.inf, np.nan])], CATALOGUE)

    # THEN
    assert found.rows["cpu_utilization"].isna().all()


def test_nothing_is_a_table_without_rows():
    # GIVEN / WHEN / THEN
    rows = metric_rows.pivot((), CATALOGUE).rows
    assert rows.empty
    assert list(rows.columns) == metric_rows.columns(CATALOGUE)
    assert rows["cpu_utilization"].dtype == np.float64


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (series("a", "mystery", [TEN], [1.0]), "mystery is not in the catalogue"),
        (series("a", "cpu_utilization", [TEN], []), "1 moments for 0 values"),
    ],
)
def test_series_that_cannot_be_used(wrong, words):
    # GIVEN / WHEN / THEN
    with pytest.raises(DatasetError, match=words):
        metric_rows.pivot([wrong], CATALOGUE)

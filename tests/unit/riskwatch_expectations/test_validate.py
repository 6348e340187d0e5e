"""Validation by Great Expectations: every row is validated or quarantined, with the reason that applies to it."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from riskwatch_expectations.suites.rows import MOSTLY_IMPOSSIBLE
from riskwatch_expectations.validate import Finding, Interval, ValidationError, validate
from riskwatch_lambda import arrival
from riskwatch_ml.core import clock
from riskwatch_ml.schema import catalogue, metric_rows

TEN = datetime(2026, 11, 22, 10, tzinfo=UTC)
CATALOGUE = catalogue.load()
INTERVAL = Interval(TEN, TEN + timedelta(hours=1), 300)
KEYS = ["instance_id", "timestamp"]
NAMES = list(CATALOGUE.names)


@pytest.fixture
def rows():
    """Two instances, twelve rows each, all within bounds."""
    moments = [TEN + timedelta(minutes=5 * place) for place in range(12)]
    values = np.random.default_rng(7).uniform(1, 90, (2, len(NAMES), 12))
    series = [
        metric_rows.Series(name, feature, moments, values[place, column] / CATALOGUE.by_name[feature].scale)
        for place, name in enumerate(("a", "b"))
        for column, feature in enumerate(NAMES)
    ]
    return metric_rows.pivot(series, CATALOGUE).rows


def test_good_rows_pass_unchanged(rows):
    # GIVEN good rows, one value missing
    rows.loc[3, "latency_ms"] = np.nan

    # WHEN
    outcome = validate(rows, CATALOGUE, INTERVAL)

    # THEN
    pd.testing.assert_frame_equal(outcome.validated, rows)
    assert outcome.quarantined.empty
    assert list(outcome.quarantined.columns) == [*rows.columns, "reasons"]
    assert outcome.reasons == {}
    assert outcome.findings == ()


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("timestamp", TEN + timedelta(minutes=16), "timestamp off the grid of 300 s"),
        (
            "timestamp",
            TEN + timedelta(hours=1),
            "timestamp outside [2026-11-22T10:00:00.000Z, 2026-11-22T11:00:00.000Z)",
        ),
        (
            "timestamp",
            TEN - timedelta(minutes=5),
            "timestamp outside [2026-11-22T10:00:00.000Z, 2026-11-22T11:00:00.000Z)",
        ),
        ("timestamp", pd.NaT, "timestamp is missing"),
        ("instance_id", None, "instance_id is missing"),
        ("instance_id", "", "instance_id is empty, not printable, or longer than 255 bytes"),
        ("instance_id", "web\n1", "instance_id is empty, not printable, or longer than 255 bytes"),
        ("instance_id", "ü" * 128, "instance_id is empty, not printable, or longer than 255 bytes"),
        (NAMES, np.nan, "no metric has a value"),
    ],
)
def test_one_bad_row_is_quarantined_with_its_reason(rows, column, value, reason):
    # GIVEN one row that is wrong in one way
    rows.loc[3, column] = value

    # WHEN
    outcome = validate(rows.sort_values(KEYS), CATALOGUE, INTERVAL)

    # THEN it is the only one that leaves, and the reason is the only one given
    assert outcome.quarantined["reasons"].tolist() == [reason]
    assert len(outcome.validated) == len(rows) - 1
    assert outcome.reasons == {reason: 1}


def test_bounds_themselves_are_allowed(rows):
    # GIVEN / WHEN
    rows.loc[0, "cpu_utilization"], rows.loc[1, "cpu_utilization"] = 0.0, 100.0

    # THEN
    assert validate(rows, CATALOGUE, INTERVAL).quarantined.empty


def test_of_duplicates_the_first_stays(rows):
    # GIVEN a row three times, the copies with another value
    copies = rows.iloc[[5, 5]].assign(latency_ms=1.0)

    # WHEN
    outcome = validate(pd.concat([rows, copies]).sort_values(KEYS, kind="stable"), CATALOGUE, INTERVAL)

    # THEN the first is validated, the two others are quarantined, and nothing is lost
    pd.testing.assert_frame_equal(outcome.validated, rows)
    assert outcome.quarantined["reasons"].tolist() == ["a second row of the same instance and time"] * 2


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("cpu_utilization", 100.5, "cpu_utilization outside [0, 100] %"),
        ("cpu_utilization", -0.1, "cpu_utilization outside [0, 100] %"),
        ("network_in_mb", -1.0, "network_in_mb outside [0, inf] MB"),
        ("latency_ms", np.inf, "latency_ms outside [0, inf] ms"),
        ("latency_ms", 2e15, "latency_ms outside [0, inf] ms"),
    ],
)
def test_one_impossible_value_costs_that_value(rows, column, value, reason):
    # GIVEN one impossible value
    rows.loc[3, column] = value

    # WHEN
    outcome = validate(rows, CATALOGUE, INTERVAL)

    # THEN its row stays without it, and the value is refused with its reason
    assert outcome.quarantined.empty
    expected = rows.copy()
    expected.loc[3, column] = np.nan
    pd.testing.assert_frame_equal(outcome.validated, expected)
    assert outcome.refused.to_numpy().tolist() == [
        ["a", pd.Timestamp(TEN) + timedelta(minutes=15), column, value, reason]
    ]
    assert outcome.value_reasons == {reason: 1}
    assert (outcome.values_kept, outcome.values_refused) == (len(rows) * len(NAMES) - 1, 1)


def test_a_row_is_refused_if_more_than_half_of_its_metrics_are_impossible(rows):
    # GIVEN a row with five of ten values impossible, one with six, and one with one value, which is impossible
    rows.loc[0, NAMES[:5]] = -1.0
    rows.loc[1, NAMES[:6]] = -1.0
    rows.loc[2, NAMES[1:]] = np.nan
    rows.loc[2, NAMES[0]] = -1.0

    # WHEN
    outcome = validate(rows, CATALOGUE, INTERVAL)

    # THEN the first stays with five values; the others are in quarantine with all their values and every reason
    assert outcome.validated.loc[0, NAMES].notna().tolist() == [False] * 5 + [True] * 5
    assert len(outcome.validated) == len(rows) - 2
    pd.testing.assert_frame_equal(outcome.quarantined[NAMES], rows.loc[1:2, NAMES].reset_index(drop=True))
    first, second = outcome.quarantined["reasons"]
    assert first.split("; ")[0] == second.split("; ")[0] == MOSTLY_IMPOSSIBLE
    assert [reason.split()[0] for reason in first.split("; ")[1:]] == NAMES[:6]
    # AND values in = values kept + values refused
    assert outcome.values_kept + outcome.values_refused == int(rows[NAMES].notna().to_numpy().sum())
    assert outcome.values_refused == 5 + 10 + 1


def test_several_reasons_stand_together(rows):
    # GIVEN a row off the grid with an impossible value
    rows.loc[11, "timestamp"] -= timedelta(seconds=1)
    rows.loc[11, "cpu_utilization"] = -1.0

    # WHEN
    outcome = validate(rows, CATALOGUE, INTERVAL)

    # THEN
    expected = "timestamp off the grid of 300 s; cpu_utilization outside [0, 100] %"
    assert outcome.quarantined["reasons"].tolist() == [expected]
    assert outcome.refused.empty


def test_a_constant_metric_is_only_noted(rows):
    # GIVEN a metric that never changes and one that is never there
    rows["running_processes"] = 4.0
    rows["latency_ms"] = np.nan

    # WHEN
    outcome = validate(rows, CATALOGUE, INTERVAL)

    # THEN
    assert outcome.quarantined.empty
    assert outcome.findings == (
        Finding("constant", "info", "latency_ms never changes"),
        Finding("constant", "info", "running_processes never changes"),
    )


def test_rows_out_of_order_are_an_error_that_names_the_first(rows):
    # GIVEN two rows exchanged
    exchanged = rows.iloc[[0, 2, 1, *range(3, 24)]]

    # WHEN / THEN
    with pytest.raises(ValidationError, match=r"not in order of time: a at 2026-11-22 10:05:00\+00:00 comes after"):
        validate(exchanged, CATALOGUE, INTERVAL)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda rows: rows.drop(columns="latency_ms"), "expect_table_columns_to_match_ordered_list"),
        (lambda rows: rows[[*rows.columns[::-1]]], "expect_table_columns_to_match_ordered_list"),
        (lambda rows: rows.astype({"latency_ms": "str"}), r"expect_column_values_to_be_of_type\(latency_ms\)"),
        (lambda rows: rows.iloc[:0], "expect_table_row_count_to_be_between: observed 0"),
    ],
)
def test_what_is_no_table_of_metric_rows_is_an_error(rows, spoil, words):
    # GIVEN / WHEN / THEN the failed expectation is named
    with pytest.raises(ValidationError, match=words):
        validate(spoil(rows), CATALOGUE, INTERVAL)


def test_rows_ahead_of_the_clock_are_refused_with_the_likely_cause(rows, monkeypatch):
    # GIVEN rows until 10:55, and a clock that says 10:20
    monkeypatch.setattr(clock, "now", lambda: TEN + timedelta(minutes=20))

    # WHEN
    outcome = validate(rows, CATALOGUE, INTERVAL)

    # THEN those after 10:30 are refused, most by half an hour: rows in = validated + refused
    assert outcome.validated["timestamp"].max() == TEN + timedelta(minutes=30)
    assert (len(outcome.validated), len(outcome.quarantined)) == (14, 10)
    assert outcome.reasons == {arrival.refusal(arrival.CLOCK): 4, arrival.refusal(arrival.TIME_ZONE): 6}

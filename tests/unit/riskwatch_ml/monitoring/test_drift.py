"""Drift of the label mix: the distance by hand, the limit, and the guards around it."""

import math

import pandas as pd
import pytest

from riskwatch_ml.monitoring.drift import DriftError, jensen_shannon, report

REFERENCE = {"rows": 1000, "levels": {"Idle": 0.5, "Normal": 0.5, "High Load": 0.0}, "unusual": 0.02}


def labelled(idle: int, normal: int, high: int, unusual: int = 0, hours: int = 24) -> pd.DataFrame:
    """Rows that go round the first hours of a day."""
    levels = ["Idle"] * idle + ["Normal"] * normal + ["High Load"] * high
    stamps = [pd.Timestamp("2026-11-22T22:30Z") + pd.Timedelta(hours=place % hours) for place in range(len(levels))]
    return pd.DataFrame(
        {
            "timestamp": pd.Series(stamps, dtype="datetime64[ms, UTC]"),
            "level": levels,
            "unusual": [True] * unusual + [False] * (len(levels) - unusual),
        }
    )


def test_distance_by_hand():
    # GIVEN P = (1, 0) and Q = (1/2, 1/2), so M = (3/4, 1/4)
    # WHEN KL(P||M) = log2(4/3) and KL(Q||M) = log2(2/3)/2 + log2(2)/2 are averaged
    expected = math.sqrt((math.log2(4 / 3) + (math.log2(2 / 3) + 1) / 2) / 2)
    # THEN the distance is the root of it, either way round
    assert jensen_shannon({"a": 1.0}, {"a": 0.5, "b": 0.5}) == pytest.approx(expected)
    assert jensen_shannon({"a": 0.5, "b": 0.5}, {"a": 1.0}) == pytest.approx(expected)
    assert expected == pytest.approx(0.558, abs=0.001)


def test_the_bounds_are_zero_and_one():
    assert jensen_shannon({"a": 0.3, "b": 0.7}, {"b": 0.7, "a": 0.3}) == 0.0
    assert jensen_shannon({"a": 1.0}, {"b": 1.0}) == 1.0


def test_an_unchanged_mix_is_no_violation():
    # GIVEN 200 rows with the shares of the reference, 3 of them unusual
    result = report(labelled(100, 100, 0, unusual=3), REFERENCE)
    # THEN nothing moved
    assert result["distance"] == 0.0
    assert result["violated"] is False
    assert result["levels"] == {"Idle": 0.5, "Normal": 0.5, "High Load": 0.0}
    assert result["unusual"] == pytest.approx(0.015)
    assert result["rows"] == 200


def test_a_level_that_the_reference_never_saw_is_a_violation():
    # GIVEN 40 % High Load where training saw none
    result = report(labelled(60, 60, 80), REFERENCE)
    # THEN M = (0.4, 0.4, 0.2): JSD = (0.6 log2(0.3/0.4) + 0.4 log2(0.4/0.2) + log2(0.5/0.4)) / 2
    expected = math.sqrt((0.6 * math.log2(0.75) + 0.4 + math.log2(1.25)) / 2)
    assert result["distance"] == pytest.approx(expected)
    assert result["violated"] is True


def test_too_few_rows_never_violate():
    # GIVEN a mix that is wholly different, but only 99 rows of it
    result = report(labelled(0, 0, 99), REFERENCE)
    # THEN the distance is told and no violation is claimed; one row more claims it
    assert result["distance"] == 1.0
    assert (result["violated"], result["enough"]) == (False, False)
    assert report(labelled(0, 0, 100), REFERENCE)["violated"] is True


def test_a_part_of_a_day_never_violates():
    # GIVEN a mix that is wholly different, in 19 hours of the day; and in 20
    result, next_hour = (report(labelled(0, 0, 2000, hours=hours), REFERENCE) for hours in (19, 20))
    # THEN the former is told and not held against the whole days of the reference, the latter is
    assert (result["distance"], result["hours"], result["enough"], result["violated"]) == (1.0, 19, False, False)
    assert (next_hour["hours"], next_hour["enough"], next_hour["violated"]) == (20, True, True)


def test_no_rows_have_no_distance():
    result = report(labelled(0, 0, 0), REFERENCE)
    assert (result["distance"], result["violated"], result["rows"], result["unusual"]) == (None, False, 0, None)


@pytest.mark.parametrize("levels", [{}, {"Idle": 0.0}, {"Idle": float("nan")}, {"Idle": -1.0, "Normal": 2.0}])
def test_a_reference_without_usable_shares_is_refused(levels):
    with pytest.raises(DriftError, match="level shares"):
        report(labelled(10, 0, 0), {"levels": levels})

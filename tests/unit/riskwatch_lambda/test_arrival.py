"""The limit of how far a row may be ahead of its arrival, and the cause that is named."""

from datetime import UTC, datetime, timedelta

import pytest

from riskwatch_lambda import arrival
from riskwatch_lambda.arrival import CLOCK, SWAPPED, TIME_ZONE, YEAR

ARRIVED = datetime(2026, 11, 22, 11, 1, 58, tzinfo=UTC)


def cause(moment: datetime, arrived: datetime = ARRIVED) -> str | None:
    return arrival.cause_of(round(moment.timestamp() * 1000), round(arrived.timestamp() * 1000))


@pytest.mark.parametrize("ahead_s", [-86_400 * 3650, -1, 0, 300, 600])
def test_a_row_at_most_ten_minutes_ahead_is_not_refused(ahead_s):
    # GIVEN a row of the past, of now, or of a clock that is a little fast, WHEN it arrives, THEN it is accepted
    assert cause(ARRIVED + timedelta(seconds=ahead_s)) is None


@pytest.mark.parametrize(
    ("ahead", "expected"),
    [
        (timedelta(hours=2), TIME_ZONE),
        (timedelta(hours=5, minutes=30), TIME_ZONE),
        # A row of local time that took six minutes to arrive.
        (timedelta(hours=1, minutes=54), TIME_ZONE),
        (timedelta(hours=14), TIME_ZONE),
        (timedelta(minutes=10, milliseconds=1), CLOCK),
        (timedelta(hours=3, minutes=12), CLOCK),
        (timedelta(hours=15), CLOCK),
        (timedelta(days=3), CLOCK),
        (timedelta(days=120), YEAR),
        (timedelta(days=365), YEAR),
        (timedelta(days=40 * 365), YEAR),
    ],
)
def test_the_likely_cause_of_a_row_ahead_is_named(ahead, expected):
    # GIVEN a row ahead of its arrival, WHEN its cause is asked for, THEN it is the one that fits
    assert cause(ARRIVED + ahead) == expected


def test_a_day_and_month_that_are_swapped_are_recognised():
    # GIVEN the 11th of October written as the 10th of November, and arriving on that 11th
    arrived = datetime(2026, 10, 11, 12, tzinfo=UTC)
    assert cause(datetime(2026, 11, 10, 11, 55, tzinfo=UTC), arrived) == SWAPPED
    # AND a date that is ahead either way, or has no other way, is another cause
    assert cause(datetime(2027, 12, 11, tzinfo=UTC), arrived) == YEAR
    assert cause(datetime(2026, 10, 31, tzinfo=UTC), arrived) == CLOCK


def test_the_29th_of_february_is_no_special_case():
    # GIVEN a date that exists in leap years only, WHEN it is years ahead, THEN the year is wrong
    assert cause(datetime(2028, 2, 29, tzinfo=UTC)) == YEAR


def test_the_rows_of_a_record_are_judged_one_by_one():
    # GIVEN three times, the middle one ahead
    now_ms = round(ARRIVED.timestamp() * 1000)
    times = [now_ms - 300_000, now_ms + 7_200_000, now_ms]
    # WHEN they arrive, THEN the middle one is refused, and none without an arrival
    assert arrival.find_ahead(times, now_ms) == {1: arrival.refusal(TIME_ZONE)}
    assert arrival.find_ahead(times, None) == {}

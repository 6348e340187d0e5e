"""The clock: grid, writing and reading, always UTC."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from riskwatch_ml.core import clock


def test_floor_is_on_the_grid_of_utc():
    # GIVEN a moment in a zone half an hour off
    moment = datetime(2026, 11, 22, 15, 37, 59, tzinfo=timezone(timedelta(hours=5, minutes=30)))

    # WHEN / THEN it is cut in UTC: 10:07:59 -> 10:05 and 10:00
    assert clock.floor(moment, 300) == datetime(2026, 11, 22, 10, 5, tzinfo=UTC)
    assert clock.floor(moment, 3600) == datetime(2026, 11, 22, 10, tzinfo=UTC)


def test_iso_and_back():
    # GIVEN a moment with microseconds
    moment = datetime(2026, 11, 22, 10, 5, 0, 7999, tzinfo=UTC)

    # WHEN / THEN milliseconds are cut, not rounded, and both forms agree
    assert clock.iso(moment) == "2026-11-22T10:05:00.007Z"
    assert clock.iso(clock.epoch_ms(moment)) == clock.iso(moment)
    assert clock.parse("2026-11-22T11:05:00+01:00") == datetime(2026, 11, 22, 10, 5, tzinfo=UTC)


@pytest.mark.parametrize("text", ["2026-11-22T10:05:00", "yesterday"])
def test_no_zone_or_no_moment_is_an_error(text):
    # GIVEN / WHEN / THEN
    with pytest.raises(clock.ClockError):
        clock.parse(text)

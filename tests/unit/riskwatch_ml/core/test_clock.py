"""The clock: grid, writing and reading, always UTC."""

from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pendulum
import pytest
from hypothesis import given
from hypothesis import strategies as st

from riskwatch_ml.core import clock

ZONES = ("UTC", "Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Pacific/Kiritimati")
# Not at the ends of the calendar: there another zone is another year, which `utc` refuses.
MOMENTS = st.datetimes(datetime(2, 1, 1), datetime(9998, 12, 31), timezones=st.just(UTC))


def as_pendulum(moment, zone):
    return pendulum.instance(moment).in_timezone(zone)


def as_zoneinfo(moment, zone):
    return moment.astimezone(ZoneInfo(zone))


def as_fixed_offset(moment, zone):
    return moment.astimezone(timezone(moment.astimezone(ZoneInfo(zone)).utcoffset()))


@given(
    MOMENTS,
    st.sampled_from(ZONES),
    st.sampled_from([as_pendulum, as_zoneinfo, as_fixed_offset]),
    st.integers(1, 90_000),
)
def test_every_function_gives_for_a_value_of_any_type_and_zone_what_it_gives_for_a_plain_one(moment, zone, made, step):
    # GIVEN the same moment as a pendulum value, and in a named zone or with a fixed offset
    other = made(moment, zone)

    # WHEN / THEN all functions agree, and nothing but a plain datetime in UTC comes out
    assert clock.utc(other) == moment
    assert type(clock.utc(other)) is datetime
    assert clock.utc(other).tzinfo is UTC
    assert clock.floor(other, step) == clock.floor(moment, step) <= moment
    assert type(clock.floor(other, step)) is datetime
    assert moment - clock.floor(moment, step) < timedelta(seconds=step)
    assert clock.epoch_ms(other) == clock.epoch_ms(moment)
    assert clock.iso(other) == clock.iso(moment)
    assert clock.parse(other.isoformat()) == moment
    assert clock.from_epoch_ms(clock.epoch_ms(other)) == moment.replace(microsecond=moment.microsecond // 1000 * 1000)


@given(st.datetimes(), st.sampled_from([lambda moment: moment, lambda moment: pendulum.instance(moment, tz=None)]))
def test_every_function_refuses_a_value_without_a_zone(moment, made):
    # GIVEN a naive value
    naive = made(moment)

    # WHEN / THEN
    for use in (clock.utc, lambda value: clock.floor(value, 300), clock.epoch_ms, clock.iso):
        with pytest.raises(clock.ClockError, match="has no time zone"):
            use(naive)


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"])
def test_a_moment_outside_the_calendar_in_utc_is_an_error(text):
    # GIVEN / WHEN / THEN
    with pytest.raises(clock.ClockError, match="outside the years 1 to 9999"):
        clock.parse(text)


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


def test_hours_that_an_interval_touches():
    # GIVEN an interval from within one hour to the beginning of another
    start, end = datetime(2026, 11, 22, 10, 5, tzinfo=UTC), datetime(2026, 11, 22, 12, tzinfo=UTC)

    # WHEN / THEN the hour of the end is not touched
    assert [hour.hour for hour in clock.hours(start, end)] == [10, 11]
    assert list(clock.hours(end, end)) == []


def test_units_of_time_agree():
    # GIVEN / WHEN / THEN
    assert timedelta(milliseconds=clock.HOUR_MS) == timedelta(seconds=clock.HOUR_S) == clock.HOUR
    assert timedelta(milliseconds=clock.DAY_MS) == timedelta(seconds=clock.DAY_S) == clock.DAY

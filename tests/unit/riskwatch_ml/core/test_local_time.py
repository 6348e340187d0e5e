"""Time zones and holidays of the settings: clock changes to the second, and refusals that name the setting."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from riskwatch_ml.core import local_time, settings
from riskwatch_ml.core.local_time import LocalTime, LocalTimeError


def second(text):
    return int(datetime.fromisoformat(text).timestamp())


def test_a_zone_for_the_fleet_and_one_for_a_role():
    # GIVEN / WHEN
    found = LocalTime.parse(["Europe/Berlin", "web = America/New_York"], ["2026-12-26", "2026-12-25", "2026-12-25"])

    # THEN
    assert found.zone_of("web") == "America/New_York"
    assert found.zone_of("db") == "Europe/Berlin"
    assert found.holidays == (date(2026, 12, 25), date(2026, 12, 26))
    assert LocalTime.parse([], []) == LocalTime()


@pytest.mark.parametrize(
    ("zones", "holidays", "words"),
    [
        (["Mars/Base"], [], ["time_zones", "Mars/Base", "Europe/Berlin"]),
        (["../etc/passwd"], [], ["time_zones", "tz database"]),
        (["web="], [], ["time_zones", "tz database"]),
        (["=UTC"], [], ["time_zones", "'=UTC'"]),
        (["UTC", "Europe/Berlin"], [], ["time_zones", "the fleet", "one zone"]),
        (["web=UTC", "web=Asia/Tokyo"], [], ["time_zones", "role web", "one zone"]),
        ([], ["25.12.2026"], ["holidays", "25.12.2026", "2026-12-25"]),
    ],
)
def test_what_is_not_valid_is_named_with_its_cure(zones, holidays, words):
    with pytest.raises(LocalTimeError) as error:
        LocalTime.parse(zones, holidays)
    for word in words:
        assert word in str(error.value)


def test_the_offsets_of_a_year_have_both_clock_changes():
    # GIVEN / WHEN
    found = local_time.offsets("Europe/Berlin", second("2026-01-10T12:00+00:00"), second("2026-12-01T00:00+00:00"))

    # THEN the first holds from the beginning of its day
    assert found == [
        (second("2026-01-10T00:00+00:00"), 3600),
        (second("2026-03-29T01:00+00:00"), 7200),
        (second("2026-10-25T01:00+00:00"), 3600),
    ]
    assert local_time.offsets("UTC", 0, 1e9) == [(0, 0)]


@pytest.mark.parametrize("zone", ["America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Africa/Casablanca"])
def test_the_offsets_are_those_of_the_tz_database(zone):
    # GIVEN the offsets of two years
    start = datetime(2026, 1, 1, tzinfo=UTC)
    found = local_time.offsets(zone, start.timestamp(), start.timestamp() + 2 * 365 * 86_400)

    # WHEN / THEN each hour has the offset of the last change before it
    for hour in range(0, 2 * 365 * 24):
        moment = start + timedelta(hours=hour)
        offset = next(offset for since, offset in reversed(found) if since <= moment.timestamp())
        assert offset == moment.astimezone(ZoneInfo(zone)).utcoffset().total_seconds()


def test_the_settings_are_read_without_any_other(monkeypatch):
    # GIVEN
    monkeypatch.delenv("RISKWATCH_CONFIG", raising=False)
    monkeypatch.setenv("RISKWATCH_TIME_ZONES", "Europe/Berlin, web=Asia/Tokyo")
    monkeypatch.setenv("RISKWATCH_HOLIDAYS", "2026-12-25")

    # WHEN / THEN
    assert settings.local_time() == LocalTime("Europe/Berlin", {"web": "Asia/Tokyo"}, (date(2026, 12, 25),))

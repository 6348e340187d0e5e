"""The slot of a row: the same in training and in the function, for any zone, holiday and time."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from riskwatch_lambda.model.seasons import CHANGE_WIDENING, DAY_SLOTS, HOURS, SLOTS
from riskwatch_lambda.model.seasons import Seasons as Served
from riskwatch_ml.core.local_time import LocalTime
from riskwatch_ml.features.seasons import Seasons, read_zones

ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Pacific/Apia"]
YEAR = datetime(2026, 1, 1, tzinfo=UTC)


def in_ms(moment):
    return int(moment.timestamp() * 1000)


def seasons_of(settings, roles, ms):
    """Return the seasons of a baseline for each role and one for the fleet."""
    zones, zone_of = read_zones(settings, roles, np.array(ms, np.int64))
    return Seasons(zones, np.array([zone_of[role] for role in [*roles, ""]], np.int64))


@given(
    st.sampled_from(ZONES),
    st.sampled_from(ZONES),
    st.lists(st.dates(date(2026, 1, 1), date(2026, 12, 31)), max_size=3, unique=True),
    st.lists(st.integers(0, 365 * 24 * 12), min_size=1, max_size=30),
    st.booleans(),
)
def test_training_and_function_agree(fleet, web, holidays, steps, day_types):
    # GIVEN times of a year, in order, for a role with its own zone and for the fleet
    ms = sorted(in_ms(YEAR + timedelta(minutes=5 * step)) for step in steps)
    settings = LocalTime(fleet, {"web": web}, tuple(sorted(holidays)))
    trained = seasons_of(settings, ["web"], ms)
    served = Served({"seasons": trained.to_document()}, 2)
    read_back = Seasons.from_document(trained.to_document(), 2)

    for baseline, zone in enumerate((web, fleet)):
        # WHEN
        rows = np.full(len(ms), baseline)
        slots, widening = trained.slots(np.array(ms, np.int64), rows, SLOTS if day_types else HOURS)

        # THEN the function has the same slots, and so has the model that is read back
        found = list(zip(slots.tolist(), widening.tolist(), strict=True))
        assert found == [served.slot(baseline, at, day_types=day_types) for at in ms]
        assert (read_back.slots(np.array(ms), rows, SLOTS if day_types else HOURS)[0] == slots).all()
        # AND they are what the calendar says
        for at, slot in zip(ms, slots.tolist(), strict=True):
            local = datetime.fromtimestamp(at / 1000, UTC).astimezone(ZoneInfo(zone))
            assert slot % DAY_SLOTS % HOURS == local.hour
            if day_types:
                assert slot // DAY_SLOTS == (local.weekday() >= 5 or local.date() in holidays)


def test_the_first_hours_after_another_type_of_day_have_slots_of_their_own():
    # GIVEN a Friday that is a holiday
    served = Served({"seasons": {"holidays": [(date(2026, 5, 1) - date(1970, 1, 1)).days]}}, 1)

    def slot(text):
        return served.slot(0, in_ms(datetime.fromisoformat(text + "+00:00")), day_types=True)[0]

    # WHEN / THEN Thursday, the first hours of the holiday, and Saturday, which follows a day off
    assert slot("2026-04-30T01:00") == 1
    assert slot("2026-05-01T02:59") == DAY_SLOTS + HOURS + 2
    assert slot("2026-05-01T03:00") == DAY_SLOTS + 3
    assert slot("2026-05-02T00:00") == DAY_SLOTS
    assert slot("2026-05-04T00:00") == HOURS
    assert slot("2026-05-05T00:00") == 0


def test_a_document_has_only_what_is_not_assumed():
    assert seasons_of(LocalTime(), ["web"], [in_ms(YEAR)]).to_document() == {}
    document = seasons_of(LocalTime("Asia/Kathmandu"), ["web"], [in_ms(YEAR)]).to_document()
    assert document == {"zones": [[[int(YEAR.timestamp()), 20_700]]]}


@pytest.mark.parametrize("role_zone", ["Europe/Berlin", "Africa/Abidjan"])
def test_zones_without_an_offset_stay_apart_from_others(role_zone):
    # GIVEN a role elsewhere, in a zone with or without an offset
    found = seasons_of(LocalTime("UTC", {"web": role_zone}), ["web"], [in_ms(YEAR)])

    # WHEN / THEN
    hour = found.slots(np.array([in_ms(YEAR)] * 2), np.array([0, 1]), HOURS)[0].tolist()
    assert hour == [1 if role_zone == "Europe/Berlin" else 0, 0]


def test_scales_are_wider_for_three_hours_after_a_clock_change():
    # GIVEN a zone with the change to summer time, 1:00 UTC, in a model trained before it
    served = Served({"seasons": seasons_of(LocalTime("Europe/Berlin"), [], [in_ms(YEAR)]).to_document()}, 1)

    # WHEN / THEN
    def widening(text):
        return served.slot(0, in_ms(datetime.fromisoformat(text + "+00:00")), day_types=False)[1]

    assert widening("2026-01-01T00:00") == widening("2026-03-29T00:59") == widening("2026-03-29T04:00") == 1
    assert widening("2026-03-29T01:00") == widening("2026-03-29T03:59") == CHANGE_WIDENING

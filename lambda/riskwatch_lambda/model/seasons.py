"""Seasons: the slot of a row, which is its local hour of day and the type of its day.

There are 24 slots without day types, the hours. With them there are 27 for workdays, then 27 for days off, which are
Saturday, Sunday and the holidays of the document. The last three of 27 are the first hours of a day after one of the
other type: features of these hours contain rows of both. A document without seasons means hours in UTC and no holidays.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

HOURS = 24
# The first hours of a day that have slots of their own after another type of day: as many as the longest trail has.
EDGE_HOURS = 3
DAY_SLOTS = HOURS + EDGE_HOURS
SLOTS = 2 * DAY_SLOTS
# For the same time after a clock change, scales are this much wider: features contain rows of both local times, and no
# training has rows of these hours.
CHANGE_S, CHANGE_WIDENING = EDGE_HOURS * 3600, 4.0
HOUR_S, DAY_S = 3600, 86_400
UTC_ZONE = [[0, 0]]
# The epoch, 1970-01-01, was a Thursday: the third day after a Monday.
EPOCH_WEEKDAY, SATURDAY = 3, 5


class SeasonError(ValueError):
    """The seasons of a model are malformed."""


class Seasons:
    """Local time of each of ``count`` baselines; raises SeasonError for a malformed document.

    The document has ``zones``, lists of pairs ``[UTC epoch, offset]`` in seconds, ``zone_of``, the zone of each
    baseline, and ``holidays``, in days since 1970-01-01. All keys are optional.
    """

    def __init__(self, document: Mapping[str, object], count: int) -> None:
        seasons: Any = document.get("seasons", {})
        if not isinstance(seasons, dict):
            raise SeasonError(f"seasons is {seasons!r:.100}, expected an object")
        zones, zone_of = seasons.get("zones", [UTC_ZONE]), seasons.get("zone_of")
        holidays = seasons.get("holidays", [])
        if not isinstance(zones, list) or not zones or not all(map(_is_zone, zones)):
            raise SeasonError(f"seasons.zones is {zones!r:.100}, expected ascending [epoch, offset] in seconds")
        if zone_of is not None and (
            not isinstance(zone_of, list)
            or len(zone_of) != count
            or not all(type(zone) is int and 0 <= zone < len(zones) for zone in zone_of)
        ):
            raise SeasonError(f"seasons.zone_of must be one of {len(zones)} zones for each of {count} baselines")
        if not _are_integers(holidays):
            raise SeasonError(f"seasons.holidays is {holidays!r:.100}, expected days since 1970-01-01")
        self._starts: list[list[int]] = [[start for start, _ in zone] for zone in zones]
        self._offsets: list[list[int]] = [[offset for _, offset in zone] for zone in zones]
        self._zone_of: list[int] = zone_of or [0] * count
        self._holidays: frozenset[int] = frozenset(holidays)

    def slot(self, baseline: int, ts: int, *, day_types: bool) -> tuple[int, float]:
        """Return the slot of a baseline at ``ts``, UTC epoch in milliseconds, and the factor on its scales.

        There are 54 slots with ``day_types``, else 24.
        """
        zone = self._zone_of[baseline]
        utc = ts // 1000
        number = max(bisect_right(self._starts[zone], utc) - 1, 0)
        local = utc + self._offsets[zone][number]
        widening = CHANGE_WIDENING if number and utc - self._starts[zone][number] < CHANGE_S else 1.0
        hour = local // HOUR_S % HOURS
        if not day_types:
            return hour, widening
        is_off = self._is_off(local // DAY_S)
        is_edge = hour < EDGE_HOURS and is_off != self._is_off(local // DAY_S - 1)
        return is_off * DAY_SLOTS + is_edge * HOURS + hour, widening

    def _is_off(self, day: int) -> bool:
        return (day + EPOCH_WEEKDAY) % 7 >= SATURDAY or day in self._holidays


def _is_zone(zone: object) -> bool:
    """Return whether a value is a list of pairs of integers with ascending times."""
    if not isinstance(zone, list) or not zone:
        return False
    if not all(isinstance(pair, list) and len(pair) == 2 and _are_integers(pair) for pair in zone):
        return False
    starts = [start for start, _ in zone]
    return starts == sorted(set(starts)) and all(abs(offset) < DAY_S for _, offset in zone)


def _are_integers(values: object) -> bool:
    return isinstance(values, list) and all(type(value) is int for value in values)

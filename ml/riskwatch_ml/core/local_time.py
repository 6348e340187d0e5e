"""Local time of the roles: their time zones with all clock changes, and the days off beside weekends."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from riskwatch_ml.core import clock
from riskwatch_ml.core.errors import UserInputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

EPOCH = date(1970, 1, 1)


class LocalTimeError(UserInputError):
    """A time zone or a holiday is not valid; the message names it and the fix."""


@dataclass(frozen=True)
class LocalTime:
    """Time zones by their names in the tz database, and holidays.

    ``zone`` is the zone of the fleet and of each role that ``role_zones`` does not name. ``holidays`` are days off
    wherever they are.
    """

    zone: str = "UTC"
    role_zones: Mapping[str, str] = field(default_factory=dict)
    holidays: tuple[date, ...] = ()

    @classmethod
    def parse(cls, time_zones: Sequence[str], holidays: Sequence[str]) -> LocalTime:
        """Return the local time of the settings.

        ``time_zones`` has a zone for the fleet, such as "Europe/Berlin", and "role=zone" for roles with another one;
        ``holidays`` are dates such as "2026-12-25". Raises LocalTimeError.
        """
        zones: dict[str, str] = {}
        for text in time_zones:
            role, is_role, zone = (part.strip() for part in text.rpartition("="))
            if role in zones or (is_role and not role):
                what = f"role {role}" if role else "the fleet"
                raise LocalTimeError(
                    f'time_zones has {text!r}: give {what} one zone, e.g. "Europe/Berlin" or "web=Asia/Tokyo"'
                )
            zones[role] = _checked(zone)
        return cls(zones.pop("", "UTC"), zones, tuple(sorted({_day(text) for text in holidays})))

    def zone_of(self, role: str) -> str:
        """Return the zone of a role."""
        return self.role_zones.get(role, self.zone)


UTC_DAYS = LocalTime()


def offsets(zone: str, start_s: float, end_s: float) -> list[tuple[int, int]]:
    """Return how far local time is ahead of UTC from ``start_s`` to ``end_s``, UTC epochs in seconds.

    Each pair is the UTC epoch in seconds from which an offset in seconds holds; the first is at most ``start_s``.
    """
    info = ZoneInfo(zone)

    def offset(second: int) -> int:
        ahead = datetime.fromtimestamp(second, UTC).astimezone(info).utcoffset()
        return int(ahead.total_seconds()) if ahead is not None else 0

    low = int(start_s // clock.DAY_S) * clock.DAY_S
    found = [(low, offset(low))]
    while low < end_s:
        high = low + clock.DAY_S
        if offset(high) != found[-1][1]:
            before, after = low, high
            while after - before > 1:
                middle = (before + after) // 2
                before, after = (middle, after) if offset(middle) == found[-1][1] else (before, middle)
            found.append((after, offset(after)))
        low = high
    return found


def day_number(day: date) -> int:
    """Return the days from 1970-01-01 to a day."""
    return (day - EPOCH).days


def _checked(zone: str) -> str:
    try:
        ZoneInfo(zone)
    except (KeyError, ValueError, OSError) as error:
        raise LocalTimeError(
            f"time_zones has {zone!r}, which is not in the tz database: use a name such as Europe/Berlin or UTC"
        ) from error
    return zone


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text.strip())
    except ValueError as error:
        raise LocalTimeError(
            f"holidays has {text!r}, which is not a date: write year-month-day, e.g. 2026-12-25"
        ) from error

"""Seasons: the slot of each row, which is its local hour of day and the type of its day.

`riskwatch_lambda.model.seasons`, the twin in the function, says what the slots are. A baseline has day types only if
they predict newer rows, see `riskwatch_ml.features.profiles`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, TypedDict

import numpy as np

from riskwatch_lambda.model.seasons import (
    CHANGE_S,
    CHANGE_WIDENING,
    DAY_S,
    DAY_SLOTS,
    EDGE_HOURS,
    EPOCH_WEEKDAY,
    HOUR_S,
    HOURS,
    SATURDAY,
    UTC_ZONE,
)
from riskwatch_ml.core import local_time

if TYPE_CHECKING:
    from collections.abc import Sequence

    from riskwatch_ml.core.arrays import FloatArray, IntArray
    from riskwatch_ml.core.local_time import LocalTime

WORKDAY, WEEKEND, HOLIDAY = range(3)
# A model that no training replaces knows the clock changes of this time after its newest row.
AHEAD_S = 550 * DAY_S


class SeasonDocument(TypedDict, total=False):
    """Seasons in a model document, see `riskwatch_lambda.model.seasons`."""

    zones: list[list[list[int]]]
    zone_of: list[int]
    holidays: list[int]


class Days(NamedTuple):
    """Kind of day and hour of each row, and the factor on its scales, all (n,).

    The kind is WORKDAY, WEEKEND or HOLIDAY. The hour is local, 24 more in the first three hours of a day that is off
    where the day before was not, or the other way round.
    """

    kind: IntArray
    hour: IntArray
    widening: FloatArray


@dataclass(frozen=True)
class Zones:
    """Time zones with their clock changes, and holidays in days since 1970-01-01.

    Each zone has its offsets (c, 2): the UTC epoch from which local time is ahead of UTC by the offset, in seconds.
    """

    offsets: tuple[IntArray, ...]
    holidays: IntArray = field(default_factory=lambda: np.zeros(0, np.int64))

    def days(self, ms: IntArray, zone: IntArray) -> Days:
        """Return kind of day, hour and factor on the scales of each row.

        ``ms`` (n,) is the UTC epoch in milliseconds, ``zone`` (n,) the zone of each row.
        """
        local, widening = ms // 1000, np.ones(len(ms))
        for index, offsets in enumerate(self.offsets):
            if len(offsets) > 1 or offsets[0, 1]:
                rows = np.flatnonzero(zone == index)
                number = np.maximum(np.searchsorted(offsets[:, 0], local[rows], "right") - 1, 0)
                is_new = (number > 0) & (local[rows] - offsets[number, 0] < CHANGE_S)
                widening[rows[is_new]] = CHANGE_WIDENING
                local[rows] += offsets[number, 1]
        day, hour = local // DAY_S, local // HOUR_S % HOURS
        kind = self._kinds(day)
        is_edge = (hour < EDGE_HOURS) & ((kind == WORKDAY) != (self._kinds(day - 1) == WORKDAY))
        return Days(kind, hour + HOURS * is_edge, widening)

    def _kinds(self, day: IntArray) -> IntArray:
        """Return the kind of each day, (n,), by its days since 1970-01-01."""
        kind = np.where((day + EPOCH_WEEKDAY) % 7 >= SATURDAY, WEEKEND, WORKDAY)
        return np.where(np.isin(day, self.holidays), HOLIDAY, kind) if len(self.holidays) else kind


@dataclass(frozen=True)
class Seasons:
    """The zones of a model and the zone of each baseline, (n_baselines,)."""

    zones: Zones
    zone_of: IntArray

    def slots(self, ms: IntArray, baseline: IntArray, count: int) -> tuple[IntArray, FloatArray]:
        """Return the slot of each row and the factor on its scales, both (n,).

        There are ``count`` slots: 54, or 24 in a model without day types. ``ms`` is the UTC epoch in milliseconds,
        ``baseline`` the baseline of each row.
        """
        days = self.zones.days(ms, self.zone_of[baseline])
        slot = days.hour % HOURS if count == HOURS else days.hour + DAY_SLOTS * (days.kind != WORKDAY)
        return slot, days.widening

    def to_document(self) -> SeasonDocument:
        """Return the part of a model document: without anything that the function assumes."""
        document: SeasonDocument = {}
        zones = [offsets.tolist() for offsets in self.zones.offsets]
        if zones != [UTC_ZONE]:
            document["zones"] = zones
        if len(zones) > 1:
            document["zone_of"] = self.zone_of.tolist()
        if len(self.zones.holidays):
            document["holidays"] = self.zones.holidays.tolist()
        return document

    @classmethod
    def from_document(cls, document: SeasonDocument, n_baselines: int) -> Seasons:
        """Return the seasons that a document describes."""
        offsets = tuple(np.array(zone, np.int64) for zone in document.get("zones", [UTC_ZONE]))
        zones = Zones(offsets, np.array(document.get("holidays", []), np.int64))
        return cls(zones, np.array(document.get("zone_of", [0] * n_baselines), np.int64))


def read_zones(settings: LocalTime, roles: Sequence[str], ms: IntArray) -> tuple[Zones, dict[str, int]]:
    """Return the zones of roles for rows at ``ms`` (n,) and after them, and the number of each role's zone.

    The fleet, "", has zone 0.
    """
    names = list(dict.fromkeys([settings.zone, *map(settings.zone_of, roles)]))
    start, end = (float(ms.min()) / 1000, float(ms.max()) / 1000 + AHEAD_S) if len(ms) else (0.0, 0.0)
    offsets = [local_time.offsets(name, start, end) for name in names]
    zones = Zones(
        tuple(np.array(each if any(ahead for _, ahead in each) else UTC_ZONE, np.int64) for each in offsets),
        np.array([local_time.day_number(day) for day in settings.holidays], np.int64),
    )
    return zones, {"": 0, **{role: names.index(settings.zone_of(role)) for role in roles}}

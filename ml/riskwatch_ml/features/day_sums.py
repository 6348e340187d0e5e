"""Sums of the rows of a baseline by half, kind of day and local hour: all that its profiles need.

The rows are read twice, once for their mean and once for the sums about it, so that large values lose no digits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from riskwatch_lambda.model.seasons import DAY_SLOTS, EDGE_HOURS, HOURS
from riskwatch_ml.features.seasons import HOLIDAY, WEEKEND, WORKDAY
from riskwatch_ml.features.table import blocks

if TYPE_CHECKING:
    from riskwatch_ml.core.arrays import FloatArray, IntArray
    from riskwatch_ml.features.seasons import Days
    from riskwatch_ml.features.table import MetricTable

KINDS = 3
# Selections of days. A holiday is a day off, and never one of all days: it must not widen their range.
ALL_DAYS, DAYS_OFF = slice(WORKDAY, HOLIDAY), slice(WEEKEND, KINDS)
WORKDAYS, WEEKENDS = slice(WORKDAY, WEEKEND), slice(WEEKEND, HOLIDAY)


class Sums(NamedTuple):
    """Number, sum and sum of squares of the values present by hour, each (24, d), or (27, d) with edge hours."""

    number: FloatArray
    total: FloatArray
    squares: FloatArray

    def squares_about(self, center: FloatArray) -> FloatArray:
        """Return the summed squared differences from a centre, by hour or one for all: as many hours as the sums."""
        squares = self.squares - 2 * center * self.total + self.number * center**2
        return np.maximum(np.where(self.number > 0, squares, 0.0), 0.0)

    def by_hour(self) -> Sums:
        """Return the sums with edge hours counted as the hours that they are, each (24, d)."""
        hours = [part[:HOURS].copy() for part in self]
        for part, whole in zip(hours, self, strict=True):
            part[:EDGE_HOURS] += whole[HOURS:]
        return Sums(*hours)


@dataclass(frozen=True)
class DaySums:
    """Sums about ``shift`` (d,), the mean of the rows, each (2, 3, 27, d): by half, kind of day and hour.

    The last three hours are the edge hours, see `riskwatch_ml.features.seasons.Days`. The older half of the rows comes
    first. ``span_ms`` is the time from the first row to the last, ``runs`` (2, 3, 27) the number of hours with rows.
    """

    shift: FloatArray
    span_ms: int
    sums: Sums
    runs: IntArray

    @classmethod
    def of(cls, table: MetricTable, days: Days, rows: slice | IntArray) -> DaySums:
        """Return the sums of some rows of a table; ``days`` are those of all its rows."""
        ms = table.ms[rows]
        newer = ms >= np.median(ms) if len(ms) else np.zeros(0, bool)
        group = (newer * KINDS + days.kind[rows]) * DAY_SLOTS + days.hour[rows]
        width = table.values.shape[1]
        index = np.arange(rows.start, rows.stop) if isinstance(rows, slice) else rows
        count, total = np.zeros(width), np.zeros(width)
        for part in blocks(len(ms)):
            values = table.values[index[part]]
            present = np.isfinite(values)
            count += present.sum(axis=0)
            total += np.where(present, values, 0.0).sum(axis=0)
        shift = total / np.maximum(count, 1)
        sums = np.zeros((3, 2 * KINDS * DAY_SLOTS, width))
        runs = np.bincount(group[np.flatnonzero(np.diff(group, prepend=-1))], minlength=sums.shape[1])
        for part in blocks(len(ms)):
            _add(sums, table.values[index[part]] - shift, group[part])
        span = int(ms.max() - ms.min()) if len(ms) else 0
        by_hour = (2, KINDS, DAY_SLOTS)
        return cls(shift, span, Sums(*sums.reshape(3, *by_hour, width)), runs.reshape(by_hour))

    def count_days(self, days: slice) -> IntArray:
        """Return the number of days of some kinds with rows in each hour, (27,)."""
        counted: IntArray = self.runs[:, days].sum(axis=(0, 1))
        return counted

    def of_days(self, days: slice) -> Sums:
        """Return the sums of some kinds of days over both halves."""
        return Sums(*(part[:, days].sum(axis=(0, 1)) for part in self.sums))

    def halves(self, days: slice) -> tuple[Sums, Sums]:
        """Return the sums of some kinds of days in the older and in the newer half."""
        older, newer = (Sums(*(part[half, days].sum(axis=0) for part in self.sums)) for half in (0, 1))
        return older, newer


def _add(sums: FloatArray, values: FloatArray, group: IntArray) -> None:
    """Add values (n, d) to the sums (3, groups, d) of their groups (n,).

    Rows of one hour mostly follow each other, so runs of rows are summed first.
    """
    if not len(values):
        return
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    present = np.isfinite(values)
    values = np.where(present, values, 0.0)
    for index, part in enumerate((present.astype(np.float64), values, values * values)):
        np.add.at(sums[index], group[starts], np.add.reduceat(part, starts, axis=0))

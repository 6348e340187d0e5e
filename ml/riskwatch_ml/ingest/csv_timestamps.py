"""Parse the time column of a CSV file: one format for the whole file.

The formats are ISO 8601 (`2025-02-17T00:05:00Z`, `2025-02-17 00:05`), numeric dates as spreadsheets and CloudWatch
exports write them (`2/17/2025 0:05`, `2/17/25 12:05 AM`, `17/2/2025 0:05`), and seconds or milliseconds since 1970. The
order of day and month has to fit every row. A time without a time zone is UTC.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from riskwatch_ml.core import clock
from riskwatch_ml.core.errors import UserInputError
from riskwatch_ml.ingest import csv_lines

FORMS = "write 2025-02-17T00:05:00Z or 2/17/2025 0:05"
# Eighteen digits always fit into int64.
_NUMBER = re.compile(r"\d{1,7}|\d{9,18}")
_DATE = re.compile(
    r"(\d{1,4})([/-])(\d{1,2})\2(\d{1,4})"
    r"(?:[ T]+(\d{1,2}):(\d{2})(?::(\d{2})(?:\.(\d{1,9}))?)?(?: *([AaPp])\.?[Mm]\.?)?)? *(?:Z|UTC|GMT)?"
)
# Times in seconds are below this until the year 5138, times in milliseconds have been above it since 1973.
_LARGEST_SECONDS = 1e11


class TimeError(UserInputError):
    """The time column cannot be read; the message names lines and texts."""


class _NoTimeError(UserInputError):
    """A text is no time; the message says why."""


@dataclass(frozen=True)
class Times:
    """Epoch milliseconds in the order of the texts.

    `note` says which order of day and month was assumed, if any.
    """

    ms: NDArray[np.int64]
    note: str | None


@dataclass(frozen=True)
class _Date:
    """A date with day and month still in the order of the file."""

    first: int
    second: int
    year: int
    clock: tuple[int, int, int, int]


@dataclass(frozen=True)
class _TimeColumn:
    """The distinct texts of a column, and the first line of each."""

    name: str
    texts: Sequence[str]
    lines: Sequence[int]

    def at(self, index: int) -> str:
        """Return a text and its line, for messages."""
        return f"{csv_lines.shown(self.texts[index])} on line {self.lines[index]}"

    def refused(self, index: int, problem: object) -> TimeError:
        """Return the error for a text that is no time."""
        where = f"line {self.lines[index]}, column {self.name}"
        return TimeError(f"{where}: {csv_lines.shown(self.texts[index])} is no time{problem}")


def parse(texts: Sequence[str], lines: Sequence[int], name: str = "timestamp") -> Times:
    """Return the times of the distinct texts of a time column.

    Month first is the order of the exports that Riskwatch reads. Day first is used only if a date rules out month
    first.

    Parameters
    ----------
    texts
        The texts, at least one.
    lines
        The first line of each text.
    name
        The name of the column, for messages.

    Raises
    ------
    TimeError
        A text is no time between the years 1 and 9999 (UTC), two formats are mixed, or some dates can only be month
        first and others only day first.
    """
    column = _TimeColumn(name, texts, lines)
    times = [_read(column, index) for index in range(len(texts))]
    for index, time in enumerate(times):
        if type(time) is not type(times[0]):
            raise TimeError(
                f"mixed dates: {column.at(0)} and {column.at(index)} are written in different ways: write all of them "
                "as 2025-02-17T00:05:00Z"
            )
    if isinstance(times[0], datetime):
        return Times(np.array([clock.epoch_ms(time) for time in times if isinstance(time, datetime)], np.int64), None)
    if isinstance(times[0], int):
        return Times(_of_numbers(np.array(times, dtype=np.int64), column), None)
    return _dates([time for time in times if isinstance(time, _Date)], column)


def _of_numbers(numbers: NDArray[np.int64], column: _TimeColumn) -> NDArray[np.int64]:
    """Return the epoch milliseconds of numbers in seconds or in milliseconds."""
    factor = 1 if np.median(numbers) > _LARGEST_SECONDS else 1000
    outside = np.flatnonzero(numbers > clock.LATEST_MS // factor)
    if len(outside):
        unit = "milliseconds" if factor == 1 else "seconds"
        raise column.refused(int(outside[0]), f": as {unit} since 1970 it lies after the year 9999")
    return numbers * factor


def _read(column: _TimeColumn, index: int) -> datetime | int | _Date:
    text = column.texts[index]
    if _NUMBER.fullmatch(text):
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        try:
            return _numeric(text)
        except _NoTimeError as error:
            raise column.refused(index, error) from error
    try:
        return clock.utc(moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment)
    except clock.ClockError as error:
        raise column.refused(index, ": it lies outside the years 1 to 9999 in UTC") from error


def _numeric(text: str) -> datetime | _Date:
    match = _DATE.fullmatch(text)
    if match is None:
        raise _NoTimeError(f": {FORMS}")
    first, _, second, third, hour, minute, seconds, fraction, half = match.groups()
    of_day = int(hour or 0), int(minute or 0), int(seconds or 0), int((fraction or "0")[:6].ljust(6, "0"))
    if half:
        if not 1 <= of_day[0] <= 12:
            raise _NoTimeError(": with AM or PM the hour is 1 to 12")
        of_day = of_day[0] % 12 + (12 if half in "pP" else 0), *of_day[1:]
    if len(first) == 4:
        return _moment(int(first), int(second), int(third), of_day)
    if len(third) not in (2, 4):
        raise _NoTimeError(f": {FORMS}")
    return _Date(int(first), int(second), int(third) + (2000 if len(third) == 2 else 0), of_day)


def _moment(year: int, month: int, day: int, of_day: tuple[int, int, int, int]) -> datetime:
    try:
        return datetime(year, month, day, *of_day, tzinfo=UTC)
    except ValueError as error:
        raise _NoTimeError(f" ({error}): {FORMS}") from error


def _dates(dates: Sequence[_Date], column: _TimeColumn) -> Times:
    day_first = next((index for index, date in enumerate(dates) if date.first > 12), None)
    month_first = next((index for index, date in enumerate(dates) if date.second > 12), None)
    if day_first is not None and month_first is not None:
        raise TimeError(
            f"mixed dates: {column.at(month_first)} has the month first, {column.at(day_first)} the day: write all of "
            "them as 2025-02-17T00:05:00Z"
        )
    moments = []
    for index, date in enumerate(dates):
        month, day = (date.first, date.second) if day_first is None else (date.second, date.first)
        try:
            moments.append(clock.epoch_ms(_moment(date.year, month, day, date.clock)))
        except _NoTimeError as error:
            raise column.refused(index, error) from error
    note = None
    if day_first is not None:
        note = f"dates are read as day/month/year, because of {column.at(day_first)}"
    elif month_first is None and any(date.first != date.second for date in dates):
        example = csv_lines.shown(column.texts[0])
        note = f"dates such as {example} are read as month/day/year; no date of the file rules day/month out"
    return Times(np.array(moments, np.int64), note)

"""The time column of a CSV file: one form for the whole file, and an order of day and month that every row agrees with.

Read are ISO 8601 (`2025-02-17T00:05:00Z`, `2025-02-17 00:05`), numeric dates as spreadsheets and CloudWatch exports
write them (`2/17/2025 0:05`, `2/17/25 12:05 AM`, `17/2/2025 0:05`), and seconds or milliseconds since 1970. A time
without zone is UTC.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from riskwatch_ml.core import clock
from riskwatch_ml.core.errors import UserInputError

FORMS = "write 2025-02-17T00:05:00Z or 2/17/2025 0:05"
_NUMBER = re.compile(r"\d{1,7}|\d{9,}")
_DATE = re.compile(
    r"(\d{1,4})([/-])(\d{1,2})\2(\d{1,4})"
    r"(?:[ T]+(\d{1,2}):(\d{2})(?::(\d{2})(?:\.(\d{1,9}))?)?(?: *([AaPp])\.?[Mm]\.?)?)? *(?:Z|UTC|GMT)?"
)
# The median of times in seconds stays below this until the year 5138, that of milliseconds is above it since 1973.
_LARGEST_SECONDS = 1e11


class TimeError(UserInputError):
    """A time column cannot be read; the message names the lines and what stands there."""


@dataclass(frozen=True)
class Times:
    """Epoch milliseconds in the order of the texts, and what the reader had to assume, if anything."""

    ms: NDArray[np.int64]
    note: str | None


@dataclass(frozen=True)
class _Date:
    """A date with day and month still in the order of the file."""

    first: int
    second: int
    year: int
    clock: tuple[int, int, int, int]


def parse(texts: Sequence[str], lines: Sequence[int]) -> Times:
    """Read the different texts of a time column.

    Month first is the order of the exports this is for; day first is read only where some date rules month first out.

    Parameters
    ----------
    texts
        The texts, at least one.
    lines
        The line on which each of them stands first.

    Raises
    ------
    TimeError
        A text is no time, two forms are mixed, or some dates can only be month first and others only day first.
    """
    read = [_read(text, line) for text, line in zip(texts, lines, strict=True)]
    kinds = [type(item) for item in read]
    for kind, line, text in zip(kinds, lines, texts, strict=True):
        if kind is not kinds[0]:
            raise TimeError(
                f"mixed dates: {texts[0]!r} on line {lines[0]} and {text!r} on line {line} are written in different "
                "ways: write all of them as 2025-02-17T00:05:00Z"
            )
    if kinds[0] is datetime:
        return Times(np.array([clock.epoch_ms(item) for item in read if isinstance(item, datetime)], np.int64), None)
    if kinds[0] is int:
        numbers = np.array(read, dtype=np.int64)
        return Times(numbers if np.median(numbers) > _LARGEST_SECONDS else numbers * 1000, None)
    return _dates([item for item in read if isinstance(item, _Date)], texts, lines)


def _read(text: str, line: int) -> datetime | int | _Date:
    if _NUMBER.fullmatch(text):
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return _numeric(text, line)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _numeric(text: str, line: int) -> datetime | _Date:
    found = _DATE.fullmatch(text)
    if found is None:
        raise TimeError(f"line {line}: {text!r} is no time: {FORMS}")
    first, _, second, third, hour, minute, second_of, fraction, half = found.groups()
    moment = int(hour or 0), int(minute or 0), int(second_of or 0), int((fraction or "0")[:6].ljust(6, "0"))
    if half:
        if not 1 <= moment[0] <= 12:
            raise TimeError(f"line {line}: {text!r} is no time: with AM or PM the hour is 1 to 12")
        moment = moment[0] % 12 + (12 if half in "pP" else 0), *moment[1:]
    if len(first) == 4:
        return _moment(int(first), int(second), int(third), moment, text, line)
    if len(third) not in (2, 4):
        raise TimeError(f"line {line}: {text!r} is no time: {FORMS}")
    return _Date(int(first), int(second), int(third) + (2000 if len(third) == 2 else 0), moment)


def _moment(year: int, month: int, day: int, of_day: tuple[int, int, int, int], text: str, line: int) -> datetime:
    try:
        return datetime(year, month, day, *of_day, tzinfo=UTC)
    except ValueError as error:
        raise TimeError(f"line {line}: {text!r} is no time ({error}): {FORMS}") from error


def _dates(dates: Sequence[_Date], texts: Sequence[str], lines: Sequence[int]) -> Times:
    day_first = next((place for place, item in enumerate(dates) if item.first > 12), None)
    month_first = next((place for place, item in enumerate(dates) if item.second > 12), None)
    if day_first is not None and month_first is not None:
        raise TimeError(
            f"mixed dates: {texts[month_first]!r} on line {lines[month_first]} has the month first, "
            f"{texts[day_first]!r} on line {lines[day_first]} the day: write all of them as 2025-02-17T00:05:00Z"
        )
    moments = []
    for item, text, line in zip(dates, texts, lines, strict=True):
        month, day = (item.first, item.second) if day_first is None else (item.second, item.first)
        moments.append(clock.epoch_ms(_moment(item.year, month, day, item.clock, text, line)))
    note = None
    if day_first is not None:
        note = f"dates are read as day/month/year, as {texts[day_first]!r} on line {lines[day_first]} has to be"
    elif month_first is None and any(item.first != item.second for item in dates):
        note = f"dates such as {texts[0]!r} are read as month/day/year; no date of the file rules day/month out"
    return Times(np.array(moments, np.int64), note)

"""The clock: current time, period grid, ISO 8601 text and units of time, in UTC."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from riskwatch_lambda import clock as lambda_clock
from riskwatch_ml.core.errors import UserInputError

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
HOUR_S, DAY_S = 3_600, 86_400
HOUR_MS, DAY_MS = lambda_clock.HOUR_MS, lambda_clock.DAY_MS

LATEST_MS = 253_402_300_799_999
"""The last millisecond of the year 9999 (UTC), where the calendar ends."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class ClockError(UserInputError):
    """A moment has no time zone, lies outside the calendar or cannot be read."""


def now() -> datetime:
    """Return the current time, aware, in UTC."""
    return datetime.now(UTC)


def utc(moment: datetime) -> datetime:
    """Return `moment` in UTC as a plain `datetime`, also if it is of a subclass.

    Airflow passes pendulum values; their differences cannot be divided by a `timedelta`. Raises ClockError if `moment`
    has no time zone (a guess would shift data silently) or lies outside the years 1 to 9999 in UTC.
    """
    # A time zone without an offset leaves a moment naive.
    if moment.utcoffset() is None:
        raise ClockError(
            f"{moment.isoformat()} has no time zone: write it with Z or an offset, e.g. {moment.isoformat()}Z"
        )
    try:
        aware = moment.astimezone(UTC)
    except OverflowError as error:
        raise ClockError(f"{moment.isoformat()} lies outside the years 1 to 9999 in UTC") from error
    return datetime.combine(aware.date(), aware.time(), UTC)


def floor(moment: datetime, step_s: int) -> datetime:
    """Return the last moment on a grid that is not after `moment`.

    The grid has steps of `step_s` seconds from 1970-01-01T00:00Z on. Raises ClockError if `step_s` is below 1.
    """
    if step_s <= 0:
        raise ClockError(f"a grid of {step_s} s does not exist: use a step of at least 1 s")
    step = timedelta(seconds=step_s)
    return _EPOCH + (utc(moment) - _EPOCH) // step * step


def hours(start: datetime, end: datetime) -> Iterator[datetime]:
    """Yield the beginnings of the hours that [start, end) touches, oldest first."""
    hour = floor(start, HOUR_S)
    while hour < end:
        yield hour
        hour += HOUR


def epoch_ms(moment: datetime) -> int:
    """Return `moment` in whole milliseconds since 1970-01-01T00:00Z, rounded down."""
    return (utc(moment) - _EPOCH) // timedelta(milliseconds=1)


def from_epoch_ms(milliseconds: int) -> datetime:
    """Return the moment `milliseconds` after 1970-01-01T00:00Z, aware, in UTC."""
    return _EPOCH + timedelta(milliseconds=int(milliseconds))


def iso(moment: datetime | int) -> str:
    """Return a moment as text: `2026-11-22T10:05:00.000Z`.

    A whole number is read as milliseconds since 1970-01-01T00:00Z.
    """
    return lambda_clock.iso(epoch_ms(moment) if isinstance(moment, datetime) else int(moment))


def parse(text: str) -> datetime:
    """Return the moment of an ISO 8601 text with a time zone.

    Raises ClockError, with the text, if it is not such a text.
    """
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise ClockError(f"{text!r} is no ISO 8601 moment: write it like 2026-11-22T10:05:00Z") from error
    return utc(moment)

"""The one clock: the time is asked for, cut to the period grid, written and read here, always in UTC."""

from datetime import UTC, datetime, timedelta

from riskwatch_ml.core.errors import UserInputError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class ClockError(UserInputError):
    """A moment cannot be used: it has no time zone or cannot be read."""


def now() -> datetime:
    """Return the present moment, aware, in UTC."""
    return datetime.now(UTC)


def utc(moment: datetime) -> datetime:
    """Return `moment` in UTC as a plain `datetime`, whatever subclass it is.

    Airflow passes pendulum values, whose differences do not divide by a `timedelta`. Raises ClockError if `moment` has
    no time zone (a guess would shift data silently) or if it lies outside the years 1 to 9999 in UTC.
    """
    # A zone that gives no offset makes a moment as naive as no zone does.
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
    """Return the last moment on the grid of `step_s` seconds (counted from 1970 in UTC) not after `moment`."""
    if step_s <= 0:
        raise ClockError(f"a grid of {step_s} s does not exist: use a step of at least 1 s")
    step = timedelta(seconds=step_s)
    return _EPOCH + (utc(moment) - _EPOCH) // step * step


def epoch_ms(moment: datetime) -> int:
    """Return the whole milliseconds since 1970-01-01T00:00Z at `moment`."""
    return (utc(moment) - _EPOCH) // timedelta(milliseconds=1)


def from_epoch_ms(milliseconds: int) -> datetime:
    """Return the moment that many milliseconds after 1970-01-01T00:00Z, aware, in UTC."""
    return _EPOCH + timedelta(milliseconds=int(milliseconds))


def iso(moment: datetime | int) -> str:
    """Write a moment, or milliseconds since 1970, as `2026-11-22T10:05:00.000Z`."""
    whole = from_epoch_ms(epoch_ms(moment) if isinstance(moment, datetime) else moment)
    return whole.strftime("%Y-%m-%dT%H:%M:%S.") + f"{whole.microsecond // 1000:03d}Z"


def parse(text: str) -> datetime:
    """Read an ISO 8601 moment with a time zone. Raises ClockError naming the text where it is none."""
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise ClockError(f"{text!r} is no ISO 8601 moment: write it like 2026-11-22T10:05:00Z") from error
    return utc(moment)

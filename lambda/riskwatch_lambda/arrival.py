"""Rows ahead of their arrival, and rows too old for an alert: the limits, and the likely cause.

A row describes the past, so its time cannot lie after the moment at which it arrives. Clocks differ by some minutes;
beyond the limit the row is refused, because a single one would move the training window and mute its instance.

An old row is labelled, and its verdict decides nothing: what happened that long ago is over, and without a limit the
rows of many years would read the episodes of each of their days.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from riskwatch_lambda.clock import DAY_MS, HOUR_MS

if TYPE_CHECKING:
    from collections.abc import Sequence

AHEAD_LIMIT_MS = 10 * 60_000
# A day, after which an open episode without rows expires, and the six hours that the stream catches up.
OLD_LIMIT_MS = DAY_MS + 6 * HOUR_MS
TIME_ZONE, SWAPPED, YEAR, CLOCK = (
    "a time zone (local time taken for UTC)",
    "day and month swapped",
    "a wrong year",
    "a wrong clock",
)
CAUSES = (TIME_ZONE, SWAPPED, YEAR, CLOCK)

_HALF_HOUR_MS = HOUR_MS // 2
_FARTHEST_ZONE_MS = 14 * HOUR_MS
# A clock is wrong by days rather than by months. A date farther ahead is in the past in an earlier year.
_FARTHEST_CLOCK_MS = 31 * DAY_MS


def is_ahead(ts_ms: int, arrived_ms: int) -> bool:
    """Return whether a time is too far ahead of its arrival; both epoch ms."""
    return ts_ms - arrived_ms > AHEAD_LIMIT_MS


def is_old(ts_ms: int, arrived_ms: int) -> bool:
    """Return whether a row is too old at its arrival to open, escalate or close an episode; both epoch ms."""
    return arrived_ms - ts_ms > OLD_LIMIT_MS


def was_ahead(reason: str) -> bool:
    """Return whether a row was refused for its time ahead of its arrival.

    Such a row has a wrong time for good: it is past its arrival later, and still wrong.
    """
    return any(refusal(cause) in reason for cause in CAUSES)


def refusal(cause: str) -> str:
    """Return the reason for which a row ahead of its arrival is refused."""
    return f"timestamp more than {AHEAD_LIMIT_MS // 60_000} min ahead of its arrival, likely because of {cause}"


def cause_of(ts_ms: int, arrived_ms: int) -> str | None:
    """Return why a row is probably ahead of its arrival; None if it is not.

    Both times are epoch milliseconds. The first cause that fits is returned:

    - ``TIME_ZONE``: ahead by a whole or half hour up to 14 h, less the time that the row took to arrive
    - ``SWAPPED``: with day and month swapped, the time is not ahead
    - ``YEAR``: ahead by more than 31 days; the same date a year or more back is not ahead
    - ``CLOCK``: none of these
    """
    if not is_ahead(ts_ms, arrived_ms):
        return None
    ahead_ms = ts_ms - arrived_ms
    if ahead_ms <= _FARTHEST_ZONE_MS and -ahead_ms % _HALF_HOUR_MS <= AHEAD_LIMIT_MS:
        return TIME_ZONE
    if _is_swapped(ts_ms, arrived_ms):
        return SWAPPED
    return YEAR if ahead_ms > _FARTHEST_CLOCK_MS else CLOCK


def find_ahead(ts: Sequence[int], arrived_ms: int | None) -> dict[int, str]:
    """Return position and reason of the times that are ahead of their arrival.

    None are if the arrival is unknown, as in a self-test.
    """
    if arrived_ms is None or not is_ahead(max(ts), arrived_ms):
        return {}
    causes = ((position, cause_of(moment, arrived_ms)) for position, moment in enumerate(ts))
    return {position: refusal(cause) for position, cause in causes if cause is not None}


def _is_swapped(ts_ms: int, arrived_ms: int) -> bool:
    """Return whether a time is not ahead once its day and month are swapped."""
    moment = datetime.fromtimestamp(ts_ms // 1000, UTC)
    try:
        swapped = moment.replace(month=moment.day, day=moment.month)
    except ValueError:
        # Days after the 12th are no month.
        return False
    return not is_ahead(round(swapped.timestamp() * 1000), arrived_ms)

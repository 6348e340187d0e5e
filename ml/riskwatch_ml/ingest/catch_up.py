"""Hours that no export has read, because Airflow was down or runs failed: where a scheduled run begins instead.

What was exported says how far the exports came: nothing else is remembered.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING

from riskwatch_ml.core import clock
from riskwatch_ml.storage import keys

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from riskwatch_ml.storage.bucket import Store

_HOUR = timedelta(hours=1)
# As long as CloudWatch surely lists the instances of then.
LONGEST = timedelta(days=13)

_log = logging.getLogger(__name__)


def resume(
    store: Store, shard: str, start: datetime, length: timedelta, now: datetime
) -> tuple[datetime, tuple[datetime, ...]]:
    """Move `start` back to the newest hour that the shard has before it, at most LONGEST before `now`.

    `length` is that of a run's interval. Returns the start, and [start, end) of what lies too long ago to be caught up,
    () if nothing does; the log says both. A shard without any hour is new and has nothing to catch up.
    """
    oldest = clock.floor(now - LONGEST, 3600)
    if start <= oldest:
        return start, ()
    newest = _newest_hour(store, shard, start, oldest)
    if newest is None:
        return start, ()
    if newest == start - _HOUR and length % _HOUR == timedelta(0):
        return start, ()
    # The newest hour itself may be incomplete: runs may end within an hour.
    resumed = max(newest, oldest)
    _log.warning("[%s, %s) was not exported by earlier runs and is read now", clock.iso(resumed), clock.iso(start))
    if newest >= oldest:
        return resumed, ()
    left_out = (newest + _HOUR, oldest)
    # Airflow includes the interval that starts at the last date, and skips intervals with a failed run if not told.
    _log.warning(
        "[%s, %s) was not exported by earlier runs and lies too long ago for a scheduled run: run `airflow backfill "
        "create --dag-id export_metrics --from-date %s --to-date %s --reprocess-behavior failed`",
        *map(clock.iso, (*left_out, newest + _HOUR, oldest - _HOUR)),
    )
    return resumed, left_out


def _newest_hour(store: Store, shard: str, before: datetime, oldest: datetime) -> datetime | None:
    """Return the newest hour before `before` of which the shard has rows, None if there is none.

    Days are listed one by one down to `oldest`; only if none of them has an hour, the whole layer is.
    """
    day = clock.floor(before, 86_400)
    while day >= clock.floor(oldest, 86_400):
        hours = _hours(store.keys(keys.day_prefix(keys.RAW, day)), shard)
        if found := [hour for hour in hours if hour < before]:
            return max(found)
        day -= timedelta(days=1)
    return max((hour for hour in _hours(store.keys(keys.hours(keys.RAW)), shard) if hour < before), default=None)


def _hours(found: Sequence[str], shard: str) -> list[datetime]:
    """Return the hours of the objects that belong to the shard."""
    parsed = [keys.parse_hour(key) for key in found]
    return [key.hour for key in parsed if key is not None and key.part == shard]

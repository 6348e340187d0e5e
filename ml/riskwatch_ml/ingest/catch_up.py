"""Start of a scheduled export: earlier, if the runs before it read nothing.

Runs may be missing because Airflow was down or runs failed. The exported objects are the only record of the progress.
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

    from riskwatch_ml.schema.catalogue import Catalogue
    from riskwatch_ml.storage.bucket import Store

# CloudWatch lists an instance for at least this long after its last datapoint.
LONGEST = timedelta(days=13)

_log = logging.getLogger(__name__)


def resume(
    store: Store,
    kinds: Sequence[Catalogue],
    account_region: str,
    start: datetime,
    length: timedelta,
    now: datetime,
) -> tuple[datetime, tuple[datetime, ...]]:
    """Return an earlier start if hours before `start` are missing, and the gap.

    The start moves back to the newest hour of any kind of the account and region before it, at most LONGEST before
    `now`. `length` is the length of a run's interval. The gap is the interval [start, end) that is too old for a
    scheduled run, () if there is none; both are logged. An account and region without any hour is new and has nothing
    to catch up.
    """
    oldest = clock.floor(now - LONGEST, clock.HOUR_S)
    if start <= oldest:
        return start, ()
    newest = _newest_hour(store, [keys.of_kind(keys.RAW, metrics) for metrics in kinds], account_region, start, oldest)
    if newest is None:
        return start, ()
    if newest == start - clock.HOUR and length % clock.HOUR == timedelta(0):
        return start, ()
    # The newest hour itself may be incomplete, because a run may end within an hour.
    resumed = max(newest, oldest)
    _log.warning("[%s, %s) was not exported by earlier runs and is read now", clock.iso(resumed), clock.iso(start))
    if newest >= oldest:
        return resumed, ()
    left_out = (newest + clock.HOUR, oldest)
    # Airflow includes the interval that starts at the last date, and by default skips intervals with a failed run.
    _log.warning(
        "[%s, %s) was not exported by earlier runs and lies too long ago for a scheduled run: run `airflow backfill "
        "create --dag-id export_metrics --from-date %s --to-date %s --reprocess-behavior failed`",
        *map(clock.iso, (*left_out, newest + clock.HOUR, oldest - clock.HOUR)),
    )
    return resumed, left_out


def _newest_hour(
    store: Store, layers: Sequence[str], account_region: str, before: datetime, oldest: datetime
) -> datetime | None:
    """Return the newest hour before `before` with rows of the account and region in any of the layers.

    Returns None if there is none. Days are listed one by one down to `oldest`; the whole layers are listed only if none
    of them has such an hour.
    """
    day = clock.floor(before, clock.DAY_S)
    while day >= clock.floor(oldest, clock.DAY_S):
        hours = _hours([key for layer in layers for key in store.keys(keys.day_prefix(layer, day))], account_region)
        if earlier := [hour for hour in hours if hour < before]:
            return max(earlier)
        day -= clock.DAY
    hours = _hours([key for layer in layers for key in store.keys(keys.hours(layer))], account_region)
    return max((hour for hour in hours if hour < before), default=None)


def _hours(hour_keys: Sequence[str], account_region: str) -> list[datetime]:
    """Return the hours of those objects that belong to the account and region."""
    parsed = [keys.parse_hour(key) for key in hour_keys]
    return [key.hour for key in parsed if key is not None and key.part == account_region]

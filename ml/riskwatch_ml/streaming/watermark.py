"""The watermark of the stream, up to when rows have been streamed, and the intervals that a run streams from there.

It lies in the bucket as `stream/mark.json`. An account and region that could not be read has a watermark of its own
until it has caught up.

A clock that is ahead moves the watermark into the future, past rows that do not exist yet. Therefore the time of the
newest row lies beside it: when the clock is right again, the stream goes on with the period of that row.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from riskwatch_ml.core import clock
from riskwatch_ml.core.errors import UserInputError
from riskwatch_ml.storage import keys

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from riskwatch_ml.core.settings import Settings
    from riskwatch_ml.storage.bucket import Store

# A later alert is of no use: after a longer outage the rest is streamed by hand only.
CATCH_UP = timedelta(hours=6)
# The rows of one run, so that it ends within its time limit: one Kinesis shard takes 1 MB/s.
MAX_ROWS = 200_000

_log = logging.getLogger(__name__)


class StreamIntervalError(UserInputError):
    """An interval of the stream cannot be used; the message says what to do."""


@dataclass(frozen=True)
class StreamInterval:
    """The rows of accounts and regions with start <= timestamp < end.

    `left_out` is [start, end) of what lies too long ago to catch up, or None.
    """

    start: datetime
    end: datetime
    account_regions: tuple[str, ...]
    by_hand: bool = False
    left_out: tuple[datetime, datetime] | None = None

    @property
    def is_empty(self) -> bool:
        """Return whether no period lies in it."""
        return self.start >= self.end

    def bounded(self, instances: int, period_s: int) -> StreamInterval:
        """Return what one run may send of it, from its start; the next runs send the rest.

        Raises StreamIntervalError if it is by hand and too long: no next run would send the rest.
        """
        longest = timedelta(seconds=max(1, MAX_ROWS // max(1, instances)) * period_s)
        if self.end - self.start <= longest:
            return self
        if self.by_hand:
            raise StreamIntervalError(
                f"the interval from {clock.iso(self.start)} to {clock.iso(self.end)} is too long for one run with "
                f"{instances} instances: run it in parts of at most {longest.total_seconds() / 3600:g} hours, the "
                f"first one until {clock.iso(self.start + longest)}"
            )
        _log.warning("streaming %s of %s, the next runs go on", longest, self.end - self.start)
        return replace(self, end=self.start + longest)

    def reached(self, unread: Mapping[str, Exception]) -> dict[str, datetime]:
        """Return up to when each account and region is streamed, after sending all but those in `unread`."""
        before = self.left_out[0] if self.left_out else self.start
        return {name: before if name in unread else self.end for name in self.account_regions}


def pending(config: Settings, store: Store, period_s: int, now: datetime) -> list[StreamInterval]:
    """Return what settled between the watermark and `now`, the newest interval first.

    Accounts and regions of the same watermark share an interval. Without a watermark the interval is the newest period.
    It begins at most CATCH_UP ago; the rest is in `left_out`. If the watermark is ahead of `now`, the interval begins
    with the newest row that was sent. A damaged watermark counts as none and is logged.
    """
    end = clock.floor(now - timedelta(seconds=config.settle_s), period_s)
    by_watermark: dict[datetime | None, list[str]] = {}
    mark = _read(store)
    if mark is None and store.get_bytes(keys.STREAM_MARK) is not None:
        _log.warning(
            "the newest period is streamed: run stream_metrics by hand for the time since the last labelled rows"
        )
    newest = None if mark is None else mark.newest
    for name in (account_region.name for account_region in config.account_regions):
        watermark = None if mark is None else mark.behind.get(name, mark.end)
        if watermark is not None and watermark > now:
            watermark = _before_the_jump(config, newest, now, period_s)
        elif watermark is not None and newest is not None:
            watermark = _after_newest(watermark, newest, end, period_s)
        by_watermark.setdefault(watermark, []).append(name)
    result = [_since(watermark, tuple(names), end, period_s) for watermark, names in by_watermark.items()]
    return sorted(result, key=lambda interval: interval.start, reverse=True)


def record(store: Store, end: datetime, behind: Mapping[str, datetime], newest_ms: int | None = None) -> None:
    """Write the watermark; `behind` has those of the accounts and regions that are not at `end`.

    `newest_ms` is the time of the newest row that was sent, epoch ms, None if no row was: then the one before stays.
    """
    mark = _read(store) if newest_ms is None else None
    moment = (mark.newest if mark else None) if newest_ms is None else clock.from_epoch_ms(newest_ms)
    newest = {} if moment is None else {"newest": clock.iso(moment)}
    behind_marks = {"shards": {name: clock.iso(moment) for name, moment in behind.items()}} if behind else {}
    store.put_json(keys.STREAM_MARK, {"end": clock.iso(end), **newest, **behind_marks})


def _after_newest(watermark: datetime, newest: datetime, end: datetime, period_s: int) -> datetime:
    """Return from where to stream if the newest row that was sent lies further back than the watermark.

    No instance sent a row since, or a clock that was ahead has moved the watermark: what comes late is sent, too. What
    lies longer ago than is caught up had no rows when it was read.
    """
    if newest >= watermark:
        return watermark
    after = newest + timedelta(seconds=period_s)
    return min(watermark, max(after, clock.floor(end - CATCH_UP, period_s)))


def _before_the_jump(config: Settings, newest: datetime | None, now: datetime, period_s: int) -> datetime | None:
    """Return from where to stream after the clock was ahead, None if that is unknown."""
    mark = f"s3://{config.bucket}/{keys.STREAM_MARK}"
    if newest is None or newest > now:
        _log.warning(
            "%s is ahead of the clock, and has no row before %s: the newest period is streamed. Run stream_metrics by "
            "hand for the time since the clock was wrong",
            *(mark, clock.iso(now)),
        )
        return None
    _log.warning(
        "%s is ahead of the clock, which was wrong: the rows since %s are streamed again", mark, clock.iso(newest)
    )
    # Rows of other instances in the period of the newest row may not have settled then. What was sent keeps its label.
    return newest


def _since(watermark: datetime | None, names: tuple[str, ...], end: datetime, period_s: int) -> StreamInterval:
    """Return what settled since a watermark, empty if no period has."""
    newest = end - timedelta(seconds=period_s)
    if watermark is None:
        return StreamInterval(newest, end, names)
    # A model of another period may have left the watermark off this grid: rows sent twice keep their first label.
    start = min(clock.floor(watermark, period_s), end)
    oldest = min(clock.floor(end - CATCH_UP, period_s), newest)
    if start < oldest:
        return StreamInterval(oldest, end, names, left_out=(start, oldest))
    return StreamInterval(start, end, names)


class _Mark(NamedTuple):
    """The stored watermark: the end, those of accounts and regions behind it, and the time of the newest row sent."""

    end: datetime
    behind: Mapping[str, datetime]
    newest: datetime | None


def _read(store: Store) -> _Mark | None:
    """Return the stored watermark, None if there is none or if it is damaged."""

    def mark(value: Any) -> _Mark:
        behind = {str(name): clock.parse(text) for name, text in value.get("shards", {}).items()}
        newest = value.get("newest")
        return _Mark(clock.parse(value["end"]), behind, None if newest is None else clock.parse(newest))

    return store.get_state(keys.STREAM_MARK, mark)

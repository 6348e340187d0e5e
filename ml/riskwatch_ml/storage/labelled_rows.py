"""Labelled rows: from the small objects that the Lambda writes as rows arrive to one Parquet table by event hour.

The Lambda writes ``labelled/arrived/dt=…/hh=…/<shard>-<first>-<last>.json.gz`` by arrival hour. A redelivered batch, or
a row that was streamed twice, gives several verdicts for one (instance, time): the first one stands, that is the one
with the earliest arrival; among equal arrivals the one compacted already, then the one whose key sorts first.

``labelled/watermark.json`` remembers how far compaction got: ``since``, the first arrival hour that is still looked at,
and ``done``, the keys of those hours that are in the table. It is written after the rows. Killed in between, the next
run reads the same objects again and finds every row already there, so nothing is lost and nothing is counted twice.
Hours stay in view for ``LATE`` after they ended, because a delayed or retried batch is filed under the hour in which
its records arrived. One compaction runs at a time (the DAG allows one active run).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pandas as pd

from riskwatch_ml.core import clock
from riskwatch_ml.storage import keys, labelled_objects

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from riskwatch_ml.storage.bucket import Store

LATE = timedelta(hours=48)
"""How long after its arrival hour an object may still appear: more than the retention of the stream (24 hours)."""

CHUNK_ROWS = 200_000
"""Rows merged, and recorded as done, at a time: bounds memory whatever the backlog."""

NEWEST_ROWS = 50_000
"""Rows that one look at the newest ones gives at most."""

FRESH_OBJECTS = 1_000
"""Objects not yet compacted that one look at the newest rows reads: compaction that stands still must not stop it."""

_IDENTITY = ["instance_id", "timestamp"]
_HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Compacted:
    """What one compaction did; ``rows_in = rows_out + duplicates``.

    Attributes
    ----------
    objects
        Arrived objects read.
    rows_in
        Rows in them.
    rows_out
        Rows by which the table grew.
    duplicates
        Rows that were another verdict for a row already labelled.
    unreadable
        Keys that could not be read as labelled rows. They are tried again until they are out of sight (``LATE``).
    """

    objects: int
    rows_in: int
    rows_out: int
    duplicates: int
    unreadable: tuple[str, ...] = ()


def compact(store: Store, now: datetime) -> Compacted:
    """Bring the objects that arrived since the last run into ``labelled/rows``, one Parquet object an event hour.

    Safe to repeat and to kill at any moment. ``now`` is aware; it decides only which hours can go out of sight.
    """
    mark = store.get_json(keys.COMPACTION_MARK) or {"since": None, "done": []}
    done = set(mark["done"])
    horizon = clock.iso(clock.floor(now, 3600) - LATE)
    # Never backwards: the hours before the mark are no longer in `done` and would be read a second time.
    since = max(mark["since"] or horizon, horizon)
    pending = [key for key in _candidates(store, mark["since"], now) if key not in done]

    objects = rows_in = rows_out = 0
    unreadable: list[str] = []
    for read, frame, bad in labelled_objects.chunks(store, pending, CHUNK_ROWS):
        objects += len(read)
        rows_in += len(frame)
        rows_out += _merge(store, frame)
        unreadable += bad
        done.update(read)
        # The old `since` until the end: a kill between two chunks must leave the rest of the backlog in view.
        store.put_json(keys.COMPACTION_MARK, {"since": mark["since"], "done": sorted(done)})
    floor = keys.hour_prefix(keys.ARRIVED, clock.parse(since))
    store.put_json(keys.COMPACTION_MARK, {"since": since, "done": sorted(key for key in done if key >= floor)})
    return Compacted(objects, rows_in, rows_out, rows_in - rows_out, tuple(unreadable))


def recent(store: Store, start: datetime, end: datetime, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Compacted rows with start <= timestamp < end, sorted by instance and time, ``reasons`` as JSON text.

    All columns are read, or only instance, time and ``columns``: a day of a large fleet fits into memory only so.
    Without rows the frame is empty and still has the columns that every labelled row has.
    """
    frame = store.read_hours(keys.LABELLED_ROWS, start, end, columns=columns)
    if frame.empty:
        return labelled_objects.joined([])
    return frame


@dataclass(frozen=True)
class Newest:
    """The newest labelled rows of an interval, compacted or not.

    Attributes
    ----------
    rows
        One row an (instance, time), newest first, ``reasons`` as JSON text; columns as in :func:`recent`.
    since
        The start of the interval, or the time of the oldest row where not all of it was read.
    complete
        Whether all rows of the interval are here; if not, a limit was met and older ones were left out.
    """

    rows: pd.DataFrame
    since: datetime
    complete: bool


def newest(store: Store, start: datetime, end: datetime, limit: int = NEWEST_ROWS) -> Newest:
    """Rows with start <= timestamp < end from the arrived objects not yet compacted and from the table, at most limit.

    First verdict wins, as in the table itself. Reading goes back in time and stops once there are ``limit`` rows. An
    object that is no labelled rows is left out and logged, as in compaction.
    """
    # The mark before the rows: what is compacted meanwhile is then read twice, and counts once, instead of not at all.
    mark = store.get_json(keys.COMPACTION_MARK) or {"since": None, "done": []}
    fresh, whole = _fresh(store, mark, start, end, limit)
    parts, count = [fresh], len(fresh)
    upper, hours = end, 1
    while upper > start and count < limit:
        lower = max(start, clock.floor(upper - timedelta(milliseconds=1), 3600) - (hours - 1) * _HOUR)
        part = store.read_hours(keys.LABELLED_ROWS, lower, upper)
        if not part.empty:
            # In front of the arrived ones: with equal arrivals the row that stood already wins.
            parts.insert(0, labelled_objects.typed(part))
            count += len(part)
        upper, hours = lower, hours * 2
    rows = _first_verdicts(labelled_objects.joined(parts)).sort_values(
        ["timestamp", "instance_id"], ascending=[False, True]
    )
    complete = whole and upper <= start and len(rows) <= limit
    rows = rows.head(limit).reset_index(drop=True)
    since = start if complete or rows.empty else rows["timestamp"].iloc[-1].to_pydatetime()
    return Newest(rows, since, complete)


def _candidates(store: Store, since: str | None, now: datetime) -> Iterator[str]:
    if since is None:
        yield from sorted(store.keys(keys.ARRIVED))
        return
    hour = clock.floor(clock.parse(since), 3600)
    while hour <= now + _HOUR:
        yield from sorted(store.keys(keys.hour_prefix(keys.ARRIVED, hour)))
        hour += _HOUR


def _merge(store: Store, fresh: pd.DataFrame) -> int:
    """Merge rows into the objects of their event hours; returns the number of rows that are new."""
    added = 0
    for hour, rows in fresh.groupby(fresh["timestamp"].dt.floor("h")):
        start = hour.to_pydatetime()
        old = store.get_frame(keys.hour_key(keys.LABELLED_ROWS, start))
        before = 0 if old is None else len(old)
        both = rows if old is None else pd.concat([labelled_objects.typed(old), rows], ignore_index=True)
        first = _first_verdicts(labelled_objects.typed(both))
        added += len(first) - before
        store.write_hours(keys.LABELLED_ROWS, first, start, start + _HOUR)
    return added


def _first_verdicts(rows: pd.DataFrame) -> pd.DataFrame:
    """One row an (instance, time): the earliest to arrive, among equal arrivals the one that comes first."""
    return rows.sort_values([*_IDENTITY, "arrived"], kind="stable").drop_duplicates(_IDENTITY)


def _fresh(store: Store, mark: dict[str, Any], start: datetime, end: datetime, limit: int) -> tuple[pd.DataFrame, bool]:
    """Rows of [start, end) that are not in the table yet, newest objects first, and whether those are all of them."""
    done = set(mark["done"])
    # No row arrives before its time; an hour more for clocks that are ahead.
    hour = clock.floor(start, 3600) - _HOUR
    if mark["since"] is not None:
        hour = max(hour, clock.floor(clock.parse(mark["since"]), 3600))
    days = (max(end, clock.now()).date() - hour.date()).days + 1
    listed = [
        key for day in range(days) for key in store.keys(keys.day_prefix(keys.ARRIVED, hour + timedelta(days=day)))
    ]
    wanted = [key for key in listed if key >= keys.hour_prefix(keys.ARRIVED, hour) and key not in done]
    # Within an hour by sequence number, whatever the shard.
    ordered = sorted(wanted, key=keys.arrival_order)
    frames: list[pd.DataFrame] = []
    count, left = 0, len(ordered)
    while left and count < limit and len(ordered) - left < FRESH_OBJECTS:
        batch = ordered[max(0, left - labelled_objects.READ_AT_ONCE) : left]
        for _, frame, _ in labelled_objects.chunks(store, batch, CHUNK_ROWS):
            inside = frame[(frame["timestamp"] >= start) & (frame["timestamp"] < end)]
            frames.insert(0, inside)
            count += len(inside)
        left -= len(batch)
    return labelled_objects.joined(frames), left == 0

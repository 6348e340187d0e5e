"""Labelled rows: arrived objects, compacted into one Parquet table by event time.

The Lambda writes `labelled/arrived/dt=…/hh=…/<shard>-<first>-<last>.json.gz` by hour of arrival. A redelivered batch,
or a row that was streamed twice, gives several verdicts for one (instance, time). The verdict with the earliest arrival
counts; of equal arrivals the compacted one, then the one with the first key.

`labelled/watermark.json` records the progress, see `CompactionMark`. It is written after the rows. If a run is killed
in between, the next run reads the same objects again and finds that every row is already there: no row is lost, and
none is counted twice. An arrival hour stays listed for `LATE` after its end, because a delayed or retried batch is
filed under the hour in which its records arrived. One compaction runs at a time: the DAG allows one active run.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypedDict

from riskwatch_ml.core import clock
from riskwatch_ml.storage import keys, labelled_objects, labelled_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import pandas as pd

    from riskwatch_ml.storage.bucket import Store

LATE = timedelta(hours=48)
"""An object may appear this long after its arrival hour: longer than the stream keeps records (24 hours)."""

CHUNK_ROWS = 200_000
"""Rows merged and recorded as done at a time, which limits memory for any backlog."""

NEWEST_ROWS = 50_000
"""Most rows that `newest` returns by default."""

FRESH_OBJECTS = 1_000
"""Most objects that are not compacted yet and that `newest` reads: it must work even if compaction has stopped."""

# The function labels no earlier rows.
_EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
_LISTED_BY_HOUR = timedelta(days=366)


class CompactionMark(TypedDict):
    """`labelled/watermark.json`: the progress of compaction.

    `since` is the first arrival hour that is still listed, `done` the compacted keys of that hour and later ones.
    """

    since: str | None
    done: list[str]


@dataclass(frozen=True)
class Compacted:
    """The counts of one compaction; `rows_in` = `rows_out` + `duplicates`.

    Attributes
    ----------
    objects
        Arrived objects that were read.
    rows_in
        Rows in these objects.
    rows_out
        Rows that the table gained.
    duplicates
        Rows with another verdict for a row that was already labelled.
    unreadable
        Keys that could not be read: arrived objects, and objects of the table. Every run tries them again, and the
        objects with rows of them, until those arrived longer ago than `LATE`.
    """

    objects: int
    rows_in: int
    rows_out: int
    duplicates: int
    unreadable: tuple[str, ...] = ()


def compact(store: Store, now: datetime) -> Compacted:
    """Merge the objects that arrived since the last run into `labelled/rows`.

    It is safe to repeat the call, and to kill it at any moment. `now` is aware; it decides which arrival hours are no
    longer listed, and which rows are old (`labelled_table`).
    """
    mark = _read_mark(store)
    done = set(mark["done"])
    horizon = clock.iso(clock.floor(now, clock.HOUR_S) - LATE)
    # Never earlier than the mark: `done` no longer has the keys before it, so they would be read a second time.
    start = _listed_from(mark["since"], now)
    since = horizon if start is None else max(clock.iso(start), horizon)
    pending = [key for key in _candidates(store, start, now) if key not in done]

    objects = rows_in = rows_out = 0
    unreadable: list[str] = []
    for read, frame, bad in labelled_objects.chunks(store, pending, CHUNK_ROWS):
        objects += len(read)
        rows_in += len(frame)
        damaged: list[str] = []
        rows_out += labelled_table.merge(store, frame, now, damaged)
        unreadable += [*bad, *damaged]
        if not damaged:
            done.update(read)
        # `since` stays until the end: after a kill between two chunks, the next run must find the rest of the backlog.
        _write_mark(store, mark["since"], sorted(done))
    floor = keys.hour_prefix(keys.ARRIVED, clock.parse(since))
    _write_mark(store, since, sorted(key for key in done if key >= floor))
    return Compacted(objects, rows_in, rows_out, rows_in - rows_out, tuple(unreadable))


def recent(store: Store, start: datetime, end: datetime, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Return compacted rows with start <= timestamp < end.

    They are sorted by instance and time, with `reasons` as JSON text. `columns` are read beside instance and time; by
    default all columns are read. A day of a large fleet only fits into memory with few columns. Without rows, the frame
    is empty and has the columns that every labelled row has.
    """
    frame = labelled_table.read(store, start, end, columns=columns)
    if frame.empty:
        return labelled_objects.joined([])
    return frame


@dataclass(frozen=True)
class Newest:
    """The newest labelled rows of an interval, compacted or not.

    Attributes
    ----------
    rows
        One row per (instance, time), newest first, with `reasons` as JSON text; columns as in `recent`.
    since
        The time down to which the interval was read: its start, or a later time if a limit was reached.
    complete
        Whether `rows` has all rows of the interval; if not, a limit was reached and older rows were left out.
    """

    rows: pd.DataFrame
    since: datetime
    complete: bool


def newest(
    store: Store,
    start: datetime,
    end: datetime,
    limit: int = NEWEST_ROWS,
    instances: Callable[[str], bool] | None = None,
) -> Newest:
    """Return the newest rows with start <= timestamp < end, at most `limit`.

    `instances` returns whether rows of a name match, by default all do; `limit` counts matching rows only. The rows
    come from arrived objects and from the table; the first verdict of a row counts, as in the table. Reading goes back
    in time and stops at `limit` rows. An object that is not readable is skipped and logged, as in compaction.
    """
    # The mark is read before the rows: rows compacted in between are then read twice and counted once, not missed.
    mark = _read_mark(store)
    fresh, fresh_since = _fresh(store, mark, start, end, limit, instances)
    frames, count = [fresh], len(fresh)
    upper, hours = end, 1
    while upper > start and count < limit:
        lower = max(start, clock.floor(upper - timedelta(milliseconds=1), clock.HOUR_S) - (hours - 1) * clock.HOUR)
        compacted = labelled_table.read(store, lower, upper, instances=instances)
        if not compacted.empty:
            # Before the arrived rows: of equal arrivals, the compacted row wins.
            frames.insert(0, labelled_objects.typed(compacted))
            count += len(compacted)
        upper, hours = lower, hours * 2
    rows = labelled_table.first_verdicts(labelled_objects.joined(frames)).sort_values(
        ["timestamp", "instance_id"], ascending=[False, True]
    )
    complete = upper <= start and fresh_since <= start and len(rows) <= limit
    rows = rows.head(limit).reset_index(drop=True)
    limited = upper > start or len(rows) == limit
    # Rows of objects that were not read may be newer than the last row of the table that was.
    since = max(rows["timestamp"].iloc[-1].to_pydatetime(), fresh_since) if limited else fresh_since
    since = start if complete else since
    return Newest(rows, since, complete)


def _read_mark(store: Store) -> CompactionMark:
    """Return the watermark; a damaged one counts as none, as compacting rows again changes nothing."""
    return store.get_state(keys.COMPACTION_MARK, _mark) or {"since": None, "done": []}


def _mark(value: Any) -> CompactionMark:
    since, done = value["since"], value["done"]
    if since is not None and clock.parse(since) < _EARLIEST:
        raise ValueError(f"since is {since!r}")
    if not isinstance(done, list) or not all(isinstance(key, str) for key in done):
        raise ValueError("done is no list of keys")
    return {"since": since, "done": done}


def _write_mark(store: Store, since: str | None, done: list[str]) -> None:
    mark: CompactionMark = {"since": since, "done": done}
    store.put_json(keys.COMPACTION_MARK, mark)


def _listed_from(since: str | None, now: datetime) -> datetime | None:
    """Return the first arrival hour that is listed, None if all are.

    That is without a watermark, with one ahead of the clock, and with one so old that a single listing takes less.
    """
    hour = None if since is None else clock.floor(clock.parse(since), clock.HOUR_S)
    return None if hour is None or not now - _LISTED_BY_HOUR <= hour <= now + clock.HOUR else hour


def _candidates(store: Store, start: datetime | None, now: datetime) -> Iterator[str]:
    """Yield the keys of the arrival hours that compaction lists, oldest first."""
    if start is None:
        yield from sorted(store.keys(keys.ARRIVED))
        return
    hour = start
    while hour <= now + clock.HOUR:
        yield from sorted(store.keys(keys.hour_prefix(keys.ARRIVED, hour)))
        hour += clock.HOUR


def _fresh(
    store: Store,
    mark: CompactionMark,
    start: datetime,
    end: datetime,
    limit: int,
    instances: Callable[[str], bool] | None,
) -> tuple[pd.DataFrame, datetime]:
    """Return the matching rows of [start, end) that are not in the table yet, and the time down to which they are all.

    The newest objects are read first. An object that was not read has older rows than those that were.
    """
    done = set(mark["done"])
    # A row arrives after its timestamp, or up to an hour before it if a clock is ahead.
    hour = clock.floor(start, clock.HOUR_S) - clock.HOUR
    since_hour = _listed_from(mark["since"], clock.now())
    hour = hour if since_hour is None else max(hour, since_hour)
    days = (max(end, clock.now()).date() - hour.date()).days + 1
    listed = [
        key for day in range(days) for key in store.keys(keys.day_prefix(keys.ARRIVED, hour + timedelta(days=day)))
    ]
    pending = [key for key in listed if key >= keys.hour_prefix(keys.ARRIVED, hour) and key not in done]
    # Within an hour by sequence number, for all Kinesis shards together.
    ordered = sorted(pending, key=keys.arrival_order)
    frames: list[pd.DataFrame] = []
    count, remaining, since = 0, len(ordered), end
    while remaining and count < limit and len(ordered) - remaining < FRESH_OBJECTS:
        batch = ordered[max(0, remaining - labelled_objects.READ_AT_ONCE) : remaining]
        for _, frame, _ in labelled_objects.chunks(store, batch, CHUNK_ROWS):
            inside = frame[(frame["timestamp"] >= start) & (frame["timestamp"] < end)]
            if not frame.empty:
                since = min(since, frame["timestamp"].max().to_pydatetime())
            if instances is not None:
                names = [name for name in inside["instance_id"].unique() if instances(name)]
                inside = inside[inside["instance_id"].isin(names)]
            frames.insert(0, inside)
            count += len(inside)
        remaining -= len(batch)
    return labelled_objects.joined(frames), max(since, start) if remaining else start

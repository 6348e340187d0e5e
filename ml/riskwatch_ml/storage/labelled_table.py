"""The objects of `labelled/rows`: one per event hour, and one per year for sparse old rows.

A sparse history, such as one row a day of many years, would make an object of each of its hours. Rows that are older
than `OLD` when they are compacted share the object of their year instead, up to `YEAR_ROWS`. An hour that has an object
of its own keeps it, so a row is in one place. If a year becomes too large, its rows move to the objects of their hours.
A run that is killed in between leaves them in both: reading counts them once.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pandas as pd

from riskwatch_ml.core import clock
from riskwatch_ml.schema.metric_rows import KEYS
from riskwatch_ml.storage import keys, labelled_objects
from riskwatch_ml.storage.parquet import DamagedObjectError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from riskwatch_ml.storage.bucket import Store

OLD = timedelta(days=7)
"""Age of rows that may share an object. Every scheduled reader reads newer rows only."""

YEAR_ROWS = 200_000
"""Most rows of the object of a year, which is read and written as a whole."""


def merge(store: Store, fresh: pd.DataFrame, now: datetime, damaged: list[str]) -> int:
    """Merge rows into the table; return the number of new rows. `now` is aware.

    `damaged` gets the key of each object of the table that cannot be read: its rows are not merged.
    """
    is_old = fresh["timestamp"] < pd.Timestamp(now - OLD)
    added = _merge_hours(store, fresh[~is_old], damaged)
    for year, rows in fresh[is_old].groupby(fresh["timestamp"].dt.year):
        added += _merge_year(store, rows, int(year), damaged)
    return added


def read(
    store: Store,
    start: datetime,
    end: datetime,
    *,
    columns: Sequence[str] | None = None,
    instances: Callable[[str], bool] | None = None,
) -> pd.DataFrame:
    """Return the rows with start <= timestamp < end; see `Store.read_hours`.

    A column that no row has is null. Raises DamagedObjectError for an object without labelled rows.
    """
    start, end = clock.utc(start), clock.utc(end)
    asked = None if columns is None else list(dict.fromkeys((*KEYS, *columns)))
    wanted = None if asked is None else list(dict.fromkeys((*asked, "arrived")))
    years = range(start.year, end.year + 1) if start < clock.now() - OLD else ()
    old = [rows for year in years if (rows := _rows(store, keys.year_key(keys.LABELLED_ROWS, year))) is not None]
    if not old:
        rows = _hourly(store, start, end, columns, instances)
        return rows if asked is None else labelled_objects.select(rows, asked)
    hourly = _hourly(store, start, end, wanted, instances)
    inside = [rows[(rows["timestamp"] >= start) & (rows["timestamp"] < end)] for rows in old]
    if instances is not None:
        inside = [rows[rows["instance_id"].map(instances).astype(bool)] for rows in inside]
    parts = [rows for rows in (hourly, *inside) if not rows.empty]
    if not parts:
        return hourly if asked is None else labelled_objects.select(hourly, asked)
    parts = parts if wanted is None else [labelled_objects.select(rows, wanted) for rows in parts]
    both = first_verdicts(pd.concat(parts, ignore_index=True)).reset_index(drop=True)
    return both if asked is None else both[asked]


def newest_time(store: Store) -> datetime | None:
    """Return the time (UTC) of the newest row of the newest hour, None without hours; raises DamagedObjectError."""
    hours = store.keys(keys.hours(keys.LABELLED_ROWS))
    rows = _rows(store, hours[-1]) if hours else None
    return None if rows is None or rows.empty else rows["timestamp"].max().to_pydatetime()


def first_verdicts(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the first verdict of each (instance, time).

    That is the earliest to arrive; of equal arrivals, the first in the frame.
    """
    return rows.sort_values([*KEYS, "arrived"], kind="stable").drop_duplicates([*KEYS])


def _hourly(
    store: Store,
    start: datetime,
    end: datetime,
    columns: Sequence[str] | None,
    instances: Callable[[str], bool] | None,
) -> pd.DataFrame:
    layer, check = keys.LABELLED_ROWS, labelled_objects.check_stored
    return store.read_hours(layer, start, end, columns=columns, instances=instances, check=check)


def _rows(store: Store, key: str) -> pd.DataFrame | None:
    return store.get_frame(key, labelled_objects.check_stored)


def _stored(store: Store, key: str, damaged: list[str]) -> pd.DataFrame | None:
    """Return the rows of an object, None if there is none or if it is damaged."""
    try:
        return _rows(store, key)
    except DamagedObjectError:
        damaged.append(key)
        return None


def _merge_hours(store: Store, fresh: pd.DataFrame, damaged: list[str]) -> int:
    added = 0
    for hour, rows in fresh.groupby(fresh["timestamp"].dt.floor("h")):
        start = hour.to_pydatetime()
        old = _stored(store, key := keys.hour_key(keys.LABELLED_ROWS, start), damaged)
        if key in damaged:
            continue
        first, new = _merged(old, rows)
        added += new
        store.write_hours(keys.LABELLED_ROWS, first, start, start + clock.HOUR)
    return added


def _merge_year(store: Store, fresh: pd.DataFrame, year: int, damaged: list[str]) -> int:
    listed = (keys.parse_hour(key) for key in store.keys(keys.year_prefix(keys.LABELLED_ROWS, year)))
    hours = {pd.Timestamp(parsed.hour) for parsed in listed if parsed is not None}
    has_hour = fresh["timestamp"].dt.floor("h").isin(hours)
    key = keys.year_key(keys.LABELLED_ROWS, year)
    old = _stored(store, key, damaged)
    added_to_hours = _merge_hours(store, fresh[has_hour], damaged)
    if key in damaged:
        return added_to_hours
    first, added = _merged(old, fresh[~has_hour])
    if len(first) > YEAR_ROWS:
        _merge_hours(store, first, damaged)
        if not damaged:
            store.delete(key)
    elif added:
        store.put_frame(key, first)
    return added + added_to_hours


def _merged(old: pd.DataFrame | None, fresh: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """Return the first verdicts of both, and how many rows `fresh` adds."""
    both = fresh if old is None else pd.concat([labelled_objects.typed(old), fresh], ignore_index=True)
    first = first_verdicts(labelled_objects.typed(both))
    return first, len(first) - (0 if old is None else len(old))

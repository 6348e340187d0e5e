"""The bucket as tables: hour partitions of Parquet that a rerun replaces exactly, and plain objects beside them.

Frames hold `instance_id` (str), `timestamp` (datetime64[ms, UTC]) and further columns; one object holds one UTC hour.
The same rows give the same bytes, so that a rerun is visible as "nothing changed". An object is replaced by one PUT of
its new content, which S3 makes visible whole or not at all: a writer that is killed leaves each hour old or new.
"""

import io
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from botocore.exceptions import ClientError

from riskwatch_ml.core import clock
from riskwatch_ml.core.errors import UserInputError
from riskwatch_ml.storage import keys

_HOUR = timedelta(hours=1)
_HOUR_MS = 3_600_000
_THREADS = 8
_STAMP = pa.timestamp("ms", tz="UTC")
_KEYS = ("instance_id", "timestamp")
_SWAPS = 4
# What S3 answers to a conditional write when somebody else was faster: 412, 409, and 404 where the object is gone.
_OVERTAKEN = frozenset({"PreconditionFailed", "412", "ConditionalRequestConflict", "409", "NoSuchKey", "404"})


class StoreError(UserInputError):
    """Rows, an interval or an object cannot be used as asked; the message says which and what to do."""


@dataclass(frozen=True)
class Store:
    """One bucket, reached through a boto3 S3 client."""

    client: Any
    bucket: str

    def put_bytes(self, key: str, data: bytes, if_absent: bool = False) -> bool:
        """Write an object. With `if_absent` an existing object is left as it is and False is returned."""
        if not if_absent:
            self.client.put_object(Bucket=self.bucket, Key=key, Body=data)
            return True
        for last in (False, False, True):
            try:
                self.client.put_object(Bucket=self.bucket, Key=key, Body=data, IfNoneMatch="*")
            except ClientError as error:
                code = error.response["Error"]["Code"]
                if code == "PreconditionFailed":
                    return False
                # Two writers at once: the service asks the loser to try again, and the next answer is definite.
                if code != "ConditionalRequestConflict" or last:
                    raise
            else:
                return True
        return False

    def get_bytes(self, key: str) -> bytes | None:
        """Return an object's bytes, None where there is none."""
        return self._get(key)[0]

    def put_json(self, key: str, value: object, if_absent: bool = False) -> bool:
        """Write a value as JSON: sorted keys, finite numbers only."""
        text = json.dumps(value, sort_keys=True, allow_nan=False, separators=(",", ":"))
        return self.put_bytes(key, text.encode(), if_absent=if_absent)

    def put_page(self, key: str, page: str) -> None:
        """Write an HTML page that a browser shows when it opens the object."""
        kind = "text/html; charset=utf-8"
        self.client.put_object(Bucket=self.bucket, Key=key, Body=page.encode(), ContentType=kind)

    def get_json(self, key: str) -> Any:
        """Return an object's JSON value, None where there is no object."""
        data = self.get_bytes(key)
        return None if data is None else json.loads(data)

    def delete(self, key: str) -> None:
        """Remove an object; an object that does not exist is no error."""
        self.client.delete_object(Bucket=self.bucket, Key=key)

    def keys(self, prefix: str) -> list[str]:
        """Return all keys under a prefix, sorted."""
        found: list[str] = []
        for page in self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix):
            found += [item["Key"] for item in page.get("Contents", ())]
        return sorted(found)

    def newest_keys(self, prefix: str) -> list[str]:
        """Return all keys under a prefix, what was written last first."""
        found: list[tuple[datetime, str]] = []
        for page in self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix):
            found += [(item["LastModified"], item["Key"]) for item in page.get("Contents", ())]
        return [key for _, key in sorted(found, reverse=True)]

    def put_frame(self, key: str, frame: pd.DataFrame) -> None:
        """Write a whole frame as one Parquet object."""
        self.put_bytes(key, _to_bytes(_to_table(frame)))

    def get_frame(self, key: str) -> pd.DataFrame | None:
        """Read a whole Parquet object, None where there is none."""
        table = self._table(key)
        return None if table is None else _to_frame(table)

    def write_hours(
        self, layer: str, frame: pd.DataFrame, start: datetime, end: datetime, part: str = "default"
    ) -> list[str]:
        """Make `frame` the content of [start, end) of a layer and return the keys whose object changed, sorted.

        Only the objects of the hours that the interval touches change, and of these only those whose content differs:
        rows of such an hour outside the interval are kept, and an hour left without rows loses its object. Raises
        StoreError where the interval is empty, a row lies outside of it, or other writers keep replacing an object.
        """
        start, end = _interval(start, end)
        table = _to_table(frame)
        stamps = table.column("timestamp")
        if len(table) and not pc.all(_between(stamps, start, end)).as_py():
            raise StoreError(
                f"rows from {pc.min(stamps).as_py()} to {pc.max(stamps).as_py()} do not all lie in "
                f"[{clock.iso(start)}, {clock.iso(end)}): cut them to the interval first"
            )
        hours = list(_hours(start, end))

        def content(fresh: pa.Table, key: str, hour: datetime) -> Callable[[bytes | None], bytes | None]:
            # Made before the first object is replaced, by one thread: each one that encodes holds memory of its own.
            new = _to_bytes(fresh) if len(fresh) else None

            def merged(old: bytes | None) -> bytes | None:
                if old is None or (start <= hour and hour + _HOUR <= end):
                    return new
                kept = _from_bytes(old, self._name(key))
                kept = kept.filter(pc.invert(_between(kept.column("timestamp"), start, end)))
                both = pa.concat_tables([fresh, kept], promote_options="permissive")
                return _to_bytes(both) if len(both) else None

            return merged

        places = [keys.hour_key(layer, hour, part) for hour in hours]
        contents = [content(*item) for item in zip(_by_hour(table, hours), places, hours, strict=True)]
        with ThreadPoolExecutor(_THREADS) as pool:
            return [key for key, changed in zip(places, pool.map(self._swap, places, contents), strict=True) if changed]

    def read_hours(
        self,
        layer: str,
        start: datetime,
        end: datetime,
        *,
        part: str | None = None,
        without: str | None = None,
        columns: Sequence[str] | None = None,
    ) -> pd.DataFrame:
        """Return the rows of a layer with start <= timestamp < end, sorted by instance and time.

        All parts are read, or only `part`, or all but `without`; all columns, or only instance, time and `columns`.
        Raises StoreError where an object is no Parquet file.
        """
        start, end = _interval(start, end)
        wanted = set(_hours(start, end))
        days = sorted({keys.day_prefix(layer, hour) for hour in wanted})
        with ThreadPoolExecutor(_THREADS) as pool:
            chosen = [
                key
                for found in pool.map(self.keys, days)
                for key in found
                if (place := keys.parse_hour(key)) is not None
                and place.hour in wanted
                and part in (None, place.part)
                and (without is None or without != place.part)
            ]
            named = None if columns is None else list(dict.fromkeys((*_KEYS, *columns)))
            tables = [table for table in pool.map(lambda key: self._table(key, named), chosen) if table is not None]
        if not tables:
            return _to_frame(
                pa.schema([pa.field("instance_id", pa.string()), pa.field("timestamp", _STAMP)]).empty_table()
            )
        merged = pa.concat_tables(tables, promote_options="permissive")
        return _to_frame(_ordered(merged.filter(_between(merged.column("timestamp"), start, end))))

    def _swap(self, key: str, content: Callable[[bytes | None], bytes | None]) -> bool:
        """Replace an object by what `content` makes of it, None for no object; tell whether anything changed.

        The object may have been replaced since it was read: then it is read and made again.
        """
        for _ in range(_SWAPS):
            old, tag = self._get(key)
            new = content(old)
            if new == old:
                return False
            if new is None:
                self.delete(key)
                return True
            condition = {"IfNoneMatch": "*"} if old is None else {"IfMatch": tag}
            try:
                self.client.put_object(Bucket=self.bucket, Key=key, Body=new, **condition)
            except ClientError as error:
                if error.response["Error"]["Code"] not in _OVERTAKEN:
                    raise
            else:
                return True
        raise StoreError(
            f"{self._name(key)} was replaced by another writer {_SWAPS} times while it was being written: see that "
            "only one export or import of this hour runs, and run it again"
        )

    def _get(self, key: str) -> tuple[bytes | None, str | None]:
        """Return an object's bytes and its ETag, both None where there is no object."""
        try:
            answer = self.client.get_object(Bucket=self.bucket, Key=key)
        except ClientError as error:
            if error.response["Error"]["Code"] in ("NoSuchKey", "404"):
                return None, None
            raise
        body: bytes = answer["Body"].read()
        return body, answer["ETag"]

    def _table(self, key: str, columns: list[str] | None = None) -> pa.Table | None:
        data = self.get_bytes(key)
        return None if data is None else _from_bytes(data, self._name(key), columns)

    def _name(self, key: str) -> str:
        return f"s3://{self.bucket}/{key}"


def _interval(start: datetime, end: datetime) -> tuple[datetime, datetime]:
    start, end = clock.utc(start), clock.utc(end)
    if start >= end:
        raise StoreError(
            f"the interval from {clock.iso(start)} to {clock.iso(end)} is empty: the end must lie after the start"
        )
    return start, end


def _hours(start: datetime, end: datetime) -> Iterator[datetime]:
    hour = clock.floor(start, 3600)
    while hour < end:
        yield hour
        hour += _HOUR


def _by_hour(table: pa.Table, hours: list[datetime]) -> Iterator[pa.Table]:
    """Yield the rows of each hour, in the table's order."""
    hour = table.column("timestamp").cast(pa.int64()).to_numpy() // _HOUR_MS
    order = np.argsort(hour, kind="stable")
    first = clock.epoch_ms(hours[0]) // _HOUR_MS
    cuts = np.searchsorted(hour[order], np.arange(first, first + len(hours) + 1))
    ordered = table.take(order)
    for low, high in zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True):
        yield ordered.slice(low, high - low)


def _between(stamps: pa.ChunkedArray, start: datetime, end: datetime) -> pa.ChunkedArray:
    low, high = pa.scalar(start.astimezone(UTC), _STAMP), pa.scalar(end.astimezone(UTC), _STAMP)
    return pc.and_(pc.greater_equal(stamps, low), pc.less(stamps, high))


def _to_table(frame: pd.DataFrame) -> pa.Table:
    missing = [name for name in _KEYS if name not in frame.columns]
    if missing:
        raise StoreError(f"the rows have no column {missing[0]}: every stored row needs {' and '.join(_KEYS)}")
    if len(frame) and getattr(frame["timestamp"].dtype, "tz", None) is None:
        raise StoreError("the column timestamp has no time zone: use datetime64[ms, UTC]")
    columns = [*_KEYS, *(name for name in frame.columns if name not in _KEYS)]
    table = pa.Table.from_pandas(frame[columns], preserve_index=False).replace_schema_metadata(None)
    types = [_plain(item) for item in table.schema]
    return table.cast(pa.schema(types), safe=False)


def _plain(item: pa.Field) -> pa.Field:
    # pandas versions differ in the string type they hand over: one type is stored, whichever wrote the rows.
    if item.name == "timestamp":
        return pa.field(item.name, _STAMP)
    if item.name == "instance_id" or pa.types.is_large_string(item.type):
        return pa.field(item.name, pa.string())
    return pa.field(item.name, item.type)


def _ordered(table: pa.Table) -> pa.Table:
    return table.sort_by([(name, "ascending") for name in _KEYS])


def _to_bytes(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(_ordered(table), sink, compression="zstd", store_schema=False)
    return sink.getvalue()


def _from_bytes(data: bytes, name: str, columns: list[str] | None = None) -> pa.Table:
    try:
        return pq.read_table(pa.BufferReader(data), columns=columns)
    except pa.ArrowInvalid as error:
        raise StoreError(
            f"{name} is no Parquet file ({error}): restore its previous version, or delete it and export or import its "
            "hour again"
        ) from error


def _to_frame(table: pa.Table) -> pd.DataFrame:
    frame: pd.DataFrame = table.to_pandas()
    frame["timestamp"] = frame["timestamp"].astype("datetime64[ms, UTC]")
    return frame.reset_index(drop=True)

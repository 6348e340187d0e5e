"""The S3 bucket: hourly Parquet tables, and plain objects.

Frames have the columns `instance_id` (str) and `timestamp` (datetime64[ms, UTC]) and further ones. One object of a
layer holds the rows of one hour (UTC). A rerun replaces its interval exactly; equal rows give equal bytes, so an
unchanged object is not written. S3 makes a PUT visible as a whole or not at all: if a writer is killed, each hour has
its old or its new content.
"""

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from botocore.exceptions import ClientError

from riskwatch_ml.core import aws_errors, clock
from riskwatch_ml.core.errors import UserInputError
from riskwatch_ml.schema.metric_rows import KEYS
from riskwatch_ml.storage import keys
from riskwatch_ml.storage.parquet import (
    STAMP,
    DamagedObjectError,
    StoreError,
    between,
    by_hour,
    from_bytes,
    ordered,
    to_bytes,
    to_frame,
    to_table,
    unlike_most,
)

_THREADS = 8
_SWAPS = 4
# S3's answers to a conditional write if another writer was faster. There is no object if that writer removed it.
_OVERTAKEN = aws_errors.CONDITION_FAILED | aws_errors.CONFLICT | aws_errors.NO_OBJECT


_log = logging.getLogger(__name__)
_T = TypeVar("_T")

Check = Callable[[pa.Schema], None]
"""Raises ValueError if a layer has no objects with a schema."""


@dataclass(frozen=True)
class Store:
    """One bucket, used through a boto3 S3 client."""

    client: Any
    bucket: str

    def put_bytes(self, key: str, data: bytes, if_absent: bool = False) -> bool:
        """Write an object; return whether it was written.

        With `if_absent` an existing object stays as it is, and the result is False.
        """
        if not if_absent:
            self.client.put_object(Bucket=self.bucket, Key=key, Body=data)
            return True
        for last in (False, False, True):
            try:
                self.client.put_object(Bucket=self.bucket, Key=key, Body=data, IfNoneMatch="*")
            except ClientError as error:
                code = aws_errors.code(error)
                if code in aws_errors.CONDITION_FAILED:
                    return False
                # After two writes at once, S3 asks one of the writers to try again; the next answer is definite.
                if code not in aws_errors.CONFLICT or last:
                    raise
            else:
                return True
        return False

    def get_bytes(self, key: str) -> bytes | None:
        """Return the bytes of an object, None if it does not exist."""
        return self._get(key)[0]

    def put_json(self, key: str, value: object, if_absent: bool = False) -> bool:
        """Write a value as JSON with sorted keys and finite numbers; see `put_bytes`."""
        text = json.dumps(value, sort_keys=True, allow_nan=False, separators=(",", ":"))
        return self.put_bytes(key, text.encode(), if_absent=if_absent)

    def put_html(self, key: str, page: str) -> None:
        """Write an HTML page that a browser can open from S3."""
        kind = "text/html; charset=utf-8"
        self.client.put_object(Bucket=self.bucket, Key=key, Body=page.encode(), ContentType=kind)

    def get_json(self, key: str) -> Any:
        """Return the JSON value of an object, None if it does not exist; raises DamagedObjectError."""
        data = self.get_bytes(key)
        try:
            return None if data is None else json.loads(data)
        except (ValueError, RecursionError) as error:
            raise DamagedObjectError(
                f"{self._name(key)} is not JSON ({error}): restore its previous version, or delete it if there is none"
            ) from error

    def get_state(self, key: str, read: Callable[[Any], _T]) -> _T | None:
        """Return what `read` makes of a JSON object that can be written anew, None if it does not exist.

        A damaged one counts as none: it is named in the log, and the next write replaces it.
        """
        try:
            value = self.get_json(key)
            return None if value is None else read(value)
        except (UserInputError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            _log.warning(
                "%s cannot be read (%r): it counts as none, and the next write replaces it", self._name(key), error
            )
            return None

    def delete(self, key: str) -> None:
        """Delete an object; a missing object is not an error."""
        self.client.delete_object(Bucket=self.bucket, Key=key)

    def keys(self, prefix: str) -> list[str]:
        """Return all keys under a prefix, sorted."""
        return sorted(entry["Key"] for entry in self._list(prefix))

    def end_of_rows(self, layer: str, now: datetime) -> datetime | None:
        """Return the end of the newest hour of a layer that began before `now`, or `now` if that is earlier.

        None if there is no such hour. Days are not listed one by one: a layer has some thousand hours.
        """
        hours = map(keys.parse_hour, reversed(self.keys(keys.hours(layer))))
        newest = next((parsed.hour for parsed in hours if parsed is not None and parsed.hour < now), None)
        return None if newest is None else min(newest + clock.HOUR, clock.utc(now))

    def newest_keys(self, prefix: str) -> list[str]:
        """Return all keys under a prefix, the last written first."""
        entries = sorted(((entry["LastModified"], entry["Key"]) for entry in self._list(prefix)), reverse=True)
        return [key for _, key in entries]

    def put_frame(self, key: str, frame: pd.DataFrame) -> None:
        """Write a frame as one Parquet object."""
        self.put_bytes(key, to_bytes(to_table(frame)))

    def get_frame(self, key: str, check: Check | None = None) -> pd.DataFrame | None:
        """Return the rows of a Parquet object, None if it does not exist.

        Raises DamagedObjectError if the object holds no rows, or none with a schema that passes `check`.
        """
        table = self._table(key, check=check)
        return None if table is None else to_frame(table)

    def write_hours(
        self, layer: str, frame: pd.DataFrame, start: datetime, end: datetime, part: str = "default"
    ) -> list[str]:
        """Make `frame` the content of [start, end) of a layer.

        Only objects with new content are written. Rows of the first and last hour outside the interval stay; an hour
        without rows loses its object.

        Returns
        -------
        list of str
            The keys of the objects that changed, sorted.

        Raises
        ------
        StoreError
            The interval is empty, a row lies outside it, or other writers keep replacing an object.
        """
        start, end = _interval(start, end)
        table = to_table(frame)
        stamps = table.column("timestamp")
        if len(table) and not pc.all(between(stamps, start, end)).as_py():
            raise StoreError(
                f"rows from {pc.min(stamps).as_py()} to {pc.max(stamps).as_py()} do not all lie in "
                f"[{clock.iso(start)}, {clock.iso(end)}): cut them to the interval first"
            )
        hours = list(clock.hours(start, end))

        def content(hour_rows: pa.Table, key: str, hour: datetime) -> Callable[[bytes | None], bytes | None]:
            # One thread encodes all hours before the first object is replaced: each encoding thread has its own memory.
            new = to_bytes(hour_rows) if len(hour_rows) else None

            def merged(old: bytes | None) -> bytes | None:
                if old is None or (start <= hour and hour + clock.HOUR <= end):
                    return new
                stored = from_bytes(old, self._name(key))
                outside = stored.filter(pc.invert(between(stored.column("timestamp"), start, end)))
                both = pa.concat_tables([hour_rows, outside], promote_options="permissive")
                return to_bytes(both) if len(both) else None

            return merged

        hour_keys = [keys.hour_key(layer, hour, part) for hour in hours]
        contents = [content(*hourly) for hourly in zip(by_hour(table, hours), hour_keys, hours, strict=True)]
        with ThreadPoolExecutor(_THREADS) as pool:
            replaced = pool.map(self._swap, hour_keys, contents)
            return [key for key, is_changed in zip(hour_keys, replaced, strict=True) if is_changed]

    def read_hours(
        self,
        layer: str,
        start: datetime,
        end: datetime,
        *,
        part: str | None = None,
        without: str | None = None,
        columns: Sequence[str] | None = None,
        instances: Callable[[str], bool] | None = None,
        damaged: list[str] | None = None,
        check: Check | None = None,
    ) -> pd.DataFrame:
        """Return the rows with start <= timestamp < end, sorted by instance and time.

        `part` is the only part to read, `without` a part to leave out; by default all parts are read. `columns` are
        read beside instance and time, those that an object has; by default all columns are read. `instances` returns
        whether rows of a name are read; the others are dropped object by object. With `damaged`, objects that cannot be
        read are left out and logged, and the list gets a text for each. An object whose schema does not pass `check`
        cannot be read. Raises StoreError if the interval is empty, and DamagedObjectError without `damaged`.
        """
        start, end = _interval(start, end)
        hours = set(clock.hours(start, end))
        days = sorted({keys.day_prefix(layer, hour) for hour in hours})
        with ThreadPoolExecutor(_THREADS) as pool:
            hour_keys = [
                key
                for day_keys in pool.map(self.keys, days)
                for key in day_keys
                if (parsed := keys.parse_hour(key)) is not None
                and parsed.hour in hours
                and part in (None, parsed.part)
                and (without is None or without != parsed.part)
            ]
            names = None if columns is None else list(dict.fromkeys((*KEYS, *columns)))
            read = pool.map(lambda key: _of_instances(self._table(key, names, damaged, check), instances), hour_keys)
            tables = {self._name(key): table for key, table in zip(hour_keys, read, strict=True) if table is not None}
        for name, error in unlike_most({name: table.schema for name, table in tables.items()}).items():
            _left_out(error, damaged)
            del tables[name]
        if not tables:
            return to_frame(
                pa.schema([pa.field("instance_id", pa.string()), pa.field("timestamp", STAMP)]).empty_table()
            )
        merged = pa.concat_tables(tables.values(), promote_options="permissive")
        return to_frame(ordered(merged.filter(between(merged.column("timestamp"), start, end))))

    def _list(self, prefix: str) -> Iterator[Any]:
        """Yield the entries of S3's listing under a prefix."""
        for page in self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix):
            yield from page.get("Contents", ())

    def _swap(self, key: str, content: Callable[[bytes | None], bytes | None]) -> bool:
        """Replace an object by the result of `content`; return whether it changed.

        `content` gets the bytes of the object. None stands for a missing object. If another writer replaces the object
        in the meantime, it is read and computed again.
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
                if aws_errors.code(error) not in _OVERTAKEN:
                    raise
            else:
                return True
        raise StoreError(
            f"{self._name(key)} was replaced by another writer {_SWAPS} times while it was being written: make sure "
            "that only one export or import of this hour runs, and run it again"
        )

    def _get(self, key: str) -> tuple[bytes | None, str | None]:
        """Return the bytes and the ETag of an object, both None if it does not exist."""
        try:
            answer = self.client.get_object(Bucket=self.bucket, Key=key)
        except ClientError as error:
            if aws_errors.code(error) in aws_errors.NO_OBJECT:
                return None, None
            raise
        body: bytes = answer["Body"].read()
        return body, answer["ETag"]

    def _table(
        self,
        key: str,
        columns: list[str] | None = None,
        damaged: list[str] | None = None,
        check: Check | None = None,
    ) -> pa.Table | None:
        data = self.get_bytes(key)
        try:
            return None if data is None else from_bytes(data, self._name(key), columns, check)
        except DamagedObjectError as error:
            _left_out(error, damaged)
            return None

    def _name(self, key: str) -> str:
        return f"s3://{self.bucket}/{key}"


def _left_out(error: DamagedObjectError, damaged: list[str] | None) -> None:
    """Log and note an object that is left out; raises its error if there is no list for it."""
    if damaged is None:
        raise error
    _log.warning("left out: %s", error)
    damaged.append(str(error))


def _of_instances(table: pa.Table | None, instances: Callable[[str], bool] | None) -> pa.Table | None:
    if table is None or instances is None:
        return table
    column = table.column("instance_id")
    names = [name for name in pc.unique(column).to_pylist() if instances(name)]
    return table.filter(pc.is_in(column, value_set=pa.array(names, column.type)))


def _interval(start: datetime, end: datetime) -> tuple[datetime, datetime]:
    start, end = clock.utc(start), clock.utc(end)
    if start >= end:
        raise StoreError(
            f"the interval from {clock.iso(start)} to {clock.iso(end)} is empty: the end must lie after the start"
        )
    return start, end

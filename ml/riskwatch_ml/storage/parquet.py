"""Parquet objects of the bucket: the frame of an hour, as bytes and back."""

from __future__ import annotations

import io
from collections import Counter
from datetime import UTC
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from riskwatch_ml.core import clock
from riskwatch_ml.core.errors import UserInputError
from riskwatch_ml.schema.metric_rows import KEYS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import datetime

    import pandas as pd

STAMP = pa.timestamp("ms", tz="UTC")


class StoreError(UserInputError):
    """Rows, an interval or an object are not valid; the message names it and the fix."""


class DamagedObjectError(StoreError):
    """An object does not have the content that its key promises; the message names it and the fix."""


def by_hour(table: pa.Table, hours: list[datetime]) -> Iterator[pa.Table]:
    """Yield the rows of each hour, in the order of the table."""
    hour = table.column("timestamp").cast(pa.int64()).to_numpy() // clock.HOUR_MS
    order = np.argsort(hour, kind="stable")
    first = clock.epoch_ms(hours[0]) // clock.HOUR_MS
    cuts = np.searchsorted(hour[order], np.arange(first, first + len(hours) + 1))
    in_order = table.take(order)
    for low, high in zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True):
        yield in_order.slice(low, high - low)


def between(stamps: pa.ChunkedArray, start: datetime, end: datetime) -> pa.ChunkedArray:
    """Return whether each stamp lies in [start, end)."""
    low, high = pa.scalar(start.astimezone(UTC), STAMP), pa.scalar(end.astimezone(UTC), STAMP)
    return pc.and_(pc.greater_equal(stamps, low), pc.less(stamps, high))


def to_table(frame: pd.DataFrame) -> pa.Table:
    """Return the Arrow table of a frame, with the stored types.

    Raises StoreError if a key column is missing or has no time zone.
    """
    missing = [name for name in KEYS if name not in frame.columns]
    if missing:
        raise StoreError(f"the rows have no column {missing[0]}: every stored row needs {' and '.join(KEYS)}")
    if len(frame) and getattr(frame["timestamp"].dtype, "tz", None) is None:
        raise StoreError("the column timestamp has no time zone: use datetime64[ms, UTC]")
    columns = [*KEYS, *(name for name in frame.columns if name not in KEYS)]
    table = pa.Table.from_pandas(frame[columns], preserve_index=False).replace_schema_metadata(None)
    fields = [_stored_field(field) for field in table.schema]
    return table.cast(pa.schema(fields), safe=False)


def _stored_field(field: pa.Field) -> pa.Field:
    # The string type depends on the version of pandas; the stored type does not.
    if field.name == "timestamp":
        return pa.field(field.name, STAMP)
    if field.name == "instance_id" or pa.types.is_large_string(field.type):
        return pa.field(field.name, pa.string())
    return pa.field(field.name, field.type)


def ordered(table: pa.Table) -> pa.Table:
    """Return the rows by instance and time."""
    return table.sort_by([(name, "ascending") for name in KEYS])


def to_bytes(table: pa.Table) -> bytes:
    """Return the Parquet bytes of the rows: equal rows give equal bytes."""
    sink = io.BytesIO()
    pq.write_table(ordered(table), sink, compression="zstd", store_schema=False)
    return sink.getvalue()


def from_bytes(
    data: bytes,
    name: str,
    columns: list[str] | None = None,
    check: Callable[[pa.Schema], None] | None = None,
) -> pa.Table:
    """Return the rows of a Parquet object; raises DamagedObjectError, with its name, if they cannot be read.

    `columns` are the columns to read, by default all. One that the object lacks is left out, unless it is a key.
    `check` gets the schema of the whole object and raises ValueError if the layer has no such objects.
    """
    try:
        schema = pq.read_schema(pa.BufferReader(data))
        if check is not None:
            check(schema)
        if columns is not None:
            there = {*schema.names, *KEYS}
            columns = [name for name in columns if name in there]
        table = pq.read_table(pa.BufferReader(data), columns=columns)
        _check_keys(table.schema)
        table.validate(full=True)  # text that is no UTF-8 would fail later, without the name
    # Where the damage is decides which of them Arrow raises; of a column's name it may be a UnicodeDecodeError.
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _damaged(name, error) from error
    return table


def _damaged(name: str, reason: object) -> DamagedObjectError:
    return DamagedObjectError(
        f"{name} is no Parquet file of rows ({reason}): restore its previous version, or, except for labelled rows, "
        "delete it and export or import its hour again"
    )


def _check_keys(schema: pa.Schema) -> None:
    if not all(schema.names):
        raise ValueError("a column has no name")
    for name, is_kind in (("instance_id", _is_text), ("timestamp", _is_stamp)):
        if schema.get_field_index(name) < 0 or not is_kind(schema.field(name).type):
            raise ValueError(f"the column {name} is missing, doubled or of another type")


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_stamp(kind: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(kind) and kind.tz is not None)


def unlike_most(schemas: Mapping[str, pa.Schema]) -> dict[str, DamagedObjectError]:
    """Return the error of each object with a column whose type cannot be joined with that of most objects, by name."""
    if len(set(schemas.values())) <= 1:
        return {}
    # A column without values may have no type, which joins any.
    typed = [field for schema in schemas.values() for field in schema if not pa.types.is_null(field.type)]
    counts = Counter((field.name, field.type) for field in typed)
    usual = {name: kind for (name, kind), _ in reversed(counts.most_common())}
    errors = {}
    for name, schema in schemas.items():
        other = next((each for each in schema if not _joins(each.type, usual.get(each.name, each.type))), None)
        if other is not None:
            reason = f"its column {other.name} is of type {other.type}, that of other objects {usual[other.name]}"
            errors[name] = _damaged(name, reason)
    return errors


def _joins(kind: pa.DataType, other: pa.DataType) -> bool:
    if kind == other:
        return True
    try:
        pa.unify_schemas([pa.schema([("column", each)]) for each in (kind, other)], promote_options="permissive")
    except pa.ArrowException:
        return False
    return True


def to_frame(table: pa.Table) -> pd.DataFrame:
    """Return the frame of a table."""
    frame: pd.DataFrame = table.to_pandas()
    frame["timestamp"] = frame["timestamp"].astype("datetime64[ms, UTC]")
    return frame.reset_index(drop=True)

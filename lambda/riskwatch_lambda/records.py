"""Strict decoding of stream records: what cannot be scored is refused with a reason and never guessed.

A record is JSON of at most 64 KB in base64::

    {"v": 1, "service": str, "role": str, "instance_id": str, "ts": [epoch ms, ...],
     "rows": [[number or null, ...], ...]}

oldest row first; the last row is the one to label, those before it are its context.
"""

from __future__ import annotations

import binascii
import json
from typing import Any, NamedTuple, NoReturn

VERSION = 1
DATA_LIMIT = 64 * 1024
NAME_LIMIT = 255
REASON_LIMIT = 300
# No metric reaches this, and squares of it stay far from overflow.
MAGNITUDE_LIMIT = 1e15
# 2000-01-01 and 2100-01-01: seconds or microseconds by mistake fall outside.
EARLIEST_MS = 946_684_800_000
LATEST_MS = 4_102_444_800_000

Row = tuple[float | None, ...]
Bounds = tuple[float | None, float | None]


class RecordError(ValueError):
    """A stream record cannot be scored; the text is the reason that goes into quarantine with it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason if len(reason) <= REASON_LIMIT else reason[: REASON_LIMIT - 3] + "...")


class Layout(NamedTuple):
    """What a model expects of a record: feature names and physical bounds in order, and the rows that it can use."""

    features: tuple[str, ...]
    bounds: tuple[Bounds, ...]
    context_rows: int


class Record(NamedTuple):
    """One decoded record: rows oldest first, None being a missing value.

    The ``newest`` last rows are to be labelled, those before them are their context, as many as the model can use.
    """

    service: str
    role: str
    instance_id: str
    ts: tuple[int, ...]
    rows: tuple[Row, ...]
    newest: int = 1


def decode(data: object, layout: Layout) -> Record:
    """Decode the base64 text of a Kinesis record; raises RecordError with the reason when it is not a valid record."""
    if not isinstance(data, str):
        raise RecordError("data is not text")
    if len(data) > DATA_LIMIT:
        raise RecordError(f"data has {len(data)} base64 characters, the limit is {DATA_LIMIT}")
    try:
        text = binascii.a2b_base64(data, strict_mode=True).decode()
    except binascii.Error as error:
        raise RecordError(f"data is not base64: {error}") from error
    except UnicodeDecodeError as error:
        raise RecordError(f"data is not UTF-8: {error.reason} at byte {error.start}") from error
    except ValueError as error:
        raise RecordError("data is not base64: it holds characters that are not ASCII") from error
    try:
        document = json.loads(text, parse_constant=_refuse_constant)
    except RecordError:
        raise
    except (ValueError, RecursionError) as error:
        raise RecordError(f"data is not JSON: {error}") from error
    return parse(document, layout)


def parse(document: object, layout: Layout) -> Record:
    """Check a record that is JSON already; raises RecordError with the reason when it is not a valid record."""
    if not isinstance(document, dict):
        raise RecordError("the record is not a JSON object")
    version = document.get("v")
    if type(version) is not int or version != VERSION:
        raise RecordError(f"v is {version!r}, this function reads {VERSION}")
    service, role, instance_id = (_name(document, key) for key in ("service", "role", "instance_id"))
    ts = _times(document.get("ts"))
    rows = document.get("rows")
    if not isinstance(rows, list) or len(rows) != len(ts):
        raise RecordError(f"rows must be a list of as many rows as ts has times, {len(ts)}")
    width = len(layout.features)
    for position, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != width:
            found = f"{len(row)} values" if isinstance(row, list) else "no list"
            raise RecordError(f"rows[{position}] has {found}, the model has {width} features")
        for value in row:
            kind = type(value)
            if value is not None and (
                (kind is not float and kind is not int) or not -MAGNITUDE_LIMIT <= value <= MAGNITUDE_LIMIT
            ):
                feature = next(name for name, found in zip(layout.features, row, strict=True) if found is value)
                raise RecordError(f"rows[{position}] {feature} is {value!r}, expected null or a finite number")
    _check_bounds(rows[-1], layout)
    keep = layout.context_rows
    tail = tuple(tuple(None if value is None else float(value) for value in row) for row in rows[-keep:])
    return Record(service, role, instance_id, ts[-keep:], tail)


def _name(document: dict[str, Any], key: str) -> str:
    """Give a name of the record; it becomes part of keys and messages, so it must be short and printable."""
    value = document.get(key)
    if not isinstance(value, str) or not value or not value.isprintable():
        raise RecordError(f"{key} must be printable text, found {value!r}")
    size = len(value.encode())
    if size > NAME_LIMIT:
        raise RecordError(f"{key} has {size} bytes, the limit is {NAME_LIMIT}")
    return value


def _times(value: object) -> tuple[int, ...]:
    """Check the times of the rows: epoch milliseconds, strictly ascending."""
    if not isinstance(value, list) or not value:
        raise RecordError("ts must be a list of at least one time")
    previous = 0
    for position, moment in enumerate(value):
        if type(moment) is not int or not EARLIEST_MS <= moment < LATEST_MS:
            raise RecordError(f"ts[{position}] is {moment!r}: not epoch milliseconds between 2000 and 2100")
        if moment <= previous:
            raise RecordError(f"ts[{position}] is {moment}, not later than the time before it, {previous}")
        previous = moment
    return tuple(value)


def _check_bounds(row: list[float | None], layout: Layout) -> None:
    """Refuse a newest row with a value that the metric cannot physically have."""
    for feature, (lower, upper), value in zip(layout.features, layout.bounds, row, strict=True):
        if value is None:
            continue
        if lower is not None and value < lower:
            raise RecordError(f"{feature} is {value:.10g}, below its lower bound {lower:g}")
        if upper is not None and value > upper:
            raise RecordError(f"{feature} is {value:.10g}, above its upper bound {upper:g}")


def _refuse_constant(name: str) -> NoReturn:
    raise RecordError(f"data is not JSON: {name} is not a JSON number")

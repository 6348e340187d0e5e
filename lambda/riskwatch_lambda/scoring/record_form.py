"""Form of a stream record: JSON in base64, names, times and features.

Each check raises RecordError with a reason. ``records`` describes the two forms of a record and reads the rows.
"""

from __future__ import annotations

import binascii
import json
from typing import TYPE_CHECKING, Any, NoReturn

from riskwatch_lambda.model.row_schema import RecordError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from riskwatch_lambda.model.row_schema import RowSchema

ONE_ROW, PACK = 1, 2
KIND = "kind"
NAME_LIMIT = 255
# 2000-01-01 and 2100-01-01: times in seconds or microseconds by mistake lie outside.
EARLIEST_MS = 946_684_800_000
LATEST_MS = 4_102_444_800_000


def read_document(data: str) -> dict[str, object]:
    """Return the JSON object in base64 text."""
    try:
        text = binascii.a2b_base64(data, strict_mode=True).decode().strip(" \t\r\n")
    except binascii.Error as error:
        raise RecordError(f"data is not base64: {error}") from error
    except UnicodeDecodeError as error:
        raise RecordError(f"data is not UTF-8: {error.reason} at byte {error.start}") from error
    except ValueError as error:
        raise RecordError("data is not base64: it holds characters that are not ASCII") from error
    try:
        document, end = _JSON.raw_decode(text)
        if end != len(text):
            raise RecordError(f"data is not JSON: more follows after character {end}")
    except RecordError:
        raise
    except (ValueError, RecursionError) as error:
        raise RecordError(f"data is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise RecordError("the record is not a JSON object")
    return document


def read_version(document: Mapping[str, object]) -> int:
    """Return the version of a record: ``ONE_ROW`` or ``PACK``."""
    version: Any = document.get("v")
    if type(version) is not int or version not in (ONE_ROW, PACK):
        raise RecordError(f"v is {version!r}, this function reads {ONE_ROW} and {PACK}")
    return version


def find_schema(document: Mapping[str, object], first: RowSchema, further: Mapping[str, RowSchema]) -> RowSchema:
    """Return the schema of the kind that a record states; a record that states none is of the first kind."""
    kind = document.get(KIND)
    if kind is None or kind == first.resource_kind:
        return first
    if not isinstance(kind, str):
        raise RecordError(f"{KIND} must be text, found {type(kind).__name__}")
    if kind in further:
        return further[kind]
    known = ", ".join([first.resource_kind or "one kind without a name", *further])
    raise RecordError(f"{KIND} is {kind!r:.{NAME_LIMIT}}, the model has {known}")


def stated_kind(document: Mapping[str, object], first: RowSchema) -> str:
    """Return the kind that a record, even a malformed one, is of; empty if it is unknown."""
    kind = document.get(KIND)
    if kind is None:
        return first.resource_kind
    return kind[:NAME_LIMIT] if isinstance(kind, str) else ""


def count_rows(entry: object) -> int:
    """Return how many rows an entry, even a malformed one, asks to label."""
    newest, ts = (entry.get("newest"), entry.get("ts")) if isinstance(entry, dict) else (None, None)
    rows = len(ts) if isinstance(ts, list) else 1
    return max(1, min(newest, rows) if type(newest) is int else rows)


def count_values(columns: Iterable[object], rows: int | None = None) -> int:
    """Return how many numbers the last rows of columns have, by default all rows.

    A column that is not a list has none.
    """
    return sum(
        type(value) in (int, float)
        for column in columns
        if isinstance(column, list)
        for value in (column if rows is None else column[-rows:])
    )


def read_name(document: Mapping[str, object], key: str) -> str:
    """Return a name, checked to be short and printable for keys and messages."""
    value = document.get(key)
    if not isinstance(value, str) or not value or not value.isprintable():
        raise RecordError(f"{key} must be printable text, found {value!r}")
    if (size := len(value) if value.isascii() else len(value.encode())) > NAME_LIMIT:
        raise RecordError(f"{key} has {size} bytes, the limit is {NAME_LIMIT}")
    return value


def find_columns(features: object, row_schema: RowSchema) -> list[int]:
    """Return the columns of the model's features among the features of a pack."""
    if not isinstance(features, list) or not all(isinstance(name, str) for name in features):
        raise RecordError("features must be a list of names")
    positions = {name: position for position, name in enumerate(features)}
    if len(positions) != len(features):
        raise RecordError("features names a feature twice")
    missing = [name for name in row_schema.features if name not in positions]
    if missing:
        raise RecordError(f"features has no {missing[0]}, which the model needs")
    return [positions[name] for name in row_schema.features]


def read_times(value: object) -> list[int]:
    """Return the times of rows; raises RecordError unless all are epoch ms."""
    if not isinstance(value, list) or not value:
        raise RecordError("ts must be a list of at least one time")
    for position, moment in enumerate(value):
        if type(moment) is not int or not EARLIEST_MS <= moment < LATEST_MS:
            raise RecordError(f"ts[{position}] is {moment!r}: not epoch milliseconds between 2000 and 2100")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object; raises RecordError for a key with two values."""
    document = dict(pairs)
    if len(document) != len(pairs):
        names = [name for name, _ in pairs]
        raise RecordError(f"data has {next(name for name in names if names.count(name) > 1)!r} twice in one object")
    return document


def _refuse_constant(name: str) -> NoReturn:
    raise RecordError(f"data is not JSON: {name} is not a JSON number")


_JSON = json.JSONDecoder(parse_constant=_refuse_constant, object_pairs_hook=_unique)

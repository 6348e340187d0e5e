"""Stream records: encode packs, decode strictly, refuse with a reason.

A record is JSON in base64, in one of two forms. One row to label, with its context (at most 64 KB)::

    {"v": 1, "service": str, "role": str, "instance_id": str, "ts": [epoch ms, ...],
     "rows": [[number or null, ...], ...]}

oldest row first. The last row is the one to label; the rows before it are its context. A pack of many rows of the
instances of one service (at most 1 MB)::

    {"v": 2, "service": str, "features": [str, ...],
     "instances": [{"id": str, "role": str, "newest": n, "ts": [epoch ms, ...],
                    "columns": [[number or null, ...], ...]}, ...]}

with one column for each of ``features``, oldest row first. The last ``newest`` rows of an instance are to be labelled,
each with the rows before it as context. The decoder finds columns by feature name, so a model with the same features in
another order can read the pack.

Both forms may have a ``"kind": str``, the kind of resource of all their instances. Without it, they are of the first
kind of the model. The part of the model for that kind decides which features and bounds apply.

The decoder refuses

- a record that is malformed, or of a kind that the model does not have,
- an instance with malformed rows in a well-formed pack; a value that is neither a number nor null is malformed,
- a row with a time that is not later than that of the previous row, or too far ahead of the arrival of the record
  (``arrival``), or with mostly impossible values (``row_check``). Such a row is no context of other rows either,
  because training excludes it,
- an impossible value of any other row: it is missing from then on.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from riskwatch_lambda.arrival import find_ahead
from riskwatch_lambda.model.row_check import NO_REFUSED_VALUES, check_rows, is_sound
from riskwatch_lambda.model.row_schema import RecordError
from riskwatch_lambda.scoring.record_form import (
    KIND,
    ONE_ROW,
    PACK,
    count_rows,
    count_values,
    find_columns,
    find_schema,
    read_document,
    read_name,
    read_times,
    read_version,
    stated_kind,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import NotRequired, TypedDict

    from riskwatch_lambda.model.row_check import RefusedValues
    from riskwatch_lambda.model.row_schema import Row, RowSchema

    Schemas = Mapping[str, RowSchema]

    class PackedInstance(TypedDict):
        """Rows of one instance in a pack, oldest first.

        ``ts`` is in epoch milliseconds; there is one column per feature.
        """

        id: str
        role: str
        newest: int
        ts: list[int]
        columns: list[list[float | None]]

    class PackDocument(TypedDict):
        """A pack: rows of the instances of one service and kind."""

        v: int
        service: str
        kind: NotRequired[str]  # the first kind of the model
        features: list[str]
        instances: list[PackedInstance]


# Characters of base64. Kinesis accepts larger records.
ONE_ROW_LIMIT = 64 * 1024
PACK_LIMIT = 1024 * 1024
NO_FURTHER: Schemas = MappingProxyType({})


class Record(NamedTuple):
    """Rows of one instance, oldest first; the last ``newest`` rows are to be labelled.

    The rows before them are context, at most as many as the model can use. Times are epoch milliseconds, strictly
    ascending, with gaps of any length. None is a missing value. ``refused_values`` are the impossible values of the
    rows to label, which are missing in ``rows``. ``resource_kind`` is that of the schema that the rows have.
    """

    service: str
    role: str
    instance_id: str
    ts: tuple[int, ...]
    rows: tuple[Row, ...]
    newest: int = 1
    refused_values: RefusedValues = NO_REFUSED_VALUES
    resource_kind: str = ""


class Refused(NamedTuple):
    """Rows that cannot be scored; ``document`` is a stream record of these rows only.

    ``values`` is the number of their values of features of the model. ``resource_kind`` is their kind.
    """

    reason: str
    rows: int
    values: int
    document: Mapping[str, object]
    resource_kind: str = ""


class Decoded(NamedTuple):
    """Content of a stream record: instances with rows to label, and refused rows."""

    records: tuple[Record, ...]
    refused: tuple[Refused, ...] = ()


def encode_pack(
    service: str, features: Sequence[str], instances: Sequence[PackedInstance], kind: str | None = None
) -> bytes:
    """Return a pack as the bytes to put into the stream.

    ``kind`` is None for rows of the first kind of the model. Kinesis delivers the bytes to ``decode`` as base64. Raises
    ValueError for NaN and infinite values: a missing value is None.
    """
    document: PackDocument = {"v": PACK, "service": service, "features": list(features), "instances": list(instances)}
    if kind is not None:
        document["kind"] = kind
    return json.dumps(document, separators=(",", ":"), allow_nan=False).encode()


def decode(
    data: object, row_schema: RowSchema, arrived_ms: int | None = None, further: Schemas = NO_FURTHER
) -> Decoded:
    """Return the content of a Kinesis record, which is base64 text.

    ``row_schema`` is that of the first kind of the model, ``further`` has those of the other kinds by kind. Rows ahead
    of ``arrived_ms`` (epoch ms) are refused; if it is unknown, none are. Raises RecordError with the reason if the
    record as a whole is malformed.
    """
    if not isinstance(data, str):
        raise RecordError("data is not text")
    if len(data) > PACK_LIMIT:
        raise RecordError(f"data has {len(data)} base64 characters, the limit is {PACK_LIMIT}")
    document = read_document(data)
    if read_version(document) == PACK:
        return unpack(document, row_schema, arrived_ms, further)
    if len(data) > ONE_ROW_LIMIT:
        raise RecordError(f"data has {len(data)} base64 characters, the limit of v {ONE_ROW} is {ONE_ROW_LIMIT}")
    try:
        return Decoded((_one_row(document, find_schema(document, row_schema, further), arrived_ms),))
    except RecordError as error:
        rows = document.get("rows")
        values = count_values(rows[-1:], None) if isinstance(rows, list) else 0
        raise RecordError(str(error), values=values, resource_kind=stated_kind(document, row_schema)) from error


def parse(document: object, row_schema: RowSchema, further: Schemas = NO_FURTHER) -> Record:
    """Return a one-row record from parsed JSON; schemas as in ``decode``. Raises RecordError."""
    if not isinstance(document, dict) or read_version(document) != ONE_ROW:
        raise RecordError(f"expected a record of v {ONE_ROW}")
    return _one_row(document, find_schema(document, row_schema, further))


def _one_row(document: Mapping[str, Any], row_schema: RowSchema, arrived_ms: int | None = None) -> Record:
    service, role, instance_id = (read_name(document, key) for key in ("service", "role", "instance_id"))
    ts = read_times(document.get("ts"))
    rows = document.get("rows")
    if not isinstance(rows, list) or len(rows) != len(ts):
        raise RecordError(f"rows must be a list of as many rows as ts has times, {len(ts)}")
    width = len(row_schema.features)
    for position, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != width:
            content = f"{len(row)} values" if isinstance(row, list) else "no list"
            raise RecordError(f"rows[{position}] has {content}, the model has {width} features")
    if len(ts) <= row_schema.context_rows and is_sound(ts, rows, row_schema) and not find_ahead(ts, arrived_ms):
        kept = tuple(map(tuple, rows))
        return Record(service, role, instance_id, tuple(ts), kept, resource_kind=row_schema.resource_kind)
    checked = check_rows(ts, list(zip(*rows, strict=True)), 1, row_schema, arrived_ms)
    if len(ts) - 1 in checked.refused_rows:
        raise RecordError(checked.refused_rows[len(ts) - 1].reason)
    values = checked.refused_values
    return Record(service, role, instance_id, checked.ts, checked.rows, 1, values, row_schema.resource_kind)


def unpack(
    document: Mapping[str, object],
    row_schema: RowSchema,
    arrived_ms: int | None = None,
    further: Schemas = NO_FURTHER,
) -> Decoded:
    """Return the content of a pack from its parsed JSON, as ``decode`` does.

    Raises RecordError if the kind, the service, the features or the list of instances is invalid.
    """
    instances = document.get("instances")
    kind = stated_kind(document, row_schema)
    try:
        row_schema = find_schema(document, row_schema, further)
        header = {"v": PACK, "service": read_name(document, "service"), "features": document.get("features")}
        if KIND in document:
            header[KIND] = document[KIND]
        places = find_columns(header["features"], row_schema)
        if not isinstance(instances, list) or not instances:
            raise RecordError("instances must be a list of at least one instance")
    except RecordError as error:
        rows, values = 1, 0
        if isinstance(instances, list):
            rows, values = sum(map(count_rows, instances)), sum(map(_count_values, instances))
        raise RecordError(str(error), max(1, rows), values, kind) from error
    records: list[Record] = []
    refused: list[Refused] = []
    seen: set[str] = set()
    for entry in instances:
        try:
            record, refused_rows = _instance(header, entry, places, row_schema, arrived_ms)
            if record.instance_id in seen:
                raise RecordError(f"the pack holds {record.instance_id} twice")
        except RecordError as error:
            part = {**header, "instances": [entry]}
            refused.append(Refused(str(error), count_rows(entry), _count_values(entry, places), part, kind))
            continue
        seen.add(record.instance_id)
        refused += refused_rows
        if record.newest:
            records.append(record)
    return Decoded(tuple(records), tuple(refused))


def _instance(
    header: Mapping[str, Any], entry: object, places: Sequence[int], row_schema: RowSchema, arrived_ms: int | None
) -> tuple[Record, list[Refused]]:
    """Return the valid rows of an instance of a pack, and the refused ones that were to be labelled.

    ``newest`` of the record is 0 if all rows to label are refused.
    """
    if not isinstance(entry, dict):
        raise RecordError("an entry of instances is not a JSON object")
    instance_id, role = read_name(entry, "id"), read_name(entry, "role")
    ts = read_times(entry.get("ts"))
    newest = entry.get("newest")
    if type(newest) is not int or not 1 <= newest <= len(ts):
        raise RecordError(f"newest is {newest!r}, expected a number of rows from 1 to {len(ts)}")
    columns = entry.get("columns")
    width = len(header["features"])
    if not isinstance(columns, list) or len(columns) != width:
        content = f"{len(columns)} columns" if isinstance(columns, list) else "no columns"
        raise RecordError(f"{instance_id} has {content} for {width} features")
    used_columns = [columns[index] for index in places]
    for feature, column in zip(row_schema.features, used_columns, strict=True):
        if not isinstance(column, list) or len(column) != len(ts):
            raise RecordError(f"the column of {feature} must be a list of as many values as ts has times, {len(ts)}")
    checked = check_rows(ts, used_columns, newest, row_schema, arrived_ms)
    reasons = checked.refused_rows
    usable = [position for position in range(len(ts)) if position not in reasons] if reasons else []
    kind = row_schema.resource_kind
    refused = [
        Refused(row.reason, 1, row.values, _alone(header, entry, [*_before(usable, at, row_schema), at]), kind)
        for at, row in sorted(reasons.items())
        if at >= len(ts) - newest
    ]
    values = checked.refused_values
    record = Record(header["service"], role, instance_id, checked.ts, checked.rows, checked.newest, values, kind)
    return record, refused


def _before(usable: list[int], position: int, row_schema: RowSchema) -> list[int]:
    """Return the positions of the context of a row.

    These are valid rows, at most as many as the model can use.
    """
    end = bisect_left(usable, position)
    return usable[max(0, end - row_schema.context_rows + 1) : end]


def _count_values(entry: object, places: Sequence[int] | None = None) -> int:
    """Return how many values the rows to label of an entry have, even of a malformed one.

    ``places`` are the columns to count, by default all.
    """
    columns = entry.get("columns") if isinstance(entry, dict) else None
    if not isinstance(columns, list):
        return 0
    used = columns if places is None else [columns[place] for place in places if place < len(columns)]
    return count_values(used, count_rows(entry))


def _alone(header: Mapping[str, Any], entry: Mapping[str, Any], positions: Sequence[int]) -> dict[str, Any]:
    """Return a pack of one row, the last of ``positions``.

    The other positions are its context. It contains all features of the original pack, because a later model may need
    features that this one does not use.
    """
    ts = entry["ts"]
    features = [
        (name, [column[position] for position in positions])
        for name, column in zip(header["features"], entry["columns"], strict=True)
        if isinstance(column, list) and len(column) == len(ts)
    ]
    instance = {
        "id": entry["id"],
        "role": entry["role"],
        "newest": 1,
        "ts": [ts[position] for position in positions],
        "columns": [column for _, column in features],
    }
    return {**header, "features": [name for name, _ in features], "instances": [instance]}

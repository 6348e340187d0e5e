"""Strict decoding of stream records: what cannot be scored is refused with a reason and never guessed.

A record is JSON in base64, in one of two forms. One row to label, with its context (at most 64 KB)::

    {"v": 1, "service": str, "role": str, "instance_id": str, "ts": [epoch ms, ...],
     "rows": [[number or null, ...], ...]}

oldest row first; the last row is the one to label, those before it are its context. A pack of many rows of the
instances of one service (at most 1 MB)::

    {"v": 2, "service": str, "features": [str, ...],
     "instances": [{"id": str, "role": str, "newest": n, "ts": [epoch ms, ...],
                    "columns": [[number or null, ...], ...]}, ...]}

with one column for each of ``features``, oldest row first; the ``newest`` last rows of an instance are to be labelled,
each in the light of those before it. Columns are found by the name of their feature, so a pack outlives a model that
puts the same features in another order.

Three things can be refused. A record that cannot be read; in a pack that can be read, an instance whose rows cannot be
read; and a row that no instance can have: a value beyond its bounds, a time not later than the one before it. Such a
row is nobody's context either, because training never sees it.
"""

from __future__ import annotations

import binascii
import json
from bisect import bisect_left
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from riskwatch_lambda.model.row_schema import RecordError, as_floats, find_faults, is_sound, keep_possible, kinds_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from riskwatch_lambda.model.row_schema import Layout, Row

ONE_ROW, PACK = 1, 2
# Characters of base64; a Kinesis record may be larger than either.
ONE_ROW_LIMIT = 64 * 1024
PACK_LIMIT = 1024 * 1024
NAME_LIMIT = 255
# 2000-01-01 and 2100-01-01: seconds or microseconds by mistake fall outside.
EARLIEST_MS = 946_684_800_000
LATEST_MS = 4_102_444_800_000


class Record(NamedTuple):
    """The rows of one instance, oldest first, of which the ``newest`` last ones are to be labelled.

    Before the first of these stand as many rows as the model can use at most. Times are epoch ms, strictly ascending,
    with gaps of any length; None is a missing value.
    """

    service: str
    role: str
    instance_id: str
    ts: tuple[int, ...]
    rows: tuple[Row, ...]
    newest: int = 1


class Refused(NamedTuple):
    """Rows of a record that cannot be scored; ``document`` is a stream record that holds them alone."""

    reason: str
    rows: int
    document: Mapping[str, Any]


class Decoded(NamedTuple):
    """What a record holds: instances with rows to label, and what had to be refused."""

    records: tuple[Record, ...]
    refused: tuple[Refused, ...] = ()


def decode(data: object, layout: Layout) -> Decoded:
    """Decode the base64 text of a Kinesis record; raises RecordError with the reason when nothing of it can be read."""
    if not isinstance(data, str):
        raise RecordError("data is not text")
    if len(data) > PACK_LIMIT:
        raise RecordError(f"data has {len(data)} base64 characters, the limit is {PACK_LIMIT}")
    document = _document(data)
    if _version(document) == PACK:
        return unpack(document, layout)
    if len(data) > ONE_ROW_LIMIT:
        raise RecordError(f"data has {len(data)} base64 characters, the limit of v {ONE_ROW} is {ONE_ROW_LIMIT}")
    return Decoded((_one_row(document, layout),))


def parse(document: object, layout: Layout) -> Record:
    """Check a one-row record that is JSON already; raises RecordError with the reason when it is not a valid one."""
    if not isinstance(document, dict) or _version(document) != ONE_ROW:
        raise RecordError(f"expected a record of v {ONE_ROW}")
    return _one_row(document, layout)


def _one_row(document: Mapping[str, Any], layout: Layout) -> Record:
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
    if len(ts) <= layout.context_rows and is_sound(ts, rows, layout):
        return Record(service, role, instance_id, tuple(ts), tuple(map(tuple, rows)))
    columns = list(zip(*rows, strict=True))
    kinds = kinds_of(columns, layout)
    faults = find_faults(ts, columns, kinds, layout)
    if len(ts) - 1 in faults:
        raise RecordError(faults[len(ts) - 1])
    kept_ts, kept_rows, _ = keep_possible(ts, columns, 1, faults, layout.context_rows)
    if int in kinds:
        kept_rows = as_floats(kept_rows)
    return Record(service, role, instance_id, kept_ts, kept_rows)


def unpack(document: Mapping[str, Any], layout: Layout) -> Decoded:
    """Check a pack that is JSON already; raises RecordError when it says neither of what nor of whom its rows are."""
    instances = document.get("instances")
    try:
        header = {"v": PACK, "service": _name(document, "service"), "features": document.get("features")}
        places = _places(header["features"], layout)
        if not isinstance(instances, list) or not instances:
            raise RecordError("instances must be a list of at least one instance")
    except RecordError as error:
        rows = sum(map(_count, instances)) if isinstance(instances, list) else 1
        raise RecordError(str(error), max(1, rows)) from error
    records: list[Record] = []
    refused: list[Refused] = []
    seen: set[str] = set()
    for entry in instances:
        try:
            found, impossible = _instance(header, entry, places, layout)
            if found.instance_id in seen:
                raise RecordError(f"the pack holds {found.instance_id} twice")
        except RecordError as error:
            refused.append(Refused(str(error), _count(entry), {**header, "instances": [entry]}))
            continue
        seen.add(found.instance_id)
        refused += impossible
        if found.newest:
            records.append(found)
    return Decoded(tuple(records), tuple(refused))


def _document(data: str) -> dict[str, Any]:
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


def _version(document: Mapping[str, Any]) -> int:
    version: Any = document.get("v")
    if type(version) is not int or version not in (ONE_ROW, PACK):
        raise RecordError(f"v is {version!r}, this function reads {ONE_ROW} and {PACK}")
    return version


def _instance(
    header: Mapping[str, Any], entry: object, places: Sequence[int], layout: Layout
) -> tuple[Record, list[Refused]]:
    """Give an instance of a pack with its possible rows, and its impossible rows that were to be labelled.

    The record has no ``newest`` row where all of them are impossible.
    """
    if not isinstance(entry, dict):
        raise RecordError("an entry of instances is not a JSON object")
    instance_id, role = _name(entry, "id"), _name(entry, "role")
    ts = _times(entry.get("ts"))
    newest = entry.get("newest")
    if type(newest) is not int or not 1 <= newest <= len(ts):
        raise RecordError(f"newest is {newest!r}, expected a number of rows from 1 to {len(ts)}")
    columns = entry.get("columns")
    width = len(header["features"])
    if not isinstance(columns, list) or len(columns) != width:
        found = f"{len(columns)} columns" if isinstance(columns, list) else "no columns"
        raise RecordError(f"{instance_id} has {found} for {width} features")
    wanted = [columns[place] for place in places]
    for feature, column in zip(layout.features, wanted, strict=True):
        if not isinstance(column, list) or len(column) != len(ts):
            raise RecordError(f"the column of {feature} must be a list of as many values as ts has times, {len(ts)}")
    kinds = kinds_of(wanted, layout)
    faults = find_faults(ts, wanted, kinds, layout)
    kept_ts, kept_rows, left = keep_possible(ts, wanted, newest, faults, layout.context_rows)
    if int in kinds:
        kept_rows = as_floats(kept_rows)
    possible = [position for position in range(len(ts)) if position not in faults] if faults else []
    impossible = [
        Refused(reason, 1, _alone(header, entry, [*_before(possible, position, layout.context_rows), position]))
        for position, reason in sorted(faults.items())
        if position >= len(ts) - newest
    ]
    return Record(header["service"], role, instance_id, kept_ts, kept_rows, left), impossible


def _before(possible: list[int], position: int, context_rows: int) -> list[int]:
    """Give the possible rows before a row that are its context, at most as many as the model can use."""
    end = bisect_left(possible, position)
    return possible[max(0, end - context_rows + 1) : end]


def _alone(header: Mapping[str, Any], entry: Mapping[str, Any], positions: Sequence[int]) -> dict[str, Any]:
    """Give the last of some rows of an instance, with the others as its context, as a pack of its own.

    It names its features, all that the pack has values of: a model that comes later may need others.
    """
    ts = entry["ts"]
    named = [
        (name, [column[position] for position in positions])
        for name, column in zip(header["features"], entry["columns"], strict=True)
        if isinstance(column, list) and len(column) == len(ts)
    ]
    alone = {
        "id": entry["id"],
        "role": entry["role"],
        "newest": 1,
        "ts": [ts[position] for position in positions],
        "columns": [column for _, column in named],
    }
    return {**header, "features": [name for name, _ in named], "instances": [alone]}


def _count(entry: object) -> int:
    """Tell how many rows an instance was to have labelled, at least 1: also where it is damaged."""
    newest, ts = (entry.get("newest"), entry.get("ts")) if isinstance(entry, dict) else (None, None)
    rows = len(ts) if isinstance(ts, list) else 1
    return max(1, min(newest, rows) if type(newest) is int else rows)


def _name(document: Mapping[str, Any], key: str) -> str:
    """Give a name of the record; it becomes part of keys and messages, so it must be short and printable."""
    value = document.get(key)
    if not isinstance(value, str) or not value or not value.isprintable():
        raise RecordError(f"{key} must be printable text, found {value!r}")
    if (size := len(value) if value.isascii() else len(value.encode())) > NAME_LIMIT:
        raise RecordError(f"{key} has {size} bytes, the limit is {NAME_LIMIT}")
    return value


def _places(features: object, layout: Layout) -> list[int]:
    """Find the columns of the model's features among those that a pack names."""
    if not isinstance(features, list) or not all(isinstance(name, str) for name in features):
        raise RecordError("features must be a list of names")
    place = {name: position for position, name in enumerate(features)}
    if len(place) != len(features):
        raise RecordError("features names a feature twice")
    missing = [name for name in layout.features if name not in place]
    if missing:
        raise RecordError(f"features has no {missing[0]}, which the model needs")
    return [place[name] for name in layout.features]


def _times(value: object) -> list[int]:
    """Check the form of the times of the rows: epoch milliseconds."""
    if not isinstance(value, list) or not value:
        raise RecordError("ts must be a list of at least one time")
    for position, moment in enumerate(value):
        if type(moment) is not int or not EARLIEST_MS <= moment < LATEST_MS:
            raise RecordError(f"ts[{position}] is {moment!r}: not epoch milliseconds between 2000 and 2100")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object, unless it has one key twice: which of the two values was meant?"""
    document = dict(pairs)
    if len(document) != len(pairs):
        names = [name for name, _ in pairs]
        raise RecordError(f"data has {next(name for name in names if names.count(name) > 1)!r} twice in one object")
    return document


def _refuse_constant(name: str) -> NoReturn:
    raise RecordError(f"data is not JSON: {name} is not a JSON number")


_JSON = json.JSONDecoder(parse_constant=_refuse_constant, object_pairs_hook=_unique)

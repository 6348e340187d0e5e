"""Read many labelled objects at a time: gzip JSON lines of the Lambda.

The objects are under `labelled/arrived/`. Arrow decodes the lines of many objects as one text, which takes a third of
the time of decoding row by row. If a text cannot be decoded, its objects are decoded one by one: the damaged one is
reported, and the others are read.
"""

from __future__ import annotations

import gzip
import io
import json
import logging
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from riskwatch_ml.core.errors import OperationError
from riskwatch_ml.core.listing import some

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from riskwatch_ml.storage.bucket import Store

READ_AT_ONCE = 64
# Bytes of lines that Arrow decodes in one call: few enough for memory, many enough to make the cost of a call small.
_TEXT_BYTES = 16_000_000
# Lambda hands over at most 6 MB of records at a time; their labelled rows take some ten times as much.
_OBJECT_BYTES = 100_000_000
_MOST_BRACKETS = 500

HEAD = ("instance_id", "timestamp", "service", "role", "resource_kind")
TAIL = (
    "score",
    "level",
    "risk",
    "unusual",
    "alert",
    "episode_id",
    "context",
    "model_id",
    "model_version",
    "reasons",
    "missing",
    "refused_values",
    "arrived",
)
_FLAGS = ("unusual", "alert", "context")
_TEXTS = (
    *(
        "instance_id",
        "service",
        "role",
        "resource_kind",
        "level",
        "risk",
        "episode_id",
        "model_id",
        "model_version",
        "reasons",
    ),
    *("arrived", "missing", "refused_values"),
)
# Lists, stored as JSON text.
_LISTS = ("reasons", "missing", "refused_values")
# Rows of earlier releases have none of these.
_LATER = ("resource_kind", "missing", "refused_values")
# A row has no score while its instance has too few rows, and no episode while none is open.
_NEVER_NULL = tuple(name for name in (*HEAD, *TAIL) if name not in ("score", "episode_id", *_LATER))
_LINES = pj.ParseOptions(
    explicit_schema=pa.schema(
        [
            *(pa.field(name, pa.string()) for name in ("timestamp", *_TEXTS) if name not in _LISTS),
            *(pa.field(name, pa.bool_()) for name in _FLAGS),
            pa.field("score", pa.float64()),
        ]
    ),
    unexpected_field_behavior="infer",
)
_STAMP = pa.timestamp("ms", tz="UTC")
_NAMES = 5  # columns that a message names

_log = logging.getLogger(__name__)


class _UnreadableError(OperationError):
    """Bytes are not labelled rows; the message says why."""


def chunks(store: Store, keys: Sequence[str], most_rows: int) -> Iterator[tuple[list[str], pd.DataFrame, list[str]]]:
    """Read objects in order, in chunks.

    Yields readable keys, their rows in key order, and unreadable keys. A chunk ends with the object that brings it to
    `most_rows` rows. An unreadable object is logged.
    """
    chunk, texts = _Chunk(), {}
    with ThreadPoolExecutor(8) as pool:
        for start in range(0, len(keys), READ_AT_ONCE):
            batch = keys[start : start + READ_AT_ONCE]
            for key, text in zip(batch, pool.map(lambda key: _text(store, key), batch), strict=True):
                if text is None:
                    chunk.bad.append(key)
                    continue
                texts[key] = text
                if sum(map(len, texts.values())) >= _TEXT_BYTES or len(texts) == READ_AT_ONCE:
                    chunk.add(texts)
                    texts = {}
                if len(chunk) >= most_rows:
                    yield chunk.good, joined(chunk.frames), chunk.bad
                    chunk = _Chunk()
    chunk.add(texts)
    if chunk.good or chunk.bad:
        yield chunk.good, joined(chunk.frames), chunk.bad


def typed(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the columns in their order and with their types.

    Every column that is not part of the label is a feature. A text or list that a row of an earlier release lacks is
    null.
    """
    features = [name for name in frame.columns if name not in HEAD and name not in TAIL]
    frame = frame.assign(**{name: None for name in _LATER if name not in frame.columns})
    return frame[[*HEAD, *features, *TAIL]].astype(
        {
            "timestamp": "datetime64[ms, UTC]",
            **dict.fromkeys([*features, "score"], "float64"),
            **dict.fromkeys(_FLAGS, "bool"),
            **dict.fromkeys(_TEXTS, "str"),
        }
    )


def check_stored(schema: pa.Schema) -> None:
    """Refuse the schema of an object that compaction has not written; raises ValueError, which names the columns.

    Validated rows in the place of labelled ones have instance and time, too: they would count as rows without a level.
    """
    missing = [name for name in _NEVER_NULL if name not in schema.names]
    if missing:
        raise ValueError(f"labelled rows have {some(missing, _NAMES)}, the object does not")
    wrong = [field.name for field in schema if schema.names.count(field.name) > 1 or not _is_stored(field)]
    if wrong:
        raise ValueError(f"{some(wrong, _NAMES)}: doubled, or of a type that labelled rows do not have")


def _is_stored(field: pa.Field) -> bool:
    """Return whether `typed` reads a column without changing its values; one without values may have no type."""
    kind = field.type
    if pa.types.is_null(kind):
        return field.name not in _NEVER_NULL
    if field.name == "timestamp":
        return bool(pa.types.is_timestamp(kind))
    if field.name in _FLAGS:
        return bool(pa.types.is_boolean(kind))
    if field.name in _TEXTS:
        return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))


def joined(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return frames one after another; a feature that a frame lacks, for example one of another kind, is NaN there.

    Without rows, the frame has the columns that every labelled row has.
    """
    not_empty = [frame for frame in frames if not frame.empty]
    if not not_empty:
        return typed(pd.DataFrame(columns=[*HEAD, *TAIL]))
    return typed(pd.concat(not_empty, ignore_index=True))


def select(frame: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Return some columns; one that the rows lack, because an earlier release or another kind wrote them, is null."""
    lacking = {name: "str" if name in _TEXTS else "float64" for name in columns if name not in frame.columns}
    nulls = {name: pd.Series(index=frame.index, dtype=kind) for name, kind in lacking.items()}
    return frame.assign(**nulls)[list(columns)]


class _Chunk:
    """The rows of many objects, in the order of the objects."""

    def __init__(self) -> None:
        self.good: list[str] = []
        self.bad: list[str] = []
        self.frames: list[pd.DataFrame] = []

    def __len__(self) -> int:
        return sum(map(len, self.frames))

    def add(self, texts: dict[str, bytes]) -> None:
        try:
            self.frames.append(_frame(b"".join(texts.values())))
            self.good += texts
        except _UnreadableError as error:
            if len(texts) == 1:
                self.bad += texts
                _warn(next(iter(texts)), error)
                return
            for key, text in texts.items():
                self.add({key: text})


def _text(store: Store, key: str) -> bytes | None:
    """Return the lines of one object, each with its end.

    None means that the object cannot be read.
    """
    data = store.get_bytes(key)
    try:
        if data is None:
            raise _UnreadableError("it was deleted in the meantime")
        text = _decompressed(data)
    except (_UnreadableError, OSError, EOFError, zlib.error) as error:
        _warn(key, error)
        return None
    return text if not text or text.endswith(b"\n") else text + b"\n"


def _decompressed(data: bytes) -> bytes:
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
        text = file.read(_OBJECT_BYTES + 1)
    if len(text) > _OBJECT_BYTES:
        raise _UnreadableError(f"it unpacks to more than {_OBJECT_BYTES:,} bytes, which no batch has")
    return text


def _frame(text: bytes) -> pd.DataFrame:
    if not text.strip():
        return joined([])
    _check_lines(text)
    try:
        table = pj.read_json(pa.BufferReader(text), pj.ReadOptions(use_threads=False), _LINES)
        missing = [name for name in _NEVER_NULL if name not in table.column_names or table.column(name).null_count]
        if missing:
            raise _UnreadableError(f"a row without {', '.join(missing)}")
        columns = {name: table.column(name) for name in table.column_names}
        columns["timestamp"] = columns["timestamp"].cast(_STAMP)
        columns |= {
            name: pa.chunked_array([_as_json(chunk) for chunk in columns[name].chunks], pa.string())
            for name in _LISTS
            if name in columns
        }
        features = [name for name in columns if name not in HEAD and name not in TAIL]
        columns |= {name: columns[name].cast(pa.float64()) for name in features}
    except pa.ArrowException as error:
        raise _UnreadableError(str(error)) from error
    return typed(pa.table(columns).to_pandas())


def _check_lines(text: bytes) -> None:
    """Refuse the lines that stop the process in Arrow 25: `null` instead of a row, and nesting of some thousand levels.

    A name may hold as many brackets: then the standard library says how deep the line is.
    """
    for line in text.split(b"\n"):
        if line.startswith(b"{") and len(line) <= _MOST_BRACKETS:
            continue
        if line.strip() and not line.lstrip().startswith(b"{"):
            raise _UnreadableError("a line is no JSON object")
        if line.count(b"[") + line.count(b"{") > _MOST_BRACKETS:
            try:
                json.loads(line)
            except (ValueError, RecursionError) as error:
                raise _UnreadableError(str(error)) from error


def _as_json(lists: pa.Array) -> pa.Array:
    """Return lists of flat objects or of texts as JSON texts, null as null.

    Other values are encoded one by one; the Lambda writes none.
    """
    list_type = lists.type
    if pa.types.is_list(list_type) and (
        pa.types.is_string(list_type.value_type) or pa.types.is_null(list_type.value_type)
    ):
        return _joined_lists(lists, _scalars(lists.flatten().cast(pa.string())))
    is_flat = pa.types.is_list(list_type) and pa.types.is_struct(list_type.value_type)
    if not is_flat or any(pa.types.is_nested(field.type) for field in list_type.value_type):
        texts = [None if value is None else json.dumps(value, separators=(",", ":")) for value in lists.to_pylist()]
        return pa.array(texts, pa.string())
    flattened = lists.flatten()
    members = [
        pc.binary_join_element_wise(f"{json.dumps(field.name)}:", _scalars(column), "")
        for field, column in zip(list_type.value_type, flattened.flatten(), strict=True)
    ]
    objects = pc.binary_join_element_wise("{", pc.binary_join_element_wise(*members, ","), "}", "")
    return _joined_lists(lists, objects)


def _joined_lists(lists: pa.Array, texts: pa.Array) -> pa.Array:
    """Return the JSON texts of lists from the texts of all their items, in order."""
    # A null list may span items; it has none in the flattened array, so the offsets follow from the lengths.
    lengths = pc.fill_null(pc.list_value_length(lists), 0)
    offsets = pa.concat_arrays([pa.array([0], pa.int32()), pc.cumulative_sum(lengths).cast(pa.int32())])
    joined = pc.binary_join_element_wise("[", pc.binary_join(pa.ListArray.from_arrays(offsets, texts), ","), "]", "")
    return pc.if_else(lists.is_null(), pa.scalar(None, pa.string()), joined)


def _scalars(column: pa.Array) -> pa.Array:
    if pa.types.is_string(column.type):
        codes = column.dictionary_encode(null_encoding="encode")
        return pa.array([json.dumps(value) for value in codes.dictionary.to_pylist()], pa.string()).take(codes.indices)
    return column.cast(pa.string()).fill_null("null")


def _warn(key: str, error: Exception) -> None:
    _log.warning("labelled object %s cannot be read (%s): its rows are not compacted", key, error)

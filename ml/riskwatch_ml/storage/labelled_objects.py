"""Labelled rows as the Lambda writes them: gzip JSON lines under ``labelled/arrived/``, read many objects at a time.

The lines of many objects are decoded as one text by Arrow, which takes a third of the time of doing it row by row.
Where such a text cannot be decoded its objects are taken one by one, so that the one at fault is named and stands in
nobody's way.
"""

from __future__ import annotations

import gzip
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

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from riskwatch_ml.storage.bucket import Store

READ_AT_ONCE = 64
# Bytes of lines that are decoded together: enough to make the cost of a call small, little enough to hold.
_TEXT_BYTES = 16_000_000

HEAD = ("instance_id", "timestamp", "service", "role")
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
    "arrived",
)
_FLAGS = ("unusual", "alert", "context")
_TEXTS = (
    *("instance_id", "service", "role", "level", "risk", "episode_id", "model_id", "model_version", "reasons"),
    "arrived",
)
# A row has no score while its instance has too few rows, and no episode while nothing is open.
_NEVER_NULL = tuple(name for name in (*HEAD, *TAIL) if name not in ("score", "episode_id"))
_LINES = pj.ParseOptions(
    explicit_schema=pa.schema(
        [
            *(pa.field(name, pa.string()) for name in ("timestamp", *_TEXTS) if name != "reasons"),
            *(pa.field(name, pa.bool_()) for name in _FLAGS),
            pa.field("score", pa.float64()),
        ]
    ),
    unexpected_field_behavior="infer",
)
_STAMP = pa.timestamp("ms", tz="UTC")

_log = logging.getLogger(__name__)


class _UnreadableError(OperationError):
    """Bytes are no labelled rows; the message says why."""


def chunks(store: Store, keys: Sequence[str], most_rows: int) -> Iterator[tuple[list[str], pd.DataFrame, list[str]]]:
    """Read objects in order; yield readable keys, their rows in key order, and unreadable keys.

    A chunk ends with the object that brings it to `most_rows` rows. An unreadable object is logged.
    """
    chunk, held = _Chunk(), {}
    with ThreadPoolExecutor(8) as pool:
        for start in range(0, len(keys), READ_AT_ONCE):
            part = keys[start : start + READ_AT_ONCE]
            for key, text in zip(part, pool.map(lambda key: _text(store, key), part), strict=True):
                if text is None:
                    chunk.bad.append(key)
                    continue
                held[key] = text
                if sum(map(len, held.values())) >= _TEXT_BYTES or len(held) == READ_AT_ONCE:
                    chunk.add(held)
                    held = {}
                if len(chunk) >= most_rows:
                    yield chunk.good, joined(chunk.frames), chunk.bad
                    chunk = _Chunk()
    chunk.add(held)
    if chunk.good or chunk.bad:
        yield chunk.good, joined(chunk.frames), chunk.bad


def typed(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the columns in their order and with their types; what is no column of the label itself is a feature."""
    features = [name for name in frame.columns if name not in HEAD and name not in TAIL]
    return frame[[*HEAD, *features, *TAIL]].astype(
        {
            "timestamp": "datetime64[ms, UTC]",
            **dict.fromkeys([*features, "score"], "float64"),
            **dict.fromkeys(_FLAGS, "bool"),
            **dict.fromkeys(_TEXTS, "str"),
        }
    )


def joined(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Put frames one after another; a feature that one of them lacks is missing there."""
    filled = [frame for frame in frames if not frame.empty]
    if not filled:
        return typed(pd.DataFrame(columns=[*HEAD, *TAIL]))
    return typed(pd.concat(filled, ignore_index=True))


class _Chunk:
    """Frames of many objects, in the order of the objects."""

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
                _tell(next(iter(texts)), error)
                return
            for key, text in texts.items():
                self.add({key: text})


def _text(store: Store, key: str) -> bytes | None:
    """Lines of one object, each with its end; None if it has none to read."""
    data = store.get_bytes(key)
    try:
        if data is None:
            raise _UnreadableError("it vanished while being read")
        text = gzip.decompress(data)
    except (_UnreadableError, OSError, EOFError, zlib.error) as error:
        _tell(key, error)
        return None
    return text if not text or text.endswith(b"\n") else text + b"\n"


def _frame(text: bytes) -> pd.DataFrame:
    if not text.strip():
        return joined([])
    try:
        table = pj.read_json(pa.BufferReader(text), pj.ReadOptions(use_threads=False), _LINES)
        missing = [name for name in _NEVER_NULL if name not in table.column_names or table.column(name).null_count]
        if missing:
            raise _UnreadableError(f"a row without {', '.join(missing)}")
        columns = {name: table.column(name) for name in table.column_names}
        columns["timestamp"] = columns["timestamp"].cast(_STAMP)
        columns["reasons"] = pa.chunked_array([_as_json(chunk) for chunk in columns["reasons"].chunks], pa.string())
        features = [name for name in columns if name not in HEAD and name not in TAIL]
        columns |= {name: columns[name].cast(pa.float64()) for name in features}
    except pa.ArrowException as error:
        raise _UnreadableError(str(error)) from error
    return typed(pa.table(columns).to_pandas())


def _as_json(reasons: pa.Array) -> pa.Array:
    """Write lists of flat objects as JSON texts; other values, none of which the Lambda writes, one by one."""
    kind = reasons.type
    flat = pa.types.is_list(kind) and pa.types.is_struct(kind.value_type)
    if not flat or any(pa.types.is_nested(field.type) for field in kind.value_type):
        return pa.array([json.dumps(value, separators=(",", ":")) for value in reasons.to_pylist()], pa.string())
    items = reasons.flatten()
    parts = [
        pc.binary_join_element_wise(f"{json.dumps(field.name)}:", _scalars(column), "")
        for field, column in zip(kind.value_type, items.flatten(), strict=True)
    ]
    objects = pc.binary_join_element_wise("{", pc.binary_join_element_wise(*parts, ","), "}", "")
    # Offsets of a slice need not begin at zero, those of its flattened items do.
    offsets = pc.subtract(reasons.offsets, reasons.offsets[0])
    lists = pa.ListArray.from_arrays(offsets, objects)
    return pc.binary_join_element_wise("[", pc.binary_join(lists, ","), "]", "")


def _scalars(column: pa.Array) -> pa.Array:
    if pa.types.is_string(column.type):
        codes = column.dictionary_encode(null_encoding="encode")
        return pa.array([json.dumps(value) for value in codes.dictionary.to_pylist()], pa.string()).take(codes.indices)
    return column.cast(pa.string()).fill_null("null")


def _tell(key: str, error: Exception) -> None:
    _log.warning("labelled object %s cannot be read (%s): its rows are not compacted", key, error)

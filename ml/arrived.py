"""Labelled rows as the Lambda writes them: gzip JSON lines under ``labelled/arrived/``, read many objects at a time.

Objects are decoded one by one, so that one that cannot be read is named and stands in nobody's way, and their rows
become one frame a chunk: a frame an object would cost more than everything else together.
"""

from __future__ import annotations

import gzip
import json
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

    from ml.store import Store

ARRIVED = "labelled/arrived/"
READ_AT_ONCE = 64
# Rows as dictionaries take several times the memory of rows in a frame.
_PLAIN_ROWS = 20_000

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
_REQUIRED = frozenset((*HEAD, *TAIL))
_TYPES = {
    "timestamp": pa.string(),
    **dict.fromkeys(_TEXTS, pa.string()),
    **dict.fromkeys(_FLAGS, pa.bool_()),
}
_STAMP = pa.timestamp("ms", tz="UTC")
_as_text = json.JSONEncoder(separators=(",", ":")).encode
# What decoding bytes that are no gzip, no JSON or no labelled rows raises; Arrow's own errors are ValueErrors or
# TypeErrors too.
_UNREADABLE = (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError)

_log = logging.getLogger(__name__)


def prefix(hour: datetime) -> str:
    """Return the prefix of the objects that arrived in an hour (UTC)."""
    return f"{ARRIVED}dt={hour:%Y-%m-%d}/hh={hour:%H}/"


def chunks(store: Store, keys: Sequence[str], most_rows: int) -> Iterator[tuple[list[str], pd.DataFrame, list[str]]]:
    """Read objects in order; yield readable keys, their rows in key order, and unreadable keys.

    A chunk ends with the object that brings it to `most_rows` rows. An unreadable object is logged.
    """
    chunk, held = _Chunk(), _Held()
    with ThreadPoolExecutor(8) as pool:
        for start in range(0, len(keys), READ_AT_ONCE):
            part = keys[start : start + READ_AT_ONCE]
            for key, data in zip(part, pool.map(store.get_bytes, part), strict=True):
                held.take(key, data)
                full = len(chunk) + held.count >= most_rows
                if full or held.count >= _PLAIN_ROWS:
                    chunk.add(held)
                    held = _Held()
                if full:
                    yield chunk.good, joined(chunk.frames), chunk.bad
                    chunk = _Chunk()
    chunk.add(held)
    if chunk.good or chunk.bad:
        yield chunk.good, joined(chunk.frames), chunk.bad


def typed(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the columns in their order and with their types; what is no column of the label itself is a feature."""
    features = [name for name in frame.columns if name not in _REQUIRED]
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


class _Held:
    """Decoded objects whose rows are not in a frame yet."""

    def __init__(self) -> None:
        self.rows: dict[str, list[dict[str, Any]] | None] = {}
        self.count = 0

    def take(self, key: str, data: bytes | None) -> None:
        self.rows[key] = found = _rows(key, data)
        self.count += len(found or ())


class _Chunk:
    """Frames of many objects, in the order of the objects."""

    def __init__(self) -> None:
        self.good: list[str] = []
        self.bad: list[str] = []
        self.frames: list[pd.DataFrame] = []

    def __len__(self) -> int:
        return sum(map(len, self.frames))

    def add(self, held: _Held) -> None:
        readable = {key: rows for key, rows in held.rows.items() if rows is not None}
        self.bad += [key for key, rows in held.rows.items() if rows is None]
        try:
            self.frames.append(_frame([row for rows in readable.values() for row in rows]))
            self.good += readable
        except _UNREADABLE:
            # Some value has the wrong type. Which object holds it shows when each is taken by itself.
            for key, rows in readable.items():
                try:
                    self.frames.append(_frame(rows))
                    self.good.append(key)
                except _UNREADABLE as error:
                    _tell(key, error)
                    self.bad.append(key)


def _rows(key: str, data: bytes | None) -> list[dict[str, Any]] | None:
    """Rows of one object, ``reasons`` as JSON text; None if it is not what the Lambda writes."""
    try:
        if data is None:
            raise ValueError("it vanished while being read")
        rows = [json.loads(line) for line in gzip.decompress(data).splitlines() if line]
        for row in rows:
            missing = _REQUIRED - row.keys()
            if missing:
                raise ValueError(f"no {', '.join(sorted(missing))}")
            row["reasons"] = _as_text(row["reasons"])
    except _UNREADABLE as error:
        _tell(key, error)
        return None
    return rows


def _frame(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    names = _names(rows)
    schema = pa.schema([pa.field(name, _TYPES.get(name, pa.float64())) for name in names])
    table = pa.Table.from_pylist(rows, schema=schema)
    for name in HEAD[:2]:
        if table.column(name).null_count:
            raise ValueError(f"{name} is missing")
    place = names.index("timestamp")
    moments = table.column(place).cast(_STAMP)
    return typed(table.set_column(place, "timestamp", moments).to_pandas())


def _names(rows: Iterable[dict[str, Any]]) -> list[str]:
    # Rows of one model have their features in one order; a dictionary keeps it, a set would not.
    names = dict.fromkeys(HEAD)
    for keys in dict.fromkeys(tuple(row) for row in rows):
        names |= dict.fromkeys(keys)
    return [*names, *(name for name in TAIL if name not in names)]


def _tell(key: str, error: Exception) -> None:
    _log.warning("labelled object %s cannot be read (%s): its rows are not compacted", key, error)

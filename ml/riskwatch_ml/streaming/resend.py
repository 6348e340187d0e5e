"""Refused stream records: read them, and send them to the stream again.

The function writes them to `quarantine/records/dt=…/hh=…/*.json.gz` by hour of arrival, as gzip JSON lines
(`RefusedRecord`). Records that were sent again move to `quarantine/sent/` under the same name. They are sent first and
moved then: if a run is killed in between, a record is sent twice, and the first verdict on a row counts.
"""

from __future__ import annotations

import base64
import gzip
import json
import zlib
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict

from riskwatch_lambda.arrival import was_ahead
from riskwatch_ml.core import clock
from riskwatch_ml.core.errors import UserInputError
from riskwatch_ml.storage import keys
from riskwatch_ml.streaming import kinesis, packs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from riskwatch_ml.storage.bucket import Store


class RefusedRecord(TypedDict):
    """A line of an object under `quarantine/records/`.

    `data` is a stream record in base64: the refused one, or the refused rows as a record of their own. `rows` counts
    its rows. A record that is `truncated` cannot be sent again. Further keys are kept and not read.
    """

    reason: str
    rows: int
    partition_key: str
    truncated: bool
    data: str


_KINDS = {"reason": str, "rows": int, "partition_key": str, "truncated": bool, "data": str}


class RefusedError(UserInputError):
    """An object under `quarantine/records/` is damaged.

    The message names it.
    """


@dataclass(frozen=True)
class Resent:
    """The outcome of refused records, in rows: `rows` = `sent` + `left`.

    `left` rows cannot be sent again; `reasons` counts them by the reason of their refusal.
    """

    rows: int
    sent: int
    left: int
    reasons: Mapping[str, int]


def read_quarantined(store: Store, start: datetime, end: datetime) -> Iterator[tuple[str, list[RefusedRecord]]]:
    """Yield the objects that arrived in the hours of [start, end), with their records.

    The interval is aware, the oldest hour comes first. Raises RefusedError for a damaged object.
    """
    for hour in clock.hours(start, end):
        for key in store.keys(keys.hour_prefix(keys.REFUSED, hour)):
            yield key, _documents(key, store.get_bytes(key))


def rows_by_reason(documents: Sequence[RefusedRecord]) -> Counter[str]:
    """Return the number of rows of refused records by reason."""
    counts: Counter[str] = Counter()
    for document in documents:
        counts[str(document["reason"])] += int(document["rows"])
    return counts


def send_again(store: Store, kinesis_client: Any, name: str, start: datetime, end: datetime) -> Resent:
    """Send the records that were refused in the hours of [start, end) again.

    `name` is the stream. A truncated record, one that is not a JSON object, or one ahead of its arrival stays. A
    record that the function refuses again comes back as a new object with its reason.

    Raises
    ------
    StreamError
        Kinesis keeps refusing; objects that were accepted before have moved.
    RefusedError
        An object is damaged.
    """
    sent = 0
    remaining: Counter[str] = Counter()
    for key, documents in read_quarantined(store, start, end):
        sendable = [document for document in documents if _is_sendable(document)]
        unusable = [document for document in documents if not _is_sendable(document)]
        remaining.update(rows_by_reason(unusable))
        if not sendable:
            continue
        queues: dict[str, list[packs.Pack]] = {}
        for document in sendable:
            pack = packs.Pack(str(document["partition_key"]), _record(document) or b"", int(document["rows"]))
            queues.setdefault(pack.service, []).append(pack)
        sent += kinesis.put(kinesis_client, name, [iter(queue) for queue in queues.values()]).rows
        _move(store, key, sendable, unusable)
    return Resent(sent + remaining.total(), sent, remaining.total(), dict(remaining.most_common()))


def _move(store: Store, key: str, sent: Sequence[RefusedRecord], unusable: Sequence[RefusedRecord]) -> None:
    moved = keys.resent(key)
    # An earlier run may have moved records of the same object.
    old = store.get_bytes(moved)
    store.put_bytes(moved, _packed([*(_documents(moved, old) if old else ()), *sent]))
    if unusable:
        store.put_bytes(key, _packed(unusable))
    else:
        store.delete(key)


def _is_sendable(document: RefusedRecord) -> bool:
    """Return whether a record can be sent, and its rows did not come from the future: their times are still wrong."""
    return _record(document) is not None and not was_ahead(str(document["reason"]))


def _record(document: RefusedRecord) -> bytes | None:
    """Return the bytes of a record that can be sent.

    None means that it is truncated or not a JSON object.
    """
    if document["truncated"]:
        return None
    try:
        data = base64.b64decode(document["data"], validate=True)
        return data if isinstance(json.loads(data), dict) else None
    except (ValueError, RecursionError):
        return None


def _documents(key: str, data: bytes | None) -> list[RefusedRecord]:
    if data is None:
        return []
    try:
        documents: list[RefusedRecord] = [json.loads(line) for line in gzip.decompress(data).splitlines()]
        for document in documents:
            missing = sorted(name for name, kind in _KINDS.items() if type(document.get(name)) is not kind)
            if missing:
                raise ValueError(f"no {', '.join(missing)}")
    except (OSError, EOFError, zlib.error, ValueError, RecursionError, AttributeError) as error:
        raise RefusedError(
            f"{key} holds no refused records ({error}): restore it from the bucket's versions, or delete it"
        ) from error
    return documents


def _packed(documents: Sequence[RefusedRecord]) -> bytes:
    lines = (json.dumps(document, separators=(",", ":")) + "\n" for document in documents)
    return gzip.compress("".join(lines).encode(), mtime=0)

"""Stream records that the function refused, and how they go through the stream once more when the cause is gone.

The function writes ``quarantine/records/dt=…/hh=…/*.json.gz`` by arrival hour: JSON lines with a ``reason`` and, in
base64, ``data``: the record, or the refused part of it as a record of its own. What has been sent again moves to
``quarantine/sent/`` under the same name. It is sent first and moved then: killed in between, a record goes twice, and
of two verdicts on a row the first one stands.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from riskwatch_ml.core import clock
from riskwatch_ml.core.errors import UserInputError
from riskwatch_ml.storage import keys
from riskwatch_ml.streaming import kinesis, packs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from riskwatch_ml.storage.bucket import Store

_HOUR = timedelta(hours=1)


class RefusedError(UserInputError):
    """An object under `quarantine/records/` is not what the function writes; the message names it."""


@dataclass(frozen=True)
class Resent:
    """What became of refused records, counted in rows: `rows` = `sent` + `left`.

    `reasons` counts why rows were refused that were left because no stream record can be made of them.
    """

    rows: int
    sent: int
    left: int
    reasons: Mapping[str, int]


def held(store: Store, start: datetime, end: datetime) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield the objects that arrived in the hours of [start, end) (aware) with their documents, oldest hour first."""
    hour = clock.floor(start, 3600)
    while hour < end:
        for key in store.keys(keys.hour_prefix(keys.REFUSED, hour)):
            yield key, _documents(key, store.get_bytes(key))
        hour += _HOUR


def rows_by_reason(documents: Sequence[Mapping[str, Any]]) -> Counter[str]:
    """Count the rows of refused records by reason."""
    counts: Counter[str] = Counter()
    for document in documents:
        counts[str(document["reason"])] += int(document["rows"])
    return counts


def send_again(store: Store, kinesis_client: Any, name: str, start: datetime, end: datetime) -> Resent:
    """Put the records that were refused in the hours of [start, end) into the stream `name` again.

    A record that was cut off, or that is no JSON object, stays: nothing can be made of it. What is refused again
    comes back as a new object with its reason.

    Raises
    ------
    StreamError
        Kinesis keeps refusing; objects that went through until then have moved.
    RefusedError
        An object is not what the function writes.
    """
    sent = 0
    left: Counter[str] = Counter()
    for key, documents in held(store, start, end):
        good = [document for document in documents if _record(document) is not None]
        bad = [document for document in documents if _record(document) is None]
        left.update(rows_by_reason(bad))
        if not good:
            continue
        queues: dict[str, list[packs.Pack]] = {}
        for document in good:
            pack = packs.Pack(str(document["partition_key"]), _record(document) or b"", int(document["rows"]))
            queues.setdefault(pack.service, []).append(pack)
        sent += kinesis.put(kinesis_client, name, [iter(queue) for queue in queues.values()]).rows
        _move(store, key, good, bad)
    return Resent(sent + left.total(), sent, left.total(), dict(left.most_common()))


def _move(store: Store, key: str, good: Sequence[Mapping[str, Any]], bad: Sequence[Mapping[str, Any]]) -> None:
    moved = keys.resent(key)
    # An earlier replay may have left its part there, when a rest stayed behind.
    old = store.get_bytes(moved)
    store.put_bytes(moved, _packed([*(_documents(moved, old) if old else ()), *good]))
    if bad:
        store.put_bytes(key, _packed(bad))
    else:
        store.delete(key)


def _record(document: Mapping[str, Any]) -> bytes | None:
    """The bytes of a record that can be sent; None where they are cut off or no JSON object."""
    if document["truncated"]:
        return None
    try:
        data = base64.b64decode(document["data"], validate=True)
        return data if isinstance(json.loads(data), dict) else None
    except ValueError:
        return None


def _documents(key: str, data: bytes | None) -> list[dict[str, Any]]:
    if data is None:
        return []
    try:
        documents = [json.loads(line) for line in gzip.decompress(data).splitlines()]
        for document in documents:
            missing = {"reason", "rows", "partition_key", "truncated", "data"} - document.keys()
            if missing:
                raise ValueError(f"no {', '.join(sorted(missing))}")
    except (OSError, EOFError, ValueError, AttributeError) as error:
        raise RefusedError(
            f"{key} holds no refused records ({error}): restore it from the bucket's versions, or remove it"
        ) from error
    return documents


def _packed(documents: Sequence[Mapping[str, Any]]) -> bytes:
    lines = (json.dumps(document, separators=(",", ":")) + "\n" for document in documents)
    return gzip.compress("".join(lines).encode(), mtime=0)

"""The accounts of the campaign: rows by instance and time, and messages by episode."""

from __future__ import annotations

import base64
import gzip
import json
import zlib
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from riskwatch_lambda.alerting.messages import OPENED
from riskwatch_lambda.episodes.episode import BUDGET, COOLDOWN, MAINTENANCE, SENT, SUMMARISED
from riskwatch_ml.core import aws, clock
from riskwatch_ml.storage import keys
from riskwatch_ml.storage.parquet import DamagedObjectError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import pandas as pd

    from riskwatch_ml.storage.bucket import Store

Row = tuple[str, int]
"""Instance and time (epoch ms)."""

HELD = (BUDGET, COOLDOWN, MAINTENANCE, SUMMARISED)


def identities(rows: pd.DataFrame) -> set[Row]:
    """Return instance and time of metric rows."""
    moments = rows["timestamp"].astype("datetime64[ms, UTC]").astype("int64")
    return set(zip(rows["instance_id"].astype(str), moments.tolist(), strict=True))


@dataclass
class RowAccount:
    """What the function has written so far; an object is read once.

    `labelled` counts the verdicts on each row, `refused` has the rows of refused records that can be read, and
    `refused_records` the sequence numbers of all refused records.
    """

    store: Store
    labelled: Counter[Row] = field(default_factory=Counter)
    refused: set[Row] = field(default_factory=set)
    refused_records: set[str] = field(default_factory=set)
    reasons: list[str] = field(default_factory=list)
    _read: set[str] = field(default_factory=set)

    def update(self) -> None:
        """Read the objects that were written since the last call; a damaged one is read again by the next call."""
        for key in (*self.store.keys(keys.ARRIVED), *self.store.keys(keys.REFUSED)):
            if key in self._read:
                continue
            try:
                documents = _documents(self.store.get_bytes(key) or b"")
                counted = Counter(map(_row, documents)) if key.startswith(keys.ARRIVED) else Counter()
            except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError):
                continue
            self._read.add(key)
            self.labelled += counted
            if key.startswith(keys.REFUSED):
                for document in documents:
                    self.refused |= set(_refused(document))
                    self.refused_records.add(str(document["sequence_number"]))
                    self.reasons.append(str(document["reason"]))

    def missing(self, wanted: Iterable[Row]) -> set[Row]:
        """Return the rows that are neither labelled nor quarantined."""
        self.update()
        return {row for row in wanted if row not in self.labelled and row not in self.refused}

    def in_table(self) -> Counter[Row]:
        """Return how often each row is in the compacted table."""
        counts: Counter[Row] = Counter()
        for key in self.store.keys(keys.hours(keys.LABELLED_ROWS)):
            try:
                frame = self.store.get_frame(key)
            except DamagedObjectError:
                continue
            if frame is not None:
                moments = frame["timestamp"].astype("datetime64[ms, UTC]").astype("int64")
                counts.update(zip(frame["instance_id"].astype(str), moments.tolist(), strict=True))
        return counts


def _documents(data: bytes) -> list[dict[str, object]]:
    return [json.loads(line) for line in gzip.decompress(data).splitlines() if line]


def _row(document: Mapping[str, object]) -> Row:
    return str(document["instance_id"]), clock.epoch_ms(clock.parse(str(document["timestamp"])))


def _refused(document: Mapping[str, object]) -> Iterator[Row]:
    """Yield the rows of a refused record; none if it cannot be read."""
    try:
        record = json.loads(base64.b64decode(str(document["data"])))
        if "instances" not in record:
            yield str(record["instance_id"]), int(record["ts"][-1])
            return
        for entry in record["instances"]:
            yield from ((str(entry["id"]), int(moment)) for moment in entry["ts"][-entry["newest"] :])
    except (ValueError, KeyError, TypeError, IndexError, OverflowError, RecursionError):
        return


class Listed(NamedTuple):
    """An episode of the table: its id, and the state of its message."""

    episode_id: str
    notified: str


@dataclass
class MessageAccount:
    """The messages of the alert queue, which this account empties.

    `opened` counts how often a message announced an episode, `texts` are the messages in words, newest last, `more` the
    episodes that messages counted without their names.
    """

    queue_url: str
    opened: Counter[str] = field(default_factory=Counter)
    texts: list[str] = field(default_factory=list)
    more: int = 0

    def update(self) -> None:
        """Take what the queue has."""
        queue = aws.client("sqs")
        while True:
            answer = queue.receive_message(QueueUrl=self.queue_url, MaxNumberOfMessages=10, WaitTimeSeconds=0)
            if not answer.get("Messages"):
                return
            for message in answer["Messages"]:
                body = json.loads(message["Body"])
                if body.get("event") == OPENED:
                    self.opened.update(str(item["episode_id"]) for item in body["opened"])
                    self.more += int(body["more"])
                self.texts.append(str(body.get("text", "")))
                queue.delete_message(QueueUrl=self.queue_url, ReceiptHandle=message["ReceiptHandle"])


def listed_episodes(table: str) -> list[Listed]:
    """Return the episodes of the table; items of other kinds, and foreign ones, are left out."""
    pages = aws.client("dynamodb").get_paginator("scan").paginate(TableName=table)
    items = [item for page in pages for item in page.get("Items", ())]
    return [
        Listed(item["episode_id"]["S"], item.get("notified", {}).get("S", ""))
        for item in items
        if item["pk"]["S"].startswith("episodes#") and "episode_id" in item
    ]


def undelivered(episodes: Iterable[Listed], announced: Iterable[str]) -> list[str]:
    """Return the ids of paged episodes that no message announced."""
    known = set(announced)
    return sorted(
        episode.episode_id for episode in episodes if episode.notified == SENT and episode.episode_id not in known
    )

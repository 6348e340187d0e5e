"""Rows of a CSV file into the stream, at the pace asked for, and what became of each of them.

The packs are those that stream_metrics makes. A row counts as labelled or quarantined when the function has written
it, found by instance and time in the objects that appeared since the sending began.
"""

from __future__ import annotations

import base64
import gzip
import json
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from riskwatch_ml.core import clock
from riskwatch_ml.core.errors import OperationError
from riskwatch_ml.storage import keys
from riskwatch_ml.streaming import kinesis, packs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    import pandas as pd

    from riskwatch_ml.schema.catalogue import Catalogue
    from riskwatch_ml.storage.bucket import Store

PATIENCE_S = 180.0
POLL_S = 0.5

Key = tuple[str, int]


class UnansweredError(OperationError):
    """Some rows were neither labelled nor quarantined in time."""


@dataclass(frozen=True)
class Selection:
    """Rows in the file = `rows` + `repeated` + `empty`.

    `repeated` rows have the instance and time of an earlier one, `empty` ones no value of any of the model's features;
    neither can be sent.
    """

    rows: pd.DataFrame
    repeated: int
    empty: int


@dataclass
class Verdicts:
    """What became of rows, by instance and time (epoch ms): (level, risk) of a label, or the reason of a refusal."""

    labelled: dict[Key, tuple[str, str]] = field(default_factory=dict)
    quarantined: dict[Key, str] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """Rows that have either."""
        return len(self.labelled) + len(self.quarantined)

    def levels(self) -> Counter[str]:
        """Count labelled rows by level."""
        return Counter(level for level, _ in self.labelled.values())

    def risks(self) -> Counter[str]:
        """Count labelled rows by risk."""
        return Counter(risk for _, risk in self.labelled.values())

    def reasons(self) -> Counter[str]:
        """Count quarantined rows by reason, without the value that each of them had."""
        return Counter(re.sub(r" is -?[\d.e+-]+, ", " is ", reason) for reason in self.quarantined.values())


def select(rows: pd.DataFrame, metrics: Catalogue) -> Selection:
    """Leave out what no record can be made of: rows without any value, and of repeated rows all but the first."""
    some = rows[rows[list(metrics.names)].notna().any(axis="columns")]
    once = some.drop_duplicates(["instance_id", "timestamp"], keep="first")
    return Selection(once, len(some) - len(once), len(rows) - len(some))


def send(
    client: Any,
    name: str,
    packer: packs.Packer,
    wanted: Iterable[Key],
    *,
    rate: float | None = None,
    speed: float | None = None,
    progress: Callable[[int], None] = lambda sent: None,
    wait: Callable[[float], None] = time.sleep,
    now: Callable[[], float] = time.monotonic,
) -> int:
    """Send the wanted rows at once, `rate` a second, or `speed` times as fast as they happened; return how many went.

    With a pace, no row goes before it is due, and those that are due go together; rows of one time are due at once.
    """
    counts = Counter(ms for _, ms in wanted)
    moments = sorted(counts)
    began = now()
    due: list[float] = []
    before = 0
    for ms in moments:
        behind = before / rate if rate is not None else (ms - moments[0]) / 1000 / speed if speed is not None else 0.0
        due.append(began + behind)
        before += counts[ms]
    sent = place = 0
    while place < len(moments):
        if due[place] > now():
            wait(due[place] - now())
        last = place
        while last + 1 < len(moments) and due[last + 1] <= now():
            last += 1
        queues = packer.packs(clock.from_epoch_ms(moments[place]), clock.from_epoch_ms(moments[last] + 1))
        sent += kinesis.put(client, name, queues, pause=wait, progress=_after(sent, progress)).rows
        place = last + 1
    return sent


def _after(sent: int, progress: Callable[[int], None]) -> Callable[[int], None]:
    """Return a progress callback that counts on from the rows sent so far."""

    def show(more: int) -> None:
        progress(sent + more)

    return show


class Arrivals:
    """Objects that the function writes from now on."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._since = clock.floor(clock.now(), 3600) - timedelta(hours=1)
        self._seen = set(self._keys())

    def collect(self, wanted: set[Key], verdicts: Verdicts) -> None:
        """Add the verdicts on the wanted rows that arrived since the last call.

        The first verdict on a row stands, as it does where labelled rows are compacted.
        """
        for key in [key for key in self._keys() if key not in self._seen]:
            self._seen.add(key)
            for document in _documents(self._store.get_bytes(key) or b""):
                if key.startswith(keys.ARRIVED):
                    row = str(document["instance_id"]), clock.epoch_ms(clock.parse(document["timestamp"]))
                    if row in wanted:
                        verdicts.labelled.setdefault(row, (str(document["level"]), str(document["risk"])))
                else:
                    for row in wanted.intersection(_refused(document)):
                        verdicts.quarantined.setdefault(row, str(document["reason"]))

    def _keys(self) -> Iterator[str]:
        hour = self._since
        while hour <= clock.now() + timedelta(hours=1):
            for prefix in (keys.ARRIVED, keys.REFUSED):
                yield from self._store.keys(keys.hour_prefix(prefix, hour))
            hour += timedelta(hours=1)


def follow(
    arrivals: Arrivals,
    wanted: set[Key],
    *,
    patience_s: float,
    progress: Callable[[int], None] = lambda done: None,
    wait: Callable[[float], None] = time.sleep,
    now: Callable[[], float] = time.monotonic,
) -> Verdicts:
    """Wait until every wanted row is labelled or quarantined, or none of them has been for `patience_s` seconds."""
    verdicts = Verdicts()
    newest = now()
    while True:
        before = verdicts.count
        arrivals.collect(wanted, verdicts)
        if verdicts.count > before:
            newest = now()
        progress(verdicts.count)
        if verdicts.count >= len(wanted) or now() - newest > patience_s:
            return verdicts
        wait(POLL_S)


def check_complete(wanted: set[Key], verdicts: Verdicts, function: str) -> None:
    """Raise UnansweredError, naming the first of them, where rows have no verdict."""
    missing = sorted(wanted - set(verdicts.labelled) - set(verdicts.quarantined), key=lambda row: (row[1], row[0]))
    if missing:
        instance, moment = missing[0]
        raise UnansweredError(
            f"{len(missing):,} of {len(wanted):,} rows are neither labelled nor quarantined, the first is {instance} "
            f"at {clock.iso(moment)}: look at the log of {function} and at its dead letter queue"
        )


def _documents(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in gzip.decompress(data).splitlines() if line] if data else []


def _refused(document: Mapping[str, Any]) -> list[Key]:
    """The rows of a refused record by instance and time, none where it cannot be read (then it is none of ours)."""
    try:
        record = json.loads(base64.b64decode(document["data"]))
        if "instances" not in record:
            return [(str(record["instance_id"]), int(record["ts"][-1]))]
        return [(str(each["id"]), int(ms)) for each in record["instances"] for ms in each["ts"][-each["newest"] :]]
    except (ValueError, KeyError, TypeError, IndexError):
        return []


def row_keys(rows: pd.DataFrame) -> set[Key]:
    """Return the instance and time (epoch ms) of each row."""
    moments = rows["timestamp"].astype("datetime64[ms, UTC]").astype("int64")
    return set(zip(rows["instance_id"].astype(str), moments.tolist(), strict=True))

"""Send rows through the stream at a given pace, and await their verdicts.

The packs have the format that stream_metrics writes. A row counts as labelled or quarantined when an object that the
function wrote since the start contains its instance and time.
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
    """The rows to send: rows in the file = `rows` + `repeated` + `empty`.

    `repeated` counts rows with the instance and time of an earlier row, `empty` rows without a value of any feature of
    the model. Neither are sent.
    """

    rows: pd.DataFrame
    repeated: int
    empty: int


@dataclass
class Verdicts:
    """The outcome of rows, by instance and time (epoch ms).

    `labelled` has the (level, risk) of a row, `refused_values` the reasons for which values of a labelled row were
    refused, `quarantined` the reason for which a row was.
    """

    labelled: dict[Key, tuple[str, str]] = field(default_factory=dict)
    refused_values: dict[Key, tuple[str, ...]] = field(default_factory=dict)
    quarantined: dict[Key, str] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """The number of rows with an outcome."""
        return len(self.labelled) + len(self.quarantined)

    def levels(self) -> Counter[str]:
        """Count labelled rows by level."""
        return Counter(level for level, _ in self.labelled.values())

    def risks(self) -> Counter[str]:
        """Count labelled rows by risk."""
        return Counter(risk for _, risk in self.labelled.values())

    def reasons(self) -> Counter[str]:
        """Count quarantined rows by reason, without the value of each row."""
        return Counter(map(_without_value, self.quarantined.values()))

    def value_reasons(self) -> Counter[str]:
        """Count refused values of labelled rows by reason, without the values."""
        return Counter(_without_value(reason) for reasons in self.refused_values.values() for reason in reasons)


def select(rows: pd.DataFrame, metrics: Catalogue) -> Selection:
    """Return the rows that can be sent.

    Rows without any value are dropped, and of repeated rows all but the first.
    """
    filled = rows[rows[list(metrics.names)].notna().any(axis="columns")]
    unique = filled.drop_duplicates(["instance_id", "timestamp"], keep="first")
    return Selection(unique, len(filled) - len(unique), len(rows) - len(filled))


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
    """Send rows and return the number of rows sent.

    `rate` is the pace in rows per second, `speed` a multiple of real time; without either, all rows are sent at once.
    With a pace, no row is sent before it is due, and all due rows are sent together. Rows of the same time are due at
    the same time.
    """
    counts = Counter(ms for _, ms in wanted)
    times = sorted(counts)
    start = now()
    due: list[float] = []
    before = 0
    for ms in times:
        delay = before / rate if rate is not None else (ms - times[0]) / 1000 / speed if speed is not None else 0.0
        due.append(start + delay)
        before += counts[ms]
    sent = first = 0
    while first < len(times):
        if due[first] > now():
            wait(due[first] - now())
        last = first
        while last + 1 < len(times) and due[last + 1] <= now():
            last += 1
        queues = packer.packs(clock.from_epoch_ms(times[first]), clock.from_epoch_ms(times[last] + 1))
        sent += kinesis.put(client, name, queues, pause=wait, progress=_after(sent, progress)).rows
        first = last + 1
    return sent


def _after(sent: int, progress: Callable[[int], None]) -> Callable[[int], None]:
    """Return a progress callback that adds the rows sent so far."""

    def show(more: int) -> None:
        progress(sent + more)

    return show


class Arrivals:
    """The objects that the function writes from now on."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._since = clock.floor(clock.now(), 3600) - timedelta(hours=1)
        self._seen = set(self._keys())

    def collect(self, wanted: set[Key], verdicts: Verdicts) -> None:
        """Add the verdicts on these rows that arrived since the last call.

        The first verdict on a row counts, as in the compaction of labelled rows.
        """
        for key in [key for key in self._keys() if key not in self._seen]:
            self._seen.add(key)
            for document in _documents(self._store.get_bytes(key) or b""):
                if key.startswith(keys.ARRIVED):
                    row = str(document["instance_id"]), clock.epoch_ms(clock.parse(document["timestamp"]))
                    if row in wanted and row not in verdicts.labelled:
                        verdicts.labelled[row] = str(document["level"]), str(document["risk"])
                        values = document.get("refused_values") or ()
                        verdicts.refused_values[row] = tuple(str(value["reason"]) for value in values)
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
    """Wait for the verdicts on rows and return them.

    Stop when every row is labelled or quarantined, or when no verdict has arrived for `patience_s` seconds.
    """
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
    """Raise UnansweredError if rows have no verdict; it names the first of them."""
    missing = sorted(wanted - set(verdicts.labelled) - set(verdicts.quarantined), key=lambda row: (row[1], row[0]))
    if missing:
        instance, moment = missing[0]
        raise UnansweredError(
            f"{len(missing):,} of {len(wanted):,} rows are neither labelled nor quarantined, the first is {instance} "
            f"at {clock.iso(moment)}: see the log of {function} and its dead letter queue"
        )


def _without_value(reason: str) -> str:
    return re.sub(r" is -?[\d.e+-]+, ", " is ", reason)


def _documents(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in gzip.decompress(data).splitlines() if line] if data else []


def _refused(document: Mapping[str, Any]) -> list[Key]:
    """Return the rows of a refused record by instance and time.

    A record that cannot be read was not sent by this command, and has no rows.
    """
    try:
        record = json.loads(base64.b64decode(document["data"]))
        if "instances" not in record:
            return [(str(record["instance_id"]), int(record["ts"][-1]))]
        return [(str(entry["id"]), int(ms)) for entry in record["instances"] for ms in entry["ts"][-entry["newest"] :]]
    except (ValueError, KeyError, TypeError, IndexError):
        return []


def row_keys(rows: pd.DataFrame) -> set[Key]:
    """Return the instance and time (epoch ms) of each row."""
    moments = rows["timestamp"].astype("datetime64[ms, UTC]").astype("int64")
    return set(zip(rows["instance_id"].astype(str), moments.tolist(), strict=True))

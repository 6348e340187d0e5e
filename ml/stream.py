"""Stream records: each row to label with the rows before it, sent to Kinesis in order and without losing one.

A record's rows are contiguous: never across a gap longer than the model allows, because training cuts its windows there
too. PutRecords gives no order within a call, and a retried record comes after those that went through: so a call is
through before the next one begins, and no call holds two records of one instance, unless a replay of the past asks for
it and as long as nothing was refused.
"""

import json
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ml import clock, inventory
from ml.catalogue import Catalogue
from ml.inventory import Instance

MAX_RECORDS = 500
MAX_BYTES = 5_000_000
MAX_RECORD_BYTES = 1_000_000
ATTEMPTS = 8
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0


class StreamError(Exception):
    """Records cannot be built or sent; the message says how many went through and what to do."""


@dataclass(frozen=True)
class Sent:
    """What `put` did: records through, PutRecords calls made, records that had to be sent again."""

    records: int
    calls: int
    retried: int


def records(
    rows: pd.DataFrame,
    instances: Mapping[str, Instance],
    context_rows: int,
    max_gap_s: int,
    start: datetime,
    end: datetime,
    metrics: Catalogue,
) -> Iterator[dict[str, Any]]:
    """Yield one record per row with start <= timestamp < end, by time, at one time by instance.

    A row with a physically impossible value is sent alone, for the function to quarantine with its reason, and is
    nobody's context: training never sees it either.

    Parameters
    ----------
    rows
        Metric rows, any order, one per instance and time; those before `start` serve as context only.
    instances
        The inventory: role and service of each instance.
    context_rows
        Rows a record holds at most, the labelled one included.
    max_gap_s
        Longest distance, in seconds, between two consecutive rows of a record.
    start, end
        Interval of the rows to label, aware.
    metrics
        The model's features in its order, with their physical bounds. A row without any of them is left out.

    Raises
    ------
    StreamError
        A feature is missing in `rows`, an instance has two rows of one time, or `context_rows` is below 1.
    """
    features = list(metrics.names)
    missing = [name for name in features if name not in rows.columns]
    if missing:
        raise StreamError(f"the rows have no {missing[0]}, which the model needs: add it to the catalogue")
    if context_rows < 1:
        raise StreamError(f"context_rows is {context_rows}: a record holds at least the row to label")
    present = rows[rows[features].notna().any(axis=1)]
    ordered = present.sort_values(["instance_id", "timestamp"], ignore_index=True)
    names = ordered["instance_id"].to_numpy(dtype=object)
    stamps = ordered["timestamp"].astype("datetime64[ms, UTC]").astype("int64").to_numpy()
    values = ordered[features].to_numpy(dtype=np.float64)
    possible = _possible(values, metrics)
    usable = np.flatnonzero(possible)
    rank = np.cumsum(possible) - 1
    first = _first_rows(names[usable], stamps[usable], context_rows, max_gap_s * 1000)
    wanted = np.flatnonzero((stamps >= clock.epoch_ms(start)) & (stamps < clock.epoch_ms(end)))
    # Rows are ordered by instance already: a stable sort by time leaves the instances of one time in that order.
    for place in wanted[np.argsort(stamps[wanted], kind="stable")]:
        span = usable[first[rank[place]] : rank[place] + 1] if possible[place] else [place]
        instance = inventory.lookup(instances, names[place])
        yield {
            "v": 1,
            "service": instance.service,
            "role": instance.role,
            "instance_id": instance.instance_id,
            "ts": stamps[span].tolist(),
            "rows": [[value if value == value else None for value in row] for row in values[span].tolist()],
        }


def put(
    client: Any,
    stream: str,
    items: Iterable[Mapping[str, Any]],
    *,
    replay: bool = False,
    pause: Callable[[float], None] = time.sleep,
    progress: Callable[[int], None] = lambda sent: None,
) -> Sent:
    """Send records to a Kinesis stream, partition key = service, in the order given for every instance.

    At most 500 records and 5 MB a call. Only the records that a call refused are sent again, with growing pauses,
    before anything after them.

    A replay puts rows of one instance into one call: one instance's year is then a few hundred calls instead of one for
    each row. What could come out of order lies within one call. Labels do not depend on order, as a record carries
    its context, and the function puts the rows of a batch in order of time before it follows episodes. The first
    refusal ends it: from then on no call holds two records of one instance.

    Parameters
    ----------
    client
        A boto3 Kinesis client.
    stream
        Name of the stream.
    items
        Records as `records` yields them; taken lazily.
    replay
        Whether a call may hold several records of one instance.
    pause
        Waits for the given seconds.
    progress
        Told after each call how many records are through.

    Raises
    ------
    StreamError
        A record is larger than 1 MB, or some still fail after eight attempts: the counts are in the message.
    """
    sent = calls = retried = 0
    batches = _Batches(items, together=replay)
    for batch in batches:
        waiting = batch
        for attempt in range(ATTEMPTS):
            answer = client.put_records(StreamName=stream, Records=waiting)
            calls += 1
            refused = [
                (entry, result["ErrorCode"])
                for entry, result in zip(waiting, answer["Records"], strict=True)
                if result.get("ErrorCode")
            ]
            sent += len(waiting) - len(refused)
            progress(sent)
            if not refused:
                break
            batches.together = False
            waiting = [entry for entry, _ in refused]
            if attempt + 1 == ATTEMPTS:
                codes = ", ".join(sorted({code for _, code in refused}))
                raise StreamError(
                    f"stream {stream}: {len(refused)} of {len(batch)} records of a call still refused ({codes}) after "
                    f"{ATTEMPTS} attempts; {sent} records are through: add shards, or send the same interval again"
                )
            retried += len(waiting)
            # Jitter keeps two publishers that were throttled together from meeting again.
            pause(random.uniform(0.5, 1.0) * min(_FIRST_PAUSE_S * 2**attempt, _LONGEST_PAUSE_S))  # noqa: S311
    return Sent(sent, calls, retried)


def _possible(values: NDArray[np.float64], metrics: Catalogue) -> NDArray[np.bool_]:
    """Which rows lie within the physical bounds of every metric; a missing value is no violation."""
    low = [-np.inf if metric.lower is None else metric.lower for metric in metrics.metrics]
    high = [np.inf if metric.upper is None else metric.upper for metric in metrics.metrics]
    impossible: NDArray[np.bool_] = np.any((values < low) | (values > high), axis=1)
    return ~impossible


def _first_rows(names: np.ndarray, stamps: np.ndarray, context_rows: int, max_gap_ms: int) -> np.ndarray:
    """Return, for each row, the position of the oldest row of its record."""
    count = len(stamps)
    if not count:
        return np.zeros(0, dtype=np.int64)
    same = names[1:] == names[:-1]
    gaps = np.diff(stamps)
    twice = np.flatnonzero(same & (gaps == 0))
    if len(twice):
        place = twice[0]
        raise StreamError(f"{names[place]} has two rows of {clock.iso(int(stamps[place]))}: keep one of them")
    begins = np.concatenate([[True], ~same | (gaps > max_gap_ms)])
    places = np.arange(count)
    run = np.maximum.accumulate(np.where(begins, places, 0))
    return np.maximum(run, places - context_rows + 1)


class _Batches:
    """Records cut into calls; `together` says whether the calls to come may hold several of one instance."""

    def __init__(self, items: Iterable[Mapping[str, Any]], *, together: bool) -> None:
        self.together = together
        self._items = items

    def __iter__(self) -> Iterator[list[dict[str, Any]]]:
        batch: list[dict[str, Any]] = []
        size = 0
        held: set[str] = set()
        for item in self._items:
            data = json.dumps(item, separators=(",", ":"), allow_nan=False).encode()
            key = str(item["service"])[:256]
            weight = len(data) + len(key.encode())
            if weight > MAX_RECORD_BYTES:
                raise StreamError(
                    f"the record of {item['instance_id']} has {weight} bytes, Kinesis takes 1 MB: fewer rows"
                )
            twice = item["instance_id"] in held and not self.together
            if len(batch) == MAX_RECORDS or size + weight > MAX_BYTES or twice:
                yield batch
                batch, size, held = [], 0, set()
            batch.append({"Data": data, "PartitionKey": key})
            size += weight
            held.add(item["instance_id"])
        if batch:
            yield batch

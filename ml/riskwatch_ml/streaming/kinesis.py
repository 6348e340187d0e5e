"""Packs to Kinesis: in order within a service, and without losing one.

PutRecords gives no order within a call, and a pack that is sent again comes after those that went through: so a service
has one pack at most on its way.
"""

import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from riskwatch_ml.streaming.packs import Pack, StreamError

MAX_RECORDS = 500
# UTF-16 code units: one key that is longer makes Kinesis refuse the whole call.
MAX_KEY = 256
MAX_BYTES = 10 * 1024 * 1024
ATTEMPTS = 8
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0


@dataclass(frozen=True)
class Sent:
    """What `put` did: rows and packs through, PutRecords calls made, packs that had to be sent again."""

    rows: int
    records: int
    calls: int
    retried: int


def put(
    client: Any,
    stream: str,
    queues: Iterable[Iterator[Pack]],
    *,
    pause: Callable[[float], None] = time.sleep,
    progress: Callable[[int], None] = lambda sent: None,
) -> Sent:
    """Send packs to a Kinesis stream, partition key = service, each queue of packs in its order.

    A name that is no partition key is made one: the function quarantines its rows, and those of others go through. At
    most 500 packs and 10 MiB a call, one of each queue. Only the packs that a call refused are sent again, with
    growing pauses, before anything else.

    Parameters
    ----------
    client
        A boto3 Kinesis client.
    stream
        Name of the stream.
    queues
        Packs as `Packer.packs` gives them; taken lazily.
    pause
        Waits for the given seconds.
    progress
        Told after each call how many rows are through.

    Raises
    ------
    StreamError
        Some packs still fail after eight attempts: the counts are in the message.
    """
    rows = records = calls = retried = 0
    heads = deque(_heads(queues))
    while heads:
        batch = _take(heads)
        waiting = [pack for pack, _ in batch]
        for attempt in range(ATTEMPTS):
            if attempt:
                retried += len(waiting)
                # Jitter keeps two publishers that were throttled together from meeting again.
                pause(random.uniform(0.5, 1.0) * min(_FIRST_PAUSE_S * 2 ** (attempt - 1), _LONGEST_PAUSE_S))  # noqa: S311
            entries = [{"Data": pack.data, "PartitionKey": _key(pack.service)} for pack in waiting]
            results = client.put_records(StreamName=stream, Records=entries)["Records"]
            calls += 1
            refused = [pack for pack, result in zip(waiting, results, strict=True) if result.get("ErrorCode")]
            rows += sum(pack.rows for pack in waiting) - sum(pack.rows for pack in refused)
            records += len(waiting) - len(refused)
            progress(rows)
            if not refused:
                break
            codes = sorted({result["ErrorCode"] for result in results if result.get("ErrorCode")})
            waiting = refused
        else:
            raise StreamError(
                f"stream {stream}: {len(waiting)} of {len(batch)} records of a call still refused ({', '.join(codes)}) "
                f"after {ATTEMPTS} attempts; {rows} rows are through: add shards, or send the same interval again"
            )
        heads.extend(_heads(queue for _, queue in batch))
    return Sent(rows, records, calls, retried)


def _heads(queues: Iterable[Iterator[Pack]]) -> Iterator[tuple[Pack, Iterator[Pack]]]:
    """Yield the first pack of each queue that has one left, with its queue."""
    for queue in queues:
        pack = next(queue, None)
        if pack is not None:
            yield pack, queue


def _take(heads: deque[tuple[Pack, Iterator[Pack]]]) -> list[tuple[Pack, Iterator[Pack]]]:
    """Take as many packs as a call holds."""
    batch: list[tuple[Pack, Iterator[Pack]]] = []
    size = 0
    while heads and len(batch) < MAX_RECORDS:
        pack = heads[0][0]
        size += len(pack.data) + len(_key(pack.service).encode())
        if size > MAX_BYTES:
            break
        batch.append(heads.popleft())
    return batch


def _key(service: str) -> str:
    """Cut a service to what a partition key may be: text that UTF-8 has, no longer than MAX_KEY."""
    units = service.encode("utf-16-le", "surrogatepass")[: 2 * MAX_KEY]
    return units.decode("utf-16-le", "replace")

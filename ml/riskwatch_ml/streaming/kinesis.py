"""Send packs to Kinesis: in order within a service, and without loss.

PutRecords gives no order within a call, and a retried pack arrives after the other packs of its call. So each service
has at most one pack in a call.
"""

import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from riskwatch_ml.streaming.packs import Pack, StreamError

MAX_RECORDS = 500
# In UTF-16 code units; a single longer key makes Kinesis refuse the whole call.
MAX_KEY = 256
MAX_BYTES = 10 * 1024 * 1024
ATTEMPTS = 8
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0


@dataclass(frozen=True)
class Sent:
    """The counts of `put`.

    `rows`, their `values` and `records` (packs) were accepted. `calls` counts PutRecords calls, `retried` packs that
    were sent again.
    """

    rows: int
    values: int
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
    """Send packs to a Kinesis stream, each queue of packs in its order.

    The partition key is the service. A name that is not a valid key is changed into one; the function quarantines its
    rows, and the rows of other services are labelled. A call has at most 500 packs and 10 MiB, and one pack of each
    queue. Only refused packs are sent again, with growing pauses, before any other pack.

    `client` is a boto3 Kinesis client. `queues` are packs as `Packer.packs` returns them; they are read lazily. `pause`
    waits for the given seconds. `progress` is called after each call with the number of accepted rows.

    Raises
    ------
    StreamError
        Packs are still refused after eight attempts; the message has the counts.
    """
    rows = values = records = calls = retried = 0
    heads = deque(_heads(queues))
    while heads:
        batch = _take(heads)
        waiting = [pack for pack, _ in batch]
        for attempt in range(ATTEMPTS):
            if attempt:
                retried += len(waiting)
                pause(_pause_s(attempt))
            refused, codes = _put_records(client, stream, waiting)
            calls += 1
            rows += sum(pack.rows for pack in waiting) - sum(pack.rows for pack in refused)
            values += sum(pack.values for pack in waiting) - sum(pack.values for pack in refused)
            records += len(waiting) - len(refused)
            progress(rows)
            waiting = refused
            if not waiting:
                break
        else:
            raise StreamError(
                f"stream {stream}: {len(waiting)} of {len(batch)} records of a call still refused ({', '.join(codes)}) "
                f"after {ATTEMPTS} attempts; {rows} rows are through: add shards, or send the same interval again"
            )
        heads.extend(_heads(queue for _, queue in batch))
    return Sent(rows, values, records, calls, retried)


def _pause_s(attempt: int) -> float:
    """Return the seconds to wait before a retry, counted from 1."""
    # Jitter spreads the retries of publishers that were throttled at the same time.
    longest = min(_FIRST_PAUSE_S * float(2 ** (attempt - 1)), _LONGEST_PAUSE_S)
    return random.uniform(0.5, 1.0) * longest  # noqa: S311


def _put_records(client: Any, stream: str, packs: Sequence[Pack]) -> tuple[list[Pack], list[str]]:
    """Send packs in one call; return the refused ones and their error codes."""
    entries = [{"Data": pack.data, "PartitionKey": _key(pack.service)} for pack in packs]
    results = client.put_records(StreamName=stream, Records=entries)["Records"]
    refused = [pack for pack, result in zip(packs, results, strict=True) if result.get("ErrorCode")]
    return refused, sorted({result["ErrorCode"] for result in results if result.get("ErrorCode")})


def _heads(queues: Iterable[Iterator[Pack]]) -> Iterator[tuple[Pack, Iterator[Pack]]]:
    """Yield the first pack of each queue with its queue; skip empty queues."""
    for queue in queues:
        pack = next(queue, None)
        if pack is not None:
            yield pack, queue


def _take(heads: deque[tuple[Pack, Iterator[Pack]]]) -> list[tuple[Pack, Iterator[Pack]]]:
    """Remove and return as many packs as a call may have."""
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
    """Return a service as a partition key.

    A key is text that UTF-8 can encode, with at most MAX_KEY code units.
    """
    units = service.encode("utf-16-le", "surrogatepass")[: 2 * MAX_KEY]
    return units.decode("utf-16-le", "replace")

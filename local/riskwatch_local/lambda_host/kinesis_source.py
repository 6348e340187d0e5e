"""A Kinesis stream as the source of a function, like an event source mapping.

Checkpoints are in memory: a caller that continues passes the sequence numbers after which to continue. The shards are
those at the start; after a split or a merge of shards, make a new source.
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

from riskwatch_local.lambda_host.event_source import Delivery, EventSourceError, Record, Settings, full_batch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from riskwatch_local.lambda_host.environment import Answer
    from riskwatch_local.lambda_host.event_source import DiscardMessage, Event

# Lambda's base rate is four reads a second.
POLL_S = 0.25
READ_RECORDS = 10_000


class Clients(NamedTuple):
    """The boto3 clients of a source.

    Lambda reads the mapping, Kinesis the records; SQS receives messages about discarded records.
    """

    functions: Any
    kinesis: Any
    sqs: Any

    @classmethod
    def of(cls, make: Callable[[str], Any]) -> Clients:
        """Return the clients that `make` creates by name, such as ``boto3.client``."""
        return cls(make("lambda"), make("kinesis"), make("sqs"))


def take_over(clients: Clients, function: str, qualifier: str) -> Settings:
    """Return the settings of the function's only mapping and disable it.

    Afterwards only the caller delivers. Raises EventSourceError if the function has no mapping or more than one.
    """
    answer = clients.functions.list_event_source_mappings(FunctionName=f"{function}:{qualifier}")
    mappings = answer["EventSourceMappings"]
    if len(mappings) != 1:
        raise EventSourceError(f"{function}:{qualifier} has {len(mappings)} event source mappings, expected one")
    clients.functions.update_event_source_mapping(UUID=mappings[0]["UUID"], Enabled=False)
    return Settings.of(mappings[0])


class KinesisSource:
    """A source that delivers every shard of the mapping's stream.

    `after` has the checkpoint of each shard after which to continue. `now` returns epoch seconds.
    """

    def __init__(
        self,
        clients: Clients,
        settings: Settings,
        invoke: Callable[[Event], Answer],
        after: Mapping[str, str | None] | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._stop = threading.Event()
        self._sqs = clients.sqs
        self._destination = settings.destination
        listed = clients.kinesis.list_shards(StreamARN=settings.stream_arn)["Shards"]
        self._shards = [
            _Shard(
                clients.kinesis,
                settings,
                Delivery(settings, shard["ShardId"], invoke, self._discard, self._stop.wait, now),
                shard["ShardId"],
                (after or {}).get(shard["ShardId"]),
            )
            for shard in listed
        ]

    @property
    def deliveries(self) -> list[Delivery]:
        """The delivery of each shard, with its counts."""
        return [shard.delivery for shard in self._shards]

    @property
    def checkpoints(self) -> dict[str, str | None]:
        """The checkpoint of each shard."""
        return {shard.name: shard.delivery.checkpoint for shard in self._shards}

    def drain(self) -> None:
        """Deliver the present content of the stream without waiting for full batches."""
        for shard in self._shards:
            while shard.step(None):
                pass

    def run(self) -> None:
        """Deliver until `stop` is called; raise the errors of delivering."""
        with ThreadPoolExecutor(len(self._shards)) as pool:
            for delivery in [pool.submit(self._serve, shard) for shard in self._shards]:
                delivery.result()

    def stop(self) -> None:
        """Make `run` and `drain` return after the current invocation."""
        self._stop.set()

    def _serve(self, shard: _Shard) -> None:
        try:
            while not self._stop.is_set():
                shard.step(self._stop)
        except BaseException:
            self._stop.set()
            raise

    def _discard(self, message: DiscardMessage) -> None:
        if self._destination is None:
            return
        url = self._sqs.get_queue_url(QueueName=self._destination.rpartition(":")[2])["QueueUrl"]
        self._sqs.send_message(QueueUrl=url, MessageBody=json.dumps(message))


class _Shard:
    """A reader of one shard, ahead of its delivery."""

    def __init__(self, client: Any, settings: Settings, delivery: Delivery, name: str, after: str | None) -> None:
        self.name = name
        self.delivery = delivery
        delivery.checkpoint = after
        self._client = client
        self._settings = settings
        self._read_up_to = after
        self._ahead: deque[Record] = deque()
        self._iterator: str | None = self._position()

    def step(self, stop: threading.Event | None) -> bool:
        """Deliver one batch; with `stop`, wait for its batching window first.

        Returns False if there was no batch, or if delivery was stopped.
        """
        batch = self._batch(stop)
        return bool(batch) and self.delivery.deliver(batch)

    def _batch(self, stop: threading.Event | None) -> list[Record]:
        """Collect records until the batch is complete.

        It is complete when it is full or its batching window is over; without `stop`, when the shard is read.
        """
        deadline: float | None = None
        while (length := full_batch(self._ahead, self.name, self._settings)) is None:
            new_records = self._read()
            if stop is None:
                if not new_records:
                    break
                continue
            if self._ahead and deadline is None:
                deadline = time.monotonic() + self._settings.window_s
            if deadline is not None and time.monotonic() >= deadline:
                break
            pause_s = POLL_S if deadline is None else min(POLL_S, deadline - time.monotonic())
            if not new_records and stop.wait(pause_s):
                return []
        return [self._ahead.popleft() for _ in range(len(self._ahead) if length is None else length)]

    def _read(self) -> int:
        """Read once and return the number of new records."""
        if self._iterator is None:
            return 0
        try:
            answer = self._client.get_records(ShardIterator=self._iterator, Limit=READ_RECORDS)
        except self._client.exceptions.ExpiredIteratorException:
            self._iterator = self._position()
            return 0
        self._iterator = answer.get("NextShardIterator")
        for record in answer["Records"]:
            arrived = record["ApproximateArrivalTimestamp"].timestamp()
            self._ahead.append(Record(record["SequenceNumber"], record["PartitionKey"], record["Data"], arrived))
        if answer["Records"]:
            self._read_up_to = self._ahead[-1].sequence
        return len(answer["Records"])

    def _position(self) -> str:
        start = {"ShardIteratorType": self._settings.starting_position}
        if self._read_up_to is not None:
            start = {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": self._read_up_to}
        answer = self._client.get_shard_iterator(StreamARN=self._settings.stream_arn, ShardId=self.name, **start)
        return str(answer["ShardIterator"])

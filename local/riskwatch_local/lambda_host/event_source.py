"""Lambda's event source mapping for the batches of one Kinesis shard.

It delivers, splits, retries and discards batches as the Lambda developer guide describes (chapters on Kinesis: error
handling, partial batch responses, discarded records). The embedded AWS stores these settings but ignores them. This
module has plain values and callables only; `riskwatch_local.lambda_host.kinesis_source` reads the streams.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

from riskwatch_local.lambda_host.environment import PAYLOAD_LIMIT, Answer
from riskwatch_ml.core.errors import OperationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

FOREVER = -1
FIRST_PAUSE_S, DOUBLINGS = 0.1, 8
REPORT = "ReportBatchItemFailures"
EXHAUSTED, TOO_OLD = "RetryAttemptsExhausted", "RecordAgeExceeded"
# The brackets and the key around the records of an event.
ENVELOPE_BYTES = len('{"Records":[]}')


class EventSourceError(OperationError):
    """A mapping has a setting that this event source does not support."""


class Record(NamedTuple):
    """One record of a shard; `arrived` in epoch seconds."""

    sequence: str
    partition_key: str
    data: bytes
    arrived: float


@dataclass(frozen=True)
class Settings:
    """The properties of an event source mapping; times in seconds, -1 = unlimited."""

    stream_arn: str
    function_arn: str
    batch_size: int = 100
    window_s: float = 0.0
    retries: int = FOREVER
    record_age_s: int = FOREVER
    bisects: bool = False
    reports_failures: bool = False
    starting_position: str = "TRIM_HORIZON"
    destination: str | None = None

    @classmethod
    def of(cls, described: Mapping[str, Any]) -> Settings:
        """Return the settings of a mapping that GetEventSourceMapping describes.

        The properties of the template have the same names. Raises EventSourceError for a source that is no Kinesis
        stream, and for settings that are not supported.
        """
        arn = described["EventSourceArn"]
        if ":kinesis:" not in arn:
            raise EventSourceError(f"{arn} is no Kinesis stream")
        for key, harmless in (("ParallelizationFactor", 1), ("TumblingWindowInSeconds", 0), ("FilterCriteria", None)):
            if (described.get(key) or harmless) != harmless:
                raise EventSourceError(f"{key} is {described[key]!r}: only {harmless!r} is supported here")
        return cls(
            stream_arn=arn,
            function_arn=described["FunctionArn"],
            batch_size=described.get("BatchSize", cls.batch_size),
            window_s=described.get("MaximumBatchingWindowInSeconds", cls.window_s),
            retries=described.get("MaximumRetryAttempts", cls.retries),
            record_age_s=described.get("MaximumRecordAgeInSeconds", cls.record_age_s),
            bisects=described.get("BisectBatchOnFunctionError", cls.bisects),
            reports_failures=REPORT in described.get("FunctionResponseTypes", []),
            starting_position=described.get("StartingPosition", cls.starting_position),
            destination=described.get("DestinationConfig", {}).get("OnFailure", {}).get("Destination"),
        )


class KinesisData(TypedDict):
    """The Kinesis part of a record in an event.

    `data` is base64; the arrival is in epoch seconds.
    """

    kinesisSchemaVersion: str
    partitionKey: str
    sequenceNumber: str
    data: str
    approximateArrivalTimestamp: float


class EventRecord(TypedDict):
    """A record in the event of a function."""

    kinesis: KinesisData
    eventSource: str
    eventVersion: str
    eventID: str
    eventName: str
    awsRegion: str
    eventSourceARN: str


class Event(TypedDict):
    """The event with which Lambda hands a batch to a function."""

    Records: list[EventRecord]


class BatchInfo(TypedDict):
    """The position of discarded records in their stream; times are ISO 8601 in UTC."""

    shardId: str
    startSequenceNumber: str
    endSequenceNumber: str
    approximateArrivalOfFirstRecord: str
    approximateArrivalOfLastRecord: str
    batchSize: int
    streamArn: str


class _Discarded(TypedDict):
    requestContext: dict[str, str | int]
    version: str
    timestamp: str
    KinesisBatchInfo: BatchInfo


class DiscardMessage(_Discarded, total=False):
    """The message about discarded records.

    It has `responseContext` if the function was invoked.
    """

    responseContext: dict[str, str | int | None]


def event_record(record: Record, shard: str, settings: Settings) -> EventRecord:
    """Return a record in the form of a function's event."""
    return {
        "kinesis": {
            "kinesisSchemaVersion": "1.0",
            "partitionKey": record.partition_key,
            "sequenceNumber": record.sequence,
            "data": base64.b64encode(record.data).decode(),
            "approximateArrivalTimestamp": record.arrived,
        },
        "eventSource": "aws:kinesis",
        "eventVersion": "1.0",
        "eventID": f"{shard}:{record.sequence}",
        "eventName": "aws:kinesis:record",
        "awsRegion": settings.stream_arn.split(":")[3],
        "eventSourceARN": settings.stream_arn,
    }


def full_batch(records: Sequence[Record], shard: str, settings: Settings) -> int | None:
    """Return the length of the first full batch, None while there is room.

    A batch is full by count, or by Lambda's limit of 6 MB for an event.
    """
    size = ENVELOPE_BYTES
    for index, record in enumerate(records):
        if index == settings.batch_size:
            return index
        bare = json.dumps(event_record(record._replace(data=b""), shard, settings), separators=(",", ":"))
        size += len(bare) + 4 * ((len(record.data) + 2) // 3) + 1
        if size > PAYLOAD_LIMIT and index:
            return index
    return settings.batch_size if len(records) >= settings.batch_size else None


class _Part(NamedTuple):
    """Records of a batch that are delivered together, and their failed attempts."""

    records: tuple[Record, ...]
    failures: int = 0


class Delivery:
    """Delivery of the batches of one shard, strictly in order.

    `invoke` calls the function with an event. `discard` sends a message to the on-failure destination. `pause` waits
    for a number of seconds and returns True if delivery must stop. `now` returns epoch seconds. `checkpoint` is the
    sequence number up to which every record is delivered or discarded; `invocations` and `discarded` are counts.
    """

    def __init__(
        self,
        settings: Settings,
        shard: str,
        invoke: Callable[[Event], Answer],
        discard: Callable[[DiscardMessage], None],
        pause: Callable[[float], bool],
        now: Callable[[], float],
    ) -> None:
        self.checkpoint: str | None = None
        self.invocations = 0
        self.discarded = 0
        self._settings = settings
        self._shard = shard
        self._invoke = invoke
        self._discard = discard
        self._pause = pause
        self._now = now
        self._in_a_row = 0

    def deliver(self, batch: Sequence[Record]) -> bool:
        """Deliver a batch until every record is processed or discarded.

        Returns False if delivery was stopped before.
        """
        parts = [_Part(tuple(batch))]
        while parts:
            remaining = self._attempt(parts.pop())
            parts.extend(reversed(remaining))
            if remaining and self._pause(FIRST_PAUSE_S * 2.0 ** min(self._in_a_row - 1, DOUBLINGS)):
                return False
        return True

    def _attempt(self, part: _Part) -> list[_Part]:
        """Invoke the function once; return the parts to deliver again, in order."""
        part = self._without_old(part)
        if not part.records:
            return []
        events = [event_record(record, self._shard, self._settings) for record in part.records]
        answer = self._invoke({"Records": events})
        self.invocations += 1
        failed = self._first_failed(answer, part.records)
        if failed is None or failed:
            self._in_a_row = 0
            self.checkpoint = part.records[-1 if failed is None else failed - 1].sequence
        if failed is None:
            return []
        self._in_a_row += 1
        return self._again(part, failed, answer)

    def _again(self, part: _Part, failed: int, answer: Answer) -> list[_Part]:
        """Return the parts to deliver again from record `failed` on.

        Splitting does not count as an attempt.
        """
        rest = part.records[failed:]
        if self._settings.bisects and failed:
            return [_Part(rest, part.failures)]
        if self._settings.bisects and answer.function_error and len(rest) > 1:
            half = len(rest) // 2
            return [_Part(rest[:half], part.failures), _Part(rest[half:], part.failures)]
        failures = part.failures + 1
        if self._settings.retries != FOREVER and failures > self._settings.retries:
            self._give_up(rest, EXHAUSTED, failures, answer)
            return []
        return [_Part(rest, failures)]

    def _first_failed(self, answer: Answer, records: Sequence[Record]) -> int | None:
        """Return the index of the first failed record, None if there is none.

        A report that names no record of the batch counts for the whole batch.
        """
        if answer.function_error:
            return 0
        if not self._settings.reports_failures or not answer.payload:
            return None
        if not isinstance(answer.payload, dict):
            return 0
        failures = answer.payload.get("batchItemFailures")
        if not failures:
            return None
        indices = {record.sequence: index for index, record in enumerate(records)}
        try:
            return min(indices[failure["itemIdentifier"]] for failure in failures)
        except (KeyError, TypeError):
            return 0

    def _without_old(self, part: _Part) -> _Part:
        if self._settings.record_age_s == FOREVER:
            return part
        oldest = self._now() - self._settings.record_age_s
        # Records arrive in order, so the old ones come first.
        recent = tuple(record for record in part.records if record.arrived >= oldest)
        if len(recent) < len(part.records):
            self._give_up(part.records[: len(part.records) - len(recent)], TOO_OLD, part.failures, None)
        return part._replace(records=recent)

    def _give_up(self, records: Sequence[Record], condition: str, tries: int, answer: Answer | None) -> None:
        self.discarded += len(records)
        self.checkpoint = records[-1].sequence
        if self._settings.destination:
            self._discard(self._message(records, condition, tries, answer))

    def _message(self, records: Sequence[Record], condition: str, tries: int, answer: Answer | None) -> DiscardMessage:
        """Return the document that Lambda sends about discarded records.

        It names the position of the records, not their data.
        """
        message: DiscardMessage = {
            "requestContext": {
                "functionArn": self._settings.function_arn,
                "condition": condition,
                "approximateInvokeCount": tries,
            },
            "version": "1.0",
            "timestamp": _iso(self._now()),
            "KinesisBatchInfo": {
                "shardId": self._shard,
                "startSequenceNumber": records[0].sequence,
                "endSequenceNumber": records[-1].sequence,
                "approximateArrivalOfFirstRecord": _iso(records[0].arrived),
                "approximateArrivalOfLastRecord": _iso(records[-1].arrived),
                "batchSize": len(records),
                "streamArn": self._settings.stream_arn,
            },
        }
        if answer is not None:
            message["requestContext"]["requestId"] = answer.request_id
            message["responseContext"] = {
                "statusCode": 200,
                "executedVersion": answer.version,
                "functionError": answer.function_error,
            }
        return message


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

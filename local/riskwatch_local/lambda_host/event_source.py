"""What Lambda's event source mapping does with the batches of a Kinesis shard: hand over, split, try again, give up.

The embedded AWS keeps these settings and heeds none of them. Here they hold as the Lambda developer guide has them
(chapters on Kinesis: error handling, partial batch responses, discarded records). Plain values and callables only;
`riskwatch_local.lambda_host.kinesis_source` reads the streams.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

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
    """A mapping asks for something that this event source does not do."""


class Record(NamedTuple):
    """One record of a shard; `arrived` in epoch seconds."""

    sequence: str
    partition_key: str
    data: bytes
    arrived: float


@dataclass(frozen=True)
class Settings:
    """The properties of an event source mapping; times in seconds, -1 = forever."""

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
        """Read a mapping as GetEventSourceMapping describes it; the template's properties have the same names.

        Raises EventSourceError for another source than a Kinesis stream and for settings that are not played here.
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


def event_record(record: Record, shard: str, settings: Settings) -> dict[str, Any]:
    """Give a record as it stands in the event of a function."""
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
    """Give the length of the first batch that is full by count or by Lambda's 6 MB; None while there is room."""
    size = ENVELOPE_BYTES
    for place, record in enumerate(records):
        if place == settings.batch_size:
            return place
        bare = json.dumps(event_record(record._replace(data=b""), shard, settings), separators=(",", ":"))
        size += len(bare) + 4 * ((len(record.data) + 2) // 3) + 1
        if size > PAYLOAD_LIMIT and place:
            return place
    return settings.batch_size if len(records) >= settings.batch_size else None


class _Part(NamedTuple):
    """Records of a batch that go together, and how often they have failed."""

    records: tuple[Record, ...]
    failures: int = 0


class Delivery:
    """Delivers the batches of one shard, strictly in order.

    `invoke` calls the function with an event, `discard` takes a message for the on-failure destination, `pause` waits
    for a number of seconds and says True when it is time to stop, `now` gives epoch seconds. `checkpoint` is the
    sequence number up to which everything is delivered or discarded, `invocations` and `discarded` are counts.
    """

    def __init__(
        self,
        settings: Settings,
        shard: str,
        invoke: Callable[[dict[str, Any]], Answer],
        discard: Callable[[dict[str, Any]], None],
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
        """Hand a batch over until each of its records is done or discarded; False when it was told to stop before."""
        left = [_Part(tuple(batch))]
        while left:
            remaining = self._attempt(left.pop())
            left.extend(reversed(remaining))
            if remaining and self._pause(FIRST_PAUSE_S * 2.0 ** min(self._in_a_row - 1, DOUBLINGS)):
                return False
        return True

    def _attempt(self, part: _Part) -> list[_Part]:
        """Invoke the function once and give what has to be tried again, in order."""
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
        """Decide about the records from place `failed` on. Splitting costs none of the tries."""
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
        """Give the place of the first record that counts as failed; None when all are done.

        A report that names no record of the batch is one about all of it.
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
        places = {record.sequence: place for place, record in enumerate(records)}
        try:
            return min(places[failure["itemIdentifier"]] for failure in failures)
        except (KeyError, TypeError):
            return 0

    def _without_old(self, part: _Part) -> _Part:
        if self._settings.record_age_s == FOREVER:
            return part
        oldest = self._now() - self._settings.record_age_s
        # Records arrive in order, so the old ones come first.
        kept = tuple(record for record in part.records if record.arrived >= oldest)
        if len(kept) < len(part.records):
            self._give_up(part.records[: len(part.records) - len(kept)], TOO_OLD, part.failures, None)
        return part._replace(records=kept)

    def _give_up(self, records: Sequence[Record], condition: str, tries: int, answer: Answer | None) -> None:
        self.discarded += len(records)
        self.checkpoint = records[-1].sequence
        if self._settings.destination:
            self._discard(self._message(records, condition, tries, answer))

    def _message(self, records: Sequence[Record], condition: str, tries: int, answer: Answer | None) -> dict[str, Any]:
        """Give the document that Lambda sends about records it has given up: where they are, not what they hold."""
        request: dict[str, Any] = {"functionArn": self._settings.function_arn, "condition": condition}
        message: dict[str, Any] = {
            "requestContext": {**request, "approximateInvokeCount": tries},
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

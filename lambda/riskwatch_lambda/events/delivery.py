"""Records as Kinesis delivers them, and Lambda's answer for a batch of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from typing import NotRequired, TypedDict

    class KinesisData(TypedDict):
        """Kinesis part of an event record; arrival in epoch seconds, base64 data."""

        sequenceNumber: str
        partitionKey: NotRequired[str]
        approximateArrivalTimestamp: float
        data: NotRequired[str]

    class KinesisRecord(TypedDict):
        """Record of a Kinesis event; ``eventID`` begins with the shard."""

        eventID: str
        kinesis: KinesisData

    class BatchItemFailure(TypedDict):
        """Sequence number of a failed record."""

        itemIdentifier: str

    class BatchAnswer(TypedDict):
        """Lambda's answer for partial batches.

        Kinesis delivers again from the first failed record on.
        """

        batchItemFailures: list[BatchItemFailure]


class Delivery(NamedTuple):
    """One record as Kinesis delivers it.

    ``data`` is base64, ``arrived_ms`` is epoch milliseconds.
    """

    shard: str
    sequence: str
    arrived_ms: int
    partition_key: str
    data: Any


class DeliveryError(ValueError):
    """An event record is not from a Kinesis stream."""


def read_delivery(record: KinesisRecord) -> Delivery:
    """Return a record of an event; raises DeliveryError."""
    try:
        kinesis = record["kinesis"]
        return Delivery(
            shard=str(record["eventID"]).partition(":")[0],
            sequence=str(kinesis["sequenceNumber"]),
            arrived_ms=round(float(kinesis["approximateArrivalTimestamp"]) * 1000),
            partition_key=str(kinesis.get("partitionKey", "")),
            data=kinesis.get("data"),
        )
    except KeyError as error:
        raise DeliveryError(f"an event record has no {error}: is the event source a Kinesis stream?") from error

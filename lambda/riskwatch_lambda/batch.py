"""One Kinesis batch: decode, score, follow episodes, store verdicts, tell.

Every record becomes one labelled row or one quarantined record. All writes are idempotent, so when one fails the whole
batch is reported from its first record on and comes again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from riskwatch_lambda.clock import iso
from riskwatch_lambda.logs import log, metrics
from riskwatch_lambda.records import DATA_LIMIT, RecordError, decode
from riskwatch_lambda.rows import labelled_row
from riskwatch_lambda.scorer import score
from riskwatch_lambda.sinks import Objects, SinkError
from riskwatch_lambda.table import ConflictError, RegistryError
from riskwatch_lambda.tracking import Change, Episode, Scored, Stamp, follow

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from riskwatch_lambda.model import Model
    from riskwatch_lambda.registry import Registry
    from riskwatch_lambda.telling import Teller

WRITE_TRIES = 3


class Outputs(NamedTuple):
    """Where a batch goes."""

    objects: Objects
    registry: Registry
    teller: Teller


class Delivery(NamedTuple):
    """One record as Kinesis delivered it; ``data`` in base64, arrival in epoch milliseconds."""

    shard: str
    sequence: str
    arrived_ms: int
    partition_key: str
    data: Any


class DeliveryError(ValueError):
    """An event record does not come from a Kinesis stream."""


class Labelled(NamedTuple):
    """A delivery that could be scored."""

    delivery: Delivery
    scored: Scored


def process(records: Sequence[Mapping[str, Any]], model: Model, outputs: Outputs, stamp: Stamp) -> dict[str, Any]:
    """Process the records of a Kinesis event and give Lambda's answer for partial batches."""
    if not records:
        return {"batchItemFailures": []}
    deliveries = [_delivery(record) for record in records]
    labelled, refused = _judge(deliveries, model)
    first = deliveries[0]
    name = f"{first.shard}-{first.sequence}-{deliveries[-1].sequence}"
    try:
        changes = _follow(labelled, model, outputs.registry, stamp)
        outputs.objects.put_labelled(first.arrived_ms, name, _rows(labelled, changes, model, stamp))
        outputs.objects.put_quarantined(first.arrived_ms, name, refused)
        written = [_write(change, model, outputs.registry, stamp) for change in changes.values()]
    except (RegistryError, SinkError) as error:
        log(
            "ERROR",
            "batch not stored",
            shard=first.shard,
            sequence=first.sequence,
            rows=len(records),
            reason=str(error),
        )
        return {"batchItemFailures": [{"itemIdentifier": first.sequence}]}
    pending = [episode for change in written for episode in change.to_tell]
    told = outputs.teller.page(pending, model.rule.group_s, stamp.now_ms)
    counts = {
        "RowsLabelled": len(labelled),
        "RowsQuarantined": len(refused),
        "RowsUnusual": sum(row.scored.verdict.unusual for row in labelled),
        "RowsWithoutContext": sum(not row.scored.verdict.context for row in labelled),
        "RowsAlert": sum(episode_id is not None for change in written for episode_id in change.episode_ids),
        "EpisodesOpened": sum(len(change.opened) for change in written),
        "EpisodesClosed": sum(change.closed for change in written),
        "MessagesSent": told.sent,
        "MessagesFailed": told.failed,
        "PagesHeld": told.held,
    }
    metrics(stamp.now_ms, stamp.model_version, counts, {"OldestArrival": max(0, stamp.now_ms - first.arrived_ms)})
    return {"batchItemFailures": []}


def _delivery(record: Mapping[str, Any]) -> Delivery:
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


def _judge(deliveries: Sequence[Delivery], model: Model) -> tuple[list[Labelled], list[dict[str, Any]]]:
    """Score what can be scored, and give the rest as documents for quarantine."""
    labelled: list[Labelled] = []
    refused: list[dict[str, Any]] = []
    for delivery in deliveries:
        try:
            record = decode(delivery.data, model.layout)
        except RecordError as error:
            refused.append(_refusal(delivery, str(error)))
            continue
        labelled.append(Labelled(delivery, Scored(record, score(model, record))))
    return labelled, refused


def _refusal(delivery: Delivery, reason: str) -> dict[str, Any]:
    data = delivery.data if isinstance(delivery.data, str) else ""
    return {
        "reason": reason,
        "shard": delivery.shard,
        "sequence_number": delivery.sequence,
        "partition_key": delivery.partition_key,
        "arrived": iso(delivery.arrived_ms),
        "truncated": len(data) > DATA_LIMIT,
        "data": data[:DATA_LIMIT],
    }


def _follow(labelled: Sequence[Labelled], model: Model, registry: Registry, stamp: Stamp) -> dict[str, Change]:
    """Apply the rows of each instance, oldest first, to its stored episode."""
    rows: dict[str, list[Scored]] = {}
    for _, scored in labelled:
        rows.setdefault(scored.record.instance_id, []).append(scored)
    stored = registry.read(rows)
    return {
        instance_id: follow(stored.get(instance_id), sorted(own, key=_event_time), model.rule, stamp)
        for instance_id, own in rows.items()
    }


def _event_time(scored: Scored) -> int:
    return scored.record.ts[-1]


def _rows(
    labelled: Sequence[Labelled], changes: Mapping[str, Change], model: Model, stamp: Stamp
) -> list[dict[str, Any]]:
    """Give the labelled rows in the order of the batch."""
    episode_ids = {
        (instance_id, _event_time(scored)): episode_id
        for instance_id, change in changes.items()
        for scored, episode_id in zip(change.rows, change.episode_ids, strict=True)
    }
    return [
        labelled_row(
            scored.record,
            scored.verdict,
            model.layout.features,
            model_id=stamp.model_id,
            model_version=stamp.model_version,
            episode_id=episode_ids[scored.record.instance_id, _event_time(scored)],
            arrived_ms=delivery.arrived_ms,
        )
        for delivery, scored in labelled
    ]


def _write(change: Change, model: Model, registry: Registry, stamp: Stamp) -> Change:
    """Write a change; when somebody else has moved the stored episode, decide anew on what is stored now."""
    for _ in range(WRITE_TRIES):
        if not change.is_needed:
            return change
        try:
            registry.write(change)
            return change
        except ConflictError:
            instance_id = change.rows[0].record.instance_id
            stored: Episode | None = registry.read([instance_id]).get(instance_id)
            change = follow(stored, change.rows, model.rule, stamp)
    raise RegistryError(f"an episode was changed by someone else {WRITE_TRIES} times in a row")

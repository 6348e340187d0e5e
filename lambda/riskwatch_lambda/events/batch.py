"""One Kinesis batch: decode, score, follow episodes, store verdicts, tell.

Every row that was sent becomes a labelled row or is quarantined. All writes are idempotent, and the verdicts of a batch
are one object: when a write fails, the batch is reported from its first record on and comes again.
"""

from __future__ import annotations

import base64
import json
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from riskwatch_lambda.alerting.sinks import Objects, SinkError
from riskwatch_lambda.clock import DAY_MS, iso
from riskwatch_lambda.episodes.lifecycle import Change, Episode, Scored, Stamp, follow
from riskwatch_lambda.logs import log, metrics
from riskwatch_lambda.model.row_schema import RecordError
from riskwatch_lambda.scoring.labelled_row import RISKS, labelled_row, risk_of
from riskwatch_lambda.scoring.records import PACK_LIMIT, decode
from riskwatch_lambda.scoring.scorer import verdicts
from riskwatch_lambda.table import ConflictError, RegistryError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from riskwatch_lambda.alerting.notifier import Teller
    from riskwatch_lambda.episodes.repository import Registry
    from riskwatch_lambda.model.document import Model

WRITE_TRIES = 3

EpisodeIds = dict[tuple[str, int], str | None]


class Outputs(NamedTuple):
    """Where a batch goes; the teller is made when there is something to tell."""

    objects: Objects
    registry: Registry
    teller: Callable[[], Teller]


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
    """A row that could be scored, and the delivery that it came with."""

    delivery: Delivery
    scored: Scored


def process(records: Sequence[Mapping[str, Any]], model: Model, outputs: Outputs, stamp: Stamp) -> dict[str, Any]:
    """Process the records of a Kinesis event and give Lambda's answer for partial batches."""
    if not records:
        return {"batchItemFailures": []}
    began = time.monotonic()
    deliveries = [_delivery(record) for record in records]
    first = deliveries[0]
    name = f"{first.shard}-{first.sequence}-{deliveries[-1].sequence}"
    labelled, refused = _judge(deliveries, model)
    try:
        changes = _follow(labelled, model, outputs.registry, stamp)
        episode_ids = _episode_ids(changes, outputs.registry)
        outputs.objects.put_labelled(first.arrived_ms, name, _rows(labelled, episode_ids, model, stamp))
        outputs.objects.put_quarantined(first.arrived_ms, name, refused)
        written = [_write(change, model, outputs.registry, stamp) for change in changes.values()]
    except (RegistryError, SinkError) as error:
        log("ERROR", "batch not stored", batch=name, records=len(records), rows=len(labelled), reason=str(error))
        return {"batchItemFailures": [{"itemIdentifier": first.sequence}]}
    pending = [episode for change in written for episode in change.to_tell]
    told = outputs.teller().page(pending, model.rule.group_s, stamp.now_ms) if pending else (0, 0, 0)
    sent, failed, held = told
    counts = {
        **_row_counts(labelled, episode_ids),
        "RowsQuarantined": sum(document["rows"] for document in refused),
        "EpisodesOpened": sum(len(change.opened) for change in written),
        "EpisodesClosed": sum(change.closed for change in written),
        "MessagesSent": sent,
        "MessagesFailed": failed,
        "PagesHeld": held,
    }
    done_ms = stamp.now_ms + round((time.monotonic() - began) * 1000)
    latencies = _latencies(deliveries, labelled, model.period_s, done_ms)
    metrics(stamp.now_ms, stamp.model_version, counts, latencies, batch=name, records=len(records))
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
            decoded = decode(delivery.data, model.layout)
        except RecordError as error:
            data = delivery.data if isinstance(delivery.data, str) else ""
            refused.append(_refusal(delivery, str(error), error.rows, data))
            continue
        refused += [
            _refusal(delivery, part.reason, part.rows, base64.b64encode(json.dumps(part.document).encode()).decode())
            for part in decoded.refused
        ]
        for record in decoded.records:
            first = len(record.ts) - record.newest
            for place, verdict in enumerate(verdicts(model, record), first):
                # The rows before it have served their purpose: what follows needs the row alone.
                row = record._replace(ts=record.ts[place : place + 1], rows=record.rows[place : place + 1], newest=1)
                labelled.append(Labelled(delivery, Scored(row, verdict)))
    return labelled, refused


def _refusal(delivery: Delivery, reason: str, rows: int, data: str) -> dict[str, Any]:
    """Give what was refused as it came, or the refused part as a record of its own: ``data`` can be sent again."""
    return {
        "reason": reason,
        "rows": rows,
        "shard": delivery.shard,
        "sequence_number": delivery.sequence,
        "partition_key": delivery.partition_key,
        "arrived": iso(delivery.arrived_ms),
        "truncated": len(data) > PACK_LIMIT,
        "data": data[:PACK_LIMIT],
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


def _episode_ids(changes: Mapping[str, Change], registry: Registry) -> EpisodeIds:
    """Give the episode of each row by instance and time, None where the row is no alert.

    The stored state knows the newest episode alone. A row that is older than it has been here before, or comes late: it
    may lie in an earlier episode, and then those that opened on its day or the day before are looked at. So a batch
    that is cut elsewhere when it comes again gives every row the verdict that it had.
    """
    found: dict[tuple[str, int], str | None] = {}
    old: list[tuple[str, int]] = []
    for instance_id, change in changes.items():
        newest = None if change.before is None else change.before.state.last_ms
        for scored, episode_id in zip(change.rows, change.episode_ids, strict=True):
            row = instance_id, _event_time(scored)
            found[row] = episode_id
            if episode_id is None and newest is not None and row[1] <= newest:
                old.append(row)
    days = sorted({iso(ms - back)[:10] for _, ms in old for back in (0, DAY_MS)})
    earlier: dict[str, list[Episode]] = {}
    for episode in (each for day in days for each in registry.opened(day)):
        earlier.setdefault(episode.instance_id, []).append(episode)
    for instance_id, ms in old:
        around = (each.episode_id for each in earlier.get(instance_id, ()) if each.state.covers(ms))
        found[instance_id, ms] = next(around, None)
    return found


def _rows(
    labelled: Sequence[Labelled], episode_ids: EpisodeIds, model: Model, stamp: Stamp
) -> Iterator[dict[str, Any]]:
    """Give the labelled rows in the order of the batch, one at a time: a batch may hold many thousands."""
    for delivery, scored in labelled:
        yield labelled_row(
            scored.record,
            scored.verdict,
            model.layout.features,
            model_id=stamp.model_id,
            model_version=stamp.model_version,
            episode_id=episode_ids[scored.record.instance_id, _event_time(scored)],
            arrived_ms=delivery.arrived_ms,
        )


def _row_counts(labelled: Sequence[Labelled], episode_ids: EpisodeIds) -> dict[str, int]:
    """Count the labelled rows, in all and by risk, as they were stored."""
    risks = Counter(
        risk_of(scored.verdict.level, episode_ids[scored.record.instance_id, _event_time(scored)])
        for _, scored in labelled
    )
    return {
        "RowsLabelled": len(labelled),
        **{f"Rows{risk.replace(' ', '')}": risks[risk] for risk in RISKS},
        "RowsUnusual": sum(scored.verdict.unusual for _, scored in labelled),
        "RowsWithoutContext": sum(not scored.verdict.context for _, scored in labelled),
    }


def _latencies(
    deliveries: Sequence[Delivery], labelled: Sequence[Labelled], period_s: int, done_ms: int
) -> dict[str, int]:
    """Give how long the oldest record waited since its put, and the newest row since the end of its period, in ms.

    The newest row, as the older ones may have been sent late on purpose: a replay, or hours that are caught up.
    """
    waited = {"PutToDone": done_ms - min(delivery.arrived_ms for delivery in deliveries)}
    if labelled:
        newest = max(_event_time(scored) for _, scored in labelled)
        waited["DatapointToDone"] = done_ms - newest - period_s * 1000
    # Clocks differ.
    return {name: max(0, ms) for name, ms in waited.items()}


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

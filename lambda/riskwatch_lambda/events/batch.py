"""Kinesis batch event: decode, score, follow episodes, store verdicts, notify.

Every row is labelled or quarantined. All writes are idempotent, and one object contains the verdicts of a batch. If a
write fails, the answer names the first record, and Kinesis delivers the batch again.
"""

from __future__ import annotations

import base64
import json
import time
from typing import TYPE_CHECKING, NamedTuple

from riskwatch_lambda.arrival import is_old
from riskwatch_lambda.clock import DAY_MS, iso
from riskwatch_lambda.episodes.episode import BEHAVIOUR, Change, Episode, ModelContext, Scored
from riskwatch_lambda.episodes.lifecycle import follow
from riskwatch_lambda.events.counts import event_time, latencies_ms, row_counts, value_counts
from riskwatch_lambda.events.delivery import read_delivery
from riskwatch_lambda.logs import log, metrics
from riskwatch_lambda.model.row_check import NO_REFUSED_VALUES
from riskwatch_lambda.model.row_schema import RecordError
from riskwatch_lambda.scoring.labelled_row import labelled_row
from riskwatch_lambda.scoring.records import PACK_LIMIT, Refused, decode
from riskwatch_lambda.scoring.scorer import verdicts
from riskwatch_lambda.storage import Objects, StorageError
from riskwatch_lambda.table import ConflictError, TableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import TypedDict

    from riskwatch_lambda.alerting.notifier import Notifier
    from riskwatch_lambda.episode_rule import Rule
    from riskwatch_lambda.episodes.repository import EpisodeRepository, States
    from riskwatch_lambda.episodes.seen import Seen, SeenRows
    from riskwatch_lambda.events.delivery import BatchAnswer, Delivery, KinesisRecord
    from riskwatch_lambda.model.document import Model
    from riskwatch_lambda.scoring.labelled_row import LabelledRow
    from riskwatch_lambda.scoring.records import Record

    class QuarantinedRecord(TypedDict):
        """A refused record, or the refused part of one, with the reason.

        ``rows`` and ``values`` count what was to be labelled. ``data`` is base64, as in the stream. ``resource_kind``
        is the kind that the record states, else that of the first part of the model; None if it is unknown.
        """

        reason: str
        resource_kind: str | None
        rows: int
        values: int
        shard: str
        sequence_number: str
        partition_key: str
        arrived: str
        truncated: bool
        data: str

    # Episode of each alert by instance and event time (epoch ms); None if the row is no alert.
    EpisodeIds = dict[tuple[str, int], str | None]

WRITE_TRIES = 3


class Outputs(NamedTuple):
    """Clients of a batch; the notifier is created once a message is due."""

    objects: Objects
    repository: EpisodeRepository
    seen_rows: SeenRows
    notifier: Callable[[], Notifier]


class Labelled(NamedTuple):
    """A scored row and its delivery."""

    delivery: Delivery
    scored: Scored


class Judge(NamedTuple):
    """The part of the model that judges the rows of a kind, its context, and its rule with the threshold in service."""

    model: Model
    context: ModelContext
    rule: Rule


def process(
    records: Sequence[KinesisRecord], model: Model, outputs: Outputs, model_context: ModelContext
) -> BatchAnswer:
    """Process the records of a Kinesis event.

    ``model_context`` is that of the first part of the model. Returns Lambda's answer for partial batches. Raises
    DeliveryError for records of another event source.
    """
    if not records:
        return {"batchItemFailures": []}
    began = time.monotonic()
    deliveries = [read_delivery(record) for record in records]
    first = deliveries[0]
    name = f"{first.shard}-{first.sequence}-{deliveries[-1].sequence}"
    labelled, refused = _judge(deliveries, model)
    judges = _judges(model, model_context)
    try:
        clock_ms = max(model_context.now_ms, *(delivery.arrived_ms for delivery in deliveries))
        names = {scored.record.instance_id for _, scored in labelled}
        seen = outputs.seen_rows.read(first.shard, names, clock_ms)
        states = outputs.repository.read_states([(name, BEHAVIOUR) for name in names], _model_ids(labelled, judges))
        judges = _with_thresholds(judges, states.thresholds)
        changes = _follow(labelled, judges, states, seen)
        episode_ids = _episode_ids(changes, outputs.repository)
        outputs.objects.put_labelled(first.arrived_ms, name, _rows(labelled, episode_ids, judges))
        outputs.objects.put_quarantined(first.arrived_ms, name, refused)
        written = [_write(change, judges, outputs.repository, seen) for change in changes.values()]
    except (TableError, StorageError) as error:
        log("ERROR", "batch not stored", batch=name, records=len(records), rows=len(labelled), reason=str(error))
        return {"batchItemFailures": [{"itemIdentifier": first.sequence}]}
    pending = [episode for change in written for episode in change.to_notify]
    pages = outputs.notifier().page(pending, model.rule_of, model_context.now_ms) if pending else (0, 0, 0)
    sent, failed, held = pages
    _advance(seen, labelled, outputs.seen_rows)
    counts = {
        **row_counts(labelled, episode_ids),
        "RowsQuarantined": sum(document["rows"] for document in refused),
        **value_counts(labelled, refused),
        "EpisodesOpened": sum(len(change.opened) for change in written),
        "EpisodesClosed": sum(change.closed for change in written),
        "MessagesSent": sent,
        "MessagesFailed": failed,
        "PagesHeld": held,
    }
    done_ms = model_context.now_ms + round((time.monotonic() - began) * 1000)
    latencies = latencies_ms(deliveries, labelled, model.parts, done_ms)
    metrics(model_context.now_ms, model_context.model_version, counts, latencies, batch=name, records=len(records))
    return {"batchItemFailures": []}


def _judges(model: Model, first: ModelContext) -> dict[str, Judge]:
    return {
        kind: Judge(
            part,
            first
            if part is model
            else first._replace(model_id=part.model_id, new_normals=part.new_normals, trained=part.trained),
            part.rule,
        )
        for kind, part in model.parts.items()
    }


def _judge(deliveries: Sequence[Delivery], model: Model) -> tuple[list[Labelled], list[QuarantinedRecord]]:
    """Score all valid rows; return them, and documents for quarantine for the rest."""
    labelled: list[Labelled] = []
    refused: list[QuarantinedRecord] = []
    for delivery in deliveries:
        try:
            decoded = decode(delivery.data, model.row_schema, delivery.arrived_ms, model.further_schemas)
        except RecordError as error:
            data = delivery.data if isinstance(delivery.data, str) else ""
            whole = Refused(str(error), error.rows, error.values, {}, error.resource_kind)
            refused.append(_refusal(delivery, whole, data))
            continue
        refused += [_refusal(delivery, part, _as_data(part, delivery)) for part in decoded.refused]
        for record in decoded.records:
            first = len(record.ts) - record.newest
            for index, verdict in enumerate(verdicts(model.parts[record.resource_kind], record), first):
                row = _one_row(record, index)
                labelled.append(Labelled(delivery, Scored(row, verdict, delivery.arrived_ms)))
    return labelled, refused


def _one_row(record: Record, index: int) -> Record:
    """Return one row of a record: the next steps need no context rows."""
    ms = record.ts[index]
    values = record.refused_values.get(ms)
    refused = {ms: values} if values else NO_REFUSED_VALUES
    return record._replace(ts=(ms,), rows=record.rows[index : index + 1], newest=1, refused_values=refused)


def _as_data(part: Refused, delivery: Delivery) -> str:
    """Return a refused part as the data of a record.

    A part can be nested just too deeply to be encoded again: then it is the whole record.
    """
    try:
        return base64.b64encode(json.dumps(part.document).encode()).decode()
    except RecursionError:
        return str(delivery.data)


def _refusal(delivery: Delivery, part: Refused, data: str) -> QuarantinedRecord:
    """Return the quarantine document of a record or of a part of one.

    Its ``data`` can be sent to the stream again.
    """
    return {
        "reason": part.reason,
        "resource_kind": part.resource_kind or None,
        "rows": part.rows,
        "values": part.values,
        "shard": delivery.shard,
        "sequence_number": delivery.sequence,
        "partition_key": delivery.partition_key,
        "arrived": iso(delivery.arrived_ms),
        "truncated": len(data) > PACK_LIMIT,
        "data": data[:PACK_LIMIT],
    }


def _model_ids(labelled: Sequence[Labelled], judges: Mapping[str, Judge]) -> list[str]:
    kinds = sorted({scored.record.resource_kind for _, scored in labelled})
    return [judges[kind].model.model_id for kind in kinds]


def _with_thresholds(judges: Mapping[str, Judge], thresholds: Mapping[str, float]) -> dict[str, Judge]:
    """Return the judges with the paging thresholds of the table, by model id."""
    return {
        kind: judge
        if judge.model.model_id not in thresholds
        else judge._replace(rule=judge.rule._replace(paging_threshold=thresholds[judge.model.model_id]))
        for kind, judge in judges.items()
    }


def _follow(labelled: Sequence[Labelled], judges: Mapping[str, Judge], states: States, seen: Seen) -> dict[str, Change]:
    """Apply the rows of each instance, oldest first, to its stored episode."""
    rows_of: dict[str, list[Scored]] = {}
    for _, scored in labelled:
        rows_of.setdefault(scored.record.instance_id, []).append(scored)
    stored = states.episodes
    return {
        instance_id: _followed(stored.get((instance_id, BEHAVIOUR)), sorted(rows, key=event_time), judges, seen)
        for instance_id, rows in rows_of.items()
    }


def _followed(stored: Episode | None, rows: Sequence[Scored], judges: Mapping[str, Judge], seen: Seen) -> Change:
    """Apply the rows of one instance: the part of its kind decides."""
    record = rows[0].record
    judge = judges[record.resource_kind]
    return follow(stored, rows, judge.rule, judge.context, seen.newest_ms(record.instance_id))


def _advance(seen: Seen, labelled: Sequence[Labelled], seen_rows: SeenRows) -> None:
    """Mark the newest row of each instance as labelled.

    The rows are stored, so a failure is logged only: then a row that comes again may count again.
    """
    if not labelled:
        return
    newest: dict[str, int] = {}
    for _, scored in labelled:
        instance_id, ms = scored.record.instance_id, event_time(scored)
        newest[instance_id] = max(ms, newest.get(instance_id, ms))
    try:
        seen_rows.advance(seen, newest, max(delivery.arrived_ms for delivery, _ in labelled))
    except TableError as error:
        log("ERROR", "newest rows not marked", shard=seen.shard, reason=str(error))


def _episode_ids(changes: Mapping[str, Change], repository: EpisodeRepository) -> EpisodeIds:
    """Return the episode id of each row, None if the row is no alert.

    The stored state has the newest episode only. A row older than the state was delivered before or arrives late; it
    may lie in an earlier episode, so the episodes that opened on its day or the day before are read. Therefore a row
    gets the same verdict again if Kinesis delivers it in another batch. A row that is too old at its arrival causes no
    reads, so their number is bounded.
    """
    episode_ids: EpisodeIds = {}
    late_rows: list[tuple[str, int]] = []
    for instance_id, change in changes.items():
        newest = None if change.before is None else change.before.state.last_ms
        for scored, episode_id in zip(change.rows, change.episode_ids, strict=True):
            row = instance_id, event_time(scored)
            episode_ids[row] = episode_id
            is_late = newest is not None and row[1] <= newest and not is_old(row[1], scored.arrived_ms)
            if episode_id is None and is_late:
                late_rows.append(row)
    days = sorted({iso(ms - back)[:10] for _, ms in late_rows for back in (0, DAY_MS)})
    earlier: dict[str, list[Episode]] = {}
    for day in days:
        for episode in repository.opened(day):
            earlier.setdefault(episode.instance_id, []).append(episode)
    for instance_id, ms in late_rows:
        covering_ids = (item.episode_id for item in earlier.get(instance_id, ()) if item.state.covers(ms))
        episode_ids[instance_id, ms] = next(covering_ids, None)
    return episode_ids


def _rows(labelled: Sequence[Labelled], episode_ids: EpisodeIds, judges: Mapping[str, Judge]) -> Iterator[LabelledRow]:
    """Yield the labelled rows in the order of the batch.

    A batch may contain many thousands.
    """
    for delivery, scored in labelled:
        model, context, _ = judges[scored.record.resource_kind]
        yield labelled_row(
            scored.record,
            scored.verdict,
            model.row_schema.features,
            model_id=context.model_id,
            model_version=context.model_version,
            episode_id=episode_ids[scored.record.instance_id, event_time(scored)],
            arrived_ms=delivery.arrived_ms,
        )


def _write(change: Change, judges: Mapping[str, Judge], repository: EpisodeRepository, seen: Seen) -> Change:
    """Write a change; repeat it on the new state if the stored one has changed."""
    for _ in range(WRITE_TRIES):
        if not change.is_needed:
            return change
        try:
            repository.write(change)
            return change
        except ConflictError:
            instance_id = change.rows[0].record.instance_id
            stored: Episode | None = repository.read([instance_id]).get(instance_id)
            change = _followed(stored, change.rows, judges, seen)
    raise TableError(f"an episode was changed by someone else {WRITE_TRIES} times in a row")

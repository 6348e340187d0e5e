"""Tasks of stream_metrics: rows that have settled since the last run to the stream, then a tick for the live function.

`riskwatch_ml.streaming.watermark` says how far the stream is: a run that comes late, or after failed ones, begins where
the last complete one ended, whatever the schedule and the period are.
"""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from riskwatch_airflow import clients, intervals
from riskwatch_airflow.hooks.all_accounts import AllAccounts
from riskwatch_ml.core import clock, settings
from riskwatch_ml.ingest.call_plan import InstancesOfKind
from riskwatch_ml.schema import catalogue
from riskwatch_ml.storage import known_instances
from riskwatch_ml.streaming import last_seen, live_model, watermark
from riskwatch_ml.streaming.watermark import StreamInterval

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from airflow.sdk import Context

    from riskwatch_airflow.handoff import Published
    from riskwatch_ml.core.settings import Settings
    from riskwatch_ml.schema.catalogue import Catalogue
    from riskwatch_ml.storage.bucket import Store
    from riskwatch_ml.streaming.live_model import LiveModel

# CloudWatch lists as recently active what had data within three hours, roughly.
RECENT = timedelta(hours=2)

_log = logging.getLogger(__name__)


class _Served(NamedTuple):
    """The metrics of a kind in the order of its part of the live model, and the needs of the part."""

    metrics: Catalogue
    model: LiveModel


@dataclass(frozen=True)
class _Sent:
    """The outcome of an interval: its unread accounts, the newest row of each instance (epoch ms), and counts."""

    interval: StreamInterval
    unread: Mapping[str, Exception] = field(default_factory=dict)
    newest: Mapping[str, int] = field(default_factory=dict)
    instances: int = 0
    rows: int = 0
    values: int = 0
    records: int = 0
    calls: int = 0
    retried: int = 0


def publish(context: Context) -> Published:
    """Send the rows that settled since the last run, or those of the interval given by hand, to the stream.

    The live function says which features, how many rows and which longest gap it needs. At most `watermark.CATCH_UP` is
    caught up, and without a watermark the newest period alone is sent. The watermark moves once all rows are sent, so a
    retry may send rows again: they keep their first label. A run by hand leaves the watermark alone.

    An account and region that cannot be read does not stop the others: it is in `unread` and catches up later. A period
    without any row is no error. A datapoint that reaches CloudWatch later than `settle_s` after its period is not
    streamed; the hourly export reads it later, so it counts in training.

    Raises AirflowSkipException if no model is in service, AirflowFailException if the interval or the catalogue
    cannot be used, and the error of the first account and region if none can be read.
    """
    config = settings.load()
    model, kinesis, store = _connect(config)
    now = clock.now()
    try:
        by_hand = _by_hand(context, config, model.period_s, now)
        pending = [by_hand] if by_hand else watermark.pending(config, store, model.period_s, now)
        _warn_of_left_out(pending)
        kinds = catalogue.load_all(config.catalogue)
        served = _served(kinds, model)
        sent = [_send(config, store, kinesis, kinds, served, interval, now) for interval in pending]
    except watermark.StreamIntervalError as error:
        raise AirflowFailException(str(error)) from error
    unread = {name: error for part in sent for name, error in part.unread.items()}
    if len(unread) == len(config.account_regions):
        raise next(iter(unread.values()))
    if not by_hand:
        _record(config, store, sent, kinds, served)
    published = _published(pending, sent, model.model_id, is_by_hand=by_hand is not None)
    _log.info("%s", published)
    return published


def complete(published: Published) -> None:
    """Raise AirflowFailException, with their names, if accounts and regions could not be read."""
    unread = published["unread"]
    if unread:
        next_step = "run it by hand again" if published["by_hand"] else "the next runs catch up"
        raise AirflowFailException(
            f"the rows of {', '.join(unread)} were not streamed, those of the others were: "
            f"{'; '.join(f'{name}: {error}' for name, error in unread.items())}. Once the cause is gone, {next_step}"
        )


def tick(published: Published, *, daily_summary: bool = False) -> dict[str, int]:
    """Send the live function a tick: up to when rows were published and which instances are overdue.

    The time is the end of the published interval, so that no episode changes ahead of the rows that are still to be
    sent. Only instances of the inventory are overdue, and of kinds that always send rows; after a run by hand none is.
    `daily_summary` requests the digest now instead of at its hour. Returns the answer of the function, its counts of
    messages and episodes. Raises LiveError.
    """
    config = settings.load()
    event: dict[str, Any] = {"now": clock.epoch_ms(clock.parse(published["end"]))}
    if not published["by_hand"]:
        store = clients.store(config)
        kinds_known = catalogue.load_all(config.catalogue)
        known = {
            name: instance
            for name, instance in known_instances.load(config.inventory, store).items()
            if not catalogue.of_instance(name, kinds_known).silent_when_idle
        }
        event["overdue"] = last_seen.overdue(store, known)
        if kinds := _further_kinds(kinds_known, event["overdue"]):
            event["kinds"] = kinds
    if daily_summary:
        event["digest"] = True
    answer = live_model.invoke(clients.client(config, "lambda"), config.function, config.alias, {"tick": event})
    _log.info("tick at %s with %s overdue: %s", published["end"], len(event.get("overdue") or ()), answer)
    return cast("dict[str, int]", answer)


def _further_kinds(kinds: Sequence[Catalogue], overdue: Sequence[Sequence[str | int]] | None) -> dict[str, str]:
    """Return the kind of each overdue instance that is not of the first kind."""
    found = {str(name): catalogue.of_instance(str(name), kinds) for name, *_ in overdue or ()}
    return {name: metrics.kind for name, metrics in found.items() if not metrics.is_first}


def _connect(config: Settings) -> tuple[LiveModel, Any, Store]:
    """Return what the model in service needs, the Kinesis client and the bucket; skip if no model is in service."""
    function = clients.client(config, "lambda")
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(live_model.ask, function, config.function, config.alias)
        # These are slow to load: the function answers meanwhile.
        from riskwatch_ml.streaming import packs  # noqa: F401

        kinesis, store = clients.client(config, "kinesis"), clients.store(config)
        try:
            return answer.result(), kinesis, store
        except live_model.NoModelError as error:
            raise AirflowSkipException(str(error)) from error


def _by_hand(context: Context, config: Settings, period_s: int, now: datetime) -> StreamInterval | None:
    """Return the interval of the params, or None if they have none."""
    try:
        interval = intervals.given(context.get("params") or {}, period_s, now)
    except (intervals.IntervalError, clock.ClockError) as error:
        raise AirflowFailException(str(error)) from error
    names = tuple(account_region.name for account_region in config.account_regions)
    return None if interval is None else StreamInterval(*interval, names, by_hand=True)


def _warn_of_left_out(pending: Sequence[StreamInterval]) -> None:
    for interval in pending:
        if interval.left_out:
            _log.warning(
                "[%s, %s) of %s lies longer ago than is caught up (%s) and was not streamed: run stream_metrics by "
                "hand with this start and end to label it",
                *map(clock.iso, interval.left_out),
                ", ".join(interval.account_regions),
                watermark.CATCH_UP,
            )


def _send(
    config: Settings,
    store: Store,
    kinesis: Any,
    kinds: Sequence[Catalogue],
    served: Sequence[_Served],
    interval: StreamInterval,
    now: datetime,
) -> _Sent:
    """Read and send the rows of the interval, or as many whole periods from its start as one run may send."""
    from riskwatch_ml.streaming import packs
    from riskwatch_ml.streaming.kinesis import put

    if interval.is_empty:
        return _Sent(interval)
    accounts = AllAccounts(config, interval.account_regions)
    fleet = _fleet(accounts, kinds, served, recently_active=now - interval.start <= RECENT)
    instances = sum(len(names) for _, names in fleet)
    first = served[0].model
    interval = interval.bounded(instances, first.period_s)
    # Rows of a record may lie as far apart as the longest gap allows: all of them are read, not only the last few.
    context_s = max((part.context_rows - 1) * part.max_gap_s for _, part in served)
    oldest = clock.floor(interval.start - timedelta(seconds=context_s), first.period_s)
    read = accounts.metric_rows(fleet, oldest, interval.end, first.period_s)
    known = known_instances.load(config.inventory, store)
    queues = [
        queue
        for (metrics, part), of_kind in zip(served, read, strict=True)
        for queue in packs.Packer(
            *(of_kind.rows, known, part.context_rows, part.max_gap_s, metrics),
            kind=None if part is first else metrics.kind,
        ).packs(interval.start, interval.end)
    ]
    sent = put(kinesis, config.stream, queues)
    return _Sent(
        interval,
        accounts.unread,
        {name: ms for of_kind in read for name, ms in last_seen.newest_rows(of_kind.rows).items()},
        instances,
        sent.rows,
        sent.values,
        sent.records,
        sent.calls,
        sent.retried,
    )


def _fleet(
    accounts: AllAccounts, kinds: Sequence[Catalogue], served: Sequence[_Served], *, recently_active: bool
) -> list[InstancesOfKind]:
    """Return the instances of each kind that CloudWatch lists, without those with ids that read like another kind."""
    fleet = []
    for metrics, _ in served:
        listed = accounts.instances(metrics, recently_active=recently_active)
        if refusal := catalogue.misread(listed, metrics, kinds):
            _log.warning("%s", refusal)
        fleet.append(InstancesOfKind(metrics, sorted(catalogue.names_of_kind(listed, metrics, kinds))))
    return fleet


def _served(kinds: Sequence[Catalogue], model: LiveModel) -> list[_Served]:
    """Return the metrics and the needs of each kind that the model has; fail if a catalogue has lost a metric.

    A kind that has no model yet is logged: its rows would be refused.
    """
    served = []
    for metrics in kinds:
        part = model.of_kind(metrics.kind, first=kinds[0].kind)
        if part is None or part.period_s != model.period_s:
            _log.info("the live model has no part of this period for the kind %s: its rows wait", metrics.kind)
            continue
        try:
            served.append(_Served(live_model.select_metrics(metrics, part.features), part))
        except live_model.LiveError as error:
            raise AirflowFailException(str(error)) from error
    if not served or served[0].model is not model:
        raise AirflowFailException(
            f"the first kind of the live model is {model.kind}, that of the setting catalogue {kinds[0].kind}: name "
            "the kinds in the order of the model"
        )
    return served


def _record(
    config: Settings, store: Store, sent: Sequence[_Sent], kinds: Sequence[Catalogue], served: Sequence[_Served]
) -> None:
    """Record the newest row of each instance, then the watermark, unless no period has settled.

    Instances of a kind that the model does not have send no rows, so none is expected of them.
    """
    if all(part.interval.is_empty for part in sent):
        return
    end = max(part.interval.end for part in sent)
    reached = {name: moment for part in sent for name, moment in part.interval.reached(part.unread).items()}
    behind = {name: moment for name, moment in reached.items() if moment != end}
    newest = {name: epoch_ms for part in sent for name, epoch_ms in part.newest.items()}
    known = known_instances.load(config.inventory, store)
    expected = {name for metrics, _ in served for name in catalogue.names_of_kind(known, metrics, kinds)}
    inventory = {name: item for name, item in known.items() if name in expected}
    last_seen.update_last_seen(store, inventory, newest, end, served[0].model.period_s, behind)
    # Rows before the interval were read as context and not sent.
    sent_ms = [ms for part in sent for ms in part.newest.values() if ms >= clock.epoch_ms(part.interval.start)]
    watermark.record(store, end, behind, max(sent_ms, default=None))


def _published(
    pending: Sequence[StreamInterval], sent: Sequence[_Sent], model_id: str, *, is_by_hand: bool
) -> Published:
    return {
        "start": clock.iso(min(part.interval.start for part in sent)),
        "end": clock.iso(max(part.interval.end for part in sent)),
        "left_out": [list(map(clock.iso, interval.left_out)) for interval in pending if interval.left_out],
        "by_hand": is_by_hand,
        "unread": {name: str(error) for part in sent for name, error in part.unread.items()},
        "model_id": model_id,
        "instances": sum(part.instances for part in sent),
        "rows": sum(part.rows for part in sent),
        "values": sum(part.values for part in sent),
        "records": sum(part.records for part in sent),
        "calls": sum(part.calls for part in sent),
        "retried": sum(part.retried for part in sent),
    }

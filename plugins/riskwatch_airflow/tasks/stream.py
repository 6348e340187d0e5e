"""Tasks of stream_metrics: what has settled since the last run into the stream, then a tick for the live function.

How far the stream is lies in the bucket, under `stream/mark.json`: a run that comes late, or after failed ones, begins
where the last complete one ended, whatever the schedule and the period are. An account and region that could not be
read has a mark of its own there until it has caught up.
"""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from riskwatch_airflow import clients, intervals
from riskwatch_airflow.hooks.all_accounts import Fleet
from riskwatch_ml.core import clock, settings
from riskwatch_ml.schema import catalogue, inventory
from riskwatch_ml.streaming import last_seen, live_model
from riskwatch_ml.streaming.last_seen import MARK

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from riskwatch_ml.core.settings import Settings
    from riskwatch_ml.storage.bucket import Store
    from riskwatch_ml.streaming.live_model import LiveModel

# An alert that comes later than this helps nobody: what a longer outage left out waits to be asked for.
CATCH_UP = timedelta(hours=6)
# What one run sends at most, so that it ends within its time limit: 1 MB/s goes through one shard.
MOST_ROWS = 200_000
# CloudWatch lists as recently active what had data within three hours, roughly.
RECENT = timedelta(hours=2)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stretch:
    """The rows of shards with start <= timestamp < end.

    `left_out` is what lies between the mark and a start that is capped.
    """

    start: datetime
    end: datetime
    shards: tuple[str, ...]
    by_hand: bool = False
    left_out: tuple[datetime, datetime] | None = None

    @property
    def is_empty(self) -> bool:
        """Tell whether no period lies in it."""
        return self.start >= self.end


@dataclass(frozen=True)
class _Sent:
    """What became of a stretch: its shards that could not be read, the newest row of each instance (ms), counts."""

    stretch: Stretch
    unread: Mapping[str, Exception] = field(default_factory=dict)
    newest: Mapping[str, int] = field(default_factory=dict)
    instances: int = 0
    rows: int = 0
    records: int = 0
    calls: int = 0
    retried: int = 0

    def marks(self) -> dict[str, datetime]:
        """Give up to when each shard has been streamed now."""
        before = (self.stretch.left_out or (self.stretch.start,))[0]
        return {name: before if name in self.unread else self.stretch.end for name in self.stretch.shards}


def publish(context: Mapping[str, Any]) -> dict[str, Any]:
    """Send the rows that settled since the last run, or those of the stretch given by hand, to the stream.

    The live function says which features, how many rows and which longest gap it needs. Skips where no model is
    promoted yet. Returns counts; `left_out` has the stretches that were too long ago to be caught up.

    The mark moves once all packs are through, so a retry may send rows again: their first verdict stands. Without a
    mark the newest period alone is sent, and at most CATCH_UP is caught up. A stretch by hand leaves the mark alone.

    An account and region that cannot be read does not stop the others: it is in `unread`, keeps its mark and catches up
    later. Raises what was wrong with the first one where none can be read.

    A datapoint that reaches CloudWatch later than `settle_s` after its period is not streamed: the rows of a period go
    out once, without it. The hourly export, which reads later, has such a row unless it is later still, so it counts in
    training. A period without any row is no error.
    """
    config = settings.load()
    function = clients.client(config, "lambda")
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(live_model.ask, function, config.function, config.alias)
        # What is slow to load is loaded while the function answers.
        from riskwatch_ml.streaming import packs  # noqa: F401

        kinesis, store = clients.client(config, "kinesis"), clients.store(config)
        try:
            model = asked.result()
        except live_model.NoModelError as error:
            raise AirflowSkipException(str(error)) from error
    now = clock.now()
    by_hand = _by_hand(context, config, model.period_s, now)
    stretches = [by_hand] if by_hand else _since_the_marks(config, store, model.period_s, now)
    for stretch in stretches:
        if stretch.left_out:
            _log.warning(
                "[%s, %s) of %s is longer ago than is caught up (%s) and was not streamed: run stream_metrics by hand "
                "with this start and end to have it labelled",
                *map(clock.iso, stretch.left_out),
                ", ".join(stretch.shards),
                CATCH_UP,
            )
    sent = [_send(config, store, kinesis, model, stretch, now) for stretch in stretches]
    unread = {name: error for each in sent for name, error in each.unread.items()}
    if len(unread) == len(config.shards):
        raise next(iter(unread.values()))
    end = max(each.stretch.end for each in sent)
    if not by_hand and any(not each.stretch.is_empty for each in sent):
        behind = {name: mark for each in sent for name, mark in each.marks().items() if mark != end}
        newest = {name: moment for each in sent for name, moment in each.newest.items()}
        last_seen.remember(store, inventory.load(config.inventory, store), newest, end, model.period_s, behind)
        marks = {"shards": {name: clock.iso(mark) for name, mark in behind.items()}} if behind else {}
        store.put_json(MARK, {"end": clock.iso(end), **marks})
    told = {
        "start": clock.iso(min(each.stretch.start for each in sent)),
        "end": clock.iso(end),
        "left_out": [list(map(clock.iso, each.left_out)) for each in stretches if each.left_out],
        "by_hand": by_hand is not None,
        "unread": {name: str(error) for name, error in unread.items()},
        "model_id": model.model_id,
        **{name: sum(getattr(each, name) for each in sent) for name in ("instances", "rows", "records", "calls")},
        "retried": sum(each.retried for each in sent),
    }
    _log.info("%s", told)
    return told


def complete(published: Mapping[str, Any]) -> None:
    """Fail for good, with their names, where accounts and regions could not be read."""
    unread = published["unread"]
    if unread:
        what = "run it by hand again" if published["by_hand"] else "the next runs catch up"
        raise AirflowFailException(
            f"the rows of {', '.join(unread)} were not streamed, those of the others were: "
            f"{'; '.join(f'{name}: {error}' for name, error in unread.items())}. Once the cause is gone, {what}"
        )


def tick(published: Mapping[str, Any], *, digest: bool = False) -> dict[str, Any]:
    """Tell the live function how far the rows reach and which instances are overdue; return what it did.

    The time is the end of the published stretch, so that nothing happens to an episode ahead of the rows that are still
    to be streamed. Overdue are instances of the inventory alone. After a stretch by hand silence is not judged.
    `digest` asks for the digest now instead of at its hour.
    """
    config = settings.load()
    event: dict[str, Any] = {"now": clock.epoch_ms(clock.parse(published["end"]))}
    if not published["by_hand"]:
        store = clients.store(config)
        event["overdue"] = last_seen.overdue(store, inventory.load(config.inventory, store))
    if digest:
        event["digest"] = True
    answer = live_model.invoke(clients.client(config, "lambda"), config.function, config.alias, {"tick": event})
    _log.info("tick at %s with %s overdue: %s", published["end"], len(event.get("overdue") or ()), answer)
    return answer


def _send(config: Settings, store: Store, kinesis: Any, model: LiveModel, stretch: Stretch, now: datetime) -> _Sent:
    """Read and send the rows of the stretch, or as many whole periods from its start as one run may send."""
    from riskwatch_ml.streaming import packs

    period_s, context_rows, max_gap_s = model.period_s, model.context_rows, model.max_gap_s
    try:
        metrics = live_model.wanted(catalogue.load(config.catalogue), model.features)
    except live_model.LiveError as error:
        raise AirflowFailException(str(error)) from error
    if stretch.is_empty:
        return _Sent(stretch)
    fleet = Fleet(config, stretch.shards)
    instances = fleet.instances(metrics, recently_active=now - stretch.start <= RECENT)
    stretch = _bounded(stretch, len(instances), period_s)
    # Rows of a record may lie as far apart as the longest gap allows: all of them are read, not only the last few.
    oldest = clock.floor(stretch.start - timedelta(seconds=(context_rows - 1) * max_gap_s), period_s)
    found = fleet.metric_rows(instances, metrics, oldest, stretch.end, period_s)
    known = inventory.load(config.inventory, store)
    packer = packs.Packer(found.rows, known, context_rows, max_gap_s, metrics)
    sent = packs.put(kinesis, config.stream, packer.packs(stretch.start, stretch.end))
    return _Sent(
        stretch,
        fleet.unread,
        last_seen.newest_rows(found.rows),
        len(instances),
        sent.rows,
        sent.records,
        sent.calls,
        sent.retried,
    )


def _by_hand(context: Mapping[str, Any], config: Settings, period_s: int, now: datetime) -> Stretch | None:
    try:
        chosen = intervals.given(context.get("params") or {}, period_s, now)
    except (intervals.IntervalError, clock.ClockError) as error:
        raise AirflowFailException(str(error)) from error
    names = tuple(shard.name for shard in config.shards)
    return None if chosen is None else Stretch(*chosen, names, by_hand=True)


def _since_the_marks(config: Settings, store: Store, period_s: int, now: datetime) -> list[Stretch]:
    """What has settled since the last complete run, for shards of one mark together, the newest first."""
    end = clock.floor(now - timedelta(seconds=config.settle_s), period_s)
    by_mark: dict[datetime | None, list[str]] = {}
    for name, mark in _marks(config, store).items():
        if mark is not None and mark > now:
            _log.warning("s3://%s/%s is ahead of the clock: the newest period is streamed", config.bucket, MARK)
            mark = None
        by_mark.setdefault(mark, []).append(name)
    stretches = [_since(mark, tuple(names), end, period_s) for mark, names in by_mark.items()]
    return sorted(stretches, key=lambda stretch: stretch.start, reverse=True)


def _since(mark: datetime | None, names: tuple[str, ...], end: datetime, period_s: int) -> Stretch:
    """What has settled since a mark; empty where no period has."""
    newest = end - timedelta(seconds=period_s)
    if mark is None:
        return Stretch(newest, end, names)
    # A model of another period may have moved the mark off this grid: rows that come twice keep their first verdict.
    start = min(clock.floor(mark, period_s), end)
    oldest = min(clock.floor(end - CATCH_UP, period_s), newest)
    return Stretch(oldest, end, names, left_out=(start, oldest)) if start < oldest else Stretch(start, end, names)


def _marks(config: Settings, store: Store) -> dict[str, datetime | None]:
    """Give up to when each shard of the settings has been streamed, None where that is not known."""
    names = [shard.name for shard in config.shards]
    try:
        found = store.get_json(MARK)
        if found is None:
            return dict.fromkeys(names)
        own = found.get("shards", {})
        return {name: clock.parse(own.get(name, found["end"])) for name in names}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise AirflowFailException(
            f"s3://{config.bucket}/{MARK} cannot be read ({error!r}): delete it, the next run then streams the newest "
            "period, and run stream_metrics by hand for what lies before"
        ) from error


def _bounded(stretch: Stretch, instances: int, period_s: int) -> Stretch:
    """Cut an automatic stretch to what one run may send, the next runs go on; refuse a longer one by hand."""
    longest = timedelta(seconds=max(1, MOST_ROWS // max(1, instances)) * period_s)
    if stretch.end - stretch.start <= longest:
        return stretch
    if stretch.by_hand:
        raise AirflowFailException(
            f"the stretch from {clock.iso(stretch.start)} to {clock.iso(stretch.end)} is too long for one run with "
            f"{instances} instances: run it in parts of at most {longest.total_seconds() / 3600:g} hours, the first "
            f"one until {clock.iso(stretch.start + longest)}"
        )
    _log.warning("streaming %s of %s, the next runs go on", longest, stretch.end - stretch.start)
    return replace(stretch, end=stretch.start + longest)

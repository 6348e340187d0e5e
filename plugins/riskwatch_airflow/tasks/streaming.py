"""Tasks of stream_metrics: what has settled since the last run into the stream, then a tick for the live function.

How far the stream is lies in the bucket, under `stream/mark.json`: a run that comes late, or after failed ones, begins
where the last complete one ended, whatever the schedule and the period are.
"""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from ml import catalogue, clock, inventory, live, settings, silence
from riskwatch_airflow import clients, intervals
from riskwatch_airflow.hooks.fleet import Fleet

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from ml.live import LiveModel
    from ml.settings import Settings
    from ml.store import Store

MARK = "stream/mark.json"
# An alert that comes later than this helps nobody: what a longer outage left out waits to be asked for.
CATCH_UP = timedelta(hours=6)
# What one run sends at most, so that it ends within its time limit: 1 MB/s goes through one shard.
MOST_ROWS = 200_000
# CloudWatch lists as recently active what had data within three hours, roughly.
RECENT = timedelta(hours=2)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stretch:
    """The rows with start <= timestamp < end; `left_out` is what lies between the mark and a start that is capped."""

    start: datetime
    end: datetime
    by_hand: bool = False
    left_out: tuple[datetime, datetime] | None = None

    @property
    def is_empty(self) -> bool:
        """Tell whether no period lies in it."""
        return self.start >= self.end


def publish(context: Mapping[str, Any]) -> dict[str, Any]:
    """Send the rows that settled since the last run, or those of the stretch given by hand, to the stream.

    The live function says which features, how many rows and which longest gap it needs. Skips where no model is
    promoted yet. Returns counts; `left_out` is the stretch that was too long ago to be caught up, or None.

    The mark moves once all packs are through, so a retry may send rows again: their first verdict stands. Without a
    mark the newest period alone is sent, and at most CATCH_UP is caught up. A stretch by hand leaves the mark alone.

    A datapoint that reaches CloudWatch later than `settle_s` after its period is not streamed: the rows of a period go
    out once, without it. The hourly export, which reads later, has such a row unless it is later still, so it counts in
    training. A period without any row is no error.
    """
    config = settings.load()
    function = clients.client(config, "lambda")
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(live.ask, function, config.function, config.alias)
        # What is slow to load is loaded while the function answers.
        from ml import stream  # noqa: F401

        kinesis, store = clients.client(config, "kinesis"), clients.store(config)
        try:
            model = asked.result()
        except live.NoModelError as error:
            raise AirflowSkipException(str(error)) from error
    now = clock.now()
    stretch = _by_hand(context, model.period_s, now) or _since_the_mark(config, store, model.period_s, now)
    if stretch.left_out:
        _log.warning(
            "[%s, %s) is longer ago than is caught up (%s) and was not streamed: run stream_metrics by hand with this "
            "start and end to have it labelled",
            *map(clock.iso, stretch.left_out),
            CATCH_UP,
        )
    told, newest = _send(config, store, kinesis, model, stretch, now)
    if not (stretch.by_hand or stretch.is_empty):
        expected = inventory.load(config.inventory, store)
        silence.remember(store, expected, newest, clock.parse(told["end"]), model.period_s)
        store.put_json(MARK, {"end": told["end"]})
    _log.info("%s", told)
    return told


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
        event["overdue"] = silence.overdue(store, inventory.load(config.inventory, store))
    if digest:
        event["digest"] = True
    answer = live.invoke(clients.client(config, "lambda"), config.function, config.alias, {"tick": event})
    _log.info("tick at %s with %s overdue: %s", published["end"], len(event.get("overdue", ())), answer)
    return answer


def _send(
    config: Settings, store: Store, kinesis: Any, model: LiveModel, stretch: Stretch, now: datetime
) -> tuple[dict[str, Any], dict[str, int]]:
    """Read and send the rows of the stretch, or as many whole periods from its start as one run may send.

    Gives counts, and the time of each instance's newest row in epoch ms.
    """
    from ml import stream

    period_s, context_rows, max_gap_s = model.period_s, model.context_rows, model.max_gap_s
    try:
        metrics = live.wanted(catalogue.load(config.catalogue), model.features)
    except live.LiveError as error:
        raise AirflowFailException(str(error)) from error
    instances: list[str] = []
    sent = stream.Sent(0, 0, 0, 0)
    newest: dict[str, int] = {}
    if not stretch.is_empty:
        hook = Fleet(config)
        instances = hook.instances(metrics, recently_active=now - stretch.start <= RECENT)
        stretch = _bounded(stretch, len(instances), period_s)
        # Rows of a record may lie as far apart as the longest gap allows: all of them are read, not only the last few.
        oldest = clock.floor(stretch.start - timedelta(seconds=(context_rows - 1) * max_gap_s), period_s)
        found = hook.metric_rows(instances, metrics, oldest, stretch.end, period_s)
        newest = silence.newest_rows(found.rows)
        known = inventory.load(config.inventory, store)
        packer = stream.Packer(found.rows, known, context_rows, max_gap_s, metrics)
        packs = packer.packs(stretch.start, stretch.end)
        sent = stream.put(kinesis, config.stream, packs)
    counts = {
        "start": clock.iso(stretch.start),
        "end": clock.iso(stretch.end),
        "left_out": stretch.left_out and dict(zip(("start", "end"), map(clock.iso, stretch.left_out), strict=True)),
        "by_hand": stretch.by_hand,
        "model_id": model.model_id,
        "instances": len(instances),
        "rows": sent.rows,
        "records": sent.records,
        "calls": sent.calls,
        "retried": sent.retried,
    }
    return counts, newest


def _by_hand(context: Mapping[str, Any], period_s: int, now: datetime) -> Stretch | None:
    try:
        chosen = intervals.given(context.get("params") or {}, period_s, now)
    except (intervals.IntervalError, clock.ClockError) as error:
        raise AirflowFailException(str(error)) from error
    return None if chosen is None else Stretch(*chosen, by_hand=True)


def _since_the_mark(config: Settings, store: Store, period_s: int, now: datetime) -> Stretch:
    """What has settled since the last complete run; empty where no period has."""
    end = clock.floor(now - timedelta(seconds=config.settle_s), period_s)
    newest = end - timedelta(seconds=period_s)
    mark = _mark(config, store)
    if mark is not None and mark > now:
        _log.warning("s3://%s/%s is ahead of the clock: the newest period is streamed", config.bucket, MARK)
        mark = None
    if mark is None:
        return Stretch(newest, end)
    # A model of another period may have moved the mark off this grid: rows that come twice keep their first verdict.
    start = min(clock.floor(mark, period_s), end)
    oldest = min(clock.floor(end - CATCH_UP, period_s), newest)
    return Stretch(oldest, end, left_out=(start, oldest)) if start < oldest else Stretch(start, end)


def _mark(config: Settings, store: Store) -> datetime | None:
    try:
        found = store.get_json(MARK)
        return None if found is None else clock.parse(found["end"])
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

"""Tasks of stream_metrics: the newest period of the fleet into the stream, then a tick for the live function."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from ml import catalogue, clock, inventory, settings, stream
from ml.catalogue import Catalogue
from riskwatch_airflow import clients, intervals
from riskwatch_airflow.hooks.cloudwatch import CloudWatchMetricsHook

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

_log = logging.getLogger(__name__)


def publish(context: Mapping[str, Any]) -> dict[str, Any]:
    """Send the rows of the newest full period, or of the stretch given by hand, to the stream; return counts.

    The live function says which features, how many rows and which longest gap it needs. Skips where no model is
    promoted yet. A period without any row is no error here: the tick lets the function notice the silence.
    """
    config = settings.load()
    live = clients.invoke_live(config, {"selftest": {}})
    if live.get("model_id") is None:
        raise AirflowSkipException("no model promoted yet: nothing could label the rows")
    period_s, context_rows, max_gap_s = (int(live[key]) for key in ("period_s", "context_rows", "max_gap_s"))
    try:
        chosen = intervals.given(context.get("params") or {}, period_s, clock.now())
    except (intervals.IntervalError, clock.ClockError) as error:
        raise AirflowFailException(str(error)) from error
    start, end = chosen or _newest(period_s, config.settle_s)
    # Rows of one record may lie as far apart as the longest gap allows: all of them are read, not only the last few.
    oldest = clock.floor(start - timedelta(seconds=(context_rows - 1) * max_gap_s), period_s)
    store = clients.store(config)
    metrics = _wanted(catalogue.load(config.catalogue), live["features"])
    hook = CloudWatchMetricsHook(aws_conn_id=config.aws_conn_id)
    instances = hook.instances(metrics, recently_active=chosen is None)
    found = hook.metric_rows(instances, metrics, oldest, end, period_s)
    known = inventory.load(config.inventory, store)
    records = stream.records(found.rows, known, context_rows, max_gap_s, start, end, metrics)
    sent = stream.put(clients.client(config, "kinesis"), config.stream, records)
    _log.info("%d records of [%s, %s) for %s", sent.records, clock.iso(start), clock.iso(end), live["model_id"])
    return {
        "start": clock.iso(start),
        "end": clock.iso(end),
        "model_id": live["model_id"],
        "instances": len(instances),
        "records": sent.records,
        "calls": sent.calls,
        "retried": sent.retried,
    }


def tick(published: Mapping[str, Any]) -> dict[str, Any]:
    """Tell the live function what time it is and which instances should have reported; return what it did.

    The time is the end of the published interval, so that a stretch of the past does not expire what follows it.
    """
    config = settings.load()
    hook = CloudWatchMetricsHook(aws_conn_id=config.aws_conn_id)
    instances = hook.instances(catalogue.load(config.catalogue), recently_active=True)
    moment = clock.epoch_ms(clock.parse(published["end"]))
    answer = clients.invoke_live(config, {"tick": {"now": moment, "instances": instances}})
    _log.info("tick at %s with %d instances: %s", published["end"], len(instances), answer)
    return answer


def _newest(period_s: int, settle_s: int) -> tuple[datetime, datetime]:
    end = clock.floor(clock.now() - timedelta(seconds=settle_s), period_s)
    return end - timedelta(seconds=period_s), end


def _wanted(metrics: Catalogue, features: Sequence[str]) -> Catalogue:
    missing = [name for name in features if name not in metrics.by_name]
    if missing:
        raise AirflowFailException(
            f"the live model needs {', '.join(missing)}, which the catalogue does not have: put it back, or promote a "
            "model trained without it"
        )
    return Catalogue(tuple(metrics.by_name[name] for name in features))

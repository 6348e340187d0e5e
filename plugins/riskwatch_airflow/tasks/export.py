"""Tasks of export_metrics: an interval of CloudWatch metrics into `raw/`, then validated or quarantined."""

from __future__ import annotations

import logging
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException

from ml import catalogue, clock, inventory, settings
from riskwatch_airflow import clients, intervals
from riskwatch_airflow.assets import VALIDATED_METRICS
from riskwatch_airflow.hooks.cloudwatch import CloudWatchMetricsHook

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

_log = logging.getLogger(__name__)


def fetch(context: Mapping[str, Any]) -> dict[str, Any]:
    """Read the interval of the run from CloudWatch and write it to `raw/`; return the interval and counts.

    The instances are those that CloudWatch lists (data within two weeks) and those of the inventory, so that an older
    interval finds instances that are gone. A run that starts right at the end of its interval waits until the
    datapoints have settled. Fails for good where the interval cannot be used or CloudWatch has nothing in it.
    """
    config = settings.load()
    try:
        start, end = intervals.of_run(context, config.period_s, clock.now())
    except (intervals.IntervalError, clock.ClockError) as error:
        raise AirflowFailException(str(error)) from error
    _settle(end, config.settle_s)
    metrics = catalogue.load(config.catalogue)
    store = clients.store(config)
    hook = CloudWatchMetricsHook(aws_conn_id=config.aws_conn_id)
    known = inventory.load(config.inventory, store)
    instances = sorted({*hook.instances(metrics), *known})
    found = hook.metric_rows(instances, metrics, start, end, config.period_s)
    if found.rows.empty:
        names = ", ".join(sorted({metric.namespace for metric in metrics.metrics}))
        raise AirflowFailException(
            f"CloudWatch has no datapoint in [{clock.iso(start)}, {clock.iso(end)}): asked for {len(metrics.names)} "
            f"metrics of {len(instances)} instances, namespaces {names}, region "
            f"{hook.region_name or 'of the environment'}, period {config.period_s} s. Check region and connection "
            f"{config.aws_conn_id}, and that the agent reports"
        )
    keys = store.write_hours("raw", found.rows, start, end)
    return {
        "start": clock.iso(start),
        "end": clock.iso(end),
        "instances": int(found.rows["instance_id"].nunique()),
        "rows": len(found.rows),
        "duplicates": found.duplicates,
        "objects": len(keys),
    }


def validate(context: Mapping[str, Any], fetched: Mapping[str, Any]) -> dict[str, Any]:
    """Hold the fetched rows against the expectations; write `validated/` and `quarantine/` and announce the asset.

    The counts that are returned name the page about it (Data Docs), which the log links too. Fails for good, without
    announcing anything, where the rows are no table of metric rows, an object cannot be read, or more rows were refused
    than passed.
    """
    from expectations import page
    from expectations.layers import EXPORT_PART, TAKEN, split_interval
    from expectations.validate import Interval, ValidationError
    from ml.store import StoreError

    config = settings.load()
    store = clients.store(config)
    interval = Interval(clock.parse(fetched["start"]), clock.parse(fetched["end"]), config.period_s)
    known = inventory.load(config.inventory, store)
    try:
        outcome = split_interval(store, catalogue.load(config.catalogue), interval, EXPORT_PART, known)
    except (ValidationError, StoreError) as error:
        raise AirflowFailException(str(error)) from error
    docs = page.link(store, page.write(store, outcome.outcomes, interval, EXPORT_PART))
    _log.info("Data Docs of this validation: %s", docs)
    refused = len(outcome.quarantined) - outcome.reasons.get(TAKEN, 0)
    if outcome.validated.empty or refused > len(outcome.validated):
        shown = f"{len(outcome.quarantined)} of {outcome.rows}" if len(outcome.validated) else f"all {outcome.rows}"
        raise AirflowFailException(f"{shown} rows were quarantined: {dict(outcome.reasons)}. Data Docs: {docs}")
    counts = {
        "start": fetched["start"],
        "end": fetched["end"],
        "rows": outcome.rows,
        "validated": len(outcome.validated),
        "quarantined": len(outcome.quarantined),
        "instances": int(outcome.validated["instance_id"].nunique()),
        "duplicates": int(fetched["duplicates"]),
    }
    context["outlet_events"][VALIDATED_METRICS].extra.update(counts)
    findings = dict(Counter(finding.check for finding in outcome.findings))
    return {**counts, "reasons": dict(outcome.reasons), "findings": findings, "data_docs": docs}


def _settle(end: datetime, settle_s: int) -> None:
    remaining = settle_s - (clock.now() - end).total_seconds()
    if remaining > 0:
        _log.info("waiting %.0f s until the last datapoints have settled", remaining)
        time.sleep(remaining)

"""Tasks of export_metrics: an interval of CloudWatch metrics into `raw/` by shard, then validated or quarantined.

An interval is read in chunks that fit into memory; a chunk is read to its end before the first of its objects is
replaced, and every object is replaced as a whole. A run that fails or is killed leaves each hour as it was or as it
will be, and running it again completes it.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException

from riskwatch_airflow import clients, intervals
from riskwatch_airflow.assets import VALIDATED_METRICS
from riskwatch_airflow.hooks.cloudwatch import CloudWatchMetricsHook
from riskwatch_ml.core import accounts, clock, settings
from riskwatch_ml.ingest import call_plan, catch_up, cloudwatch
from riskwatch_ml.schema import catalogue, inventory
from riskwatch_ml.storage import keys, known_instances

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from riskwatch_ml.core.settings import Settings
    from riskwatch_ml.ingest.call_plan import Segment
    from riskwatch_ml.schema.catalogue import Catalogue
    from riskwatch_ml.schema.inventory import Instance
    from riskwatch_ml.schema.metric_rows import MetricRows
    from riskwatch_ml.storage.bucket import Store

# ListMetrics forgets an instance two weeks after its last datapoint.
LISTED = timedelta(days=13)
# The inventory says what should report now, and how long ago that holds too.
EXPECTED = timedelta(days=1)

_log = logging.getLogger(__name__)


def fetch(context: Mapping[str, Any], shard_name: str = accounts.DEFAULT) -> dict[str, Any]:
    """Read the interval of the run from one shard's CloudWatch into `raw/`; return what was read and what it took.

    The instances are those that CloudWatch lists (data within two weeks), those of the inventory, and for an older
    interval those that were exported before, so that it finds instances that are gone. A run that starts right at the
    end of its interval waits until the datapoints have settled; a scheduled run reads the hours before it again. An
    object whose content stays the same is not written.

    A scheduled run also reads what earlier runs left out, see `riskwatch_ml.ingest.catch_up`; `left_out` has what lies
    too long ago for that.

    Fails for good where the interval cannot be used, CloudWatch does not keep it any more, credentials or permissions
    are missing, or the only shard has nothing in it.
    """
    from riskwatch_ml.ingest.reader import CredentialsError, ForbiddenError

    config = settings.load()
    store = clients.store(config)
    try:
        shard = accounts.named(config.shards, shard_name)
    except accounts.ShardError as error:
        raise AirflowFailException(str(error)) from error
    parts, end, left_out = _parts(context, config, store, shard.name)
    _settle(end, config.settle_s)
    hook = CloudWatchMetricsHook(aws_conn_id=config.aws_conn_id, shard=shard)
    try:
        fetched = _Export(config, hook, store, catalogue.load(config.catalogue)).run(parts)
    except (ForbiddenError, CredentialsError) as error:
        raise AirflowFailException(f"connection {config.aws_conn_id}, shard {shard.name}: {error}") from error
    return {**fetched, "left_out": list(map(clock.iso, left_out))}


def joined(fetched: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Put together what the shards' fetches returned: the chunks to validate, and sums of the counts.

    A shard whose fetch failed has returned nothing: the others are validated, and `complete` names it. Fails for good
    where none of them had a row.
    """
    # What mapped tasks have returned is asked of Airflow's API item by item, each time that it is gone through.
    fetched = list(fetched)
    chunks = [chunk for item in fetched for chunk in item["chunks"]]
    if not chunks:
        raise AirflowFailException("no shard has a datapoint in this interval: the logs of fetch say what was asked")
    counts = ("rows", "instances", "duplicates", "objects", "calls", "least_calls", "metrics", "predicted_metrics")
    return {
        "start": min(chunk["start"] for chunk in chunks),
        "end": max(chunk["end"] for chunk in chunks),
        "chunks": chunks,
        **{name: sum(item[name] for item in fetched) for name in counts},
    }


def complete(fetched: Sequence[Mapping[str, Any]]) -> None:
    """Fail for good, with their names, where shards of the settings have returned nothing."""
    done = {item["shard"] for item in fetched}
    missing = [shard.name for shard in settings.load().shards if shard.name not in done]
    if missing:
        raise AirflowFailException(
            f"no rows of {', '.join(missing)}: fetch failed there, its log says why. The rows of the other shards were "
            "validated; clear the failed fetch with what comes after it once the cause is gone"
        )


def validate(context: Mapping[str, Any], fetched: Mapping[str, Any]) -> dict[str, Any]:
    """Hold the fetched rows against the expectations; write `validated/` and `quarantine/` and announce the asset.

    What is returned names the pages about it (Data Docs), which the log links too. Fails for good, without announcing
    anything, where rows are no table of metric rows, or more rows were refused than passed.
    """
    from riskwatch_expectations import data_docs
    from riskwatch_expectations.pipeline import TAKEN, split_interval
    from riskwatch_expectations.validate import Interval, ValidationError

    config = settings.load()
    store, metrics = clients.store(config), catalogue.load(config.catalogue)
    counts = {"rows": 0, "validated": 0, "quarantined": 0}
    reasons: Counter[str] = Counter()
    findings: Counter[str] = Counter()
    instances: set[str] = set()
    written, pages = [], []
    for chunk in fetched["chunks"]:
        interval = Interval(clock.parse(chunk["start"]), clock.parse(chunk["end"]), chunk["period_s"])
        try:
            outcome = split_interval(store, metrics, interval, chunk["part"], _expected(config, store, chunk))
        except ValidationError as error:
            raise AirflowFailException(str(error)) from error
        written.append(data_docs.write(store, outcome.outcomes, interval, chunk["part"]))
        pages.append(data_docs.link(store, written[-1]))
        _log.info("Data Docs of this validation: %s", pages[-1])
        counts["rows"] += outcome.rows
        counts["validated"] += len(outcome.validated)
        counts["quarantined"] += len(outcome.quarantined)
        reasons.update(outcome.reasons)
        findings.update(finding.check for finding in outcome.findings)
        instances.update(outcome.validated["instance_id"].unique())
    data_docs.tidy(store, written)
    # Rows that another source brought are no sign of anything wrong.
    if counts["quarantined"] - reasons[TAKEN] > counts["validated"] or not counts["validated"]:
        shown = f"{counts['quarantined']} of {counts['rows']}" if counts["validated"] else f"all {counts['rows']}"
        raise AirflowFailException(f"{shown} rows were quarantined: {dict(reasons)}. Data Docs: {', '.join(pages)}")
    told = {
        "start": fetched["start"],
        "end": fetched["end"],
        **counts,
        "instances": len(instances),
        "duplicates": int(fetched["duplicates"]),
        "metrics_requested": int(fetched["metrics"]),
        "cost": call_plan.dollars(int(fetched["metrics"])),
    }
    context["outlet_events"][VALIDATED_METRICS].extra.update(told)
    return {**told, "reasons": dict(reasons), "findings": dict(findings), "data_docs": pages}


def _expected(config: Settings, store: Store, chunk: Mapping[str, Any]) -> list[str]:
    """Return the instances of the inventory that should have reported; none for a time long ago, it may differ."""
    if clock.now() - clock.parse(chunk["end"]) > EXPECTED:
        return []
    known = known_instances.load(config.inventory, store)
    return sorted(known) if len(config.shards) == 1 else inventory.of_shard(known, chunk["part"])


class _Export:
    """One shard's export."""

    def __init__(self, config: Settings, hook: CloudWatchMetricsHook, store: Store, metrics: Catalogue) -> None:
        self.config, self.hook, self.store, self.metrics = config, hook, store, metrics
        self.shard = hook.shard.name

    def run(self, parts: Sequence[Segment]) -> dict[str, Any]:
        """Read and write all parts, chunk by chunk."""
        listed = {*self._known(), *self.hook.instances(self.metrics)}
        counts = {"rows": 0, "duplicates": 0, "objects": 0}
        seen: set[str] = set()
        silent = set(self.metrics.names)
        chunks, nothing = [], ""
        least_calls = 0
        for part in parts:
            asked: set[str] = set()
            spans = list(cloudwatch.chunks(part, len(listed) * len(self.metrics.names)))
            if len(spans) > 1:
                _log.warning(
                    "shard %s: read in %d stretches that fit into memory. Each asks for every metric anew, and is paid",
                    *(self.shard, len(spans)),
                )
            for start, end in spans:
                instances = sorted(listed | self._gone(start, end))
                asked.update(instances)
                found = self.hook.metric_rows(instances, self.metrics, start, end, part.period_s, self.config.period_s)
                if found.rows.empty:
                    nothing = self._nothing(start, end, part.period_s, len(instances))
                    _log.warning("shard %s: %s. What was exported before stays", self.shard, nothing)
                    continue
                counts["objects"] += len(self.store.write_hours(keys.RAW, found.rows, start, end, self.shard))
                counts["rows"] += len(found.rows)
                counts["duplicates"] += found.duplicates
                seen.update(found.rows["instance_id"].unique())
                silent -= _with_values(found, silent)
                chunks.append(
                    {"start": clock.iso(start), "end": clock.iso(end), "period_s": part.period_s, "part": self.shard}
                )
            least_calls += self.hook.least_calls(asked, self.metrics, part.start, part.end, part.period_s)
        if chunks:
            for name in sorted(silent):
                _log.warning("%s", self.hook.why_silent(self.metrics.by_name[name]))
        elif len(self.config.shards) == 1:
            raise AirflowFailException(nothing)
        return self._told(chunks, {**counts, "instances": len(seen)}, least_calls, sorted(silent))

    def _known(self) -> list[str]:
        """Return the shard's instances of the inventory, after bringing what the tags say of them up to date."""
        from riskwatch_ml.ingest.reader import ForbiddenError

        try:
            tagged = self.hook.tagged(self.metrics)
        except ForbiddenError as error:
            _log.warning("%s: roles and services come from the inventory alone", error)
        else:
            self._keep_tagged(tagged)
        known = known_instances.load(self.config.inventory, self.store)
        return sorted(known) if len(self.config.shards) == 1 else inventory.of_shard(known, self.shard)

    def _keep_tagged(self, tagged: Mapping[str, Instance]) -> None:
        key, data = keys.tagged(self.shard), inventory.dumps(tagged).encode()
        before = self.store.get_bytes(key)
        if before != data and (tagged or before is not None):
            self.store.put_bytes(key, data)
        # What was found in a shard that the settings no longer have is not expected to report.
        names = [shard.name for shard in self.config.shards]
        for left in keys.leftover_tagged(self.store.keys(keys.TAGGED), names):
            self.store.delete(left)

    def _gone(self, start: datetime, end: datetime) -> set[str]:
        """Return the instances exported before from an interval so old that CloudWatch may not list them any more."""
        if clock.now() - start < LISTED:
            return set()
        return set(self.store.read_hours(keys.RAW, start, end, part=self.shard, columns=())["instance_id"])

    def _nothing(self, start: datetime, end: datetime, period_s: int, instances: int) -> str:
        names = ", ".join(sorted({metric.namespace for metric in self.metrics.metrics}))
        return (
            f"CloudWatch has no datapoint in [{clock.iso(start)}, {clock.iso(end)}): asked for "
            f"{len(self.metrics.names)} metrics of {instances} instances, namespaces {names}, region "
            f"{self.hook.region_name or 'of the environment'}, period {period_s} s. Check region and connection "
            f"{self.config.aws_conn_id}, and that the agent reports"
        )

    def _told(
        self, chunks: list[dict[str, Any]], counts: Mapping[str, int], least_calls: int, silent: list[str]
    ) -> dict[str, Any]:
        # The least that reading takes is that of the whole: stretches that fit into memory are our own affair.
        usage = replace(self.hook.usage, least_calls=least_calls)
        told = f"{self.shard}: {counts['rows']} rows of {counts['instances']} instances by {usage}"
        _log.info("%s", told)
        return {
            "shard": self.shard,
            "told": told,
            "chunks": chunks,
            **counts,
            "calls": usage.calls,
            "least_calls": usage.least_calls,
            "metrics": usage.metrics,
            "predicted_metrics": usage.predicted_metrics,
            "silent": silent,
        }


def _parts(
    context: Mapping[str, Any], config: Settings, store: Store, shard: str
) -> tuple[list[Segment], datetime, tuple[datetime, ...]]:
    """Return what a run reads, in parts of one period, the end of its interval, and [start, end) of what it leaves."""
    now = clock.now()
    try:
        start, end = intervals.of_run(context, config.period_s, now)
        length = end - start
        start, end = intervals.with_reread(context, start, end, config)
        left_out: tuple[datetime, ...] = ()
        if intervals.is_scheduled(context):
            start, left_out = catch_up.resume(store, shard, start, length, now)
        coarsen = bool((context.get("params") or {}).get("coarsen"))
        parts = call_plan.segments(start, end, config.period_s, now, coarsen=coarsen)
    except (intervals.IntervalError, clock.ClockError, call_plan.RetentionError) as error:
        raise AirflowFailException(str(error)) from error
    for part in parts:
        if part.period_s != config.period_s:
            _log.warning(
                "[%s, %s) is read in rows of %d s instead of %d s: CloudWatch keeps nothing finer of it",
                *(clock.iso(part.start), clock.iso(part.end), part.period_s, config.period_s),
            )
    if not parts:
        raise AirflowFailException(f"[{clock.iso(start)}, {clock.iso(end)}) holds no full row of the coarser period")
    return parts, end, left_out


def _with_values(found: MetricRows, names: set[str]) -> set[str]:
    return {name for name in names if found.rows[name].notna().any()}


def _settle(end: datetime, settle_s: int) -> None:
    remaining = settle_s - (clock.now() - end).total_seconds()
    if remaining > 0:
        _log.info("waiting %.0f s until the last datapoints have settled", remaining)
        time.sleep(remaining)

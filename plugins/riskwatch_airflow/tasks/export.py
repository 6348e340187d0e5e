"""Tasks of export_metrics: an interval of CloudWatch metrics into `raw/` by account and region, then validation.

`riskwatch_ml.ingest.export` reads and writes, `riskwatch_expectations` validates. A run that fails or is killed leaves
each hour as it was or as it will be, and running it again completes it.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, cast

from airflow.sdk.exceptions import AirflowFailException

from riskwatch_airflow import clients, data_health, intervals
from riskwatch_airflow.assets import VALIDATED_METRICS, announce
from riskwatch_airflow.hooks.cloudwatch import CloudWatchMetricsHook
from riskwatch_ml.core import accounts, clock, settings
from riskwatch_ml.ingest import call_plan, catch_up, export
from riskwatch_ml.schema import catalogue, inventory
from riskwatch_ml.storage import keys, known_instances

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from airflow.sdk import Context

    from riskwatch_airflow.handoff import ExportReport, FetchedInterval, FetchedRegion, ValidatedMetrics
    from riskwatch_expectations.validate import Finding, Validation
    from riskwatch_ml.core.settings import Settings
    from riskwatch_ml.ingest.call_plan import Segment
    from riskwatch_ml.ingest.export import ExportChunk, KindCounts, RegionExport
    from riskwatch_ml.schema.catalogue import Catalogue
    from riskwatch_ml.storage.bucket import Store

# The inventory says what should report now; for this long it also says what should have reported.
EXPECTED = timedelta(days=1)

_log = logging.getLogger(__name__)


def fetch(context: Context, shard_name: str = accounts.DEFAULT) -> FetchedRegion:
    """Read the interval of the run from one account and region into `raw/`.

    The instances are those that CloudWatch lists (data within two weeks) and those of the inventory; for an older
    interval also those that were exported before, so that instances that are gone are found. A run that starts right at
    the end of its interval waits until the datapoints have settled; a scheduled run reads the hours before it again. An
    object is written only if its content changes. A scheduled run also reads what earlier runs left out, see
    `riskwatch_ml.ingest.catch_up`; `left_out` has what lies too long ago for that.

    Raises AirflowFailException, which is not retried, if the interval cannot be used, CloudWatch no longer keeps it,
    credentials or permissions are missing, or the only account and region has no datapoint.
    """
    from riskwatch_ml.ingest.reader import CredentialsError, ForbiddenError

    config = settings.load()
    store = clients.store(config)
    try:
        account_region = accounts.by_name(config.account_regions, shard_name)
    except accounts.AccountRegionError as error:
        raise AirflowFailException(str(error)) from error
    kinds = catalogue.load_all(config.catalogue)
    parts, end, left_out = _parts(context, config, store, kinds, account_region.name)
    _wait_until_settled(end, config.settle_s)
    hook = CloudWatchMetricsHook(aws_conn_id=config.aws_conn_id, account_region=account_region)
    try:
        exported = export.export(hook, store, config, kinds, parts)
    except export.NoDatapointError as error:
        raise AirflowFailException(str(error)) from error
    except (ForbiddenError, CredentialsError) as error:
        where = f"connection {config.aws_conn_id}, account-region {account_region.name}"
        raise AirflowFailException(f"{where}: {error}") from error
    summary = _summary(account_region.name, exported)
    _log.info("%s", summary)
    return {
        "shard": account_region.name,
        "told": summary,
        "chunks": exported.chunks,
        "rows": exported.rows,
        "instances": exported.instances,
        "duplicates": exported.duplicates,
        "objects": exported.objects,
        "calls": exported.usage.calls,
        "least_calls": exported.usage.min_calls,
        "metrics": exported.usage.metrics,
        "predicted_metrics": exported.usage.predicted_metrics,
        "kinds": exported.kinds,
        "silent": exported.silent,
        "missing": exported.missing,
        "left_out": list(map(clock.iso, left_out)),
    }


def _summary(account_region: str, exported: RegionExport) -> str:
    """Return rows, instances and cost in words, also of each kind if there are several."""
    text = f"{account_region}: {exported.rows} rows of {exported.instances} instances by {exported.usage}"
    if len(exported.kinds) == 1:
        return text
    texts = (
        f"{kind} {counts['rows']} rows of {counts['instances']} instances, {counts['metrics']} metrics, "
        f"{call_plan.dollars(counts['metrics'])}"
        for kind, counts in exported.kinds.items()
    )
    return f"{text} ({'; '.join(texts)})"


def joined(fetched: Sequence[FetchedRegion]) -> FetchedInterval:
    """Return the chunks of all accounts and regions, and the sums of their counts.

    A failed fetch returns nothing: the rows of the others are validated, and `complete` names it. Raises
    AirflowFailException if none of them has a row.
    """
    # Airflow fetches the results of mapped tasks one by one from its API, again in each iteration.
    fetched = list(fetched)
    chunks = [chunk for region in fetched for chunk in region["chunks"]]
    if not chunks:
        raise AirflowFailException(
            "no account-region has a datapoint in this interval: the logs of fetch say what was asked"
        )
    missing: Counter[str] = Counter()
    kinds: dict[str, Counter[str]] = {}
    for account_region in fetched:
        missing.update(account_region.get("missing", {}))
        for kind, counts in account_region.get("kinds", {}).items():
            kinds.setdefault(kind, Counter()).update(cast("Mapping[str, int]", counts))
    return {
        "kinds": cast("dict[str, KindCounts]", {kind: dict(counts) for kind, counts in kinds.items()}),
        "missing": dict(missing),
        "start": min(chunk["start"] for chunk in chunks),
        "end": max(chunk["end"] for chunk in chunks),
        "chunks": chunks,
        "rows": sum(account_region["rows"] for account_region in fetched),
        "instances": sum(account_region["instances"] for account_region in fetched),
        "duplicates": sum(account_region["duplicates"] for account_region in fetched),
        "objects": sum(account_region["objects"] for account_region in fetched),
        "calls": sum(account_region["calls"] for account_region in fetched),
        "least_calls": sum(account_region["least_calls"] for account_region in fetched),
        "metrics": sum(account_region["metrics"] for account_region in fetched),
        "predicted_metrics": sum(account_region["predicted_metrics"] for account_region in fetched),
    }


def complete(fetched: Sequence[FetchedRegion]) -> None:
    """Raise AirflowFailException, with their names, if accounts and regions of the settings have returned nothing."""
    done = {region["shard"] for region in fetched}
    missing = [
        account_region.name for account_region in settings.load().account_regions if account_region.name not in done
    ]
    if missing:
        raise AirflowFailException(
            f"no rows of {', '.join(missing)}: fetch failed there, its log says why. The rows of the others were "
            "validated; clear the failed fetch with the tasks after it once the cause is gone"
        )


def validate(context: Context, fetched: FetchedInterval) -> ExportReport:
    """Validate the fetched rows, write `validated/` and `quarantine/`, and announce the asset.

    The report and the log link to the Data Docs of the validation. Raises AirflowFailException, without announcing
    anything, if the rows are no table of metric rows, or if more rows were quarantined than validated.
    """
    from riskwatch_expectations import data_docs
    from riskwatch_expectations.pipeline import split_interval
    from riskwatch_expectations.validate import Interval, ValidationError

    config = settings.load()
    store = clients.store(config)
    kinds = {metrics.kind: metrics for metrics in catalogue.load_all(config.catalogue)}
    tally = _Tally()
    written, pages = [], []
    for chunk in fetched["chunks"]:
        metrics = _metrics_of(chunk, kinds)
        interval = Interval(clock.parse(chunk["start"]), clock.parse(chunk["end"]), chunk["period_s"])
        try:
            expected = _expected(config, store, chunk, metrics, list(kinds.values()))
            outcome = split_interval(store, metrics, interval, chunk["part"], expected)
        except ValidationError as error:
            raise AirflowFailException(str(error)) from error
        part = keys.part_of_kind(chunk["part"], metrics)
        written.append(data_docs.write(store, outcome.outcomes, interval, part))
        pages.append(data_docs.link(store, written[-1]))
        _log.info("Data Docs of this validation: %s", pages[-1])
        tally.add(outcome, metrics)
    data_docs.tidy(store, written)
    # Rows that another source brought are no sign of an error.
    if mostly_refused := [kind for kind, counts in tally.kinds.items() if _is_mostly_refused(counts)]:
        shown = f"{tally.quarantined} of {tally.rows}" if tally.validated else f"all {tally.rows}"
        of_kind = f", most of the kind {' and '.join(mostly_refused)}" if len(kinds) > 1 else ""
        raise AirflowFailException(
            f"{shown} rows were quarantined{of_kind}: {dict(tally.reasons)}. Data Docs: {', '.join(pages)}"
        )
    validated = tally.validated_metrics(fetched)
    announce(context, VALIDATED_METRICS, validated)
    _report_health(config, store, fetched, tally.lasting)
    return {
        **validated,
        "missing": fetched.get("missing", {}),
        "reasons": dict(tally.reasons),
        "values_kept": tally.values_kept,
        "values_refused": tally.values_refused,
        "value_reasons": dict(tally.value_reasons),
        "findings": dict(tally.findings),
        "kinds": tally.by_kind,
        "data_docs": pages,
    }


def _metrics_of(chunk: ExportChunk, kinds: Mapping[str, Catalogue]) -> Catalogue:
    """Return the catalogue of a chunk; raise AirflowFailException if the settings have lost its kind."""
    kind = chunk.get("resource_kind", next(iter(kinds)))
    if kind not in kinds:
        raise AirflowFailException(
            f"fetch has read the kind {kind!r}, which the setting catalogue no longer has: put it back, or clear fetch"
        )
    return kinds[kind]


def _expected(
    config: Settings, store: Store, chunk: ExportChunk, metrics: Catalogue, kinds: Sequence[Catalogue]
) -> list[str]:
    """Return the instances of the inventory that should have reported; none for an old chunk, it may differ."""
    if clock.now() - clock.parse(chunk["end"]) > EXPECTED:
        return []
    known = known_instances.load(config.inventory, store)
    names = sorted(known) if len(config.account_regions) == 1 else inventory.in_account(known, chunk["part"])
    return sorted(catalogue.names_of_kind(names, metrics, kinds))


def _is_mostly_refused(counts: Mapping[str, int]) -> bool:
    """Return whether more rows of a kind were quarantined than validated; rows of another source do not count."""
    return counts["quarantined"] - counts["taken"] > counts["validated"] or not counts["validated"]


def _report_health(config: Settings, store: Store, fetched: FetchedInterval, lasting: Sequence[Finding]) -> None:
    """Report the lasting problems of the data if the interval is new and whole."""
    # Without an account-region, its problems would look as if they were gone.
    is_whole = len({chunk["part"] for chunk in fetched["chunks"]}) == len(config.account_regions)
    if is_whole and clock.now() - clock.parse(fetched["end"]) < data_health.CURRENT:
        current = data_health.problems(fetched.get("missing", {}), _reporting(fetched, config), lasting)
        data_health.report(config, store, current)


def _reporting(fetched: FetchedInterval, config: Settings) -> dict[str, int]:
    """Return the number of instances that report, by kind; that of the first kind is under the empty text."""
    first, *further = catalogue.load_all(config.catalogue)
    counts = {kind: counts["instances"] for kind, counts in fetched.get("kinds", {}).items()}
    named = {metrics.kind: counts.get(metrics.kind, 0) for metrics in further}
    return {**named, "": counts.get(first.kind, int(fetched["instances"]))}


@dataclass
class _Tally:
    """Counts over the validations of all chunks."""

    rows: int = 0
    validated: int = 0
    quarantined: int = 0
    values_kept: int = 0
    values_refused: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    value_reasons: Counter[str] = field(default_factory=Counter)
    findings: Counter[str] = field(default_factory=Counter)
    instances: set[str] = field(default_factory=set)
    lasting: list[Finding] = field(default_factory=list)
    kinds: dict[str, Counter[str]] = field(default_factory=dict)

    @property
    def by_kind(self) -> dict[str, dict[str, int]]:
        """The counts of each kind that a report has."""
        shown = ("rows", "validated", "quarantined")
        return {kind: {name: counts[name] for name in shown} for kind, counts in self.kinds.items()}

    def add(self, outcome: Validation, metrics: Catalogue) -> None:
        """Add the validation of one chunk of a kind."""
        from riskwatch_expectations.pipeline import TAKEN

        of_kind = self.kinds.setdefault(metrics.kind, Counter())
        of_kind.update(taken=outcome.reasons.get(TAKEN, 0))
        of_kind.update(rows=outcome.rows, validated=len(outcome.validated), quarantined=len(outcome.quarantined))
        self.rows += outcome.rows
        self.validated += len(outcome.validated)
        self.quarantined += len(outcome.quarantined)
        self.values_kept += outcome.values_kept
        self.values_refused += outcome.values_refused
        self.reasons.update(outcome.reasons)
        self.value_reasons.update(outcome.value_reasons)
        self.findings.update(finding.check for finding in outcome.findings)
        self.lasting += [
            finding._replace(metric=None if finding.metric is None else metrics.label(finding.metric))
            for finding in outcome.findings
            if finding.check in data_health.LASTING
        ]
        self.instances.update(outcome.validated["instance_id"].unique())

    def validated_metrics(self, fetched: FetchedInterval) -> ValidatedMetrics:
        """Return the extra of the asset event."""
        return {
            "start": fetched["start"],
            "end": fetched["end"],
            "rows": self.rows,
            "validated": self.validated,
            "quarantined": self.quarantined,
            "instances": len(self.instances),
            "duplicates": int(fetched["duplicates"]),
            "metrics_requested": int(fetched["metrics"]),
            "cost": call_plan.dollars(int(fetched["metrics"])),
        }


def _parts(
    context: Context, config: Settings, store: Store, kinds: Sequence[Catalogue], account_region: str
) -> tuple[list[Segment], datetime, tuple[datetime, ...]]:
    """Return the parts of one period each that a run reads, the end of its interval, and [start, end) left out."""
    now = clock.now()
    try:
        start, end = intervals.from_run(context, config.period_s, now)
        length = end - start
        start, end = intervals.with_reread(context, start, end, config)
        left_out: tuple[datetime, ...] = ()
        if intervals.is_scheduled(context):
            start, left_out = catch_up.resume(store, kinds, account_region, start, length, now)
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


def _wait_until_settled(end: datetime, settle_s: int) -> None:
    remaining = settle_s - (clock.now() - end).total_seconds()
    if remaining > 0:
        _log.info("waiting %.0f s until the last datapoints have settled", remaining)
        time.sleep(remaining)

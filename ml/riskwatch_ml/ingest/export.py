"""The export of one account and region: CloudWatch into `raw/`, chunk by chunk.

A chunk fits into memory. It is read to its end before its objects are written, so an export that fails or is killed
leaves each hour as it was or as it will be, and running it again completes it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, NotRequired, Protocol, TypedDict

from riskwatch_ml.core import clock
from riskwatch_ml.core.errors import UserInputError
from riskwatch_ml.ingest import cloudwatch
from riskwatch_ml.ingest.call_plan import InstancesOfKind
from riskwatch_ml.schema import catalogue, inventory
from riskwatch_ml.storage import keys, known_instances

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    import pandas as pd

    from riskwatch_ml.core.accounts import AccountRegion
    from riskwatch_ml.core.settings import Settings
    from riskwatch_ml.ingest.call_plan import Fleet, Segment, Usage
    from riskwatch_ml.schema.catalogue import Catalogue
    from riskwatch_ml.schema.inventory import Instance
    from riskwatch_ml.schema.metric import Metric
    from riskwatch_ml.schema.metric_rows import MetricRows
    from riskwatch_ml.storage.bucket import Store

# ListMetrics forgets an instance two weeks after its last datapoint.
LISTED = timedelta(days=13)

_log = logging.getLogger(__name__)


class NoDatapointError(UserInputError):
    """CloudWatch has no datapoint at all; the message says what was asked and what to check."""


class MetricReader(Protocol):
    """Reads the metrics of one account and region, as `riskwatch_airflow.hooks.cloudwatch` does."""

    account_region: AccountRegion
    usage: Usage

    @property
    def region_name(self) -> str | None:
        """Return the region, or None for that of the environment."""

    def instances(self, catalogue: Catalogue) -> list[str]:
        """Return the instances of a kind that CloudWatch lists."""

    def tagged(self, catalogue: Catalogue) -> dict[str, Instance]:
        """Return the instances of a kind that tags name, by instance id. Raises ForbiddenError."""

    def metric_rows(
        self, fleet: Fleet, start: datetime, end: datetime, period_s: int, sums_per_s: int | None = None
    ) -> list[MetricRows]:
        """Return the rows of [start, end) of each kind; sums are given for `sums_per_s` seconds, else the period."""

    def min_calls(self, fleet: Fleet, start: datetime, end: datetime, period_s: int) -> int:
        """Return the fewest calls that the limits of GetMetricData allow for [start, end)."""

    def why_no_data(self, metric: Metric) -> str:
        """Return why a metric may have no datapoint."""

    def why_missing(self, catalogue: Catalogue, metric: Metric, missing: Sequence[str], instances: int) -> str:
        """Return why some of the instances that report may lack a metric that others have."""


class ExportChunk(TypedDict):
    """An interval [start, end) of one kind in `raw/`, ISO 8601 in UTC; `part` names its account and region.

    Chunks of earlier releases have no kind: theirs is the first one.
    """

    start: str
    end: str
    period_s: int
    part: str
    resource_kind: NotRequired[str]


class KindCounts(TypedDict):
    """Rows and instances of one kind, and the metrics that AWS charges for them."""

    rows: int
    instances: int
    metrics: int


@dataclass(frozen=True)
class RegionExport:
    """The outcome of an export.

    `kinds` has the counts of each kind. `silent` are the metrics without any datapoint. `missing` counts, for each
    metric that some instances lack, the instances with rows and without a value of it. Metrics of other kinds than the
    first are named like `rds/read_iops`. `objects` counts the S3 objects that changed, `usage` the calls.
    """

    chunks: list[ExportChunk]
    kinds: dict[str, KindCounts]
    duplicates: int
    objects: int
    usage: Usage
    silent: list[str]
    missing: dict[str, int]

    @property
    def rows(self) -> int:
        """The number of rows of all kinds."""
        return sum(counts["rows"] for counts in self.kinds.values())

    @property
    def instances(self) -> int:
        """The number of instances of all kinds."""
        return sum(counts["instances"] for counts in self.kinds.values())


def export(
    reader: MetricReader, store: Store, config: Settings, kinds: Sequence[Catalogue], parts: Sequence[Segment]
) -> RegionExport:
    """Read and write parts of an interval, each of one period.

    The instances are those that CloudWatch lists and those of the inventory, for an old part also those that were
    exported before. Raises NoDatapointError if there is no datapoint and no other account or region, and as the reader.
    """
    return _Export(config, reader, store, kinds).run(parts)


@dataclass
class _Progress:
    """What one export has read and written of one kind so far; `reported` are the instances with a value, by metric."""

    metrics: Catalogue
    reported: dict[str, set[str]]
    instances: set[str] = field(default_factory=set)
    rows: int = 0
    requested: int = 0

    @property
    def silent(self) -> list[str]:
        """The metrics without any datapoint yet, sorted; none if a further kind has no instance."""
        if not self.instances and not self.metrics.is_first:
            return []
        return sorted(name for name, instances in self.reported.items() if not instances)

    @property
    def missing(self) -> dict[str, list[str]]:
        """The instances with rows and without a value, sorted, of each metric that some lack."""
        lacking = {name: sorted(self.instances - instances) for name, instances in sorted(self.reported.items())}
        return {name: instances for name, instances in lacking.items() if instances}

    @property
    def counts(self) -> KindCounts:
        """The counts so far."""
        return {"rows": self.rows, "instances": len(self.instances), "metrics": self.requested}

    def add(self, rows: pd.DataFrame) -> None:
        """Count the rows of a chunk."""
        self.rows += len(rows)
        self.instances.update(rows["instance_id"].unique())
        for name, instances_with_values in self.reported.items():
            instances_with_values.update(rows.loc[rows[name].notna(), "instance_id"].unique())


class _Export:
    """The export of one account and region."""

    def __init__(self, config: Settings, reader: MetricReader, store: Store, kinds: Sequence[Catalogue]) -> None:
        self.config, self.reader, self.store, self.kinds = config, reader, store, kinds
        self.account_region = reader.account_region.name
        self.progress = [_Progress(metrics, {name: set() for name in metrics.names}) for metrics in kinds]
        self.chunks: list[ExportChunk] = []
        self.duplicates = self.objects = self.min_calls = 0
        # Why the newest chunk without datapoints has none.
        self.no_datapoint = ""

    def run(self, parts: Sequence[Segment]) -> RegionExport:
        """Read and write all parts, chunk by chunk."""
        known = self._known()
        listed = [self._instances(known, metrics) for metrics in self.kinds]
        for part in parts:
            self._read_part(part, listed)
        if self.chunks:
            self._log_missing()
        elif len(self.config.account_regions) == 1:
            raise NoDatapointError(self.no_datapoint)
        return self._outcome()

    def _instances(self, known: Iterable[str], metrics: Catalogue) -> set[str]:
        """Return the instances of a kind that the inventory knows or CloudWatch lists."""
        listed = self.reader.instances(metrics)
        if refusal := catalogue.misread(listed, metrics, self.kinds):
            _log.warning("%s", refusal)
        return catalogue.names_of_kind({*known, *listed}, metrics, self.kinds)

    def _log_missing(self) -> None:
        """Log why all instances, or some, lack a metric; the rows are written, so a failure of this is only logged."""
        from riskwatch_ml.ingest.reader import CloudWatchError

        try:
            for progress in self.progress:
                self._log_missing_of(progress)
        except CloudWatchError as error:
            _log.warning("it could not be found out why metrics are missing: %s", error)

    def _log_missing_of(self, progress: _Progress) -> None:
        by_name = progress.metrics.by_name
        for name in progress.silent:
            _log.warning("%s", self.reader.why_no_data(by_name[name]))
        for name, missing in progress.missing.items():
            if name not in progress.silent:
                why = self.reader.why_missing(progress.metrics, by_name[name], missing, len(progress.instances))
                _log.warning("%s", why)

    def _read_part(self, part: Segment, listed: Sequence[set[str]]) -> None:
        """Read and write one part; `listed` are the instances of each kind that CloudWatch and the inventory name."""
        requested: list[set[str]] = [set() for _ in self.kinds]
        queries = sum(len(names) * len(metrics.names) for names, metrics in zip(listed, self.kinds, strict=True))
        chunks = list(cloudwatch.chunks(part, queries))
        if len(chunks) > 1:
            _log.warning(
                "account-region %s: read in %d chunks, to fit into memory. Each requests all metrics again, and costs",
                *(self.account_region, len(chunks)),
            )
        for start, end in chunks:
            fleet = [
                InstancesOfKind(metrics, sorted(names | self._gone(metrics, start, end)))
                for metrics, names in zip(self.kinds, listed, strict=True)
            ]
            for names, (_, instances) in zip(requested, fleet, strict=True):
                names.update(instances)
            self._read_chunk(fleet, start, end, part.period_s)
        whole = [InstancesOfKind(metrics, sorted(names)) for metrics, names in zip(self.kinds, requested, strict=True)]
        self.min_calls += self.reader.min_calls(whole, part.start, part.end, part.period_s)

    def _read_chunk(self, fleet: Fleet, start: datetime, end: datetime, period_s: int) -> None:
        """Read [start, end) and write its objects; a kind without datapoints leaves its earlier exports unchanged."""
        read = self.reader.metric_rows(fleet, start, end, period_s, self.config.period_s)
        for progress, (metrics, instances) in zip(self.progress, fleet, strict=True):
            progress.requested += len(instances) * len(metrics.names)
        if all(of_kind.rows.empty for of_kind in read):
            self.no_datapoint = self._no_datapoint(fleet, start, end, period_s)
            _log.warning(
                "account-region %s: %s. Earlier exports of it stay unchanged", self.account_region, self.no_datapoint
            )
        # The hours of the first kind come last: they are the record of what was exported.
        for of_kind, progress in reversed(list(zip(read, self.progress, strict=True))):
            if not of_kind.rows.empty:
                self._write(of_kind, progress, start, end, period_s)

    def _write(self, read: MetricRows, progress: _Progress, start: datetime, end: datetime, period_s: int) -> None:
        """Write the rows of one kind of [start, end)."""
        layer = keys.of_kind(keys.RAW, progress.metrics)
        self.objects += len(self.store.write_hours(layer, read.rows, start, end, self.account_region))
        self.duplicates += read.duplicates
        progress.add(read.rows)
        self.chunks.append(
            {
                "start": clock.iso(start),
                "end": clock.iso(end),
                "period_s": period_s,
                "part": self.account_region,
                "resource_kind": progress.metrics.kind,
            }
        )

    def _known(self) -> list[str]:
        """Return the inventory's instances of this account and region, after updating those that tags name."""
        from riskwatch_ml.ingest.reader import ForbiddenError

        try:
            tagged: dict[str, Instance] = {}
            for metrics in self.kinds:
                tagged |= self.reader.tagged(metrics)
        except ForbiddenError as error:
            _log.warning("%s: roles and services come from the inventory alone", error)
        else:
            self._keep_tagged(tagged)
        known = known_instances.load(self.config.inventory, self.store)
        return (
            sorted(known) if len(self.config.account_regions) == 1 else inventory.in_account(known, self.account_region)
        )

    def _keep_tagged(self, tagged: Mapping[str, Instance]) -> None:
        """Write the instances that tags name, and delete those of accounts that the settings no longer have."""
        key, data = keys.tagged(self.account_region), inventory.dumps(tagged).encode()
        before = self.store.get_bytes(key)
        if before != data and (tagged or before is not None):
            self.store.put_bytes(key, data)
        # Instances of an account that is no longer read are not expected to report.
        names = [account_region.name for account_region in self.config.account_regions]
        for leftover in keys.leftover_tagged(self.store.keys(keys.TAGGED), names):
            self.store.delete(leftover)

    def _gone(self, metrics: Catalogue, start: datetime, end: datetime) -> set[str]:
        """Return the instances exported before, if the interval is so old that CloudWatch may not list them."""
        if clock.now() - start < LISTED:
            return set()
        layer = keys.of_kind(keys.RAW, metrics)
        return set(self.store.read_hours(layer, start, end, part=self.account_region, columns=())["instance_id"])

    def _no_datapoint(self, fleet: Fleet, start: datetime, end: datetime, period_s: int) -> str:
        names = ", ".join(sorted({metric.namespace for metrics in self.kinds for metric in metrics.metrics}))
        asked = " and ".join(
            f"{len(metrics.names)} metrics of {len(instances)} instances"
            + ("" if len(fleet) == 1 else f" ({metrics.kind})")
            for metrics, instances in fleet
        )
        return (
            f"CloudWatch has no datapoint in [{clock.iso(start)}, {clock.iso(end)}): asked for {asked}, namespaces "
            f"{names}, region {self.reader.region_name or 'of the environment'}, period {period_s} s. Check region and "
            f"connection {self.config.aws_conn_id}, and that the agent reports"
        )

    def _outcome(self) -> RegionExport:
        # The fewest calls are those of the whole interval: cutting it into chunks that fit into memory is our choice.
        return RegionExport(
            self.chunks,
            {progress.metrics.kind: progress.counts for progress in self.progress},
            self.duplicates,
            self.objects,
            replace(self.reader.usage, min_calls=self.min_calls),
            [progress.metrics.label(name) for progress in self.progress for name in progress.silent],
            {
                progress.metrics.label(name): len(missing)
                for progress in self.progress
                for name, missing in progress.missing.items()
            },
        )

"""Reading CloudWatch metrics of one account and region: the instances that have them, their tags, their metric rows.

The provider's own CloudWatch hook reads logs. Planning calls and reading them to the end is
`riskwatch_ml.ingest.call_plan` and `riskwatch_ml.ingest.reader`; here are the connection, the role of the shard, and
ids as the fleet knows them.
"""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook

from riskwatch_ml.core import aws, clock
from riskwatch_ml.core.accounts import Shard
from riskwatch_ml.ingest import call_plan, cloudwatch
from riskwatch_ml.ingest.call_plan import Query, Usage
from riskwatch_ml.schema import inventory

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    import boto3

    from riskwatch_ml.ingest.reader import Reader
    from riskwatch_ml.schema.catalogue import Catalogue, Metric
    from riskwatch_ml.schema.inventory import Instance
    from riskwatch_ml.schema.metric_rows import MetricRows, Series

# A sum over a longer period than a row's is given for the row's.
_SUMS = ("Sum", "SampleCount")
# So many entries of a metric are enough to see with which dimensions it comes.
_LISTED = 500

_log = logging.getLogger(__name__)


class CloudWatchMetricsHook(AwsBaseHook):
    """CloudWatch metrics of one shard.

    Parameters
    ----------
    shard
        Account and region; without one those of the connection.
    patience_s
        How long throttling is waited out, in seconds; without it as `riskwatch_ml.ingest.reader` does.
    aws_conn_id
        Airflow connection; without it boto3's own chain finds region and credentials.
    **kwargs
        Further arguments of the provider's AwsBaseHook.

    Attributes
    ----------
    usage : Usage
        What reading has taken so far.
    """

    def __init__(self, *args: Any, shard: Shard | None = None, patience_s: float | None = None, **kwargs: Any) -> None:
        from riskwatch_ml.ingest.rate_limit import Rate

        self.shard = shard or Shard()
        kwargs["client_type"] = "cloudwatch"
        kwargs.setdefault("config", aws.CONFIG)
        if self.shard.region:
            kwargs["region_name"] = self.shard.region
        super().__init__(*args, **kwargs)
        self.usage = Usage()
        self.rate = Rate()
        self._patience_s = patience_s

    def get_session(self, region_name: str | None = None, deferrable: bool = False) -> boto3.session.Session:
        """Return the connection's session, or that of the shard's role."""
        session = super().get_session(region_name, deferrable)
        if self.shard.role_arn is None:
            return session
        from riskwatch_ml.ingest.reader import named

        with named(f"sts:AssumeRole of {self.shard.role_arn}"):
            return aws.assumed(session, self.shard.role_arn, self.conn_config.get_service_endpoint_url("sts"))

    def instances(self, catalogue: Catalogue, *, recently_active: bool = False) -> list[str]:
        """Return the instances that have at least one metric of the catalogue, sorted.

        CloudWatch lists what had data in the last two weeks; with `recently_active` in the last three hours. Metrics
        with further dimensions than the catalogue names (per disk, per interface) do not count. Raises CloudWatchError.
        """
        found: set[str] = set()
        for metric in catalogue.metrics:
            dimensions = [cloudwatch.dimension_filter(name, template) for name, template in metric.dimensions.items()]
            arguments = {"RecentlyActive": "PT3H"} if recently_active else {}
            for entry in self._listed(metric, Dimensions=dimensions, **arguments):
                local = cloudwatch.instance_of(entry["Dimensions"], metric)
                if local is not None:
                    found.add(self.shard.qualify(local))
        return sorted(found)

    def tagged(self, catalogue: Catalogue) -> dict[str, Instance]:
        """Return the instances with tag `riskwatch:role` or `riskwatch:service`, by instance id.

        Raises CloudWatchError. Empty where nothing in the catalogue belongs to a resource that the tagging API knows.
        """
        from riskwatch_ml.ingest.reader import named

        types = inventory.resource_types(catalogue)
        client = self._client_of("resourcegroupstaggingapi")
        found: dict[str, Mapping[str, Any]] = {}
        for key in (inventory.ROLE_TAG, inventory.SERVICE_TAG) if types else ():
            # Filters on two keys would ask for resources that have both.
            with named("tag:GetResources"):
                for page in client.get_paginator("get_resources").paginate(
                    TagFilters=[{"Key": key}], ResourceTypeFilters=types
                ):
                    found |= {entry["ResourceARN"]: entry for entry in page["ResourceTagMappingList"]}
        return inventory.of_tags(found.values(), self.shard.name, self.shard.qualify)

    def metric_rows(
        self,
        instances: Sequence[str],
        catalogue: Catalogue,
        start: datetime,
        end: datetime,
        period_s: int,
        sums_per_s: int | None = None,
    ) -> MetricRows:
        """Return the metric rows of the instances with start <= timestamp < end.

        A row's timestamp is the beginning of its period.

        Parameters
        ----------
        instances
            Instance ids of this shard.
        catalogue
            The metrics to read.
        start, end
            Interval, aware, both on the grid of `period_s`: CloudWatch would round them otherwise.
        period_s
            Period in seconds.
        sums_per_s
            Seconds that sums are given for, where it is not `period_s`: rows of a coarser period then stay comparable.

        Raises
        ------
        CloudWatchError
            The interval is empty or off the grid, a metric is forbidden, a result stayed incomplete, credentials are
            not valid, or CloudWatch throttled for longer than is waited.
        """
        from riskwatch_ml.ingest.reader import CloudWatchError
        from riskwatch_ml.schema import metric_rows as dataset

        start, end = cloudwatch.checked_interval(start, end, period_s)
        queries = self._queries(instances, catalogue, period_s)
        for query in queries[: len(catalogue.metrics)]:
            if query.period_s % period_s:
                raise CloudWatchError(
                    f"{query.metric.name}: its period of {query.period_s} s is no multiple of the rows' {period_s} s"
                )
        # Metrics of a longer period are asked for from the beginning of theirs.
        grain = math.lcm(period_s, *(query.period_s for query in queries))
        low = clock.floor(start, grain)
        calls = list(call_plan.calls(queries, low, end, period_s))
        usage = Usage(
            least_calls=call_plan.least_calls(queries, low, end),
            predicted_metrics=sum(len(call.queries) for call in calls),
        )
        _log.info(
            "GetMetricData: %d metrics of %d instances over [%s, %s), predicted %d calls and %s",
            *(len(queries), len(instances), clock.iso(start), clock.iso(end), len(calls)),
            call_plan.dollars(usage.predicted_metrics),
        )
        series: list[Series] = []
        for call, answered, taken in self._reader().read(calls) if calls else ():
            usage += taken
            for query, item in zip(call.queries, answered, strict=True):
                factor = (sums_per_s or period_s) / query.period_s if query.metric.stat in _SUMS else 1.0
                spread = cloudwatch.spread(item, factor, query.period_s, period_s)
                series.append(self._owned(cloudwatch.within(spread, start, end)))
        _log.info("%s", usage)
        self.usage += usage
        return dataset.widen(series, catalogue)

    def least_calls(
        self, instances: Iterable[str], catalogue: Catalogue, start: datetime, end: datetime, period_s: int
    ) -> int:
        """Return the number of calls below which the limits allow nothing, were all of [start, end) read at once."""
        return call_plan.least_calls(self._queries(instances, catalogue, period_s), start, end)

    def why_silent(self, metric: Metric) -> str:
        """Say why a metric may have no datapoint at all, from what CloudWatch lists of it. Raises CloudWatchError."""
        name = f"{metric.name} has no datapoint: {metric.namespace} {metric.metric}"
        dimensions = [cloudwatch.dimension_filter(key, template) for key, template in metric.dimensions.items()]
        if any(
            cloudwatch.instance_of(entry["Dimensions"], metric) for entry in self._listed(metric, Dimensions=dimensions)
        ):
            unit = f" in the unit {metric.cloudwatch_unit}" if metric.cloudwatch_unit else ""
            return f"{name} is listed, but has no value{unit} in this interval: it vanished, or its unit changed"
        listed = list(islice(self._listed(metric), _LISTED))
        if not listed:
            return (
                f"{name} is unknown to CloudWatch, or has had no data for two weeks: see that namespace and metric are "
                "spelled as there, and that it is collected"
            )
        seen = sorted({", ".join(sorted(item["Name"] for item in entry["Dimensions"])) for entry in listed})
        return (
            f"{name} is there, but not with the dimensions {', '.join(sorted(metric.dimensions))} alone: CloudWatch "
            f"has it with {' | '.join(seen)}"
        )

    def _queries(self, instances: Iterable[str], catalogue: Catalogue, period_s: int) -> list[Query]:
        return [
            Query(self.shard.local(instance_id), metric, max(period_s, metric.period_s))
            for instance_id in instances
            for metric in catalogue.metrics
        ]

    def _reader(self) -> Reader:
        from riskwatch_ml.ingest.reader import PATIENCE_S, Reader

        return Reader(self.conn, self.rate, PATIENCE_S if self._patience_s is None else self._patience_s)

    def _owned(self, series: Series) -> Series:
        return replace(series, instance_id=self.shard.qualify(series.instance_id))

    def _listed(self, metric: Metric, **arguments: Any) -> Iterator[Mapping[str, Any]]:
        from riskwatch_ml.ingest.reader import named

        paginator = self.conn.get_paginator("list_metrics")
        with named("cloudwatch:ListMetrics"):
            for page in paginator.paginate(Namespace=metric.namespace, MetricName=metric.metric, **arguments):
                yield from page["Metrics"]

    def _client_of(self, service: str) -> Any:
        return self.get_session(region_name=self.region_name).client(
            service,
            endpoint_url=self.conn_config.get_service_endpoint_url(service),
            config=aws.CONFIG,
            verify=self.verify,
        )

"""CloudWatch metrics of one account and region: the instances that have them, their tags, their metric rows.

The provider's own CloudWatch hook reads logs. `riskwatch_ml.ingest.call_plan` plans calls and
`riskwatch_ml.ingest.reader` makes them; this hook adds the connection, the role to assume, and the ids of the fleet.
"""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook

from riskwatch_ml.core import aws, clock
from riskwatch_ml.core.accounts import AccountRegion
from riskwatch_ml.ingest import call_plan, cloudwatch
from riskwatch_ml.ingest.call_plan import Query, Usage
from riskwatch_ml.schema import inventory

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    import boto3

    from riskwatch_ml.ingest.call_plan import Fleet
    from riskwatch_ml.ingest.reader import Reader
    from riskwatch_ml.schema.catalogue import Catalogue
    from riskwatch_ml.schema.inventory import Instance
    from riskwatch_ml.schema.metric import Metric
    from riskwatch_ml.schema.metric_rows import MetricRows, Series

# Enough entries of a metric to see the dimensions that it has.
_LISTED = 500

_log = logging.getLogger(__name__)


class CloudWatchMetricsHook(AwsBaseHook):
    """CloudWatch metrics of one account and region.

    Parameters
    ----------
    account_region
        Account and region; without one those of the connection.
    patience_s
        Seconds to wait while CloudWatch throttles; without it the default of `riskwatch_ml.ingest.reader`.
    aws_conn_id
        Airflow connection; without it boto3 finds region and credentials.
    **kwargs
        Further arguments of the provider's AwsBaseHook.

    Attributes
    ----------
    usage : Usage
        Calls and metrics so far.
    """

    def __init__(
        self, *args: Any, account_region: AccountRegion | None = None, patience_s: float | None = None, **kwargs: Any
    ) -> None:
        from riskwatch_ml.ingest.rate_limit import TokenBucket

        self.account_region = account_region or AccountRegion()
        kwargs["client_type"] = "cloudwatch"
        kwargs.setdefault("config", aws.CONFIG)
        if self.account_region.region:
            kwargs["region_name"] = self.account_region.region
        super().__init__(*args, **kwargs)
        self.usage = Usage()
        self.rate = TokenBucket()
        self._patience_s = patience_s

    def get_session(self, region_name: str | None = None, deferrable: bool = False) -> boto3.session.Session:
        """Return the session of the connection, or of the role to assume."""
        session = super().get_session(region_name, deferrable)
        if self.account_region.role_arn is None:
            return session
        from riskwatch_ml.ingest.reader import translate_aws_errors

        with translate_aws_errors(f"sts:AssumeRole of {self.account_region.role_arn}"):
            return aws.session_in_role(
                session, self.account_region.role_arn, self.conn_config.get_service_endpoint_url("sts")
            )

    def instances(self, catalogue: Catalogue, *, recently_active: bool = False) -> list[str]:
        """Return the instances that have at least one metric of the catalogue, sorted.

        CloudWatch lists metrics with data in the last two weeks; with `recently_active` in the last three hours.
        Metrics with more dimensions than the catalogue names (per disk, per interface) do not count. An id that is an
        unresolved placeholder of an agent is refused, and the log names it. Raises CloudWatchError.
        """
        names: set[str] = set()
        refused: set[str] = set()
        for metric in cloudwatch.listed_once(catalogue.metrics):
            dimensions = cloudwatch.dimension_filters(metric)
            arguments = {"RecentlyActive": "PT3H"} if recently_active else {}
            for entry in self._listed(metric, Dimensions=dimensions, **arguments):
                local = metric.instance_of(entry["Dimensions"])
                if local is not None and cloudwatch.is_unresolved(local):
                    refused.add(local)
                elif local is not None:
                    names.add(self._qualify(local, catalogue))
        if refused:
            _log.warning(
                "refused as an instance: %s. The CloudWatch agent did not resolve its placeholder: run it where it can "
                "read the instance metadata, or write the id into its append_dimensions",
                ", ".join(sorted(refused)[: cloudwatch.NAMES]),
            )
        return sorted(names)

    def tagged(self, catalogue: Catalogue) -> dict[str, Instance]:
        """Return the instances with tag `riskwatch:role` or `riskwatch:service`, by instance id.

        It is empty if the catalogue states no resource type. Raises CloudWatchError.
        """
        from riskwatch_ml.ingest.reader import translate_aws_errors

        client = self._client_of("resourcegroupstaggingapi")
        resources: dict[str, Mapping[str, Any]] = {}
        for key in (inventory.ROLE_TAG, inventory.SERVICE_TAG) if catalogue.resource_type else ():
            # Filters on two keys would match only resources that have both.
            with translate_aws_errors("tag:GetResources"):
                for page in client.get_paginator("get_resources").paginate(
                    TagFilters=[{"Key": key}], ResourceTypeFilters=[catalogue.resource_type]
                ):
                    resources |= {entry["ResourceARN"]: entry for entry in page["ResourceTagMappingList"]}
        return inventory.from_tags(
            resources.values(), catalogue.arn, self.account_region.name, lambda name: self._qualify(name, catalogue)
        )

    def metric_rows(
        self, fleet: Fleet, start: datetime, end: datetime, period_s: int, sums_per_s: int | None = None
    ) -> list[MetricRows]:
        """Return the metric rows with start <= timestamp < end of each kind; a timestamp begins a period.

        The kinds share the calls: a call with room for more metrics takes those of the next kind.

        Parameters
        ----------
        fleet
            The metrics to read of each kind, with the instance ids of this account and region.
        start, end
            Interval, aware, both on the grid of `period_s`: CloudWatch would round them otherwise.
        period_s
            Period in seconds.
        sums_per_s
            Seconds that sums are scaled to, if not `period_s`: rows of a coarser period then stay comparable.

        Raises
        ------
        CloudWatchError
            The interval is empty or off the grid, a metric is forbidden, a result stayed incomplete, credentials are
            not valid, or CloudWatch throttled for longer than the patience of the hook.
        """
        from riskwatch_ml.schema import metric_rows as dataset

        start, end = cloudwatch.checked_interval(start, end, period_s)
        queries = self._queries(fleet, period_s)
        calls, usage = self._plan(queries, start, end, period_s)
        _log.info(
            "GetMetricData: %s over [%s, %s), predicted %d calls and %s",
            *(cloudwatch.asked(fleet), clock.iso(start), clock.iso(end), len(calls)),
            call_plan.dollars(usage.predicted_metrics),
        )
        catalogues = {catalogue.kind: catalogue for catalogue, _ in fleet}
        series: dict[str, list[Series]] = {kind: [] for kind in catalogues}
        for call, answered, call_usage in self._reader().read(calls) if calls else ():
            usage += call_usage
            for query, values in zip(call.queries, answered, strict=True):
                factor = query.metric.share(query.period_s, sums_per_s or period_s)
                spread = cloudwatch.spread(values, factor, query.period_s, period_s)
                inside = cloudwatch.within(spread, start, end)
                instance_id = self._qualify(query.instance_id, catalogues[query.kind])
                series[query.kind].append(replace(inside, instance_id=instance_id))
        _log.info("%s", usage)
        self.usage += usage
        return [dataset.pivot(series[catalogue.kind], catalogue) for catalogue, _ in fleet]

    def min_calls(self, fleet: Fleet, start: datetime, end: datetime, period_s: int) -> int:
        """Return the fewest calls that the limits allow for [start, end), if it were read at once."""
        return call_plan.min_calls(self._queries(fleet, period_s), start, end)

    def why_no_data(self, metric: Metric) -> str:
        """Return why a metric may have no datapoint, from what CloudWatch lists of it. Raises CloudWatchError."""
        name = f"{metric.name} has no datapoint: {metric.namespace} {metric.metric}"
        listed_as_named = self._listed(metric, Dimensions=cloudwatch.dimension_filters(metric))
        if any(metric.instance_of(entry["Dimensions"]) for entry in listed_as_named):
            unit = f" in the unit {metric.cloudwatch_unit}" if metric.cloudwatch_unit else ""
            return f"{name} is listed, but has no value{unit} in this interval: it vanished, or its unit changed"
        listed = list(islice(self._listed(metric), _LISTED))
        if not listed:
            return (
                f"{name} is unknown to CloudWatch, or has had no data for two weeks: check the spelling of namespace "
                "and metric, and that the metric is collected"
            )
        seen = sorted({", ".join(sorted(item["Name"] for item in entry["Dimensions"])) for entry in listed})
        return (
            f"{name} exists, but not with the dimensions {', '.join(sorted(metric.dimensions))} alone: CloudWatch "
            f"has it with {' | '.join(seen)}"
        )

    def why_missing(self, catalogue: Catalogue, metric: Metric, missing: Sequence[str], instances: int) -> str:
        """Return why some instances may lack a metric that others have, from what CloudWatch lists for a few of them.

        `catalogue` is that of the metric, `missing` are the instances without a value, of `instances` that report.
        Raises CloudWatchError.
        """
        named = {name for name, template in metric.dimensions.items() if "{" in template}
        listed = []
        for instance_id in missing[: cloudwatch.NAMES]:
            dimensions = metric.dimensions_of(self._local(instance_id, catalogue))
            asked = self._listed(metric, Dimensions=[item for item in dimensions if item["Name"] in named])
            listed += [entry["Dimensions"] for entry in islice(asked, _LISTED)]
        return cloudwatch.missing_of_part(metric, missing, instances, listed)

    def _qualify(self, name: str, catalogue: Catalogue) -> str:
        """Return the fleet-wide id of the instance that CloudWatch calls `name`."""
        return self.account_region.qualify(catalogue.qualify(name))

    def _local(self, instance_id: str, catalogue: Catalogue) -> str:
        """Return the name of an instance in CloudWatch."""
        return catalogue.local(self.account_region.local(instance_id))

    def _queries(self, fleet: Fleet, period_s: int) -> list[Query]:
        return [
            Query(self._local(instance_id, catalogue), metric, max(period_s, metric.period_s), catalogue.kind)
            for catalogue, instances in fleet
            for instance_id in instances
            for metric in catalogue.metrics
        ]

    def _plan(
        self, queries: list[Query], start: datetime, end: datetime, period_s: int
    ) -> tuple[list[call_plan.Call], Usage]:
        """Return the calls that read the queries over [start, end), and the usage that they predict."""
        from riskwatch_ml.ingest.reader import CloudWatchError

        for query in queries:
            if query.period_s % period_s:
                raise CloudWatchError(
                    f"{query.metric.name}: its period of {query.period_s} s is no multiple of the rows' {period_s} s"
                )
        # A metric of a longer period is read from the beginning of its period.
        low = clock.floor(start, math.lcm(period_s, *(query.period_s for query in queries)))
        calls = list(call_plan.calls(queries, low, end, period_s))
        return calls, Usage(
            min_calls=call_plan.min_calls(queries, low, end),
            predicted_metrics=sum(len(call.queries) for call in calls),
        )

    def _reader(self) -> Reader:
        from riskwatch_ml.ingest.reader import PATIENCE_S, Reader

        return Reader(self.conn, self.rate, PATIENCE_S if self._patience_s is None else self._patience_s)

    def _listed(self, metric: Metric, **arguments: Any) -> Iterator[Mapping[str, Any]]:
        from riskwatch_ml.ingest.reader import translate_aws_errors

        paginator = self.conn.get_paginator("list_metrics")
        with translate_aws_errors("cloudwatch:ListMetrics"):
            for page in paginator.paginate(Namespace=metric.namespace, MetricName=metric.metric, **arguments):
                yield from page["Metrics"]

    def _client_of(self, service: str) -> Any:
        return self.get_session(region_name=self.region_name).client(
            service,
            endpoint_url=self.conn_config.get_service_endpoint_url(service),
            config=aws.CONFIG,
            verify=self.verify,
        )

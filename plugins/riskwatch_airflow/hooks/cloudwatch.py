"""Reading CloudWatch metrics: the instances that have them and their metric rows, within the limits of GetMetricData.

The provider's own CloudWatch hook reads logs. This one packs 500 queries and 100,800 datapoints into a call, follows
the tokens, looks at the status of every result and asks again where a result stayed incomplete.
"""

from __future__ import annotations

import logging
import math
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook

from ml import aws, clock

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ml.catalogue import Catalogue, Metric
    from ml.dataset import MetricRows

MAX_QUERIES = 500
MAX_POINTS = 100_800
ATTEMPTS = 4
THREADS = 4
PRICE_PER_METRIC = 0.01 / 1000
# (finest period still kept, for how long), https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/
RETENTION = (
    (60, timedelta(hours=3)),
    (300, timedelta(days=15)),
    (3600, timedelta(days=63)),
)

_log = logging.getLogger(__name__)


class CloudWatchError(Exception):
    """CloudWatch refused or kept failing; the message names the metric and what to do."""


@dataclass(frozen=True)
class Query:
    """One metric of one instance in a GetMetricData call."""

    instance_id: str
    metric: Metric


@dataclass
class _Answer:
    """What one query has received so far."""

    timestamps: list[datetime] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    status: str = "missing"
    messages: list[str] = field(default_factory=list)

    def add(self, result: Mapping[str, Any]) -> None:
        self.timestamps += result["Timestamps"]
        self.values += result["Values"]
        self.status = result["StatusCode"]
        self.messages += [message.get("Value", "") for message in result.get("Messages", ())]


def plan(queries: int, points: int) -> tuple[int, int]:
    """Return (queries a call, points a query and call) that need the fewest calls within both limits.

    `queries` metrics with `points` datapoints each. A long interval is either cut in time or read with fewer metrics at
    once; which is cheaper depends on what fits.
    """
    best = (math.inf, 1, 1)
    least = math.ceil(points / MAX_POINTS)
    most = max(least, math.ceil(points / (MAX_POINTS // MAX_QUERIES)))
    for cuts in range(least, most + 1):
        span = math.ceil(points / cuts)
        width = min(MAX_QUERIES, MAX_POINTS // span, queries)
        calls = cuts * math.ceil(queries / width)
        if calls < best[0]:
            best = (calls, width, span)
    return best[1], best[2]


def aged_out(start: datetime, period_s: int, now: datetime) -> str | None:
    """Return a sentence where CloudWatch no longer keeps data of this period from `start`, else None."""
    for period, kept in RETENTION:
        if period_s < period and now - start > kept:
            span = f"{kept.days} days" if kept.days else f"{kept.seconds // 3600} hours"
            return (
                f"CloudWatch keeps periods below {period} s for {span} only: "
                f"there is nothing at {period_s} s before {clock.iso(now - kept)}"
            )
    return None


class CloudWatchMetricsHook(AwsBaseHook):
    """CloudWatch metrics of a fleet.

    Parameters
    ----------
    aws_conn_id
        Airflow connection; without it boto3's own chain finds region and credentials.
    **kwargs
        Further arguments of the provider's AwsBaseHook.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["client_type"] = "cloudwatch"
        kwargs.setdefault("config", aws.CONFIG)
        super().__init__(*args, **kwargs)

    def instances(self, catalogue: Catalogue, *, recently_active: bool = False) -> list[str]:
        """Return the instances that have at least one metric of the catalogue, sorted.

        CloudWatch lists what had data in the last two weeks; with `recently_active` in the last three hours. Metrics
        with further dimensions than the catalogue names (per disk, per interface) do not count.
        """
        found: set[str] = set()
        paginator = self.conn.get_paginator("list_metrics")
        for metric in catalogue.metrics:
            arguments: dict[str, Any] = {
                "Namespace": metric.namespace,
                "MetricName": metric.metric,
                "Dimensions": [_filter(name, template) for name, template in metric.dimensions.items()],
            }
            if recently_active:
                arguments["RecentlyActive"] = "PT3H"
            for page in paginator.paginate(**arguments):
                found.update(filter(None, (_instance(entry["Dimensions"], metric) for entry in page["Metrics"])))
        return sorted(found)

    def metric_rows(
        self, instances: Sequence[str], catalogue: Catalogue, start: datetime, end: datetime, period_s: int
    ) -> MetricRows:
        """Return the metric rows of the instances with start <= timestamp < end.

        A row's timestamp is the beginning of its period.

        Parameters
        ----------
        instances
            Instance ids.
        catalogue
            The metrics to read.
        start, end
            Interval, aware, both on the grid of `period_s`: CloudWatch would round them otherwise.
        period_s
            Period in seconds.

        Raises
        ------
        CloudWatchError
            The interval is empty or off the grid, a metric is forbidden, or a result stayed incomplete.
        """
        from ml import dataset

        start, end = _checked(start, end, period_s)
        warning = aged_out(start, period_s, clock.now())
        if warning:
            _log.warning(warning)
        queries = [Query(instance_id, metric) for instance_id in instances for metric in catalogue.metrics]
        calls = list(_calls(queries, start, end, period_s))
        _log.info(
            "GetMetricData: %d metrics of %d instances in %d calls, about $%.4f",
            len(queries),
            len(instances),
            len(calls),
            sum(len(part) for part, _, _ in calls) * PRICE_PER_METRIC,
        )
        client = self.conn
        series: list[dataset.Series] = []
        with ThreadPoolExecutor(THREADS) as pool:
            for (part, low, high), answers in zip(
                calls, pool.map(lambda call: _read(client, *call, period_s), calls), strict=True
            ):
                for query, answer in zip(part, answers, strict=True):
                    series.append(_series(query, answer, low, high))
        return dataset.widen(series, catalogue)


def _checked(start: datetime, end: datetime, period_s: int) -> tuple[datetime, datetime]:
    for name, moment in (("start", start), ("end", end)):
        if clock.floor(moment, period_s) != moment:
            raise CloudWatchError(f"{name} {clock.iso(moment)} is not on the grid of {period_s} s: round it first")
    if start >= end:
        raise CloudWatchError(
            f"the interval from {clock.iso(start)} to {clock.iso(end)} is empty: the end must be later"
        )
    return clock.utc(start), clock.utc(end)


def _calls(
    queries: Sequence[Query], start: datetime, end: datetime, period_s: int
) -> Iterator[tuple[Sequence[Query], datetime, datetime]]:
    if not queries:
        return
    width, span = plan(len(queries), int((end - start).total_seconds()) // period_s)
    step = timedelta(seconds=span * period_s)
    for first in range(0, len(queries), width):
        low = start
        while low < end:
            high = min(low + step, end)
            yield queries[first : first + width], low, high
            low = high


def _read(client: Any, queries: Sequence[Query], start: datetime, end: datetime, period_s: int) -> list[_Answer]:
    answers = [_Answer() for _ in queries]
    open_places = list(range(len(queries)))
    for _ in range(ATTEMPTS):
        for place in open_places:
            # An incomplete result is asked for as a whole again: what it delivered is dropped, not doubled.
            answers[place] = _Answer()
        _pages(client, {f"m{place}": (queries[place], answers[place]) for place in open_places}, start, end, period_s)
        open_places = [place for place in open_places if answers[place].status != "Complete"]
        if not open_places:
            return answers
        _log.warning("GetMetricData left %d of %d results incomplete: asking again", len(open_places), len(queries))
    place = open_places[0]
    raise CloudWatchError(
        f"{len(open_places)} results of GetMetricData stayed incomplete after {ATTEMPTS} attempts, the first is "
        f"{_name(queries[place])}: {answers[place].status} {'; '.join(answers[place].messages)}. Run the task again."
    )


def _pages(
    client: Any, asked: Mapping[str, tuple[Query, _Answer]], start: datetime, end: datetime, period_s: int
) -> None:
    arguments: dict[str, Any] = {
        "MetricDataQueries": [_query(name, query, period_s) for name, (query, _) in asked.items()],
        "StartTime": start,
        "EndTime": end,
        "ScanBy": "TimestampAscending",
        "MaxDatapoints": MAX_POINTS,
    }
    while True:
        page = client.get_metric_data(**arguments)
        for message in page.get("Messages", ()):
            _log.warning("GetMetricData: %s %s", message.get("Code"), message.get("Value"))
        for result in page["MetricDataResults"]:
            query, answer = asked[result["Id"]]
            answer.add(result)
            for message in result.get("Messages", ()):
                _log.warning("%s: %s %s", _name(query), message.get("Code"), message.get("Value"))
            if answer.status == "Forbidden":
                raise CloudWatchError(
                    f"{_name(query)} may not be read: allow cloudwatch:GetMetricData to the role of this connection"
                )
        if not page.get("NextToken"):
            return
        arguments["NextToken"] = page["NextToken"]


def _query(name: str, query: Query, period_s: int) -> dict[str, Any]:
    metric = query.metric
    return {
        "Id": name,
        "MetricStat": {
            "Metric": {
                "Namespace": metric.namespace,
                "MetricName": metric.metric,
                "Dimensions": metric.dimensions_of(query.instance_id),
            },
            "Period": period_s,
            "Stat": metric.stat,
        },
        "ReturnData": True,
    }


def _series(query: Query, answer: _Answer, start: datetime, end: datetime) -> Any:
    from ml.dataset import Series

    # CloudWatch may round the interval of old data outwards: what lies outside belongs to another interval.
    kept = [place for place, moment in enumerate(answer.timestamps) if start <= moment < end]
    return Series(
        query.instance_id,
        query.metric.name,
        [answer.timestamps[place] for place in kept],
        [answer.values[place] for place in kept],
    )


def _filter(name: str, template: str) -> dict[str, str]:
    return {"Name": name} if "{instance_id}" in template else {"Name": name, "Value": template}


def _instance(dimensions: Sequence[Mapping[str, str]], metric: Metric) -> str | None:
    values = {item["Name"]: item["Value"] for item in dimensions}
    if set(values) != set(metric.dimensions):
        return None
    for name, template in metric.dimensions.items():
        if "{instance_id}" in template:
            pattern = re.escape(template).replace(re.escape("{instance_id}"), "(.+)")
            match = re.fullmatch(pattern, values[name])
            return match.group(1) if match else None
    return None


def _name(query: Query) -> str:
    return f"{query.metric.namespace} {query.metric.metric} of {query.instance_id}"

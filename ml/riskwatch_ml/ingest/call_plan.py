"""Plan of GetMetricData calls: as few as possible, with their cost, and retention.

A call takes 500 queries and 100,800 datapoints. AWS charges for the metrics of a call, not for the length of its
interval: hours that fit into a call beside the newest hour are free.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import NamedTuple

from riskwatch_ml.core import clock
from riskwatch_ml.core.errors import UserInputError
from riskwatch_ml.schema.catalogue import Catalogue
from riskwatch_ml.schema.metric import Metric

MAX_QUERIES = 500
MAX_POINTS = 100_800
# US dollars, the list price of most regions; source: https://aws.amazon.com/cloudwatch/pricing/, GetMetricData. Each
# statistic is counted as a metric of its own.
PRICE_PER_METRIC = 0.01 / 1000
# Finest period in seconds, and how long CloudWatch keeps it; source: the documentation of GetMetricData.
RETENTION = ((60, timedelta(days=15)), (300, timedelta(days=63)), (clock.HOUR_S, timedelta(days=455)))


class RetentionError(UserInputError):
    """CloudWatch no longer keeps the data.

    The message says since when, and which data are available.
    """


class InstancesOfKind(NamedTuple):
    """Instance ids of one kind, and the catalogue of the kind."""

    catalogue: Catalogue
    instances: Sequence[str]


Fleet = Sequence[InstancesOfKind]


@dataclass(frozen=True)
class Query:
    """One metric of one instance, as CloudWatch calls it.

    `period_s` is the period in seconds over which CloudWatch aggregates. `kind` is that of the instance: instances of
    two kinds may have one name, and their metrics too.
    """

    instance_id: str
    metric: Metric
    period_s: int
    kind: str = ""


@dataclass(frozen=True)
class Call:
    """One request within the limits.

    It has queries, the interval [start, end), and at most `points` datapoints.
    """

    queries: Sequence[Query]
    start: datetime
    end: datetime
    points: int


@dataclass(frozen=True)
class Usage:
    """The cost of reading, beside its prediction.

    `calls` are the requests sent, `min_calls` the fewest that the limits allow. `metrics` are the metrics that AWS
    charges for.
    """

    calls: int = 0
    min_calls: int = 0
    metrics: int = 0
    predicted_metrics: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.calls + other.calls,
            self.min_calls + other.min_calls,
            self.metrics + other.metrics,
            self.predicted_metrics + other.predicted_metrics,
        )

    def __str__(self) -> str:
        return (
            f"{self.calls} calls of GetMetricData (the limits allow no fewer than {self.min_calls}), {self.metrics} "
            f"metrics ({self.predicted_metrics} predicted), {dollars(self.metrics)} ({dollars(self.predicted_metrics)} "
            "predicted)"
        )


@dataclass(frozen=True)
class Segment:
    """A part of an interval that is read at one period."""

    start: datetime
    end: datetime
    period_s: int


def dollars(metrics: int) -> str:
    """Return the list price of requesting so many metrics, for example "$0.0012"."""
    return f"${metrics * PRICE_PER_METRIC:.4f}"


def calls(queries: Sequence[Query], start: datetime, end: datetime, period_s: int) -> Iterator[Call]:
    """Yield as few calls as possible that together read all queries over [start, end).

    `period_s` is the finest period of the queries, in seconds. Calls are cut in time and by queries. The cheaper cut
    depends on the number of queries, so bundles of queries are cut differently.
    """
    if not queries:
        return
    grain = math.lcm(*{query.period_s for query in queries}) // period_s
    points = math.ceil((end - start).total_seconds() / period_s)
    first = 0
    for width, span in _bundles(len(queries), points, grain):
        bundle = queries[first : first + width]
        step = timedelta(seconds=span * period_s)
        low = start
        while low < end:
            high = min(low + step, end)
            yield Call(bundle, low, high, len(bundle) * math.ceil((high - low).total_seconds() / period_s))
            low = high
        first += width


def min_calls(queries: Sequence[Query], start: datetime, end: datetime) -> int:
    """Return a lower bound of the calls of any plan.

    The limits of GetMetricData allow no fewer; a plan may need more.
    """
    seconds = (end - start).total_seconds()
    points = sum(math.ceil(seconds / query.period_s) for query in queries)
    return max(math.ceil(len(queries) / MAX_QUERIES), math.ceil(points / MAX_POINTS))


def segments(start: datetime, end: datetime, period_s: int, now: datetime, *, coarsen: bool = False) -> list[Segment]:
    """Return [start, end) as segments that CloudWatch still keeps, oldest first.

    That is one segment of `period_s` if CloudWatch still keeps this period. With `coarsen`, older data are read at the
    next coarser period, on its grid.

    Raises
    ------
    RetentionError
        A part is no longer kept at `period_s`, or at any period.
    """
    retention = max((age for period, age in RETENTION if period_s % period == 0), default=timedelta(0))
    oldest = now - retention
    if start >= oldest:
        return [Segment(start, end, period_s)]
    coarser = next((period for period, _ in RETENTION if period > period_s and period % period_s == 0), None)
    problem = (
        f"CloudWatch keeps periods of {period_s} s for {retention.days} days: the oldest data are from "
        f"{clock.iso(oldest)}, and [{clock.iso(start)}, {clock.iso(end)}) was requested"
    )
    if coarser is None:
        raise RetentionError(f"{problem}. Start later: there is no coarser period")
    if not coarsen:
        raise RetentionError(f"{problem}. Start later, or set coarsen to read older data in rows of {coarser} s")
    cut = min(_ceil(oldest, coarser), end)
    low = _ceil(start, coarser)
    older = segments(low, cut, coarser, now, coarsen=True) if low < cut else []
    return [*older, *([Segment(cut, end, period_s)] if cut < end else [])]


def _ceil(moment: datetime, step_s: int) -> datetime:
    """Return the first moment on the grid that is not before `moment`."""
    low = clock.floor(moment, step_s)
    return low if low == moment else low + timedelta(seconds=step_s)


def _bundles(queries: int, points: int, grain: int) -> Iterator[tuple[int, int]]:
    """Yield the shapes of the bundles that need the fewest calls for all queries.

    A shape is (queries of a bundle, points of each query per call). The calls of a bundle have one shape. The cheapest
    shape per query seldom divides the number of queries, so the remaining queries get the shape that is cheapest for
    them.
    """
    shapes = _shapes(points, grain)

    @cache
    def fewest(count: int) -> tuple[float, int]:
        if count == 0:
            return 0, 0
        return min(
            (cuts * max(1, count // width) + (fewest(count % width)[0] if count > width else 0), index)
            for index, (cuts, width, _) in enumerate(shapes)
        )

    while queries:
        _, width, span = shapes[fewest(queries)[1]]
        repeats = max(1, queries // width)
        for _ in range(repeats):
            taken = min(width, queries)
            yield taken, span
            queries -= taken


def _shapes(points: int, grain: int) -> list[tuple[int, int, int]]:
    """Return every way to cut a query of `points` datapoints in time.

    Each is (calls, queries per call, points of each query per call).
    """
    shapes: dict[int, tuple[int, int, int]] = {}
    fewest = math.ceil(points / MAX_POINTS)
    for cuts in range(fewest, max(fewest, math.ceil(points * MAX_QUERIES / MAX_POINTS)) + 1):
        span = math.ceil(math.ceil(points / cuts) / grain) * grain
        width = min(MAX_QUERIES, MAX_POINTS // span)
        if width:
            needed = math.ceil(points / span)
            shapes.setdefault(needed, (needed, width, span))
    return list(shapes.values())

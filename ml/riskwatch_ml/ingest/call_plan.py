"""What is asked of GetMetricData: as few calls as its limits allow, what they cost, and how far back data is kept.

A call takes 500 queries and 100,800 datapoints. It is paid by the metrics it asks for, whatever the length of the
interval: hours that fit into a call beside the newest one are free.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache

from riskwatch_ml.core import clock
from riskwatch_ml.core.errors import UserInputError
from riskwatch_ml.schema.catalogue import Metric

MAX_QUERIES = 500
MAX_POINTS = 100_800
PRICE_PER_METRIC = 0.01 / 1000
# (finest period in seconds, for how long it is kept), as the documentation of GetMetricData says.
RETENTION = ((60, timedelta(days=15)), (300, timedelta(days=63)), (3600, timedelta(days=455)))


class RetentionError(UserInputError):
    """CloudWatch no longer keeps what is asked for; the message says since when, and what can still be had."""


@dataclass(frozen=True)
class Query:
    """One metric of one instance; `period_s` is what CloudWatch is asked to aggregate over."""

    instance_id: str
    metric: Metric
    period_s: int


@dataclass(frozen=True)
class Call:
    """One request within the limits: its queries, the interval [start, end), and at most how many datapoints."""

    queries: Sequence[Query]
    start: datetime
    end: datetime
    points: int


@dataclass(frozen=True)
class Usage:
    """What reading took beside what it had to: requests sent, the least that the limits allow, metrics paid for."""

    calls: int = 0
    least_calls: int = 0
    metrics: int = 0
    predicted_metrics: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.calls + other.calls,
            self.least_calls + other.least_calls,
            self.metrics + other.metrics,
            self.predicted_metrics + other.predicted_metrics,
        )

    def __str__(self) -> str:
        return (
            f"{self.calls} calls of GetMetricData (the limits allow no fewer than {self.least_calls}), {self.metrics} "
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
    """Return the list price of asking for so many metrics, e.g. "$0.0012"."""
    return f"${metrics * PRICE_PER_METRIC:.4f}"


def calls(queries: Sequence[Query], start: datetime, end: datetime, period_s: int) -> Iterator[Call]:
    """Yield as few calls as the limits allow that together read all queries over [start, end).

    `period_s` is the finest period of the queries. Calls are cut in time and by queries; which is cheaper depends on
    what fits, so bundles of queries are cut differently.
    """
    if not queries:
        return
    grain = math.lcm(*{query.period_s for query in queries}) // period_s
    points = math.ceil((end - start).total_seconds() / period_s)
    first = 0
    for width, span in _bundles(len(queries), points, grain):
        part = queries[first : first + width]
        step = timedelta(seconds=span * period_s)
        low = start
        while low < end:
            high = min(low + step, end)
            yield Call(part, low, high, len(part) * math.ceil((high - low).total_seconds() / period_s))
            low = high
        first += width


def least_calls(queries: Sequence[Query], start: datetime, end: datetime) -> int:
    """Return the number of calls below which the limits of GetMetricData allow nothing: no plan can need fewer."""
    seconds = (end - start).total_seconds()
    points = sum(math.ceil(seconds / query.period_s) for query in queries)
    return max(math.ceil(len(queries) / MAX_QUERIES), math.ceil(points / MAX_POINTS))


def segments(start: datetime, end: datetime, period_s: int, now: datetime, *, coarsen: bool = False) -> list[Segment]:
    """Return [start, end) as parts that CloudWatch still keeps, oldest first: one part of `period_s` where it can.

    With `coarsen` what is older than `period_s` is kept for comes at the next coarser period, on its grid.

    Raises
    ------
    RetentionError
        A part is no longer kept at `period_s`, or at all.
    """
    kept = max((age for period, age in RETENTION if period_s % period == 0), default=timedelta(0))
    cliff = now - kept
    if start >= cliff:
        return [Segment(start, end, period_s)]
    coarser = next((period for period, _ in RETENTION if period > period_s and period % period_s == 0), None)
    told = (
        f"CloudWatch keeps periods of {period_s} s for {kept.days} days: nothing is left before {clock.iso(cliff)}, "
        f"and [{clock.iso(start)}, {clock.iso(end)}) was asked for"
    )
    if coarser is None:
        raise RetentionError(f"{told}. Start later: this is the coarsest period there is")
    if not coarsen:
        raise RetentionError(f"{told}. Start later, or set coarsen to read what is older in rows of {coarser} s")
    cut = min(_ceil(cliff, coarser), end)
    low = _ceil(start, coarser)
    older = segments(low, cut, coarser, now, coarsen=True) if low < cut else []
    return [*older, *([Segment(cut, end, period_s)] if cut < end else [])]


def _ceil(moment: datetime, step_s: int) -> datetime:
    low = clock.floor(moment, step_s)
    return low if low == moment else low + timedelta(seconds=step_s)


def _bundles(queries: int, points: int, grain: int) -> Iterator[tuple[int, int]]:
    """Yield (queries of a bundle, points of a query and call) until all queries are in one, for the fewest calls.

    A bundle's calls have one shape. The cheapest shape by query seldom divides the number of queries: the rest gets the
    shape that is cheapest for it.
    """
    shapes = _shapes(points, grain)

    @cache
    def fewest(count: int) -> tuple[float, int]:
        if count == 0:
            return 0, 0
        return min(
            (cuts * max(1, count // width) + (fewest(count % width)[0] if count > width else 0), place)
            for place, (cuts, width, _) in enumerate(shapes)
        )

    while queries:
        _, width, span = shapes[fewest(queries)[1]]
        repeats = max(1, queries // width)
        for _ in range(repeats):
            taken = min(width, queries)
            yield taken, span
            queries -= taken


def _shapes(points: int, grain: int) -> list[tuple[int, int, int]]:
    """Return (calls, queries, points of a query and call) of every way to cut a query of `points` in time."""
    found: dict[int, tuple[int, int, int]] = {}
    least = math.ceil(points / MAX_POINTS)
    for cuts in range(least, max(least, math.ceil(points * MAX_QUERIES / MAX_POINTS)) + 1):
        span = math.ceil(math.ceil(points / cuts) / grain) * grain
        width = min(MAX_QUERIES, MAX_POINTS // span)
        if width:
            needed = math.ceil(points / span)
            found.setdefault(needed, (needed, width, span))
    return list(found.values())

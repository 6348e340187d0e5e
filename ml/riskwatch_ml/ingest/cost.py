"""The cost of reading a fleet, predicted: calls of GetMetricData and dollars, by kind.

A metric with one statistic of one instance is one metric requested, in every run that reads it. Further costs, such as
those of custom metrics, are no part of the prediction.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from riskwatch_ml.core import clock
from riskwatch_ml.core.errors import UserInputError
from riskwatch_ml.ingest import call_plan
from riskwatch_ml.ingest.call_plan import Query

if TYPE_CHECKING:
    from collections.abc import Sequence

    from riskwatch_ml.core.settings import Settings
    from riskwatch_ml.schema.catalogue import Catalogue

MONTH_DAYS = 30
STREAM_EVERY_S = 300
# The rows before the newest one that a stream reads again: those of three rows with gaps of up to half an hour.
STREAM_CONTEXT = timedelta(hours=1)
ALL_KINDS = "all"
# Any full hour: the plan depends on the length of an interval only.
_START = datetime(2026, 1, 1, tzinfo=UTC)


class CostError(UserInputError):
    """The cost cannot be predicted; the message names the metric and the fix."""


@dataclass(frozen=True)
class Requests:
    """Calls of GetMetricData, and the metrics that AWS charges for."""

    calls: int = 0
    metrics: int = 0

    def __add__(self, other: Requests) -> Requests:
        return Requests(self.calls + other.calls, self.metrics + other.metrics)

    def __mul__(self, runs: int) -> Requests:
        return Requests(self.calls * runs, self.metrics * runs)

    @property
    def dollars(self) -> float:
        """The list price in US dollars."""
        return self.metrics * call_plan.PRICE_PER_METRIC


@dataclass(frozen=True)
class Plan:
    """How often a fleet is read, and how far back.

    `period_s` is the period of a row in seconds. A scheduled export reads `reread_hours` again, the first one of a day
    `reread_days`.
    """

    period_s: int = 300
    reread_hours: int = 3
    reread_days: int = 3

    @classmethod
    def of(cls, config: Settings) -> Plan:
        """Return the plan of an installation."""
        return cls(config.period_s, config.reread_hours, config.reread_days)


@dataclass(frozen=True)
class Cost:
    """The requests for the instances of a kind: of one export, and of a month of exports and of streaming.

    `kind` is ALL_KINDS for a fleet whose kinds share their calls.
    """

    kind: str
    instances: int
    export: Requests
    exports: Requests
    streaming: Requests

    @property
    def dollars(self) -> float:
        """The list price of a month in US dollars."""
        return (self.exports + self.streaming).dollars


def predict(fleet: Sequence[tuple[Catalogue, int]], plan: Plan) -> list[Cost]:
    """Return the cost of each kind, from its catalogue and number of instances.

    Raises CostError if the rows of the plan do not divide the period of a metric.
    """
    return [_cost(metrics.kind, [(metrics, instances)], plan) for metrics, instances in fleet]


def total(fleet: Sequence[tuple[Catalogue, int]], plan: Plan) -> Cost:
    """Return the cost of all kinds together, which share their calls. Raises CostError as `predict`."""
    return _cost(ALL_KINDS, fleet, plan)


def _cost(kind: str, fleet: Sequence[tuple[Catalogue, int]], plan: Plan) -> Cost:
    queries = [
        query
        for metrics, instances in fleet
        for query in [Query("", metric, max(plan.period_s, metric.period_s)) for metric in metrics.metrics] * instances
    ]
    for query in queries:
        if query.period_s % plan.period_s:
            raise CostError(
                f"{query.metric.name}: its period of {query.period_s} s is no multiple of the rows' {plan.period_s} s"
            )
    hour, reread = timedelta(seconds=clock.HOUR_S), timedelta(hours=plan.reread_hours)
    first_reread = max(reread, timedelta(days=plan.reread_days))
    row_s = max(STREAM_EVERY_S, plan.period_s)
    export = _requests(queries, hour + reread, plan.period_s)
    exports = export * (MONTH_DAYS * 23) + _requests(queries, hour + first_reread, plan.period_s) * MONTH_DAYS
    stream = _requests(queries, STREAM_CONTEXT + timedelta(seconds=row_s), plan.period_s)
    streaming = stream * (MONTH_DAYS * clock.DAY_S // row_s)
    return Cost(kind, sum(instances for _, instances in fleet), export, exports, streaming)


def _requests(queries: Sequence[Query], length: timedelta, period_s: int) -> Requests:
    """Return the requests of one run that reads the queries over an interval of this length."""
    calls = list(call_plan.calls(queries, _START, _START + length, period_s))
    return Requests(len(calls), sum(len(call.queries) for call in calls))

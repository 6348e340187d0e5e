"""The simulated fleets of further kinds: their resources, metrics and incidents.

A new kind is a new entry of `FLEETS`, named as its packaged catalogue.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from riskwatch_local.demo import rhythm

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Course:
    """The course of a metric: its value at no load and at full load, and its relative noise.

    Sums and counts are those of five minutes. If `of` names an earlier metric, values are multiples of that metric.
    The value follows the load to the power of `power`, smoothed over `span` periods if `span` is above 0.
    """

    idle: float
    full: float
    noise: float = 0.05
    of: str = ""
    power: float = 1.0
    span: int = 0


@dataclass(frozen=True)
class Role:
    """The load (0..1) of a role at 24 hours UTC, and the course of each metric, in order."""

    load: tuple[float, ...]
    courses: Mapping[str, Course]


@dataclass(frozen=True)
class Change:
    """The change of a metric at the full strength of an incident: value * `times` + `plus`.

    If `of` names an earlier metric, `plus` is a multiple of that metric.
    """

    times: float = 1.0
    plus: float = 0.0
    of: str = ""


@dataclass(frozen=True)
class PlannedIncident:
    """An incident on a resource: start and length as shares of the streamed hours, and its changes.

    Metrics that are multiples of a changed metric change with it. The first change is the most visible one.
    """

    kind: str
    name: str
    start: float
    length: float
    changes: Mapping[str, Change]


@dataclass(frozen=True)
class Fleet:
    """The resources of a kind, (role, service) by name, with their roles and incidents.

    `activity` is the metric without which a resource reports no other one, empty if there is none.
    """

    resources: Mapping[str, tuple[str, str]]
    roles: Mapping[str, Role]
    incidents: tuple[PlannedIncident, ...]
    activity: str = ""


# A metric that is zero unless something happens.
_NEVER = Course(0.0, 0.0, 0.0)


def _database(replica_lag_s: Course) -> Role:
    return Role(
        rhythm.DATABASE,
        {
            "cpu_utilization": Course(9, 74),
            "freeable_memory_mb": Course(5200, 3600, 0.01, span=12),
            "free_storage_gb": Course(214, 206, 0.001, span=12),
            "read_mb_s": Course(2, 34, 0.12),
            "write_mb_s": Course(1, 18, 0.1),
            "network_in_mb_s": Course(0.5, 9, 0.08),
            "network_out_mb_s": Course(1, 30, 0.08),
            "latency_ms": Course(0.6, 3.2, 0.08, power=1.6),
            "write_latency_ms": Course(0.9, 4.5, 0.08, power=1.6),
            "disk_queue_length": Course(0.05, 1.6, 0.15),
            "active_connections": Course(25, 190),
            "replica_lag_s": replica_lag_s,
        },
    )


_RDS = Fleet(
    resources={
        "shop-orders": ("primary", "shop"),
        "shop-orders-replica": ("replica", "shop"),
        "billing-ledger": ("primary", "billing"),
    },
    roles={"primary": _database(_NEVER), "replica": _database(Course(0.05, 0.6, 0.2))},
    incidents=(
        PlannedIncident(
            "connection exhaustion",
            "billing-ledger",
            *(0.16, 0.17),
            {
                "active_connections": Change(plus=620),
                "latency_ms": Change(times=7),
                "write_latency_ms": Change(times=6),
                "cpu_utilization": Change(times=0.4, plus=57),
                "freeable_memory_mb": Change(times=0.35),
                "disk_queue_length": Change(times=4),
                "network_out_mb_s": Change(times=0.4),
            },
        ),
        PlannedIncident(
            "replica lag",
            "shop-orders-replica",
            *(0.56, 0.16),
            {
                "replica_lag_s": Change(plus=240),
                "write_mb_s": Change(times=5),
                "write_latency_ms": Change(times=8),
                "disk_queue_length": Change(times=6, plus=8),
            },
        ),
    ),
)


def _load_balancer(requests: Course, active_connections: Course) -> Role:
    return Role(
        rhythm.USERS,
        {
            "requests": requests,
            "active_connections": active_connections,
            "response_time_ms": Course(38, 105, 0.06, power=1.6),
            "response_time_p99_ms": Course(3.2, 4.4, of="response_time_ms"),
            "target_5xx": Course(0.0002, 0.0003, 0.1, of="requests"),
            "target_4xx": Course(0.012, 0.016, 0.08, of="requests"),
            "elb_5xx": _NEVER,
            "rejected_connections": _NEVER,
            "target_connection_errors": _NEVER,
            "processed_mb": Course(0.021, 0.024, 0.04, of="requests"),
        },
    )


_SHOP_LOAD_BALANCER = "app/shop/50dc6c495c0c9188"
_ALB = Fleet(
    resources={
        _SHOP_LOAD_BALANCER: ("public", "shop"),
        "app/billing/8e2f6a1d3b7c4095": ("partner", "billing"),
    },
    roles={
        "public": _load_balancer(Course(900, 52_000), Course(120, 4200)),
        "partner": _load_balancer(Course(300, 9000), Course(40, 700)),
    },
    incidents=(
        PlannedIncident(
            "failing targets",
            _SHOP_LOAD_BALANCER,
            *(0.34, 0.15),
            {
                "target_5xx": Change(plus=0.35, of="requests"),
                "response_time_ms": Change(times=9),
                "elb_5xx": Change(plus=0.04, of="requests"),
                "target_connection_errors": Change(plus=0.03, of="requests"),
                "active_connections": Change(times=2.2),
                "processed_mb": Change(times=0.6),
            },
        ),
    ),
    activity="requests",
)


_API = Role(
    rhythm.USERS,
    {
        "invocations": Course(260, 8200, 0.06),
        "errors": Course(0.0005, 0.0008, 0.1, of="invocations"),
        "throttles": _NEVER,
        "duration_ms": Course(70, 120, power=1.6),
        "duration_p99_ms": Course(2.6, 3.4, of="duration_ms"),
        "duration_max_ms": Course(1.6, 2.2, of="duration_p99_ms"),
        "concurrent_executions": Course(3, 24, 0.08),
        "dead_letter_errors": _NEVER,
    },
)
# By day a job may have nothing to do for a period.
_JOB = Role(
    rhythm.BATCHES,
    {
        "invocations": Course(0, 60, 0.1),
        "errors": Course(0.001, 0.002, 0.1, of="invocations"),
        "throttles": _NEVER,
        "duration_ms": Course(900, 2600, 0.08),
        "duration_p99_ms": Course(1.8, 2.4, of="duration_ms"),
        "duration_max_ms": Course(1.4, 1.8, of="duration_p99_ms"),
        "concurrent_executions": Course(1, 12, 0.1),
        "dead_letter_errors": _NEVER,
    },
)
_LAMBDA = Fleet(
    resources={
        "shop-search": ("api", "shop"),
        "billing-quotes": ("api", "billing"),
        "billing-invoices": ("job", "billing"),
    },
    roles={"api": _API, "job": _JOB},
    incidents=(
        PlannedIncident(
            "throttling",
            "shop-search",
            *(0.22, 0.15),
            {
                "throttles": Change(plus=1.6, of="invocations"),
                "concurrent_executions": Change(times=3, plus=20),
                "invocations": Change(times=0.7),
                "duration_ms": Change(times=2.5),
            },
        ),
        PlannedIncident(
            "failing dependency",
            "billing-quotes",
            *(0.64, 0.17),
            {
                "errors": Change(plus=0.4, of="invocations"),
                "duration_ms": Change(times=12),
                "concurrent_executions": Change(times=5, plus=15),
                "dead_letter_errors": Change(plus=0.05, of="invocations"),
            },
        ),
    ),
    activity="invocations",
)

FLEETS: Mapping[str, Fleet] = MappingProxyType({"rds": _RDS, "alb": _ALB, "lambda": _LAMBDA})

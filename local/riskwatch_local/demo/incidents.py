"""The incidents of the simulated fleet: kinds, effects and schedule."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from datetime import datetime, timedelta

Values = dict[str, NDArray[np.float64]]
Effect = Callable[[Values, NDArray[np.float64], np.random.Generator], None]


@dataclass(frozen=True)
class Incident:
    """One incident of a kind on an instance, [start, end) in UTC.

    `metrics` are the metrics that it changes, most visible first.
    """

    kind: str
    instance_id: str
    start: datetime
    end: datetime
    metrics: tuple[str, ...]


@dataclass(frozen=True)
class Kind:
    """A kind of incident: the metrics that it changes, and its effect.

    The effect changes `values` (metric -> (n,) values during the incident, before bounds) in place; `shape` (n,) is the
    `strength` of the incident at each point.
    """

    metrics: tuple[str, ...]
    effect: Effect


def _surge(values: Values, shape: NDArray[np.float64], random: np.random.Generator) -> None:
    for name in ("network_in_mb", "network_out_mb", "active_connections"):
        values[name] *= 1 + 4.5 * shape
    values["cpu_utilization"] += (97 - values["cpu_utilization"]) * 0.95 * shape
    values["latency_ms"] *= 1 + 5 * shape
    values["running_processes"] *= 1 + 0.5 * shape
    values["memory_utilization"] += 12 * shape
    values["disk_queue_length"] *= 1 + 2 * shape


def _outage(values: Values, shape: NDArray[np.float64], random: np.random.Generator) -> None:
    for name in (
        "network_in_mb",
        "network_out_mb",
        "active_connections",
        "disk_read_mb",
        "disk_write_mb",
        "disk_queue_length",
        "latency_ms",
    ):
        values[name] *= 1 - 0.995 * shape
    values["running_processes"] *= 1 - 0.7 * shape
    values["cpu_utilization"] *= 1 - 0.95 * shape
    values["memory_utilization"] *= 1 - 0.75 * shape


def _memory_leak(values: Values, shape: NDArray[np.float64], random: np.random.Generator) -> None:
    size = len(shape)
    ramp = np.linspace(0, 1, size)
    memory = values["memory_utilization"]
    memory += (98.5 - memory) * np.minimum(1, 1.3 * ramp) * np.minimum(1, 4 * shape)
    paging = np.clip((memory - 88) / 10, 0, 1)
    values["disk_read_mb"] += 400 * paging
    values["disk_write_mb"] += 400 * paging
    values["latency_ms"] *= 1 + 3 * paging


def _noisy_neighbour(values: Values, shape: NDArray[np.float64], random: np.random.Generator) -> None:
    stolen = shape * random.uniform(0.6, 1.0, len(shape))
    values["latency_ms"] *= 1 + 6 * stolen
    values["cpu_utilization"] += (92 - values["cpu_utilization"]) * 0.8 * stolen
    for name in ("network_in_mb", "network_out_mb"):
        values[name] *= 1 - 0.35 * stolen
    values["disk_queue_length"] += 3 * stolen


def _disk_saturation(values: Values, shape: NDArray[np.float64], random: np.random.Generator) -> None:
    values["disk_queue_length"] += 45 * shape * random.uniform(0.7, 1.3, len(shape))
    for name in ("disk_read_mb", "disk_write_mb"):
        values[name] += (4200 - values[name]) * shape
    values["latency_ms"] *= 1 + 9 * shape
    values["active_connections"] *= 1 + 0.6 * shape


def _slow_dependency(values: Values, shape: NDArray[np.float64], random: np.random.Generator) -> None:
    values["latency_ms"] *= 1 + 14 * shape * random.uniform(0.7, 1.3, len(shape))
    values["active_connections"] *= 1 + 2.5 * shape
    values["running_processes"] *= 1 + 0.45 * shape
    values["cpu_utilization"] *= 1 - 0.35 * shape
    values["network_out_mb"] *= 1 - 0.5 * shape


def _stuck_metric(values: Values, shape: NDArray[np.float64], random: np.random.Generator) -> None:
    for name in ("cpu_utilization", "network_in_mb"):
        values[name][:] = values[name][0]


KINDS: dict[str, Kind] = {
    "surge": Kind(
        ("active_connections", "network_in_mb", "network_out_mb", "latency_ms", "cpu_utilization", "running_processes"),
        _surge,
    ),
    "outage": Kind(
        ("running_processes", "network_in_mb", "network_out_mb", "active_connections", "memory_utilization"), _outage
    ),
    "memory leak": Kind(("memory_utilization", "disk_read_mb", "disk_write_mb", "latency_ms"), _memory_leak),
    "noisy neighbour": Kind(("latency_ms", "cpu_utilization", "disk_queue_length"), _noisy_neighbour),
    "disk saturation": Kind(("disk_queue_length", "disk_write_mb", "disk_read_mb", "latency_ms"), _disk_saturation),
    "slow dependency": Kind(("latency_ms", "active_connections", "running_processes"), _slow_dependency),
    "stuck metric": Kind(("cpu_utilization", "network_in_mb"), _stuck_metric),
}

# Kind, instance, start and length as shares of the time before the stream. Most of the past is without incidents.
_PAST = (
    ("surge", "web-3", 0.11, 0.010),
    ("slow dependency", "web-1", 0.27, 0.009),
    ("disk saturation", "database-2", 0.42, 0.010),
    ("outage", "worker-1", 0.55, 0.006),
    ("noisy neighbour", "cache-2", 0.68, 0.012),
    ("memory leak", "web-4", 0.79, 0.030),
)

# The same as shares of the streamed hours. The last incident is still active at the end.
_STREAMED = (
    ("surge", "web-2", 0.12, 0.15),
    ("stuck metric", "web-1", 0.20, 0.50),
    ("disk saturation", "database-1", 0.30, 0.17),
    ("memory leak", "worker-2", 0.36, 0.50),
    ("slow dependency", "web-4", 0.48, 0.16),
    ("outage", "database-3", 0.62, 0.12),
    ("noisy neighbour", "cache-1", 0.74, 0.12),
    ("surge", "cache-2", 0.86, 0.14),
)


def schedule(start: datetime, stream_start: datetime, end: datetime) -> list[Incident]:
    """Return the incidents of [start, end) in time order.

    A few are before `stream_start`, most kinds after it.
    """
    return sorted(
        [_place(item, start, stream_start - start) for item in _PAST]
        + [_place(item, stream_start, end - stream_start) for item in _STREAMED],
        key=lambda incident: (incident.start, incident.instance_id),
    )


def _place(item: tuple[str, str, float, float], start: datetime, length: timedelta) -> Incident:
    kind, instance_id, begin, share = item
    return Incident(kind, instance_id, start + begin * length, start + (begin + share) * length, KINDS[kind].metrics)


def apply(kind: str, values: Values, random: np.random.Generator) -> None:
    """Apply an incident of a kind to `values` in place.

    `values` has (n,) values during the incident for each metric.
    """
    KINDS[kind].effect(values, strength(len(next(iter(values.values())))), random)


def strength(size: int) -> NDArray[np.float64]:
    """Return the strength (size,) of an incident: it rises to 1 within a few points and falls again."""
    position = np.arange(1, size + 1)
    shape: NDArray[np.float64] = np.minimum(1.0, np.minimum(position / 2, (size + 1 - position) / 1.5))
    return shape

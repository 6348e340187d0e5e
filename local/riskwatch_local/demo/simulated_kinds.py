"""A simulated fleet of a further kind, beside the EC2 instances of `simulator`.

Metrics follow the load of their resource, as `profiles` describes. The load shares its noise with the EC2 instances of
the service. Equal arguments give equal rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from riskwatch_local.demo import incidents as incident_module
from riskwatch_local.demo import rhythm
from riskwatch_local.demo.incidents import Incident
from riskwatch_local.demo.profiles import FLEETS
from riskwatch_local.demo.simulator import SERVICES
from riskwatch_ml.core import clock
from riskwatch_ml.schema.inventory import Instance

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from numpy.typing import NDArray

    from riskwatch_local.demo.profiles import Change, Course, Fleet, PlannedIncident, Role
    from riskwatch_ml.schema.catalogue import Catalogue
    from riskwatch_ml.schema.metric import Metric

    Values = dict[str, NDArray[np.float64]]

# Courses of sums and counts are those of so many seconds.
COURSE_S = 300
TRAIT = 0.05


@dataclass(frozen=True)
class KindSimulation:
    """A simulated fleet of a kind: its rows, sorted by instance and time, and its incidents in time order.

    `traits` has a factor for each metric by instance.
    """

    catalogue: Catalogue
    rows: pd.DataFrame
    incidents: list[Incident]
    inventory: dict[str, Instance]
    traits: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class _Resource:
    """A resource with its role, its traits, and its incidents with their changes."""

    instance_id: str
    role: Role
    service: str
    traits: Mapping[str, float]
    incidents: Sequence[tuple[Incident, Mapping[str, Change]]] = ()


def simulate(
    metrics: Catalogue, end: datetime, days: float = 4, stream_hours: float = 6, seed: int = 7, period_s: int = 300
) -> KindSimulation:
    """Simulate `days` of the fleet of a kind, until the last full period before `end`.

    `end` is aware, UTC. The newest `stream_hours` have the incidents.
    """
    stop = clock.floor(end, period_s)
    start = stop - timedelta(seconds=round(days * 86400 / period_s) * period_s)
    stream = timedelta(hours=stream_hours)
    fleet = FLEETS[metrics.kind]
    random = _random(seed, metrics)
    planned = [(_incident(item, metrics, stop - stream, stream), item.changes) for item in fleet.incidents]
    resources = [
        _Resource(
            metrics.qualify(name),
            fleet.roles[role],
            service,
            {metric: float(np.exp(random.normal(0, TRAIT))) for metric in fleet.roles[role].courses},
            [item for item in planned if item[0].instance_id == metrics.qualify(name)],
        )
        for name, (role, service) in sorted(fleet.resources.items())
    ]
    rows = _rows(metrics, resources, (start, stop, period_s), seed, random)
    incidents = sorted((incident for incident, _ in planned), key=lambda incident: incident.start)
    traits = {resource.instance_id: resource.traits for resource in resources}
    return KindSimulation(metrics, rows, incidents, _inventory(fleet, metrics), traits)


def continuation(
    simulation: KindSimulation, start: datetime, hours: float, seed: int = 8, period_s: int = 300
) -> pd.DataFrame:
    """Return `hours` of metric rows without incidents from `start` on.

    The resources are those of `simulation`; `start` is aware, UTC, on the grid.
    """
    metrics = simulation.catalogue
    fleet = FLEETS[metrics.kind]
    resources = [
        _Resource(name, fleet.roles[item.role], item.service, simulation.traits[name])
        for name, item in sorted(simulation.inventory.items())
    ]
    interval = (start, start + timedelta(hours=hours), period_s)
    return _rows(metrics, resources, interval, seed, _random(seed, metrics))


def _random(seed: int, metrics: Catalogue) -> np.random.Generator:
    """Return the generator of a kind: that of another kind gives other numbers."""
    return np.random.default_rng([seed, *metrics.kind.encode()])


def _inventory(fleet: Fleet, metrics: Catalogue) -> dict[str, Instance]:
    entries = {metrics.qualify(name): item for name, item in fleet.resources.items()}
    return {name: Instance(name, role=role, service=service) for name, (role, service) in entries.items()}


def _incident(item: PlannedIncident, metrics: Catalogue, start: datetime, length: timedelta) -> Incident:
    first, last = start + item.start * length, start + (item.start + item.length) * length
    return Incident(item.kind, metrics.qualify(item.name), first, last, tuple(item.changes))


def _rows(
    metrics: Catalogue,
    resources: Sequence[_Resource],
    interval: tuple[datetime, datetime, int],
    seed: int,
    random: np.random.Generator,
) -> pd.DataFrame:
    """Return the metric rows of the resources in an interval (start, stop, period in seconds)."""
    times, hours = rhythm.periods(*interval)
    # The first numbers of this seed are the noise of the services in the EC2 fleet.
    shared = rhythm.service_noise(np.random.default_rng(seed), SERVICES, len(times))
    frames = []
    for resource in resources:
        load = rhythm.load(resource.role.load, hours, shared[resource.service], random)
        values = _values(metrics, resource, load, times, interval[2], random)
        frames.append(_frame(metrics, resource.instance_id, times, values))
    return pd.concat(frames, ignore_index=True)


def _values(
    metrics: Catalogue,
    resource: _Resource,
    load: NDArray[np.float64],
    times: pd.DatetimeIndex,
    period_s: int,
    random: np.random.Generator,
) -> Values:
    """Return the values (n,) of each metric, as CloudWatch would have them."""
    expected: Values = {}
    reported: Values = {}
    for name, course in resource.role.courses.items():
        noise = np.exp(random.normal(0, course.noise, len(load)))
        expected[name] = _course(course, load) * resource.traits[name] * noise
        if course.of:
            expected[name] *= expected[course.of]
        for incident, changes in resource.incidents:
            if name in changes:
                during = np.flatnonzero((times >= incident.start) & (times < incident.end))
                _change(expected, name, changes[name], during)
        metric = metrics.by_name[name]
        reported[name] = _reported(metric, expected[name] * metric.share(COURSE_S, period_s), random)
        if course.of and _is_sum_of_counts(metric):
            # A part of what is counted: no more errors than invocations.
            reported[name] = np.minimum(reported[name], reported[course.of])
    return reported


def _change(expected: Values, name: str, change: Change, during: NDArray[np.intp]) -> None:
    """Apply the change of an incident to a metric, at the places `during`, in place."""
    shape = incident_module.strength(len(during))
    added = change.plus * (expected[change.of][during] if change.of else 1.0)
    expected[name][during] = expected[name][during] * (1 + (change.times - 1) * shape) + added * shape


def _reported(metric: Metric, expected: NDArray[np.float64], random: np.random.Generator) -> NDArray[np.float64]:
    """Return the values that CloudWatch has for expected ones: whole counts, within the bounds of the metric."""
    values: NDArray[np.float64] = np.clip(expected, metric.lower, metric.upper)
    if _is_sum_of_counts(metric):
        return random.poisson(values).astype(float)
    if metric.cloudwatch_unit == "Count" and metric.stat == "Maximum":
        return np.ceil(values)
    return np.round(values, 4)


def _is_sum_of_counts(metric: Metric) -> bool:
    return metric.cloudwatch_unit == "Count" and metric.stat == "Sum"


def _frame(metrics: Catalogue, instance_id: str, times: pd.DatetimeIndex, values: Values) -> pd.DataFrame:
    """Return the rows of a resource.

    In a period without activity all values are missing but those of metrics that are then absent. A period in which
    nothing happened has no row.
    """
    rows = pd.DataFrame(
        {"instance_id": instance_id, "timestamp": times, **{name: values[name] for name in metrics.names}}
    )
    activity = FLEETS[metrics.kind].activity
    if not activity:
        return rows
    absent = [metric.name for metric in metrics.metrics if metric.absent is not None]
    others = [name for name in metrics.names if name not in absent]
    rows.loc[rows[activity] == 0, others] = np.nan
    return rows[(rows[absent] != 0).any(axis=1)]


def _course(course: Course, load: NDArray[np.float64]) -> NDArray[np.float64]:
    pace = pd.Series(load).ewm(span=course.span).mean().to_numpy() if course.span else load
    values: NDArray[np.float64] = course.idle + (course.full - course.idle) * pace**course.power
    return values

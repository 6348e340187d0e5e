"""A simulated fleet for the demo and the tests: twelve instances, four roles.

All metrics of an instance follow its load. The load has a daily rhythm by role (UTC), noise that it shares with the
other instances of its service, and noise of its own; every metric follows the load at its own pace. Equal arguments
give equal rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from riskwatch_local.demo import incidents as incident_module
from riskwatch_local.demo import rhythm
from riskwatch_ml.core import clock
from riskwatch_ml.schema import catalogue
from riskwatch_ml.schema.inventory import Instance

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from riskwatch_local.demo.incidents import Incident

METRICS = (
    "cpu_utilization",
    "memory_utilization",
    "disk_read_mb",
    "disk_write_mb",
    "network_in_mb",
    "network_out_mb",
    "latency_ms",
    "disk_queue_length",
    "running_processes",
    "active_connections",
)
# Relative noise of each metric.
_NOISE = np.array([0.05, 0.012, 0.14, 0.12, 0.09, 0.09, 0.08, 0.18, 0.015, 0.06])
IDLE_BELOW, HIGH_FROM = 25.0, 60.0  # CPU percent

# Numbers of rows with an impossible value, which costs the value.
MISREPORTED_PAST = 8
MISREPORTED_STREAMED = 3
# Numbers of them in which most values are impossible, which costs the row.
LOST_PAST = 2
LOST_STREAMED = 1


@dataclass(frozen=True)
class _Role:
    """Load (0..1) at 24 hours UTC, and the metrics at no load and at full load."""

    load: tuple[float, ...]
    idle: tuple[float, ...]
    full: tuple[float, ...]


ROLES: dict[str, _Role] = {
    "web": _Role(
        rhythm.USERS, (6, 38, 2, 8, 40, 80, 12, 0.05, 110, 30), (92, 62, 18, 60, 900, 2400, 42, 0.6, 190, 650)
    ),
    "worker": _Role(
        rhythm.BATCHES,
        (3, 30, 5, 5, 5, 4, 20, 0.05, 90, 8),
        (97, 74, 700, 500, 260, 140, 90, 3, 140, 40),
    ),
    "database": _Role(
        rhythm.DATABASE,
        (8, 62, 30, 60, 30, 60, 2, 0.2, 140, 20),
        (80, 74, 900, 700, 500, 1200, 14, 4, 180, 220),
    ),
    "cache": _Role(
        rhythm.USERS, (2, 55, 0.2, 0.5, 60, 120, 0.4, 0.01, 80, 60), (44, 70, 1, 3, 1500, 3600, 1.6, 0.05, 88, 900)
    ),
}
SERVICES = {
    "shop": ("web-1", "web-2", "worker-1", "worker-2", "database-1", "database-2", "cache-1"),
    "billing": ("web-3", "web-4", "worker-3", "database-3", "cache-2"),
}


@dataclass(frozen=True)
class Simulation:
    """A simulated fleet: its rows, incidents, inventory and true load.

    `rows` and `late` are metric rows without a row in common, sorted by instance and time; `late` rows arrive after the
    others were read. `incidents` is in time order. `regimes` maps (role, hour UTC) to "Idle", "Normal" or "High Load":
    the CPU of a role's undisturbed rhythm in the middle of that hour is below 25 %, below 60 %, or above. `traits` has
    a factor for each of METRICS by instance.
    """

    rows: pd.DataFrame
    late: pd.DataFrame
    incidents: list[Incident]
    inventory: dict[str, Instance]
    regimes: dict[tuple[str, int], str]
    traits: dict[str, NDArray[np.float64]]


def inventory() -> dict[str, Instance]:
    """Return the fleet: twelve instances with role and service."""
    return {
        name: Instance(name, role=name.rsplit("-", 1)[0], service=service)
        for service, names in SERVICES.items()
        for name in names
    }


def regimes() -> dict[tuple[str, int], str]:
    """Return the true load regime by (role, hour of day in UTC)."""
    result = {}
    for name, role in ROLES.items():
        cpu = role.idle[0] + (role.full[0] - role.idle[0]) * rhythm.rhythm(role.load, np.arange(0.5, 24.0))
        for hour, value in enumerate(cpu):
            result[name, hour] = "Idle" if value < IDLE_BELOW else "Normal" if value < HIGH_FROM else "High Load"
    return result


def true_levels(simulation: Simulation) -> NDArray[np.object_]:
    """Return the true load regime of each row, (n,), by role and hour."""
    role = simulation.rows["instance_id"].map({name: item.role for name, item in simulation.inventory.items()})
    hour = simulation.rows["timestamp"].dt.hour
    return np.array([simulation.regimes[key] for key in zip(role, hour, strict=True)], object)


def simulate(end: datetime, days: float = 4, stream_hours: float = 6, seed: int = 7, period_s: int = 300) -> Simulation:
    """Simulate `days` of the fleet, until the last full period before `end`.

    `end` is aware, UTC. The newest `stream_hours` have incidents of every kind, the time before has a few. Raises
    ValueError if the stream is not shorter than the whole.
    """
    if not 0 < stream_hours < 24 * days:
        raise ValueError(f"stream_hours is {stream_hours}: it must lie between 0 and the {24 * days:g} hours simulated")
    stop = clock.floor(end, period_s)
    start = stop - timedelta(seconds=round(days * 86400 / period_s) * period_s)
    stream_start = stop - timedelta(hours=stream_hours)
    random = np.random.default_rng(seed)
    times, hours = rhythm.periods(start, stop, period_s)
    fleet = inventory()
    planned = incident_module.schedule(start, stream_start, stop)
    shared = rhythm.service_noise(random, SERVICES, len(times))

    frames, traits = [], {}
    for name in sorted(fleet):
        role = ROLES[fleet[name].role]
        load = rhythm.load(role.load, hours, shared[fleet[name].service], random)
        # Every instance differs from the others.
        traits[name] = np.exp(random.normal(0, [0.05, 0.03, *[0.08] * 8]))
        values = _metrics(role, load, traits[name], random)
        for incident in planned:
            if incident.instance_id == name:
                _disturb(values, incident, times, random)
        frames.append(_frame(name, times, values))
    rows = pd.concat(frames, ignore_index=True)
    quiet = quiet_rows(rows, planned, period_s)
    broken = _misreport(rows, quiet, stream_start, random)
    rows, late = _lose(rows, quiet & ~broken, stream_start, random)
    return Simulation(rows, late, planned, fleet, regimes(), traits)


def continuation(
    simulation: Simulation, start: datetime, hours: float, seed: int = 8, period_s: int = 300
) -> pd.DataFrame:
    """Return `hours` of metric rows without incidents from `start` on.

    The instances are those of `simulation`; `start` is aware, UTC, on the grid.
    """
    random = np.random.default_rng(seed)
    times, of_day = rhythm.periods(start, start + timedelta(hours=hours), period_s)
    shared = rhythm.service_noise(random, SERVICES, len(times))
    frames = []
    for name, item in sorted(simulation.inventory.items()):
        role = ROLES[item.role]
        load = rhythm.load(role.load, of_day, shared[str(item.service)], random)
        frames.append(_frame(name, times, _metrics(role, load, simulation.traits[name], random)))
    return pd.concat(frames, ignore_index=True)


def _metrics(
    role: _Role, load: NDArray[np.float64], traits: NDArray[np.float64], random: np.random.Generator
) -> incident_module.Values:
    idle, full = np.array(role.idle), np.array(role.full)
    size = len(load)
    paced = np.repeat(load[:, None], len(METRICS), axis=1)
    paced[:, 1] = pd.Series(load).ewm(span=12).mean()  # memory follows slowly
    paced[:, 6:8] = paced[:, 6:8] ** 1.6  # waiting grows faster than load
    values = (idle + (full - idle) * paced) * traits * np.exp(random.normal(0, 1, (size, len(METRICS))) * _NOISE)
    return {name: values[:, index].copy() for index, name in enumerate(METRICS)}


def _disturb(
    values: incident_module.Values, incident: Incident, times: pd.DatetimeIndex, random: np.random.Generator
) -> None:
    rows = np.flatnonzero((times >= incident.start) & (times < incident.end))
    if len(rows) == 0:
        return
    during = {name: column[rows].copy() for name, column in values.items()}
    incident_module.apply(incident.kind, during, random)
    for name, column in during.items():
        values[name][rows] = column


def _frame(name: str, times: pd.DatetimeIndex, values: incident_module.Values) -> pd.DataFrame:
    known = catalogue.load().by_name
    columns = {
        metric: np.round(np.clip(column, known[metric].lower, known[metric].upper), 4)
        for metric, column in values.items()
    }
    return pd.DataFrame({"instance_id": name, "timestamp": times, **columns})


def quiet_rows(rows: pd.DataFrame, planned: list[Incident], period_s: int = 300) -> NDArray[np.bool_]:
    """Return which rows (n,) are outside of every incident.

    The row before an incident counts as part of it.
    """
    quiet = np.ones(len(rows), dtype=bool)
    for incident in planned:
        quiet &= ~(
            (rows["instance_id"] == incident.instance_id)
            & (rows["timestamp"] >= incident.start - timedelta(seconds=period_s))
            & (rows["timestamp"] < incident.end)
        ).to_numpy()
    return quiet


def _misreport(
    rows: pd.DataFrame, quiet: NDArray[np.bool_], stream_start: datetime, random: np.random.Generator
) -> NDArray[np.bool_]:
    """Write impossible values into a few quiet rows, as a broken agent does.

    Returns the changed rows as (n,) booleans.
    """
    broken = np.zeros(len(rows), dtype=bool)
    past = (rows["timestamp"] < stream_start).to_numpy()
    numbers = ((past, MISREPORTED_PAST, LOST_PAST), (~past, MISREPORTED_STREAMED, LOST_STREAMED))
    for interval, count, lost in numbers:
        indices = random.choice(np.flatnonzero(quiet & interval), count, replace=False)
        half = count // 2
        rows.loc[indices[:half], "cpu_utilization"] = np.round(random.uniform(140, 290, half), 4)
        rows.loc[indices[half:], "latency_ms"] = -np.round(random.uniform(1, 40, count - half), 4)
        rows.loc[indices[-lost:], list(METRICS[: len(METRICS) // 2 + 1])] = -1.0
        broken[indices] = True
    return broken


def _lose(
    rows: pd.DataFrame, quiet: NDArray[np.bool_], stream_start: datetime, random: np.random.Generator
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Take out rows that a real fleet loses or sends late.

    Returns the remaining rows and the late rows. Incidents stay whole, so that each can be found.
    """
    past = (rows["timestamp"] < stream_start).to_numpy()
    chance = random.random(len(rows))
    missing = quiet & (chance < 0.002)
    # One instance sent no data for 40 minutes, in the middle of the past.
    outage = rows["timestamp"].min() + (stream_start - rows["timestamp"].min()) * 0.35
    unsent = rows["timestamp"].between(outage, outage + timedelta(minutes=40), inclusive="left")
    missing |= ((rows["instance_id"] == "worker-3") & unsent).to_numpy()
    recent = (rows["timestamp"] >= stream_start - timedelta(hours=24)).to_numpy()
    late = quiet & past & recent & ~missing & (chance > 0.992)
    holes = random.random((len(rows), len(METRICS))) < 0.0005
    holes &= quiet[:, None]
    rows = rows.copy()
    rows[list(METRICS)] = rows[list(METRICS)].mask(holes)
    return rows[~missing & ~late].reset_index(drop=True), rows[late].reset_index(drop=True)

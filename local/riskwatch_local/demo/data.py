"""What the demo publishes: the simulated fleet, or somebody's own metrics, in one form.

A source is cut in two: the history that training sees, and the newest stretch that is streamed. Incidents are known to
the summary alone; nothing that exports, trains, serves or watches ever reads them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from riskwatch_local.demo import own_data, simulator
from riskwatch_ml.core import clock
from riskwatch_ml.schema import catalogue

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from riskwatch_ml.schema.catalogue import Catalogue
    from riskwatch_ml.schema.inventory import Instance

STREAM_HOURS_SIMULATED = 6
STREAM_HOURS_FLEET = 24
SCHEDULED_PERIODS = 2
# So long the simulated fleet keeps sending.
AHEAD_HOURS = 48


@dataclass(frozen=True)
class KnownIncident:
    """A stretch of trouble on one instance: [start, end), UTC."""

    instance_id: str
    kind: str
    start: datetime
    end: datetime


@dataclass(frozen=True)
class Source:
    """Metric rows before `cut` are history, the others are streamed; `end` is the end of the newest period.

    `notes` say how a file was understood. `incidents` is None where nothing is known of any. `ahead` has rows after
    `end`, which a fleet that keeps sending sends as their periods end; none of data that has an end.
    """

    name: str
    rows: pd.DataFrame
    late: pd.DataFrame
    catalogue: Catalogue
    inventory: dict[str, Instance]
    period_s: int
    start: datetime
    cut: datetime
    end: datetime
    incidents: list[KnownIncident] | None
    notes: tuple[str, ...] = ()
    ahead: pd.DataFrame | None = None

    def history(self) -> pd.DataFrame:
        """Return the rows before the cut that are published in time."""
        return self.rows[self.rows["timestamp"] < self.cut]

    def late_history(self) -> pd.DataFrame:
        """Return the rows before the cut that are published after the others."""
        return self.late[self.late["timestamp"] < self.cut]

    def newest(self) -> pd.DataFrame:
        """Return the rows to stream."""
        return self.rows[self.rows["timestamp"] >= self.cut]


def simulated(now: datetime, stream_hours: float, days: int, period_s: int = 300) -> Source:
    """Return the simulated fleet: rows until shortly before `now`, and those that it sends from then on.

    The rows end so early that the first scheduled run of the stream finds a period after them that has settled.
    """
    metrics = catalogue.load()
    end = clock.floor(now, period_s) - timedelta(seconds=SCHEDULED_PERIODS * period_s)
    simulation = simulator.simulate(end, days=days, stream_hours=stream_hours, period_s=period_s)
    incidents = [KnownIncident(i.instance_id, i.kind, i.start, i.end) for i in simulation.incidents]
    return Source(
        name=f"simulated fleet of {len(simulation.inventory)} instances",
        rows=simulation.rows,
        late=simulation.late,
        catalogue=metrics,
        inventory=dict(simulation.inventory),
        period_s=period_s,
        start=end - timedelta(days=days),
        cut=end - timedelta(hours=stream_hours),
        end=end,
        incidents=incidents,
        ahead=simulator.continuation(simulation, end, AHEAD_HOURS, period_s=period_s),
    )


def own(path: Path, now: datetime, stream_hours: float, days: float, until: datetime | None) -> Source:
    """Return the fleet that `own_data` reads from `path`, shifted so that its last row is the newest full period."""
    found = own_data.read_fleet(path, days=days, until=until, now=now)
    step = timedelta(seconds=found.step_s)
    start = found.rows["timestamp"].min().to_pydatetime()
    end = found.rows["timestamp"].max().to_pydatetime() + step
    incidents = None if found.labels is None else label_incidents(found.labels, step)
    return Source(
        name=f"{path} ({found.rows['instance_id'].nunique()} instances, {len(found.catalogue.metrics)} metrics)",
        rows=found.rows,
        late=found.rows.iloc[:0],
        catalogue=found.catalogue,
        inventory={},
        period_s=found.step_s,
        start=start,
        cut=end - timedelta(hours=stream_hours),
        end=end,
        incidents=incidents,
        notes=found.notes,
    )


def label_incidents(labels: pd.DataFrame, step: timedelta) -> list[KnownIncident]:
    """Turn rows labelled 1 into incidents: labelled rows of an instance not more than one step apart are one."""
    incidents: list[KnownIncident] = []
    for instance, part in labels[labels["label"] > 0].sort_values("timestamp").groupby("instance_id"):
        times = list(part["timestamp"].dt.to_pydatetime())
        first = last = times[0]
        for moment in times[1:]:
            if moment - last > step:
                incidents.append(KnownIncident(str(instance), "labelled", first, last + step))
                first = moment
            last = moment
        incidents.append(KnownIncident(str(instance), "labelled", first, last + step))
    return incidents

"""The metrics that the demo publishes, simulated or the user's own.

A source has two parts: the history, which training reads, and the newest hours, which are streamed. Only the summary
knows the incidents; no DAG reads them.
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
# The simulated fleet keeps sending for this time.
AHEAD_HOURS = 48


@dataclass(frozen=True)
class KnownIncident:
    """An incident on one instance: [start, end), UTC."""

    instance_id: str
    kind: str
    start: datetime
    end: datetime


@dataclass(frozen=True)
class DemoData:
    """The metric rows of a demo: history before `cut`, streamed rows after it.

    `end` is the end of the newest period. `notes` are assumptions made when reading a file. `incidents` is None if they
    are unknown. `ahead` has the rows after `end`, which a simulated fleet sends when their periods end; None for data
    without further rows.
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


def simulated(now: datetime, stream_hours: float, days: int, period_s: int = 300) -> DemoData:
    """Return the simulated fleet with its rows until shortly before `now`.

    The rows end early enough for the first scheduled run of the stream to find a settled period after them. `ahead` has
    the rows after them.
    """
    metrics = catalogue.load()
    end = clock.floor(now, period_s) - timedelta(seconds=SCHEDULED_PERIODS * period_s)
    simulation = simulator.simulate(end, days=days, stream_hours=stream_hours, period_s=period_s)
    incidents = [KnownIncident(i.instance_id, i.kind, i.start, i.end) for i in simulation.incidents]
    return DemoData(
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


def own(path: Path, now: datetime, stream_hours: float, days: float, until: datetime | None) -> DemoData:
    """Return the user's own fleet at `path`, moved to the present.

    Its last row becomes the newest full period before `now`. Raises FleetError.
    """
    fleet = own_data.read_fleet(path, days=days, until=until, now=now)
    step = timedelta(seconds=fleet.step_s)
    start = fleet.rows["timestamp"].min().to_pydatetime()
    end = fleet.rows["timestamp"].max().to_pydatetime() + step
    incidents = None if fleet.labels is None else label_incidents(fleet.labels, step)
    return DemoData(
        name=f"{path} ({fleet.rows['instance_id'].nunique()} instances, {len(fleet.catalogue.metrics)} metrics)",
        rows=fleet.rows,
        late=fleet.rows.iloc[:0],
        catalogue=fleet.catalogue,
        inventory={},
        period_s=fleet.step_s,
        start=start,
        cut=end - timedelta(hours=stream_hours),
        end=end,
        incidents=incidents,
        notes=fleet.notes,
    )


def label_incidents(labels: pd.DataFrame, step: timedelta) -> list[KnownIncident]:
    """Return the incidents of rows labelled 1.

    Labelled rows of an instance at most one step apart form one incident.
    """
    incidents: list[KnownIncident] = []
    for instance, rows in labels[labels["label"] > 0].sort_values("timestamp").groupby("instance_id"):
        times = list(rows["timestamp"].dt.to_pydatetime())
        first = last = times[0]
        for moment in times[1:]:
            if moment - last > step:
                incidents.append(KnownIncident(str(instance), "labelled", first, last + step))
                first = moment
            last = moment
        incidents.append(KnownIncident(str(instance), "labelled", first, last + step))
    return incidents

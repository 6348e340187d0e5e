"""The metrics that the demo publishes, simulated or the user's own.

A source has rows of one or several kinds, and two parts: the history, which training reads, and the newest hours, which
are streamed. Only the summary knows the incidents; no DAG reads them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from riskwatch_local.demo import own_data, profiles, simulated_kinds, simulator
from riskwatch_local.demo.publish import KindRows
from riskwatch_ml.core import clock
from riskwatch_ml.schema import catalogue

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pandas as pd

    from riskwatch_ml.schema.catalogue import Catalogue
    from riskwatch_ml.schema.inventory import Instance

STREAM_HOURS_SIMULATED = 6
STREAM_HOURS_FLEET = 24
SCHEDULED_PERIODS = 2
SEED = 7
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
class KindData:
    """The metric rows of one kind.

    `late` has rows that are published after the others. `ahead` has the rows after the end of the demo's data, which a
    simulated fleet sends when their periods end; None for data without further rows.
    """

    catalogue: Catalogue
    inventory: dict[str, Instance]
    rows: pd.DataFrame
    late: pd.DataFrame
    ahead: pd.DataFrame | None = None


@dataclass(frozen=True)
class DemoData:
    """The metric rows of a demo: history before `cut`, streamed rows after it.

    `kinds` begins with the first kind of the installation. `end` is the end of the newest period. `incidents` is None
    if they are unknown. `notes` are assumptions made when reading a file.
    """

    name: str
    kinds: tuple[KindData, ...]
    period_s: int
    start: datetime
    cut: datetime
    end: datetime
    incidents: list[KnownIncident] | None
    notes: tuple[str, ...] = ()

    @property
    def first(self) -> KindData:
        """The data of the first kind."""
        return self.kinds[0]

    @property
    def catalogues(self) -> tuple[Catalogue, ...]:
        """The catalogues of all kinds."""
        return tuple(kind.catalogue for kind in self.kinds)

    @property
    def inventory(self) -> dict[str, Instance]:
        """The expected instances of all kinds."""
        return {name: item for kind in self.kinds for name, item in kind.inventory.items()}

    def history(self) -> list[KindRows]:
        """Return the rows before the cut that are published in time."""
        return [KindRows(kind.catalogue, kind.rows[kind.rows["timestamp"] < self.cut]) for kind in self.kinds]

    def late_history(self) -> list[KindRows]:
        """Return the rows before the cut that are published after the others, of the kinds that have some."""
        late = [KindRows(kind.catalogue, kind.late[kind.late["timestamp"] < self.cut]) for kind in self.kinds]
        return [part for part in late if not part.rows.empty]

    def newest(self) -> list[KindRows]:
        """Return the rows to stream."""
        return [KindRows(kind.catalogue, kind.rows[kind.rows["timestamp"] >= self.cut]) for kind in self.kinds]

    def ahead(self) -> list[KindRows]:
        """Return the rows after the end, of the kinds that have some."""
        return [KindRows(kind.catalogue, kind.ahead) for kind in self.kinds if kind.ahead is not None]


def simulated(
    now: datetime,
    stream_hours: float,
    days: int,
    period_s: int = 300,
    further_kinds: Sequence[str] = tuple(profiles.FLEETS),
    seed: int = SEED,
) -> DemoData:
    """Return the simulated fleet with its rows until shortly before `now`: EC2 instances and `further_kinds`.

    The rows end early enough for the first scheduled run of the stream to find a settled period after them. `ahead` has
    the rows after them.
    """
    ec2, *others = catalogue.load_all([catalogue.DEFAULT_KIND, *further_kinds])
    end = clock.floor(now, period_s) - timedelta(seconds=SCHEDULED_PERIODS * period_s)
    simulation = simulator.simulate(end, days=days, stream_hours=stream_hours, seed=seed, period_s=period_s)
    ahead = simulator.continuation(simulation, end, AHEAD_HOURS, period_s=period_s)
    kinds = [KindData(ec2, dict(simulation.inventory), simulation.rows, simulation.late, ahead)]
    incidents = list(simulation.incidents)
    for metrics in others:
        further = simulated_kinds.simulate(metrics, end, days, stream_hours, seed=seed, period_s=period_s)
        ahead = simulated_kinds.continuation(further, end, AHEAD_HOURS, period_s=period_s)
        kinds.append(KindData(metrics, further.inventory, further.rows, further.rows.iloc[:0], ahead))
        incidents += further.incidents
    return DemoData(
        name=f"simulated fleet: {', '.join(f'{len(kind.inventory)} {kind.catalogue.title}' for kind in kinds)}",
        kinds=tuple(kinds),
        period_s=period_s,
        start=end - timedelta(days=days),
        cut=end - timedelta(hours=stream_hours),
        end=end,
        incidents=[KnownIncident(item.instance_id, item.kind, item.start, item.end) for item in incidents],
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
        kinds=(KindData(fleet.catalogue, {}, fleet.rows, fleet.rows.iloc[:0]),),
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

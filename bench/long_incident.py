"""A long incident: latency of all web servers times four, with refreshes in the middle.

    python -m bench.long_incident [--family F] [--hours 6,24] [--before 3,9] [--caps 12,24] [--seeds S] [--days D]

The simulated fleet, without other incidents, is replayed for six days as in ``bench.detection``, with a refresh at
03:30 UTC each day. The incident begins some hours before the second refresh of the replay. Each line is one length of
the incident and one value of ``new_normal_hours``; `off` learns every row, as the releases before it did. The columns
are means over seeds and beginnings:

- in an episode: the share of the incident's rows, until its end or its new normal, that lie in an open episode
- ended early: episodes of an instance that ended before that, although the incident went on
- learned h: the hours from the beginning of the incident to its new normal
- after: episodes per instance of the incident and day that opened later, while the incident went on or after it
- others: episodes per instance and day of the other instances
"""

from __future__ import annotations

import argparse
import math
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple
from unittest.mock import patch

import numpy as np
import pandas as pd

from riskwatch_local.demo import simulator
from riskwatch_ml.backtest import replay
from riskwatch_ml.features.left_out import LeftOut

if TYPE_CHECKING:
    from collections.abc import Iterator

    from riskwatch_ml.backtest.result import Backtest
    from riskwatch_ml.schema.inventory import Instance

END = datetime(2026, 11, 27, 3, 30, tzinfo=UTC)
REPLAY = timedelta(days=6)
REFRESH = END - REPLAY + timedelta(days=1)
FACTOR = 4.0
LATENCY, WEB = "latency_ms", "web-"
PERIOD = pd.Timedelta("5min")


class Incident(NamedTuple):
    """Start and end of the incident, UTC."""

    start: datetime
    end: datetime


def main() -> None:
    """Print one line for each length of the incident and cap."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", default="kmeans")
    parser.add_argument("--hours", default="6,24,72")
    parser.add_argument("--before", default="3,9,20")
    parser.add_argument("--caps", default="6,12,24")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--days", type=float, default=14)
    options = parser.parse_args()
    lines = []
    for seed in range(7, 7 + options.seeds):
        first = END - REPLAY - timedelta(days=options.days)
        fleet = simulator.simulate(first, days=1, stream_hours=1, seed=seed)
        rows = simulator.continuation(fleet, first, (END - first) / timedelta(hours=1), seed=seed)
        for hours in map(float, options.hours.split(",")):
            for before in map(float, options.before.split(",")):
                start = REFRESH - timedelta(hours=before)
                incident = Incident(start, start + timedelta(hours=hours))
                for cap in ["off", *options.caps.split(",")]:
                    figures = measured(rows, fleet.inventory, options.family, incident, cap)
                    lines.append({"hours": hours, "cap": cap, **figures})
    print(pd.DataFrame(lines).groupby(["hours", "cap"], sort=False).mean().round(3).to_string())


def measured(
    rows: pd.DataFrame, inventory: dict[str, Instance], family: str, incident: Incident, cap: str
) -> dict[str, float]:
    """Return the figures of one line: ``rows`` have no incident."""
    rows = rows.copy()
    is_web = rows["instance_id"].str.startswith(WEB)
    hit = is_web & rows["timestamp"].between(*incident, inclusive="left")
    rows.loc[hit, LATENCY] = rows.loc[hit, LATENCY] * FACTOR
    replayed = rows["timestamp"] >= END - REPLAY
    with learning(cap) as new_normal_hours:
        result = replay.backtest(
            rows[~replayed],
            rows[replayed],
            family=family,
            inventory=inventory,
            new_normal_hours=new_normal_hours,
        )
    return figures(result, incident)


@contextmanager
def learning(cap: str | None) -> Iterator[float | None]:
    """Give the hours of `new_normal_hours`, None for the setting; inside, `off` lets a backtest learn every row.

    Then no episode is ever old enough for a refit of its own.
    """
    with patch.object(replay, "rows_left_out", learn_all) if cap == "off" else nullcontext():
        yield None if cap is None else math.inf if cap == "off" else float(cap)


def learn_all(instances: object, code: np.ndarray, *_: object) -> LeftOut:
    """Leave out no row and learn no episode as normal."""
    return LeftOut(np.zeros(len(code), np.int64), ())


def figures(result: Backtest, incident: Incident) -> dict[str, float]:
    """Return the figures of a replay with an incident."""
    end = pd.Timestamp(incident.end)
    rows = result.rows
    is_web = rows["instance_id"].str.startswith(WEB).to_numpy()
    learned = {item.instance_id: refresh.ms for refresh in result.refreshes for item in refresh.new_normals}
    learned_at = pd.to_datetime(rows["instance_id"].map(learned), unit="ms", utc=True)
    until = learned_at.fillna(end).clip(upper=end)
    hit = is_web & (rows["timestamp"] >= incident.start).to_numpy() & (rows["timestamp"] < until).to_numpy()
    alert = rows["alert"].to_numpy()
    is_first = (rows["instance_id"] != rows["instance_id"].shift()).to_numpy()
    opens = alert & (is_first | ~np.roll(alert, 1))
    closes = ~alert & np.roll(alert, 1) & ~is_first
    later = is_web & (rows["timestamp"] >= until).to_numpy()
    return {
        "in an episode": float(alert[hit].mean()),
        "ended early": float((closes & hit).sum()),
        "learned h": max(((ms / 1000 - incident.start.timestamp()) / 3600 for ms in learned.values()), default=np.nan),
        "after": per_day(opens & later, later),
        "others": per_day(opens & ~is_web, ~is_web),
    }


def per_day(chosen: np.ndarray, rows: np.ndarray) -> float:
    """Return the number of chosen rows for each day of rows."""
    return float(chosen.sum() / (rows.sum() * PERIOD / pd.Timedelta("1D")))


if __name__ == "__main__":
    main()

"""Pages of a quiet fleet with a weekly rhythm, on workdays, on weekends and when clocks change.

    python -m bench.seasons [--seeds S] [--first-seed S] [--instances N] [--period SECONDS] [--family F] [--utc]

Each seed has N instances in Berlin for three weeks of history and ten days of replay, once with the change to summer
time on the third day and once with the change back. Load follows local time. A third of the instances are quiet at
weekends, a third are busy, and a third know no weekend. There are no incidents, so every page is false. The day of a
clock change counts as such together with the Monday after it. With ``--utc``, the installation has no time zone.

A page is a run of alert rows of an instance; runs closer than 15 minutes are one. Printed are pages per instance and
day.
"""

from __future__ import annotations

import argparse
import os
from collections import Counter

import numpy as np
import pandas as pd

from riskwatch_ml.backtest.episodes import episodes
from riskwatch_ml.backtest.replay import backtest

ZONE = "Europe/Berlin"
CHANGES = ("2026-03-29", "2026-10-25")
HISTORY_DAYS, BEFORE_DAYS, REPLAY_DAYS = 21, 2, 10
WEEKENDS = (0.5, 1.6, 1.0)  # load at weekends, as a share of that on workdays
WORKDAY, WEEKEND, CHANGE = "workdays", "weekends", "clock changes"
METRICS = 3


def main() -> None:
    """Print pages per instance and day by kind of day."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--instances", type=int, default=100)
    parser.add_argument("--period", type=int, default=900)
    parser.add_argument("--family", default="kmeans")
    parser.add_argument("--utc", action="store_true")
    options = parser.parse_args()
    os.environ["RISKWATCH_TIME_ZONES"] = "" if options.utc else ZONE
    pages: Counter[str] = Counter()
    days: Counter[str] = Counter()
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        for change in CHANGES:
            sent, lasted = replayed(change, options.instances, options.period, options.family, seed)
            pages.update(sent)
            days.update(lasted)
    for kind in (WORKDAY, WEEKEND, CHANGE):
        print(
            f"{kind:14s} {days[kind]:8,d} instance-days  {pages[kind]:6,d} pages  {pages[kind] / days[kind]:.3f} a day"
        )


def replayed(change: str, instances: int, period_s: int, family: str, seed: int) -> tuple[Counter[str], Counter[str]]:
    """Return pages and instance-days by kind of day around a clock change."""
    day = pd.Timestamp(change, tz=ZONE)
    begin = day - pd.Timedelta(days=BEFORE_DAYS)
    rows = fleet(begin - pd.Timedelta(days=HISTORY_DAYS), HISTORY_DAYS + REPLAY_DAYS, instances, period_s, seed)
    later = rows["timestamp"] >= begin
    result = backtest(rows[~later], rows[later], family=family)
    pages = Counter(_kind(start, day) for start in episodes(result.rows)["start"])
    local = rows.loc[later, "timestamp"].dt.tz_convert(ZONE).dt.normalize().drop_duplicates()
    return pages, Counter({kind: instances * count for kind, count in Counter(_kind(at, day) for at in local).items()})


def fleet(start: pd.Timestamp, days: int, instances: int, period_s: int, seed: int) -> pd.DataFrame:
    """Return the rows of a fleet whose load follows local time."""
    rng = np.random.default_rng(seed)
    times = pd.date_range(start.tz_convert("UTC"), periods=days * 86_400 // period_s, freq=f"{period_s}s")
    local = times.tz_convert(ZONE)
    hour = local.hour.to_numpy() + local.minute.to_numpy() / 60
    off = local.day_of_week.to_numpy() >= 5
    parts = []
    for number in range(instances):
        peak, depth, base = rng.uniform(10, 16), rng.uniform(0.3, 0.8), rng.uniform(20, 50)
        shape = 1 + depth * np.cos(2 * np.pi * (hour - peak) / 24)
        load = base * shape * np.where(off, WEEKENDS[number % len(WEEKENDS)], 1.0)
        columns = {}
        for metric in range(METRICS):
            noise = _slow(rng.normal(size=len(times)), 0.9)
            columns[f"metric_{metric}"] = rng.uniform(0.5, 3) * load * np.exp(0.06 * noise)
        parts.append(pd.DataFrame({"instance_id": f"i-{number:03d}", "timestamp": times} | columns))
    return pd.concat(parts, ignore_index=True)


def _slow(noise: np.ndarray, share: float) -> np.ndarray:
    """Return noise (n,) of unit variance in which a value keeps a share of the one before it."""
    kept = np.empty_like(noise)
    kept[0] = noise[0]
    for index in range(1, len(noise)):
        kept[index] = share * kept[index - 1] + np.sqrt(1 - share**2) * noise[index]
    return kept


def _kind(moment: pd.Timestamp, change: pd.Timestamp) -> str:
    day = moment.tz_convert(ZONE).normalize()
    if 0 <= (day.tz_localize(None) - change.tz_localize(None)).days <= 1:
        return CHANGE
    return WEEKEND if day.day_of_week >= 5 else WORKDAY


if __name__ == "__main__":
    main()

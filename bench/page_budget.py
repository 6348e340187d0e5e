"""Whether the budget of pages holds: pages sent over pages allowed.

    python -m bench.page_budget [DATA_ROOT] [--seeds S] [--days D] [--budgets .5,.25,.1] [--family F]

Budgets are in pages for each instance and day, and count all days. The quiet fleets are those of the simulator without
incidents: S seeds of 12 instances, D days of replay after ten days of history. With DATA_ROOT (see `bench.detection`),
the sets of labelled incidents follow: they hold more incidents than such a budget, so each page may be about one.

A page is a run of alert rows of an instance; runs closer than 15 minutes are one.
"""

from __future__ import annotations

import argparse
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from riskwatch_local.demo import simulator
from riskwatch_ml.backtest.episodes import episodes
from riskwatch_ml.backtest.replay import backtest
from riskwatch_ml.model.page_budget import PageBudget

if TYPE_CHECKING:
    from riskwatch_ml.backtest.result import Backtest

START = datetime(2026, 11, 2, tzinfo=UTC)
HISTORY_DAYS = 10
SHORT_SETS = ("petshop",)  # too short to keep a budget


def main() -> None:
    """Print pages sent over pages allowed, for each budget and fleet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--days", type=int, default=9)
    parser.add_argument("--budgets", default="0.5,0.25,0.1")
    parser.add_argument("--family", default="kmeans", help="of the quiet fleets; the sets choose it")
    options = parser.parse_args()
    budgets = [PageBudget(float(text), ordinary_days=False) for text in options.budgets.split(",")]
    for budget in budgets:
        pages = days = 0.0
        for seed in range(options.seeds):
            result = quiet_fleet(seed, options.days, options.family, budget)
            pages, days = pages + len(episodes(result.rows)), days + instance_days(result)
        print(line(f"quiet fleets, {options.seeds} seeds", pages, days, budget), flush=True)
    folders = sorted(path.parent for path in options.data.glob("*/replay.parquet")) if options.data else []
    for folder in folders:
        if folder.name in SHORT_SETS:
            continue
        for budget in budgets:
            history, replay = (pd.read_parquet(folder / f"{part}.parquet") for part in ("history", "replay"))
            result = backtest(history, replay, budget=budget)
            print(line(folder.name, len(episodes(result.rows)), instance_days(result), budget), flush=True)


def quiet_fleet(seed: int, days: int, family: str, budget: PageBudget) -> Backtest:
    """Return the backtest of a simulated fleet without incidents."""
    simulation = simulator.simulate(START, days=1, stream_hours=1, seed=seed)
    history = simulator.continuation(simulation, START, 24 * HISTORY_DAYS, seed=2 * seed + 100)
    begin = START + timedelta(days=HISTORY_DAYS)
    replay = simulator.continuation(simulation, begin, 24 * days, seed=2 * seed + 101)
    return backtest(history, replay, family=family, budget=budget, inventory=simulation.inventory)


def instance_days(result: Backtest) -> float:
    """Return the days of all instances together."""
    return len(result.rows) * result.period_s / 86_400


def line(name: str, pages: float, days: float, budget: PageBudget) -> str:
    """Return a line of the table."""
    sent = pages / days
    return (
        f"{name:24s} budget {budget.pages:<5g} {days:8,.0f} instance-days  {pages:6,.0f} pages  "
        f"{sent:.3f} a day  {sent / budget.pages:.2f} x"
    )


if __name__ == "__main__":
    main()

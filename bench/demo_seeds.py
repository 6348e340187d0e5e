"""The incidents of the demo and its false pages, for several seeds of the simulated fleet.

    python -m bench.demo_seeds [--seeds S] [--days D]

For each seed, the demo's fleet of four kinds is simulated as `make demo` does, fitted to its history and replayed for
the newest six hours, with the budget of the whole fleet. An incident is met, and a page is false, as in the summary of
the demo. Impossible values are left out, as the validation does.
"""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from riskwatch_local.demo import data
from riskwatch_local.demo.alerts import Alert, match_incidents
from riskwatch_ml.backtest.episodes import episodes
from riskwatch_ml.backtest.replay import backtest
from riskwatch_ml.model.page_budget import fleet_budget

if TYPE_CHECKING:
    import pandas as pd

    from riskwatch_local.demo.data import DemoData, KindData
    from riskwatch_ml.model.page_budget import PageBudget

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)


def main() -> None:
    """Print incidents made and met and false pages for each seed, and their means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--days", type=int, default=4)
    options = parser.parse_args()
    totals = np.zeros(3)
    for seed in range(options.seeds):
        source = data.simulated(NOW, data.STREAM_HOURS_SIMULATED, options.days, seed=seed)
        budget = fleet_budget(len(source.inventory))
        alerts = [alert for kind in source.kinds for alert in pages(source, kind, budget)]
        found = match_incidents(source.incidents or [], alerts, source.cut, source.end)
        counts = (found["made"], found["met"], found["false_alerts"])
        totals += counts
        missed = ", ".join(f"{item['kind']} on {item['instance_id']}" for item in found["list"] if not item["met"])
        false = ", ".join(f"{item['instance_id']} at {item['since']}" for item in found["false"])
        print(f"seed {seed:2d}: {counts[1]} of {counts[0]} met, {counts[2]} false  {missed}; {false}", flush=True)
    made, met, wrong = totals / options.seeds
    print(f"mean of {options.seeds} seeds: {met:.2f} of {made:.2f} met, {wrong:.2f} false pages a run")


def pages(source: DemoData, kind: KindData, budget: PageBudget) -> list[Alert]:
    """Return the episodes of a kind in the streamed hours."""
    rows = possible(kind)
    history, replay = rows[rows["timestamp"] < source.cut], rows[rows["timestamp"] >= source.cut]
    result = backtest(history, replay, budget=budget, inventory=kind.inventory, catalogue=kind.catalogue)
    opened = episodes(result.rows)
    return [
        Alert(instance, since, since)
        for instance, since in zip(opened["instance_id"], opened["start"].dt.to_pydatetime(), strict=True)
    ]


def possible(kind: KindData) -> pd.DataFrame:
    """Return the rows of a kind without values outside their physical bounds."""
    rows = kind.rows.copy()
    for metric in kind.catalogue.metrics:
        low = -np.inf if metric.lower is None else metric.lower
        high = np.inf if metric.upper is None else metric.upper
        rows[metric.name] = rows[metric.name].where(rows[metric.name].between(low, high))
    return rows


if __name__ == "__main__":
    main()

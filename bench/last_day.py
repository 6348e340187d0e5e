"""How often an ordinary refresh would ask for an approval because of the newest 24 hours.

    python -m bench.last_day [DATA_ROOT] [--sets a,b] [--days D] [--seeds S] [--family F]

The rows are those of the simulated fleet, with its incidents, and of the named sets under DATA_ROOT (see
``bench.detection``). A model is fitted to the history; each day it is refreshed on all rows so far and compared with
the model of the day before, as ``train_models`` compares a challenger with the champion. No episode is left out, so
that every incident is learned. The columns are:

- refreshes: their number
- before, after: the mean episodes of the day under the old and the new model
- change: the largest difference of the two
- asks: the share of the refreshes that would ask for an approval
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from bench.stability import Fleet, of_set, simulated
from riskwatch_ml.core.threads import one_thread
from riskwatch_ml.features.training_set import build_training_set
from riskwatch_ml.model.fit import Recipe, fit_model, refit_settings
from riskwatch_ml.selection.last_day import LastDay, compare

DAY = pd.Timedelta("1D")


def main() -> None:
    """Print one line for each fleet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--sets", default="asd,nab_aws,smd")
    parser.add_argument("--days", type=float, default=14)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--family", default="kmeans")
    options = parser.parse_args()
    fleets = [simulated(options.days, seed) for seed in range(7, 7 + options.seeds)]
    fleets += [of_set(options.data / name) for name in options.sets.split(",")] if options.data else []
    lines = []
    with one_thread():
        for fleet in fleets:
            days = refreshed(fleet, options.family)
            lines.append({"fleet": fleet.name, **figures(days)})
            print(lines[-1], [(day.before, day.after) for day in days], flush=True)
    print(pd.DataFrame(lines).round(3).to_string(index=False))


def refreshed(fleet: Fleet, family: str) -> list[LastDay]:
    """Return the comparison of each day's model with that of the day before, from half of the rows on."""
    moments = fleet.rows["timestamp"]
    days, champion = [], None
    level: dict[str, float | int | str] = {}
    for end in pd.date_range(moments.min() + (moments.max() - moments.min()) / 2, moments.max(), freq=DAY):
        past = fleet.rows[moments < end]
        training_set = build_training_set(past, fleet.catalogue, fleet.inventory, fleet.period_s)
        fitted = fit_model(training_set, fleet.catalogue, Recipe(family, period_s=fleet.period_s, level=level))
        level = refit_settings(fitted)
        if champion is not None:
            end_ms = round(end.timestamp() * 1000)
            days.append(compare(champion, fitted.model, past[moments >= end - 2 * DAY], fleet.inventory, {}, end_ms))
        champion = fitted.model
    return days


def figures(days: list[LastDay]) -> dict[str, float]:
    """Return the figures of the refreshes of a fleet."""
    return {
        "refreshes": len(days),
        "before": float(np.mean([day.before for day in days])),
        "after": float(np.mean([day.after for day in days])),
        "change": max((abs(day.after - day.before) for day in days), default=0),
        "asks": float(np.mean([bool(day.ask) for day in days])),
    }


if __name__ == "__main__":
    main()

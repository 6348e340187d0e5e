"""The cost of leaving days out of a history.

    python -m bench.history DATA_ROOT [--family NAME] [--json FILE]

DATA_ROOT is as for ``bench.detection``. For each set with two weeks of history, three kinds of models are fitted: one
to the whole history; one to the rows that ``riskwatch_ml.features.history`` keeps for a share of the rows; one to as
many rows of the newest days.

The columns are the figures of ``bench.figures`` on the labelled replay, means over the set's instances, and the share
of the replay's rows with the same level as under the whole history.
"""

from __future__ import annotations

import argparse
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd

from bench.figures import of_replay
from bench.stability import Fleet, labels, of_set
from riskwatch_ml.core.threads import one_thread
from riskwatch_ml.families import FAMILIES
from riskwatch_ml.features import rolling
from riskwatch_ml.features.history import collect
from riskwatch_ml.features.table import as_table
from riskwatch_ml.features.training_set import GAP_PERIODS, build_training_set
from riskwatch_ml.model.fit import Recipe, fit_model

SHARES = (0.75, 0.5, 0.25)
LEAST = timedelta(days=14)


def main() -> None:
    """Print a table for each set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--family", choices=list(FAMILIES), default="kmeans")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    tables = []
    with one_thread():
        for folder in sorted(path.parent for path in options.data.glob("*/labels.parquet")):
            moments = pd.read_parquet(folder / "history.parquet", columns=["timestamp"])["timestamp"]
            if moments.max() - moments.min() < LEAST:
                continue
            tables.append(costs(of_set(folder), pd.read_parquet(folder / "labels.parquet"), options.family))
            print(f"{folder.name}, {options.family}\n{tables[-1].round(3).to_string()}\n", flush=True)
    if options.json:
        pd.concat(tables).reset_index().to_json(options.json, orient="records", indent=1)


def costs(fleet: Fleet, truth: pd.DataFrame, family: str) -> pd.DataFrame:
    """Return figures of the whole history and of each share of its rows.

    A share is kept evenly, or consists of the newest rows.
    """
    past = fleet.rows[fleet.history]
    whole = verdicts(fleet, past, family)
    costs_by_share = {("whole", 1.0): figures(truth, whole, whole, len(past))}
    for share in SHARES:
        even, newest = evenly(fleet, past, share), past[past["timestamp"] >= past["timestamp"].quantile(1 - share)]
        for name, rows in (("even", even), ("newest", newest)):
            costs_by_share[name, share] = figures(truth, verdicts(fleet, rows, family), whole, len(rows))
    return pd.DataFrame(costs_by_share).T.rename_axis(["kept", "share"])


def evenly(fleet: Fleet, past: pd.DataFrame, share: float) -> pd.DataFrame:
    """Return the rows that a training keeps if it has room for a share of them."""
    start = past["timestamp"].min().to_pydatetime()
    end = (past["timestamp"].max() + timedelta(seconds=fleet.period_s)).to_pydatetime()

    def read(low: datetime, high: datetime) -> pd.DataFrame:
        return past[(past["timestamp"] >= low) & (past["timestamp"] < high)]

    return collect(read, start, end, round(share * len(past))).rows


def figures(truth: pd.DataFrame, rows: pd.DataFrame, whole: pd.DataFrame, kept: int) -> dict[str, float]:
    """Return the figures of verdicts.

    `levels kept` is the share of rows with the same level as under the whole history.
    """
    same = float((rows["level"] == whole["level"]).mean())
    return {"rows": kept, **of_replay(truth, rows).mean(numeric_only=True), "levels kept": same}


def verdicts(fleet: Fleet, rows: pd.DataFrame, family: str) -> pd.DataFrame:
    """Return score, level and alert of the replay's rows.

    The model is fitted to `rows` of the history.
    """
    recipe = Recipe(family, period_s=fleet.period_s)
    training_set = build_training_set(rows, fleet.catalogue, fleet.inventory, fleet.period_s)
    table = as_table(fleet.rows, fleet.catalogue.names, GAP_PERIODS * fleet.period_s)
    wide = rolling.add_rolling_features(table, training_set.rolling_lengths)
    labelled = labels(fleet, table, wide, fit_model(training_set, fleet.catalogue, recipe))
    replay = ~fleet.history
    return pd.DataFrame(
        {
            "instance_id": np.array(table.instances, object)[table.code[replay]],
            "timestamp": pd.to_datetime(table.ms[replay], unit="ms", utc=True),
            "score": np.nan_to_num(labelled.score[replay]),
            "alert": labelled.alert,
            "level": labelled.level[replay],
        }
    )


if __name__ == "__main__":
    main()

"""Pages of new instances: the factor on the paging threshold of instances without a baseline of their own.

    python -m bench.new_instances [DATA_ROOT] [--days D] [--seeds S] [--family F]

The rows are those of the simulated fleet (with and without roles) and of every set under DATA_ROOT (see
``bench.detection``). Each instance is new once: a model is fitted to the history of the others, and judges its later
rows against the baseline of its role. In the line `known` the instance is part of the history. The columns are:

- pages/day: pages per instance and day of the later rows outside incidents, of instances without a memory
- met: the share of the incidents in the later rows with a row in an episode
- x4 met: the same share of injected incidents (six hours with four times the latency); simulated fleet only
- day 0: the pages per day if rows of the first day alone count
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from bench.stability import KEY, Fleet, fit, fit_training_set, of_set, simulated
from riskwatch_lambda.episode_rule import Rule
from riskwatch_ml.core.threads import one_thread
from riskwatch_ml.features import rolling
from riskwatch_ml.features.spaces import row_baselines
from riskwatch_ml.features.table import MetricTable, as_table
from riskwatch_ml.features.training_set import GAP_PERIODS
from riskwatch_ml.model.fleet_model import FleetModel, RowScores, score_rows
from riskwatch_ml.model.openings import Followed, follow, opening_rows

FACTORS = (1.0, 1.25, 1.4, 1.5, 1.6, 1.75, 2.0, 2.5, 3.0, 4.0)
NEVER = 1e9  # only exhaustion pages
INCIDENT_H = 6
STARTS_H = (2, 10, 18)  # of the later rows: the injected incidents of an instance
DAY_S = 86_400
LATENCY = "latency_ms"


@dataclass(frozen=True)
class Judged:
    """Later rows of some instances, and the model that judges them.

    ``incident`` (n,) has the number of the incident of each row, 0 outside.
    """

    model: FleetModel
    table: MetricTable
    baseline: np.ndarray
    scores: RowScores
    incident: np.ndarray
    period_s: int

    def follow(self, factor: float, wanted: np.ndarray | None = None) -> Followed:
        """Apply the paging rule to the rows of a mask (n,), with a factor on the threshold of new instances."""
        model = replace(self.model, rule={**self.model.rule, "new_instance_factor": factor})
        rows = opening_rows(model, self.table, self.baseline, self.scores)
        return follow(rows, Rule.of(self.model.rule), {}, wanted)


def main() -> None:
    """Print a table for each fleet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--days", type=float, default=7)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--family", default="kmeans")
    options = parser.parse_args()
    fleets = [simulated(options.days, seed) for seed in range(7, 7 + options.seeds)]
    fleets += [replace(fleet, name="without roles", inventory={}) for fleet in fleets]
    sets = [path for path in sorted(options.data.glob("*/labels.parquet")) if has_several(path)] if options.data else []
    with one_thread():
        for fleet in fleets:
            print(f"{fleet.name}\n{table(fleet, options.family).round(3).to_string()}\n", flush=True)
        for path in sets:
            fleet = with_labels(of_set(path.parent), pd.read_parquet(path))
            print(f"{fleet.name}\n{table(fleet, options.family).round(3).to_string()}\n", flush=True)


def has_several(labels: Path) -> bool:
    """Return whether a set has several instances: a new one needs others."""
    return pd.read_parquet(labels, columns=["instance_id"])["instance_id"].nunique() > 1


def with_labels(fleet: Fleet, labels: pd.DataFrame) -> Fleet:
    """Return a set in which the rows without a label are quiet."""
    labels["timestamp"] = pd.to_datetime(labels["timestamp"], utc=True).astype("datetime64[ms, UTC]")
    label = fleet.rows[KEY].merge(labels, on=KEY, how="left")["label"].fillna(0)
    return replace(fleet, quiet=(label == 0).to_numpy())


def table(fleet: Fleet, family: str) -> pd.DataFrame:
    """Return one row of figures for known instances, and one for new ones and each factor."""
    names = sorted(fleet.rows["instance_id"].unique())
    past = fleet.rows[fleet.history]
    known = judged(fleet, fit(fleet, fit_training_set(fleet, past), family, 0).model, names)
    parts = []
    for fold in folds(fleet, names):
        others = past[~past["instance_id"].isin(fold)]
        parts.append(judged(fleet, fit(fleet, fit_training_set(fleet, others), family, 0).model, fold))
    lines = {"known": figures(known, 1.0)}
    for factor in (*FACTORS, NEVER):
        each = [figures(part, factor) for part in parts]
        weights = [len(fold) for fold in folds(fleet, names)]
        lines[f"new, {factor:g}"] = {key: mean([one[key] for one in each], weights) for key in each[0]}
    return pd.DataFrame(lines).T


def mean(values: list[float], weights: list[int]) -> float:
    """Return the weighted mean of the values that are no NaN; NaN if all are."""
    known = np.isfinite(values)
    return float(np.average(np.array(values)[known], weights=np.array(weights)[known])) if known.any() else float("nan")


def folds(fleet: Fleet, names: list[str]) -> list[list[str]]:
    """Return groups of instances that are new at once: one of each role."""
    by_role: dict[str, list[str]] = {}
    for name in names:
        by_role.setdefault(fleet.inventory[name].role if name in fleet.inventory else name, []).append(name)
    most = max(map(len, by_role.values()))
    return (
        [[group[index] for group in by_role.values() if index < len(group)] for index in range(most)]
        if (most > 1)
        else [[name] for name in names]
    )


def judged(fleet: Fleet, model: FleetModel, names: list[str]) -> list[Judged]:
    """Return the judged later rows: as they are, and with each injected incident."""
    rows = fleet.rows[~fleet.history & fleet.rows["instance_id"].isin(names).to_numpy()]
    quiet = None if fleet.quiet is None else fleet.quiet[rows.index]
    incident = np.zeros(len(rows), int) if quiet is None else runs(~quiet, rows["instance_id"].to_numpy())
    results = [_judge(fleet, model, rows, incident)]
    for start_h in STARTS_H if LATENCY in rows.columns else ():
        begin = rows["timestamp"].min() + pd.Timedelta(hours=start_h)
        during = rows["timestamp"].between(begin, begin + pd.Timedelta(hours=INCIDENT_H), "left").to_numpy()
        changed = rows.copy()
        changed.loc[during, LATENCY] *= 4
        results.append(_judge(fleet, model, changed, runs(during, rows["instance_id"].to_numpy())))
    return results


def runs(mask: np.ndarray, name: np.ndarray) -> np.ndarray:
    """Return the number of the run of True of each row, (n,), 0 outside; a run lies in one instance."""
    starts = mask & ~(np.roll(mask, 1) & (np.roll(name, 1) == name))
    if len(mask):
        starts[0] = mask[0]
    return np.where(mask, np.cumsum(starts), 0)


def _judge(fleet: Fleet, model: FleetModel, rows: pd.DataFrame, incident: np.ndarray) -> Judged:
    later: MetricTable = as_table(rows, fleet.catalogue.names, GAP_PERIODS * fleet.period_s)
    baseline = row_baselines(model.baselines, later, fleet.inventory)
    scores = score_rows(model, rolling.add_rolling_features(later, model.rolling_lengths), baseline)
    return Judged(model, later, baseline, scores, incident, fleet.period_s)


def figures(results: list[Judged], factor: float) -> dict[str, float]:
    """Return the figures of one fold at a factor on the paging threshold."""
    plain, *injected = results
    quiet = plain.incident == 0
    first_day = quiet & (plain.table.ms < plain.table.ms.min() + DAY_S * 1000)
    return {
        "pages/day": _pages_a_day(plain, factor, quiet),
        "day 0": _pages_a_day(plain, factor, first_day),
        "met": _met(plain, factor),
        "x4 met": float(np.mean([_met(one, factor) for one in injected] or [np.nan])),
    }


def _pages_a_day(rows: Judged, factor: float, counted: np.ndarray) -> float:
    return len(rows.follow(factor, counted).opened) / (float(counted.sum()) * rows.period_s / DAY_S)


def _met(rows: Judged, factor: float) -> float:
    numbers = np.unique(rows.incident[rows.incident > 0])
    alert = rows.follow(factor).alert
    return float(np.isin(numbers, rows.incident[alert]).mean()) if len(numbers) else float("nan")


if __name__ == "__main__":
    main()

"""The stability of a refit, the fidelity of its maps and the truth of its levels.

    python -m bench.stability [DATA_ROOT] [--days D] [--seeds S] [--json FILE]

The rows are those of the simulated fleet and of every set under DATA_ROOT (see ``bench.detection``). Each family is
fitted to the history, to the same rows in another order, with S other seeds, and S times without a random tenth of the
instance-days. Each model then labels the history and the later rows. The columns are:

- shuffled: the shuffled rows gave the same labels
- levels: the lowest share of rows that kept their level, over the seeds and over the thinned rows
- alerts: the lowest Jaccard index of the later rows in an open episode, over the same models
- fidelity: that of the level map, and the lowest one of the behaviour maps
- true levels: on the simulated fleet, the share of quiet rows with the true load regime of their role

``*`` marks the family that would be promoted.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from riskwatch_lambda.episode_rule import Rule
from riskwatch_local.demo import simulator
from riskwatch_ml.core.threads import one_thread
from riskwatch_ml.families import FAMILIES
from riskwatch_ml.features import rolling
from riskwatch_ml.features.spaces import row_baselines
from riskwatch_ml.features.table import as_table
from riskwatch_ml.features.training_set import GAP_PERIODS, KEY, TrainingSet, build_training_set
from riskwatch_ml.model.fit import Recipe, fit_model
from riskwatch_ml.model.fleet_model import level_labels, score_rows
from riskwatch_ml.model.openings import follow, opening_rows
from riskwatch_ml.schema import catalogue as catalogues
from riskwatch_ml.schema.catalogue import Catalogue
from riskwatch_ml.schema.metric import Metric
from riskwatch_ml.selection.contest import run_contest
from riskwatch_ml.selection.guard_figures import guard_figures
from riskwatch_ml.selection.guards import vetoes

if TYPE_CHECKING:
    from riskwatch_ml.features.table import MetricTable
    from riskwatch_ml.model.fit import Fitted
    from riskwatch_ml.schema.inventory import Instance

END = datetime(2026, 11, 22, 10, tzinfo=UTC)
STREAM_HOURS = 24
THINNED = 0.1


@dataclass(frozen=True)
class Fleet:
    """Metric rows sorted by instance and time.

    ``history`` (n,) marks the rows to which models are fitted. On a simulated fleet, ``truth`` (n,) is the true level
    of each row, and ``quiet`` (n,) marks the rows outside of incidents.
    """

    name: str
    rows: pd.DataFrame
    history: np.ndarray
    catalogue: Catalogue
    inventory: dict[str, Instance]
    period_s: int
    truth: np.ndarray | None = None
    quiet: np.ndarray | None = None


@dataclass(frozen=True)
class Labels:
    """Level and score of each row, (n,), and alerts after the history, (m,).

    ``alert`` marks the rows in an open episode.
    """

    level: np.ndarray
    score: np.ndarray
    alert: np.ndarray


def main() -> None:
    """Print a table for each fleet.

    With `--json`, all tables are written as JSON.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--days", type=float, default=7)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    fleets = [simulated(options.days)]
    if options.data is not None:
        fleets += [of_set(path.parent) for path in sorted(options.data.glob("*/replay.parquet"))]
    tables = []
    with one_thread():
        for fleet in fleets:
            table = stability(fleet, options.seeds)
            tables.append(table.assign(fleet=fleet.name))
            print(f"{fleet.name}: {len(fleet.rows):,} rows\n{table.round(3).to_string()}\n", flush=True)
    if options.json:
        records = pd.concat(tables).reset_index().to_dict(orient="records")
        options.json.write_text(json.dumps(records, indent=1), encoding="utf-8")


def simulated(days: float, seed: int = 7) -> Fleet:
    """Return the simulated fleet without impossible rows.

    Validation would quarantine these rows.
    """
    simulation = simulator.simulate(END, days=days, stream_hours=STREAM_HOURS, seed=seed)
    watched = catalogues.load()
    values = simulation.rows[list(watched.names)].to_numpy(float)
    lower = np.array([np.nan if metric.lower is None else metric.lower for metric in watched.metrics])
    upper = np.array([np.nan if metric.upper is None else metric.upper for metric in watched.metrics])
    possible = ~((values < lower) | (values > upper)).any(axis=1)
    rows = simulation.rows[possible].reset_index(drop=True)
    return Fleet(
        "simulated fleet",
        rows,
        (rows["timestamp"] < END - timedelta(hours=STREAM_HOURS)).to_numpy(),
        watched,
        simulation.inventory,
        300,
        simulator.true_levels(simulation)[possible],
        simulator.quiet_rows(simulation.rows, simulation.incidents)[possible],
    )


def of_set(folder: Path) -> Fleet:
    """Return the rows of a set of ``bench.detection``.

    No catalogue has its metrics.
    """
    parts = [
        pd.read_parquet(folder / f"{part}.parquet").assign(past=part == "history") for part in ("history", "replay")
    ]
    rows = pd.concat(parts).sort_values(KEY, ignore_index=True)
    history = rows.pop("past").to_numpy(bool)
    rows["timestamp"] = pd.to_datetime(rows["timestamp"], utc=True).astype("datetime64[ms, UTC]")
    columns = [column for column in rows.columns if column not in KEY]
    period_s = round(float(rows.groupby("instance_id")["timestamp"].diff().median().total_seconds()))
    watched = Catalogue(tuple(Metric(name, "Bench", name) for name in columns))
    return Fleet(folder.name, rows, history, watched, {}, period_s)


def stability(fleet: Fleet, seeds: int) -> pd.DataFrame:
    """Return one row of figures for each family."""
    past = fleet.rows[fleet.history]
    training_set, shuffled = fit_training_set(fleet, past), fit_training_set(fleet, past.sample(frac=1, random_state=0))
    thinned = [fit_training_set(fleet, without_a_tenth(past, seed)) for seed in range(seeds)]
    table = as_table(fleet.rows, fleet.catalogue.names, GAP_PERIODS * fleet.period_s)
    wide = rolling.add_rolling_features(table, training_set.rolling_lengths)
    contest = run_contest(training_set, fleet.catalogue, fleet.inventory, Recipe("kmeans", period_s=fleet.period_s))
    figures_by_family = {}
    for family in FAMILIES:
        fitted = contest.fits.get(family) or fit(fleet, training_set, family, 0)
        figures = contest.figures.get(family) or guard_figures(fitted, training_set, 0)
        print(f"{fleet.name}, {family}: {'; '.join(vetoes(figures)) or 'may serve'}")
        first = labels(fleet, table, wide, fitted)
        again = labels(fleet, table, wide, fit(fleet, shuffled, family, 0))
        other_seeds = [
            labels(fleet, table, wide, fit(fleet, training_set, family, seed)) for seed in range(1, seeds + 1)
        ]
        fewer_rows = [labels(fleet, table, wide, fit(fleet, part, family, 0)) for part in thinned]
        figures_by_family[family] = {
            "shuffled": bool((first.level == again.level).all() and (first.alert == again.alert).all()),
            "levels, seeds": min(kept(first, one) for one in other_seeds),
            "alerts, seeds": min(jaccard(first, one) for one in other_seeds),
            "levels, thinned": min(kept(first, one) for one in fewer_rows),
            "alerts, thinned": min(jaccard(first, one) for one in fewer_rows),
            "alerted rows": int(first.alert.sum()),
            "level fidelity": fitted.level_fit.figures["fidelity"],
            "behaviour fidelity": min(one.figures["fidelity"] for one in fitted.member_fits),
            "true levels": accuracy(fleet, first),
        }
    winner = contest.choice.winner if contest.choice else ""
    return pd.DataFrame(figures_by_family).T.rename(index={winner: f"{winner} *"}).rename_axis("family").infer_objects()


def fit_training_set(fleet: Fleet, rows: pd.DataFrame) -> TrainingSet:
    """Return the training set of some rows of a fleet."""
    return build_training_set(rows, fleet.catalogue, fleet.inventory, fleet.period_s)


def without_a_tenth(rows: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Return the rows without a random tenth of their instance-days."""
    day, _ = pd.factorize(rows["instance_id"].astype(str) + rows["timestamp"].dt.strftime("%F"))
    left_out = np.random.default_rng(seed).random(day.max() + 1) < THINNED
    return rows[~left_out[day]]


def fit(fleet: Fleet, training_set: TrainingSet, family: str, seed: int) -> Fitted:
    """Fit one family with the default budget."""
    return fit_model(training_set, fleet.catalogue, Recipe(family, seed=seed, period_s=fleet.period_s))


def labels(fleet: Fleet, table: MetricTable, wide: MetricTable, fitted: Fitted) -> Labels:
    """Return the labels of a model for all rows of a fleet.

    ``wide`` is the table with its rolling features.
    """
    model = fitted.model
    baseline = row_baselines(model.baselines, table, fleet.inventory)
    measured = score_rows(model, wide, baseline)
    followed = follow(opening_rows(model, table, baseline, measured), Rule.of(model.rule), {})
    level = np.array(model.level_names, object)[level_labels(model, table, baseline)]
    return Labels(level, measured.score, followed.alert[~fleet.history])


def kept(one: Labels, other: Labels) -> float:
    """Return the share of rows with the same level."""
    return float((one.level == other.level).mean())


def jaccard(one: Labels, other: Labels) -> float:
    """Return the rows that both alert over the rows that either alerts.

    It is 1 if neither alerts.
    """
    either = (one.alert | other.alert).sum()
    return float((one.alert & other.alert).sum() / either) if either else 1.0


def accuracy(fleet: Fleet, labelled: Labels) -> float:
    """Return the share of quiet rows with their true level, NaN if it is unknown."""
    if fleet.truth is None or fleet.quiet is None:
        return float("nan")
    return float((labelled.level == fleet.truth)[fleet.quiet].mean())


if __name__ == "__main__":
    main()

"""The choice of a family without labels beside the ranking with real labels.

    python -m bench.selection DATA_ROOT [--json FILE] [--sets a,b] [--refit-hours H]

DATA_ROOT is as for ``bench.detection``. Every candidate of the grid (five families, three settings) is fitted once to
each set's history. This model gives its guards and its VUS-PR on the replay's labels, which no refit shares.
``injected`` is the figure of the contest: the same recipe is fitted to the older part of the history with injected
incidents and scores the newer part. Two bad candidates are planted: load itself as the score, and average linkage,
which puts nearly every row into one cluster. ``auto`` is the choice of the contest of the five families for each set.

With ``--refit-hours``, the backtest also replays the families and ``auto`` in the form that serves, refitted that
often. A daily refit of all sets takes hours of CPU.
"""

from __future__ import annotations

import argparse
import json
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from bench.detection import SIDE_SETS
from bench.figures import RENOTIFY_MIN, of_replay
from riskwatch_ml.backtest.inputs import joined_rows, usual_period
from riskwatch_ml.backtest.replay import backtest
from riskwatch_ml.core.threads import one_thread
from riskwatch_ml.families import FAMILIES
from riskwatch_ml.families.base import Family, FamilyFit, agreement, subsample
from riskwatch_ml.families.prototype_map import PrototypeMap, make_stage, nearest
from riskwatch_ml.features import rolling
from riskwatch_ml.features.spaces import level_space, row_baselines
from riskwatch_ml.features.table import as_table
from riskwatch_ml.features.training_set import GAP_PERIODS, TrainingSet, fit_training_set
from riskwatch_ml.model.fit import Recipe, fit_model
from riskwatch_ml.model.fleet_model import score_rows
from riskwatch_ml.schema.catalogue import Catalogue
from riskwatch_ml.schema.catalogue import load as packaged
from riskwatch_ml.selection.guard_figures import guard_figures, load_correlation
from riskwatch_ml.selection.guards import vetoes
from riskwatch_ml.selection.holdout import injected_vus_pr, make_holdout, rate
from riskwatch_ml.selection.ranking import SelectionError, choose
from riskwatch_ml.selection.vus import vus_pr

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from riskwatch_ml.core.arrays import FloatArray
    from riskwatch_ml.families.base import Params
    from riskwatch_ml.features.table import MetricTable
    from riskwatch_ml.selection.holdout import Holdout

# Settings of a family: the number of prototypes, and the members with their windows in rows.
SETTINGS: dict[str, dict] = {
    "default": {},
    "quarter of the prototypes": {"prototypes": 64},
    "single rows": {"members": ((1, 1.0),)},
}
LOAD, GIANT = "load as score", "average linkage"
PLANTED = (LOAD, GIANT)
CLUSTERS = 4
SAMPLE = 2_000
REAL, INJECTED, PLACED = "real", "injected", "placed"


def main() -> None:
    """Run all sets and print the table and its conclusions.

    With `--json`, the table is written as JSON.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--sets", help="comma-separated; the headline sets without it")
    parser.add_argument("--refit-hours", type=float)
    options = parser.parse_args()
    names = options.sets.split(",") if options.sets else None
    folders = [path.parent for path in sorted(options.data.glob("*/labels.parquet"))]
    folders = [folder for folder in folders if (folder.name in names if names else folder.name not in SIDE_SETS)]
    if not folders:
        raise SystemExit(f"{options.data} has no <set>/labels.parquet of the requested sets")
    wall, cpu = time.perf_counter(), time.process_time()
    with one_thread():
        table = pd.concat([run_set(folder) for folder in folders], ignore_index=True)
    print(report(table))
    print(f"time {time.perf_counter() - wall:.0f} s, CPU {time.process_time() - cpu:.0f} s")
    if options.refit_hours:
        replayed = pd.concat([replay_set(folder, options.refit_hours) for folder in folders], axis=1)
        print(f"\nVUS-PR of the backtest, refitted every {options.refit_hours:g} hours")
        print(replayed.assign(mean=replayed.mean(axis=1)).round(3).to_string())
    if options.json:
        options.json.write_text(json.dumps(table.to_dict("records"), indent=1, default=str), encoding="utf-8")


@dataclass(frozen=True)
class Prepared:
    """One set, ready for its candidates.

    ``table`` and ``wide`` have all rows, the latter with rolling features. ``past`` (n,) marks the history, ``truth``
    (n,) the rows labelled as incidents. ``training_set`` and ``holdout`` come from the history.
    """

    catalogue: Catalogue
    period_s: int
    table: MetricTable
    wide: MetricTable
    past: np.ndarray
    truth: np.ndarray
    training_set: TrainingSet
    holdout: Holdout

    def real(self, score: FloatArray) -> float:
        """Return the mean VUS-PR of a score (n,) on the replay's labels, over instances."""
        buffer = max(1, RENOTIFY_MIN * 60 // self.period_s)
        replayed = (~self.past & (self.table.code == code) for code in range(len(self.table.instances)))
        return float(np.nanmean([vus_pr(self.truth[rows], score[rows], buffer) for rows in replayed]))

    def row(self, family: str, settings: str, recipe: Recipe) -> dict[str, object]:
        """Fit a candidate and return its row of the table."""
        fitted = fit_model(self.training_set, self.catalogue, recipe)
        measured = score_rows(fitted.model, self.wide, row_baselines(fitted.model.baselines, self.table, {}))
        figures = {
            **guard_figures(fitted, self.training_set, recipe.seed),
            "alerts_per_instance_day": fitted.pages,
            "injected_vus_pr": injected_vus_pr(self.holdout, self.catalogue, {}, recipe),
        }
        return {
            "family": family,
            "settings": settings,
            REAL: self.real(np.nan_to_num(measured.score)),
            INJECTED: figures["injected_vus_pr"],
            "vetoes": "; ".join(vetoes(figures)),
            "figures": figures,
        }


def prepare(folder: Path) -> Prepared:
    """Read a set and make the training set and the trial of its history."""
    history, replay, labels = (pd.read_parquet(folder / f"{part}.parquet") for part in ("history", "replay", "labels"))
    rows, metrics = joined_rows(history, replay, packaged())
    catalogue = Catalogue(tuple(metric for metric, _ in metrics))
    period_s = usual_period(rows)
    table = as_table(rows, catalogue.names, GAP_PERIODS * period_s)
    rolling_lengths = rolling.choose_lengths(len(catalogue.names), period_s)
    wide = rolling.add_rolling_features(table, rolling_lengths)
    past = ~rows["replayed"].to_numpy()
    training_set = fit_training_set(table.take(past), wide.take(past), rolling_lengths, catalogue, {})
    return Prepared(
        catalogue=catalogue,
        period_s=period_s,
        table=table,
        wide=wide,
        past=past,
        truth=rows.merge(labels, on=["instance_id", "timestamp"], how="left")["label"].fillna(0).to_numpy(bool),
        training_set=training_set,
        holdout=make_holdout(training_set, catalogue, {}, period_s=period_s, seed=0),
    )


def run_set(folder: Path) -> pd.DataFrame:
    """Return one row for each candidate of a set.

    It has family, settings, both figures, alerts, vetoes, and whether auto chose the candidate.
    """
    data = prepare(folder)
    with planted_family():
        recipe = Recipe("kmeans", period_s=data.period_s)
        candidates = [
            data.row(family, name, replace(recipe, family=family, **settings))
            for name, settings in SETTINGS.items()
            for family in FAMILIES
            if family not in PLANTED
        ]
        candidates.append(data.row(GIANT, "planted", replace(recipe, family=GIANT)))
    by_default = {str(item["family"]): item["figures"] for item in candidates if item["settings"] == "default"}
    candidates.append(load_candidate(data.training_set, data.table, data.holdout, by_default["kmeans"], data.real))
    try:
        winner = choose(by_default).winner
    except SelectionError:
        winner = ""
    return pd.DataFrame(candidates).assign(
        set=folder.name,
        auto=[item["settings"] == "default" and item["family"] == winner for item in candidates],
    )


def load_candidate(
    training_set: TrainingSet,
    table: MetricTable,
    holdout: Holdout,
    level_figures: Mapping[str, float],
    real: Callable[[FloatArray], float],
) -> dict[str, object]:
    """Return the planted candidate with load as its score.

    Its levels, and so their figures, are those of KMeans.
    """
    score = load_score(training_set, training_set.table)
    injected = rate(holdout, load_score(holdout.training_set, holdout.table))
    figures = {**level_figures, "load_correlation": load_correlation(score, score, seed=0), "injected_vus_pr": injected}
    return {
        "family": LOAD,
        "settings": "planted",
        REAL: real(load_score(training_set, table)),
        INJECTED: injected,
        "vetoes": "; ".join(vetoes(figures)),
        "figures": figures,
    }


def load_score(training_set: TrainingSet, table: MetricTable) -> FloatArray:
    """Return the load of each row in the level space of the training rows."""
    values = training_set.baselines.impute(table, row_baselines(training_set.baselines, table, {}))
    level = level_space(values, training_set.level_center, training_set.level_scale)
    mean: FloatArray = level[:, list(training_set.load.columns)].mean(axis=1)
    return mean


@contextmanager
def planted_family() -> Iterator[None]:
    """Add average linkage to the families for the duration of a context."""
    FAMILIES[GIANT] = Family(GIANT, average_linkage)
    try:
        yield
    finally:
        del FAMILIES[GIANT]


def average_linkage(x: FloatArray, params: Params, seed: int) -> FamilyFit:
    """Fit four clusters of average linkage to at most 2,000 of the vectors (n, d).

    The mean of each cluster serves as its prototype.
    """
    from scipy.cluster.hierarchy import fcluster, linkage

    sample = subsample(len(x), SAMPLE, seed)
    seen = x[sample]
    clusters = fcluster(linkage(seen, method="average"), CLUSTERS, criterion="maxclust")
    labels = np.unique(clusters, return_inverse=True)[1].astype(np.int64)
    means = np.stack([seen[labels == label].mean(axis=0) for label in np.unique(labels)])
    stage = make_stage(means, np.arange(len(means)))
    served = PrototypeMap((stage,))
    fidelity = agreement(labels, nearest(seen, stage.prototypes)[0])
    return FamilyFit(served, sample, labels, {"clusters": len(means)}, {"fidelity": fidelity})


def report(table: pd.DataFrame) -> str:
    """Return mean figures, rank correlations, and the loss of auto in hindsight."""
    from scipy.stats import kendalltau

    key = ["family", "settings"]
    # The injected figure ranks the candidates: the guards concern levels and cost, which these labels do not measure.
    # Only a vetoed planted candidate is placed below all others.
    out = (table["settings"] == "planted") & (table["vetoes"] != "")
    table = table.assign(**{PLACED: table[INJECTED] - out})
    means = table.groupby(key, sort=False)[[REAL, INJECTED, PLACED]].mean()
    means["vetoed in"] = table[table["vetoes"] != ""].groupby(key)["set"].agg(", ".join)
    lines = [means.fillna({"vetoed in": ""}).sort_values(REAL, ascending=False).round(3).to_string(), ""]
    planted = means.index.get_level_values("settings") == "planted"
    for title, candidates in (("grid and planted", means.index), ("grid alone", means.index[~planted])):
        tau = kendalltau(means.loc[candidates, REAL], means.loc[candidates, PLACED]).statistic
        lines.append(f"Kendall tau of injected and real, {title} ({len(candidates)} candidates): {tau:+.2f}")
    for name, part in table.groupby("set", sort=False):
        lines.append(f"  {name}: {kendalltau(part[REAL], part[PLACED]).statistic:+.2f}")
    last = means.loc[planted, PLACED].max() <= means.loc[~planted, PLACED].min()
    lines.append(f"planted candidates vetoed or last: {'yes' if last else 'NO'}")
    families = table[table["settings"] == "default"].pivot(index="family", columns="set", values=REAL)
    single = families.mean(axis=1)
    winners = table[table["auto"]].set_index("set")
    auto = winners[REAL].reindex(families.columns)
    picked = ", ".join(f"{name} {family}" for name, family in winners["family"].items())
    lines.append(
        f"auto ({picked}) {auto.mean():.3f}; best single family in hindsight ({single.idxmax()}) {single.max():.3f}, "
        f"loss {single.max() - auto.mean():+.3f}; best of each set {families.max().mean():.3f}, "
        f"loss {(families.max() - auto).mean():+.3f}"
    )
    lines += ["", "vetoes"]
    vetoed = table[table["vetoes"] != ""]
    reasons = [f"  {row['set']}, {row['family']}, {row['settings']}: {row['vetoes']}" for _, row in vetoed.iterrows()]
    lines += reasons or ["  none"]
    return "\n".join(lines)


def replay_set(folder: Path, refit_hours: float) -> pd.Series:
    """Return the mean VUS-PR of each family and of auto, replayed with refits."""
    history, replay, labels = (pd.read_parquet(folder / f"{part}.parquet") for part in ("history", "replay", "labels"))
    means = {}
    for family in (*FAMILIES, "auto"):
        rows = backtest(history, replay, family=family, refit_hours=refit_hours).rows
        means[family] = of_replay(labels, rows[["instance_id", "timestamp", "score", "alert"]])["VUS_PR"].mean()
    return pd.Series(means, name=folder.name)


if __name__ == "__main__":
    main()

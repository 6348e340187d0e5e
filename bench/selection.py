"""Does choosing without labels choose well? The ranking by injected incidents beside the ranking by real ones.

    python -m bench.selection DATA_ROOT [--json FILE] [--sets a,b] [--refit-hours H]

DATA_ROOT is as for ``bench.detection``. Every candidate of the grid, five families times three settings, is fitted once
to each set's history: that model gives its guards, and its VUS-PR on the replay's labels, which no refit shares.
``injected`` is what the contest sees: the same recipe, fitted to the older part of the history with incidents in it and
asked about the newer part. Two bad candidates are planted: load itself as the score, and average linkage, which puts
nearly every row into one cluster. ``auto`` is what the contest of the five families chooses for each set.

With ``--refit-hours`` the families and ``auto`` are replayed by the backtest as well, refitted that often: hours of CPU
for a daily refit of all sets, and the form that serves.
"""

from __future__ import annotations

import argparse
import json
import time
from contextlib import contextmanager
from dataclasses import replace
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
from riskwatch_ml.families.prototype_map import ClusterMap, make_stage, nearest
from riskwatch_ml.features import rolling as trailing
from riskwatch_ml.features.levels import severity_of
from riskwatch_ml.features.spaces import level_space, row_baselines
from riskwatch_ml.features.table import as_table
from riskwatch_ml.features.training_set import GAP_PERIODS, Space, space_of
from riskwatch_ml.model.fit import Recipe, fit_model
from riskwatch_ml.model.fleet_model import measure
from riskwatch_ml.schema.catalogue import Catalogue
from riskwatch_ml.schema.catalogue import load as packaged
from riskwatch_ml.selection.guard_figures import guard_figures, load_correlation
from riskwatch_ml.selection.guards import vetoes
from riskwatch_ml.selection.holdout import injected_vus_pr, make_trial, rate
from riskwatch_ml.selection.ranking import SelectionError, choose
from riskwatch_ml.selection.vus import vus_pr

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from riskwatch_ml.core.arrays import FloatArray
    from riskwatch_ml.families.base import Params
    from riskwatch_ml.features.table import MetricTable
    from riskwatch_ml.selection.holdout import Trial

# A family's own settings: how finely it may describe a group's rows, and over how many rows at a time.
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
    """Run all sets, print the table and what it comes to, and write it as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--sets", help="comma-separated; the headline sets without it")
    parser.add_argument("--refit-hours", type=float)
    options = parser.parse_args()
    wanted = options.sets.split(",") if options.sets else None
    folders = [path.parent for path in sorted(options.data.glob("*/labels.parquet"))]
    folders = [f for f in folders if (f.name in wanted if wanted else f.name not in SIDE_SETS)]
    if not folders:
        raise SystemExit(f"{options.data} holds no <set>/labels.parquet of the sets asked for")
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


def run_set(folder: Path) -> pd.DataFrame:
    """One row for each candidate: family, settings, its two figures, alerts, vetoes, and whether auto chose it."""
    history, replay, labels = (pd.read_parquet(folder / f"{part}.parquet") for part in ("history", "replay", "labels"))
    rows, metrics = joined_rows(history, replay, packaged())
    catalogue = Catalogue(tuple(metric for metric, _ in metrics))
    period_s = usual_period(rows)
    table = as_table(rows, catalogue.names, GAP_PERIODS * period_s)
    trails = trailing.trails_for(len(catalogue.names), period_s)
    wide = trailing.widen(table, trails)
    past = ~rows["replayed"].to_numpy()
    space = space_of(table.take(past), wide.take(past), trails, {})
    trial = make_trial(space, catalogue, {}, period_s=period_s, seed=0)
    truth = rows.merge(labels, on=["instance_id", "timestamp"], how="left")["label"].fillna(0).to_numpy(bool)

    def real(score: FloatArray) -> float:
        buffer = max(1, RENOTIFY_MIN * 60 // period_s)
        found = [
            vus_pr(truth[own], score[own], buffer)
            for own in (~past & (table.code == code) for code in range(len(table.instances)))
        ]
        return float(np.nanmean(found))

    def row(family: str, settings: str, recipe: Recipe) -> dict[str, object]:
        fitted = fit_model(space, catalogue, recipe)
        measured = measure(fitted.model, wide, row_baselines(fitted.model.baselines, table, {}))
        figures = {
            **guard_figures(fitted, space, recipe.seed),
            "alerts_per_instance_day": fitted.alerts,
            "injected_vus_pr": injected_vus_pr(trial, catalogue, {}, recipe),
        }
        return {
            "family": family,
            "settings": settings,
            REAL: real(np.nan_to_num(measured.score)),
            INJECTED: figures["injected_vus_pr"],
            "vetoes": "; ".join(vetoes(figures)),
            "figures": figures,
        }

    with planted_family():
        recipe = Recipe("kmeans", period_s=period_s)
        found = [
            row(family, name, replace(recipe, family=family, **settings))
            for name, settings in SETTINGS.items()
            for family in FAMILIES
            if family not in PLANTED
        ]
        found.append(row(GIANT, "planted", replace(recipe, family=GIANT)))
    by_default = {str(item["family"]): item["figures"] for item in found if item["settings"] == "default"}
    found.append(load_candidate(space, table, trial, by_default["kmeans"], real))
    try:
        chosen = choose(by_default).winner
    except SelectionError:
        chosen = ""
    return pd.DataFrame(found).assign(
        set=folder.name,
        auto=[item["settings"] == "default" and item["family"] == chosen for item in found],
    )


def load_candidate(
    space: Space,
    table: MetricTable,
    trial: Trial,
    level_figures: Mapping[str, float],
    real: Callable[[FloatArray], float],
) -> dict[str, object]:
    """The planted candidate whose score is load; its levels, and so their figures, are those of KMeans."""
    own = load_score(space, space.table)
    injected = rate(trial, load_score(trial.space, trial.table))
    figures = {**level_figures, "load_correlation": load_correlation(own, own, seed=0), "injected_vus_pr": injected}
    return {
        "family": LOAD,
        "settings": "planted",
        REAL: real(load_score(space, table)),
        INJECTED: injected,
        "vetoes": "; ".join(vetoes(figures)),
        "figures": figures,
    }


def load_score(space: Space, table: MetricTable) -> FloatArray:
    """How busy each row is, in the level space of the training rows."""
    values = space.baselines.impute(table, row_baselines(space.baselines, table, {}))
    level = level_space(values, space.level_center, space.level_scale)
    mean: FloatArray = level[:, severity_of(space.table.values, table.features)].mean(axis=1)
    return mean


@contextmanager
def planted_family() -> Iterator[None]:
    """Average linkage among the families, for as long as the block lasts."""
    FAMILIES[GIANT] = Family(GIANT, average_linkage)
    try:
        yield
    finally:
        del FAMILIES[GIANT]


def average_linkage(x: FloatArray, params: Params, seed: int) -> FamilyFit:
    """Four clusters of average linkage on at most 2,000 vectors (n, d), served by the mean of each."""
    from scipy.cluster.hierarchy import fcluster, linkage

    sample = subsample(len(x), SAMPLE, seed)
    seen = x[sample]
    found = fcluster(linkage(seen, method="average"), CLUSTERS, criterion="maxclust")
    labels = np.unique(found, return_inverse=True)[1].astype(np.int64)
    means = np.stack([seen[labels == label].mean(axis=0) for label in np.unique(labels)])
    stage = make_stage(means, np.arange(len(means)))
    served = ClusterMap((stage,))
    fidelity = agreement(labels, nearest(seen, stage.prototypes)[0])
    return FamilyFit(served, sample, labels, {"clusters": len(means)}, {"fidelity": fidelity})


def report(table: pd.DataFrame) -> str:
    """Mean figures of every candidate, the rank correlations, and what auto loses against hindsight."""
    from scipy.stats import kendalltau

    key = ["family", "settings"]
    # The ranking is that of the injected figure: the guards speak of levels and cost, of which these labels know
    # nothing. Only a planted candidate that is vetoed is placed below all others.
    out = (table["settings"] == "planted") & (table["vetoes"] != "")
    table = table.assign(**{PLACED: table[INJECTED] - out})
    means = table.groupby(key, sort=False)[[REAL, INJECTED, PLACED]].mean()
    means["vetoed in"] = table[table["vetoes"] != ""].groupby(key)["set"].agg(", ".join)
    lines = [means.fillna({"vetoed in": ""}).sort_values(REAL, ascending=False).round(3).to_string(), ""]
    planted = means.index.get_level_values("settings") == "planted"
    for what, chosen in (("grid and planted", means.index), ("grid alone", means.index[~planted])):
        tau = kendalltau(means.loc[chosen, REAL], means.loc[chosen, PLACED]).statistic
        lines.append(f"Kendall tau of injected and real, {what} ({len(chosen)} candidates): {tau:+.2f}")
    for name, part in table.groupby("set", sort=False):
        lines.append(f"  {name}: {kendalltau(part[REAL], part[PLACED]).statistic:+.2f}")
    last = means.loc[planted, PLACED].max() <= means.loc[~planted, PLACED].min()
    lines.append(f"planted candidates vetoed or last: {'yes' if last else 'NO'}")
    families = table[table["settings"] == "default"].pivot(index="family", columns="set", values=REAL)
    single = families.mean(axis=1)
    chosen = table[table["auto"]].set_index("set")
    auto = chosen[REAL].reindex(families.columns)
    picked = ", ".join(f"{name} {family}" for name, family in chosen["family"].items())
    lines.append(
        f"auto ({picked}) {auto.mean():.3f}; best single family in hindsight ({single.idxmax()}) {single.max():.3f}, "
        f"loss {single.max() - auto.mean():+.3f}; best of each set {families.max().mean():.3f}, "
        f"loss {(families.max() - auto).mean():+.3f}"
    )
    lines += ["", "vetoes"]
    refused = table[table["vetoes"] != ""]
    told = [f"  {row['set']}, {row['family']}, {row['settings']}: {row['vetoes']}" for _, row in refused.iterrows()]
    lines += told or ["  none"]
    return "\n".join(lines)


def replay_set(folder: Path, refit_hours: float) -> pd.Series:
    """Mean VUS-PR of each family and of auto, each replayed with refits."""
    history, replay, labels = (pd.read_parquet(folder / f"{part}.parquet") for part in ("history", "replay", "labels"))
    found = {}
    for family in (*FAMILIES, "auto"):
        rows = backtest(history, replay, family=family, refit_hours=refit_hours).rows
        found[family] = of_replay(labels, rows[["instance_id", "timestamp", "score", "alert"]])["VUS_PR"].mean()
    return pd.Series(found, name=folder.name)


if __name__ == "__main__":
    main()

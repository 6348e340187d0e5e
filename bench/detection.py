"""Detection on labelled incidents: the backtest beside common methods.

    python -m bench.detection DATA_ROOT [--json FILE] [--family F] [--refit-hours H] [--sets a,b] [--seed N]
        [--pages-per-instance-day X] [--ordinary-days] [--new-normal-hours H|off]

DATA_ROOT/<set>/ has history.parquet and replay.parquet (instance_id, timestamp in UTC, any numeric metrics) and
labels.parquet (instance_id, timestamp, label 0 or 1, for the replay rows). The other methods are fitted once to the
history of each instance. They alert if their score exceeds its 99.5 % quantile there; three sigma and the band have
limits of their own. The report has pages a day and instance, the share of the pages that is near an incident, and
paired differences per instance.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from bench.figures import COUNTS, FIGURES, of_replay, pooled
from bench.long_incident import learning
from riskwatch_ml.backtest.replay import backtest
from riskwatch_ml.model.page_budget import PageBudget

if TYPE_CHECKING:
    from collections.abc import Callable

KEY = ["instance_id", "timestamp"]
OURS = "riskwatch"
SIDE_SETS = ("petshop",)  # too short for a refit: shown, but not part of the headline
QUANTILE = 0.995
LEAST = 1e-9
# Side sets have incidents of a few rows, so that their buffer is as short.
BUFFER_ROWS = {"petshop": 2}

Scores = tuple[np.ndarray, np.ndarray]  # score and alert of the replay rows


def main() -> None:
    """Run all sets and print their tables and the headline.

    With `--json`, the table is written as JSON.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--family", default="auto")
    parser.add_argument("--pages-per-instance-day", type=float, default=1.0)
    parser.add_argument("--ordinary-days", action="store_true", help="leave out the busiest fifth of instance-days")
    parser.add_argument("--refit-hours", type=float, default=24)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--new-normal-hours", help="off: learn every row; the setting without it")
    parser.add_argument("--sets", help="comma-separated; all without it")
    options = parser.parse_args()
    folders = sorted(path.parent for path in options.data.glob("*/labels.parquet"))
    if options.sets:
        folders = [folder for folder in folders if folder.name in options.sets.split(",")]
    if not folders:
        raise SystemExit(f"{options.data} has no <set>/labels.parquet")
    table = pd.concat([run_set(folder, options) for folder in folders])
    print(report(table))
    if options.json:
        options.json.write_text(table.to_json(orient="records", indent=1), encoding="utf-8")
        json.loads(options.json.read_text(encoding="utf-8"))


def run_set(folder: Path, options: argparse.Namespace) -> pd.DataFrame:
    """Return the figures of every method and instance of one set.

    `cpu_s` has the CPU seconds of the method for the set.
    """
    history, replay, labels = (pd.read_parquet(folder / f"{part}.parquet") for part in ("history", "replay", "labels"))
    tables = []
    started = time.process_time()
    with learning(options.new_normal_hours) as new_normal_hours:
        result = backtest(
            history,
            replay,
            family=options.family,
            budget=PageBudget(options.pages_per_instance_day, options.ordinary_days),
            refit_hours=options.refit_hours,
            seed=options.seed,
            new_normal_hours=new_normal_hours,
        )
    families = ",".join(dict.fromkeys(refresh.family for refresh in result.refreshes))
    labelled = {OURS: (result.rows[[*KEY, "score", "alert"]], time.process_time() - started, families)}
    for name, method in BASELINES.items():
        started = time.process_time()
        labelled[name] = (per_instance(method, history, replay), time.process_time() - started, "")
    for name, (rows, seconds, family_names) in labelled.items():
        figures = of_replay(labels, rows, BUFFER_ROWS.get(folder.name)).reset_index()
        tables.append(figures.assign(set=folder.name, method=name, cpu_s=seconds, family=family_names))
    return pd.concat(tables)


def report(table: pd.DataFrame) -> str:
    """Return the table by set and method, the headline and paired differences."""
    by_set = table.groupby(["set", "method"], sort=False)[[*FIGURES, "cpu_s"]].mean()
    counts = table.groupby(["set", "method"], sort=False)[list(COUNTS)].sum()
    lines = [by_set.join(pooled(counts)).round(3).to_string(), ""]
    whole = by_set[list(FIGURES)].join(pooled(counts))
    headline = whole[~whole.index.get_level_values("set").isin(SIDE_SETS)].groupby("method", sort=False).mean()
    lines += ["headline: mean of the sets", headline.round(3).to_string(), ""]
    lines += ["paired differences per instance, riskwatch minus the other: mean (better / worse)"]
    wide = table.set_index(["set", "instance_id", "method"])
    ours = wide.xs(OURS, level="method")
    for name in BASELINES:
        other = wide.xs(name, level="method").reindex(ours.index)
        parts = []
        for figure, sign in (("VUS_PR", 1), ("Fc1", 1), ("fa_day", -1)):
            gap = (ours[figure] - other[figure]).dropna()
            better, worse = int((sign * gap > 0).sum()), int((sign * gap < 0).sum())
            parts.append(f"{figure} {gap.mean():+.3f} ({better} / {worse})")
        lines.append(f"  {name:28s} " + "   ".join(parts))
    ours_cpu = table[table["method"] == OURS].groupby("set")["cpu_s"].first()
    lines.append(f"CPU seconds of riskwatch: {ours_cpu.sum():.0f} ({ours_cpu.round(0).to_dict()})")
    return "\n".join(lines)


def per_instance(
    method: Callable[[pd.DataFrame, pd.DataFrame], Scores], history: pd.DataFrame, replay: pd.DataFrame
) -> pd.DataFrame:
    """Label the replay with one model per instance."""
    parts = []
    for name, rows in replay.groupby("instance_id"):
        past, now = history[history["instance_id"] == name].sort_values("timestamp"), rows.sort_values("timestamp")
        score, alert = method(past, now)
        parts.append(now[KEY].assign(score=score, alert=alert))
    return pd.concat(parts)


def three_sigma(past: pd.DataFrame, now: pd.DataFrame) -> Scores:
    """Score rows by the largest deviation in standard deviations; alert above 3."""
    _before, after = _standardised(past, now)
    score = np.abs(after).max(axis=1) / 3
    return score, score > 1


def band(past: pd.DataFrame, now: pd.DataFrame) -> Scores:
    """Score rows by the largest deviation from the mean of the hour of the week.

    An alert is a deviation of more than two standard deviations.
    """
    before, after = _standardised(past, now)
    hours = [
        frame["timestamp"].dt.day_of_week.to_numpy() * 24 + frame["timestamp"].dt.hour.to_numpy()
        for frame in (past, now)
    ]
    mean, deviation = np.zeros((168, before.shape[1])), np.ones((168, before.shape[1]))
    for hour in np.unique(hours[0]):
        rows = before[hours[0] == hour]
        mean[hour], deviation[hour] = rows.mean(axis=0), np.maximum(rows.std(axis=0), 0.05)
    score = (np.abs(after - mean[hours[1]]) / deviation[hours[1]]).max(axis=1) / 2
    return score, score > 1


def kmeans_distance(past: pd.DataFrame, now: pd.DataFrame) -> Scores:
    """Score rows by the distance to the nearest of four centroids."""
    from sklearn.cluster import KMeans

    before, after = _standardised(past, now)
    model = KMeans(4, n_init=3, random_state=0).fit(before)
    return _beyond(model.transform(before).min(axis=1), model.transform(after).min(axis=1))


def isolation_forest(past: pd.DataFrame, now: pd.DataFrame) -> Scores:
    """Score rows by an IsolationForest of 100 trees."""
    from sklearn.ensemble import IsolationForest

    before, after = _standardised(past, now)
    model = IsolationForest(n_estimators=100, random_state=0).fit(before)
    return _beyond(-model.score_samples(before), -model.score_samples(after))


BASELINES: dict[str, Callable[[pd.DataFrame, pd.DataFrame], Scores]] = {
    "three sigma": three_sigma,
    "hour-of-week band, 2 sigma": band,
    "KMeans k=4 distance": kmeans_distance,
    "IsolationForest": isolation_forest,
}


def _standardised(past: pd.DataFrame, now: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    columns = [column for column in past.columns if column not in KEY]
    before, after = (np.nan_to_num(frame[columns].to_numpy(np.float64)) for frame in (past, now))
    deviation = before.std(axis=0)
    deviation = np.maximum(deviation, 1e-3 * np.abs(before.mean(axis=0)) + 1e-6)
    return (before - before.mean(axis=0)) / deviation, (after - before.mean(axis=0)) / deviation


def _beyond(before: np.ndarray, after: np.ndarray) -> Scores:
    limit = max(float(np.quantile(before, QUANTILE)), LEAST)
    return after / limit, after > limit


if __name__ == "__main__":
    main()

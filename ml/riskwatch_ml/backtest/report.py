"""The report of a backtest for a person: alerts per day, incidents met, the worst misses and false alerts, refreshes.

Markdown with pictures beside it. Without labels it tells what would have been sent and why; with labels also what was
missed. Alerts are counted as the budget counts them (``riskwatch_ml.model.boundaries.count_episodes``). An episode and
its alerts are false where it is farther than ten minutes from every incident.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from riskwatch_ml.backtest.episodes import episodes, given_labels, incidents, near
from riskwatch_ml.backtest.figures import draw_around, draw_days
from riskwatch_ml.core import clock
from riskwatch_ml.core.escape import in_markdown

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from riskwatch_ml.backtest.replay import Backtest, Refresh
    from riskwatch_ml.core.arrays import FloatArray

PICTURES = 4
LISTED = 40


def write(result: Backtest, folder: Path, labels: pd.DataFrame | None = None) -> Path:
    """Write report.md and its pictures into a folder; returns the path of the Markdown file.

    Raises BacktestError for labels that cannot be read, ReportError for labels of other rows.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = result.rows
    told = episodes(rows)
    label = None if labels is None else given_labels(rows, labels)
    truth = None if label is None else incidents(rows, label)
    false = told if truth is None else told[~near(told, truth)]
    lines = ["# What Riskwatch would have told", "", *_summary(result, told, false, truth)]
    lines += [] if labels is None or label is None else _unmatched(label, labels)
    lines += ["", "## Alerts per day", "", "![Alerts of the episodes that began on each day](alerts.png)", ""]
    lines += _table(_per_instance(result, told, false, truth))
    draw_days(rows, told, None if truth is None else false, folder / "alerts.png")
    if truth is not None:
        missed = truth[~truth["met"]].sort_values("rows", ascending=False).head(PICTURES)
        lines += ["", f"## Worst misses ({int((~truth['met']).sum())} of {len(truth)} incidents were not met)", ""]
        lines += _pictures(result, missed, truth, told, folder, "missed", "this incident")
    title = "Highest episodes" if truth is None else "Worst false alerts"
    lines += ["", f"## {title}", ""]
    worst = false.sort_values("peak", ascending=False, kind="stable").head(PICTURES)
    lines += _pictures(result, worst, truth, told, folder, "alert", "this episode")
    lines += ["", *_episodes(result, told)]
    lines += ["", "## What changed at each refresh", "", *_table(_refreshes(result.refreshes)), ""]
    lines += _contests(result.refreshes)
    path = folder / "report.md"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _days(rows: pd.DataFrame, period_s: float) -> float:
    return max(len(rows) * period_s / 86_400, 1e-9)


def _summary(result: Backtest, told: pd.DataFrame, false: pd.DataFrame, truth: pd.DataFrame | None) -> list[str]:
    rows = result.rows
    span = [clock.iso(moment.to_pydatetime()) for moment in (rows["timestamp"].min(), rows["timestamp"].max())]
    days = _days(rows, result.period_s)
    lines = [
        f"{len(rows):,} rows of {rows['instance_id'].nunique()} instances from {span[0]} to {span[1]}, "
        f"{len(result.metrics)} metrics, one row every {result.period_s} s, {len(result.refreshes)} models.",
        "",
        f"- **{told['alerts'].sum():,} alerts**, {told['alerts'].sum() / days:.2f} for each instance and day, counted "
        "as the budget counts them: one for each episode, and one more for every full hour of it",
        f"- {len(told):,} episodes, runs of alerts closer than 15 minutes being one; "
        f"{float(rows['alert'].mean()):.2%} of the rows lie in one",
    ]
    if truth is not None and not len(truth):
        lines.append("- the labels have no incident in the replay: every episode counts as not near one")
    if truth is not None and len(truth):
        delay = truth["delay_min"].median()
        lines += [
            f"- **{int(truth['met'].sum())} of {len(truth)} incidents met**"
            + (f", half of them within {delay:.0f} minutes" if np.isfinite(delay) else ""),
            f"- {false['alerts'].sum():,} alerts, of {len(false):,} episodes, were not near an incident: "
            f"{false['alerts'].sum() / days:.2f} for each instance and day",
        ]
    return lines


def _unmatched(label: FloatArray, labels: pd.DataFrame) -> list[str]:
    """What of the labels and of the replay the other does not have, if anything."""
    used = int(np.isfinite(label).sum())
    found = []
    if used < len(labels):
        found.append(f"- {len(labels) - used:,} of {len(labels):,} labels are of no replay row and were left out")
    if used < len(label):
        found.append(f"- {len(label) - used:,} of {len(label):,} replay rows have no label and count as quiet")
    return found


def _per_instance(
    result: Backtest, told: pd.DataFrame, false: pd.DataFrame, truth: pd.DataFrame | None
) -> list[dict[str, Any]]:
    table = []
    for name, part in result.rows.groupby("instance_id"):
        own_alerts = int(told.loc[told["instance_id"] == name, "alerts"].sum())
        line: dict[str, Any] = {
            "instance": name,
            "rows": f"{len(part):,}",
            "unusual rows": f"{float(part['unusual'].mean()):.2%}",
            "episodes": int((told["instance_id"] == name).sum()),
            "alerts": own_alerts,
            "alerts a day": f"{own_alerts / _days(part, result.period_s):.2f}",
        }
        if truth is not None:
            own = truth[truth["instance_id"] == name]
            line["incidents met"] = f"{int(own['met'].sum())} of {len(own)}"
            line["alerts not near one"] = int(false.loc[false["instance_id"] == name, "alerts"].sum())
        table.append(line)
    return table


def _episodes(result: Backtest, told: pd.DataFrame) -> list[str]:
    """The episodes with the highest scores; each instance's highest come first, so that a noisy one hides no other."""
    lines = [f"## Episodes ({min(LISTED, len(told))} of {len(told)})", ""]
    shown = told.sort_values("peak", ascending=False, kind="stable")
    if len(told) > LISTED:
        lines += [f"The highest of each instance, at most {LISTED // 2}, then the highest of all, by score.", ""]
        best = shown.index[~shown.duplicated("instance_id")][: LISTED // 2]
        others = shown.index.difference(best, sort=False)[: LISTED - len(best)]
        shown = shown[shown.index.isin(best.union(others))]
    return lines + _table(_listed(result, shown))


def _listed(result: Backtest, told: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {
            "instance": episode.instance_id,
            "from": clock.iso(episode.start.to_pydatetime()),
            "rows": episode.rows,
            "alerts": episode.alerts,
            "highest score": f"{episode.peak:.2f}",
            "because": "; ".join(_reason(result, reason) for reason in result.told.get(episode.first, [])[:2]),
        }
        for episode in told.itertuples()
    ]


def _reason(result: Backtest, reason: dict[str, Any]) -> str:
    name = result.metrics.get(str(reason["feature"]), str(reason["feature"]))
    return f"{name} {reason['value']} (expected {reason['low']} to {reason['high']})"


def _refreshes(refreshes: list[Refresh]) -> list[dict[str, Any]]:
    return [
        {
            "moment": clock.iso(refresh.ms),
            "family": refresh.family,
            "rows": f"{refresh.rows:,}",
            "paging threshold": f"{refresh.paging_threshold:.3f}",
            "alerts a day on its own rows": f"{refresh.alerts_expected:.2f}",
            "rows of another level than before": "-" if refresh.churn is None else f"{refresh.churn:.1%}",
            "what happened": "; ".join(_happened(before, refresh)),
        }
        for before, refresh in zip([None, *refreshes[:-1]], refreshes, strict=True)
    ]


def _happened(before: Refresh | None, refresh: Refresh) -> list[str]:
    """What became of a refresh and why, then who joined or left the known instances."""
    if not refresh.serves:
        what = "nothing would serve: a fall-back"
    elif refresh.kept:
        what = "kept"
    elif before is None:
        what = "first model"
    elif before.family != refresh.family:
        what = f"family {before.family} to {refresh.family}"
    else:
        what = "refreshed"
    found = [f"{what}: {refresh.why}" if refresh.why and refresh.serves else what]
    if before is not None and before.instances != refresh.instances:
        found.append(f"{before.instances} to {refresh.instances} known instances")
    return found


def _contests(refreshes: list[Refresh]) -> list[str]:
    lines = []
    for refresh in refreshes:
        if refresh.contest is None:
            continue
        vetoes = refresh.contest.vetoes
        lines += [f"Contest of {clock.iso(refresh.ms)}, {_outcome(refresh)}:", ""]
        table = [
            {
                "family": family,
                "VUS-PR on injected incidents": f"{figures['injected_vus_pr']:.3f}",
                "alerts a day": f"{figures['alerts_per_instance_day']:.2f}",
                "vetoes": "; ".join(vetoes.get(family, [])) or "none",
            }
            for family, figures in refresh.contest.figures.items()
        ]
        table += [
            {
                "family": family,
                "VUS-PR on injected incidents": f"{rating:.3f}",
                "alerts a day": "-",
                "vetoes": "not fitted: too far behind",
            }
            for family, rating in refresh.contest.trials.items()
        ]
        lines += [*_table(table), ""]
    return lines


def _outcome(refresh: Refresh) -> str:
    if not refresh.serves:
        return (
            f"every family is vetoed, **the DAG would serve nothing**; {refresh.family} labels the replay all the same"
        )
    if refresh.contest is not None and refresh.contest.choice is None:
        return f"every family is vetoed, **{refresh.family}** goes on serving as it was"
    return f"**{refresh.family}** serves"


def _table(table: list[dict[str, Any]]) -> list[str]:
    if not table:
        return ["None."]
    heads = list(table[0])
    cells = [[in_markdown(line[head]) for head in heads] for line in table]
    return ["| " + " | ".join(line) + " |" for line in [heads, ["---"] * len(heads), *cells]]


def _pictures(
    result: Backtest,
    chosen: pd.DataFrame,
    truth: pd.DataFrame | None,
    told: pd.DataFrame,
    folder: Path,
    kind: str,
    what: str,
) -> list[str]:
    lines = []
    for number, stretch in enumerate(chosen.itertuples(), 1):
        name = f"{kind}-{number}.png"
        moment = clock.iso(stretch.start.to_pydatetime())
        caption = f"{in_markdown(stretch.instance_id)}, {moment}, highest score {stretch.peak:.2f}"
        draw_around(result, stretch, what, truth, told, folder / name)
        lines += [f"![{caption}]({name})", "", f"Instance {caption}", ""]
    return lines or ["None."]

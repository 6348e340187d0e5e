"""The report of a backtest for a person: alerts per day, incidents met, the worst misses and false alerts, refreshes.

Markdown with pictures beside it. Without labels it tells what would have been sent and why; with labels also what was
missed. An alert is false where it is farther than ten minutes from every incident.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ml import clock

if TYPE_CHECKING:
    from pathlib import Path

    from ml.backtest import Backtest, Refresh

PICTURES = 4
AROUND = pd.Timedelta(hours=6)
NEAR = pd.Timedelta(minutes=10)
LISTED = 40
METRICS_SHOWN = 3


class ReportError(ValueError):
    """The labels do not fit the replay; the message says how."""


def episodes(rows: pd.DataFrame) -> pd.DataFrame:
    """Episodes of labelled rows: instance_id, start, end (of the last alert row), rows, peak score, first (row)."""
    return _stretches(rows, rows["alert"].to_numpy(bool))


def incidents(rows: pd.DataFrame, labels: pd.DataFrame) -> pd.DataFrame:
    """Labelled incidents like episodes, with ``met`` and ``delay_min`` to the first alert; raises ReportError."""
    absent = {"instance_id", "timestamp", "label"} - set(labels.columns)
    if absent:
        raise ReportError(f"the labels have no column {', '.join(sorted(absent))}")
    keys = labels[["instance_id", "timestamp", "label"]].assign(
        instance_id=labels["instance_id"].astype(str),
        timestamp=pd.DatetimeIndex(pd.to_datetime(labels["timestamp"], utc=True)).as_unit("ms"),
    )
    joined = rows[["instance_id", "timestamp"]].merge(keys, on=["instance_id", "timestamp"], how="left")
    if len(joined) != len(rows):
        raise ReportError("the labels repeat an (instance_id, timestamp): keep one each")
    found = _stretches(rows, joined["label"].fillna(0).to_numpy() > 0)
    alert, moments = rows["alert"].to_numpy(bool), rows["timestamp"]
    delays = []
    for first, count in zip(found["first"], found["rows"], strict=True):
        hits = np.flatnonzero(alert[first : first + count])
        delay = (moments.iloc[first + hits[0]] - moments.iloc[first]).total_seconds() / 60 if len(hits) else np.nan
        delays.append(delay)
    return found.assign(met=np.isfinite(delays), delay_min=delays)


def write(result: Backtest, folder: Path, labels: pd.DataFrame | None = None) -> Path:
    """Write report.md and its pictures into a folder; returns the path of the Markdown file. Raises ReportError."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = result.rows
    told = episodes(rows)
    truth = None if labels is None else incidents(rows, labels)
    false = told if truth is None else told[~_near(told, truth)]
    lines = ["# What Riskwatch would have told", "", *_summary(result, told, false, truth), ""]
    lines += ["## Alerts per day", "", "![Episodes begun on each day](alerts.png)", ""]
    lines += _table(_per_instance(rows, told, false, truth))
    _draw_days(told, false, truth, folder / "alerts.png")
    if truth is not None:
        missed = truth[~truth["met"]].sort_values("rows", ascending=False).head(PICTURES)
        lines += ["", f"## Worst misses ({int((~truth['met']).sum())} of {len(truth)} incidents were not met)", ""]
        lines += _pictures(result, missed, truth, told, folder, "missed")
    title = "Highest episodes" if truth is None else "Worst false alerts"
    lines += ["", f"## {title}", ""]
    lines += _pictures(result, false.sort_values("peak", ascending=False).head(PICTURES), truth, told, folder, "alert")
    lines += [
        "",
        f"## Episodes ({min(LISTED, len(told))} of {len(told)})",
        "",
        *_table(_listed(result, told.head(LISTED))),
    ]
    lines += ["", "## What changed at each refresh", "", *_table(_refreshes(result.refreshes)), ""]
    lines += _contests(result.refreshes)
    path = folder / "report.md"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _stretches(rows: pd.DataFrame, mask: np.ndarray) -> pd.DataFrame:
    """Runs of True within an instance, rows sorted by instance and time."""
    code = pd.factorize(rows["instance_id"])[0]
    starts = mask & ~(np.append(False, mask[:-1]) & (np.diff(code, prepend=-1) == 0))
    place = np.flatnonzero(mask)
    first = np.flatnonzero(starts)
    last = np.append(place[np.searchsorted(place, first[1:]) - 1], place[-1:])
    score = rows["score"].to_numpy()
    return pd.DataFrame(
        {
            "instance_id": rows["instance_id"].to_numpy()[first],
            "start": rows["timestamp"].iloc[first].to_numpy(),
            "end": rows["timestamp"].iloc[last].to_numpy(),
            "rows": last - first + 1,
            "peak": [float(np.nanmax(score[a : b + 1], initial=0.0)) for a, b in zip(first, last, strict=True)],
            "first": first,
        }
    ).assign(start=lambda x: pd.to_datetime(x["start"], utc=True), end=lambda x: pd.to_datetime(x["end"], utc=True))


def _near(told: pd.DataFrame, truth: pd.DataFrame) -> np.ndarray:
    """Episodes within ten minutes of an incident of their instance."""
    near = np.zeros(len(told), bool)
    for number, episode in enumerate(told.itertuples()):
        own = truth[truth["instance_id"] == episode.instance_id]
        near[number] = ((own["start"] <= episode.end + NEAR) & (own["end"] >= episode.start - NEAR)).any()
    return near


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
        f"- **{len(told)} episodes**, {len(told) / days:.2f} for each instance and day; "
        f"{float(rows['alert'].mean()):.2%} of the rows lie in one",
    ]
    if truth is not None and len(truth):
        delay = truth["delay_min"].median()
        lines += [
            f"- **{int(truth['met'].sum())} of {len(truth)} incidents met**"
            + (f", half of them within {delay:.0f} minutes" if np.isfinite(delay) else ""),
            f"- {len(false)} episodes were not near an incident: {len(false) / days:.2f} for each instance and day",
        ]
    return lines


def _per_instance(
    rows: pd.DataFrame, told: pd.DataFrame, false: pd.DataFrame, truth: pd.DataFrame | None
) -> list[dict[str, Any]]:
    table = []
    for name, part in rows.groupby("instance_id"):
        line: dict[str, Any] = {
            "instance": name,
            "rows": f"{len(part):,}",
            "unusual rows": f"{float(part['unusual'].mean()):.2%}",
            "episodes": int((told["instance_id"] == name).sum()),
        }
        if truth is not None:
            own = truth[truth["instance_id"] == name]
            line["incidents met"] = f"{int(own['met'].sum())} of {len(own)}"
            line["not near one"] = int((false["instance_id"] == name).sum())
        table.append(line)
    return table


def _listed(result: Backtest, told: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {
            "instance": episode.instance_id,
            "from": clock.iso(episode.start.to_pydatetime()),
            "rows": episode.rows,
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
    cells = [[str(line[head]).replace("|", "\\|") for head in heads] for line in table]
    return ["| " + " | ".join(line) + " |" for line in [heads, ["---"] * len(heads), *cells]]


def _pictures(
    result: Backtest,
    chosen: pd.DataFrame,
    truth: pd.DataFrame | None,
    told: pd.DataFrame,
    folder: Path,
    kind: str,
) -> list[str]:
    lines = []
    for number, stretch in enumerate(chosen.itertuples(), 1):
        name = f"{kind}-{number}.png"
        caption = f"{stretch.instance_id}, {clock.iso(stretch.start.to_pydatetime())}, highest score {stretch.peak:.2f}"
        _draw(result, stretch, truth, told, folder / name)
        lines += [f"![{caption}]({name})", "", caption, ""]
    return lines or ["None."]


def _draw_days(told: pd.DataFrame, false: pd.DataFrame, truth: pd.DataFrame | None, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3), layout="constrained")
    axes = figure.subplots()
    for part, label, colour in ((told, "episodes", "tab:blue"), (false, "not near an incident", "tab:red")):
        if len(part) and (truth is not None or part is told):
            counts = part.groupby(part["start"].dt.floor("D")).size()
            axes.bar(counts.index.tz_localize(None).to_numpy(), counts.to_numpy(), width=0.8, label=label, color=colour)
    axes.set_ylabel("episodes begun")
    if len(told):
        axes.legend()
    figure.autofmt_xdate()
    figure.savefig(path, dpi=90)


def _draw(result: Backtest, stretch: Any, truth: pd.DataFrame | None, told: pd.DataFrame, path: Path) -> None:
    """Score and the metrics that moved most, six hours around a stretch; incidents grey, episodes red."""
    from matplotlib.figure import Figure

    rows = result.rows[result.rows["instance_id"] == stretch.instance_id]
    rows = rows[rows["timestamp"].between(stretch.start - AROUND, stretch.end + AROUND)]
    inside = rows["timestamp"].between(stretch.start, stretch.end)
    metrics = list(result.metrics.values())
    spread = rows[metrics].std().replace(0, np.nan)
    moved = ((rows.loc[inside, metrics].mean() - rows[metrics].mean()).abs() / spread).fillna(0)
    shown = moved.sort_values(ascending=False, kind="stable").index[:METRICS_SHOWN].tolist()
    figure = Figure(figsize=(9, 2 + 1.4 * len(shown)), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1 + len(shown), 1, sharex=True))
    moments = rows["timestamp"].dt.tz_localize(None)
    axes[0].plot(moments, rows["score"], color="black", linewidth=0.9)
    axes[0].axhline(1.0, color="tab:orange", linewidth=0.8)
    axes[0].set_ylabel("score")
    for axis, metric in zip(axes[1:], shown, strict=True):
        axis.plot(moments, rows[metric], linewidth=0.9)
        axis.set_ylabel(str(metric)[:24], fontsize=7)
    for marked, colour in ((truth, "grey"), (told, "tab:red")):
        own = [] if marked is None else marked[marked["instance_id"] == stretch.instance_id].itertuples()
        for span in own:
            if span.end >= rows["timestamp"].min() and span.start <= rows["timestamp"].max():
                for axis in axes:
                    axis.axvspan(span.start.tz_localize(None), span.end.tz_localize(None), color=colour, alpha=0.25)
    figure.savefig(path, dpi=90)

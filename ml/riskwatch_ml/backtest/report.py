"""The report of a backtest: pages per day, episodes, incidents, refreshes.

It is Markdown with pictures. Without labels it lists the pages and their reasons; with labels also the incidents that
were met or missed, and the false pages. Each episode is one page. A page is false if its episode is farther than ten
minutes from every incident.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from riskwatch_lambda.scoring.reasons import TOGETHER, reason_text
from riskwatch_ml.backtest.episodes import episodes, given_labels, incidents, near
from riskwatch_ml.backtest.figures import draw_around, draw_days
from riskwatch_ml.core import clock
from riskwatch_ml.core.escape import in_markdown

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pandas as pd

    from riskwatch_lambda.scoring.labelled_row import ReasonDocument
    from riskwatch_ml.backtest.result import Backtest, Refresh
    from riskwatch_ml.core.arrays import FloatArray

PICTURES = 4
LISTED = 40


def write(result: Backtest, folder: Path, labels: pd.DataFrame | None = None) -> Path:
    """Write report.md and its pictures into a folder and return the path of report.md.

    Raises BacktestError if the labels cannot be read, ReportError if they belong to other rows.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = result.rows
    sent = episodes(rows)
    label = None if labels is None else given_labels(rows, labels)
    truth = None if label is None else incidents(rows, label)
    false = sent if truth is None else sent[~near(sent, truth)]
    lines = ["# The pages that Riskwatch would have sent", "", *_summary(result, sent, false, truth)]
    lines += [] if labels is None or label is None else _unmatched(label, labels)
    lines += ["", "## Pages per day", "", "![Pages of each day](pages.png)", ""]
    lines += _table(_per_instance(result, sent, false, truth))
    draw_days(rows, sent, None if truth is None else false, folder / "pages.png")
    if truth is not None:
        missed = truth[~truth["met"]].sort_values("rows", ascending=False).head(PICTURES)
        lines += ["", f"## Worst misses ({int((~truth['met']).sum())} of {len(truth)} incidents were not met)", ""]
        lines += _pictures(result, missed, truth, sent, folder, "missed", "this incident")
    title = "Highest episodes" if truth is None else "Worst false pages"
    lines += ["", f"## {title}", ""]
    worst = false.sort_values("peak", ascending=False, kind="stable").head(PICTURES)
    lines += _pictures(result, worst, truth, sent, folder, "alert", "this episode")
    lines += ["", *_episodes(result, sent)]
    lines += ["", "## What changed at each refresh", "", *_table(_refreshes(result.refreshes)), ""]
    lines += _contests(result.refreshes)
    path = folder / "report.md"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _days(rows: pd.DataFrame, period_s: float) -> float:
    return max(len(rows) * period_s / 86_400, 1e-9)


def _summary(result: Backtest, sent: pd.DataFrame, false: pd.DataFrame, truth: pd.DataFrame | None) -> list[str]:
    rows = result.rows
    span = [clock.iso(moment.to_pydatetime()) for moment in (rows["timestamp"].min(), rows["timestamp"].max())]
    days = _days(rows, result.period_s)
    instances = rows["instance_id"].nunique()
    a_day = len(sent) / days * instances
    expected = np.mean([refresh.pages_expected for refresh in result.refreshes]) * instances
    days_counted = "ordinary days" if result.budget.ordinary_days else "all days"
    lines = [
        f"{len(rows):,} rows of {instances} instances from {span[0]} to {span[1]}, "
        f"{len(result.metrics)} metrics, one row every {result.period_s} s, {len(result.refreshes)} models.",
        "",
        f"- **{len(sent):,} pages**: {a_day:.1f} a day, {a_day / 2:.1f} in a shift of 12 hours, "
        f"{len(sent) / days * 100:.0f} a day for 100 instances; episodes closer than 15 minutes are one",
        f"- the budget is {result.budget.pages * instances:.1f} pages a day on {days_counted}; the models expected "
        f"{expected:.1f} on all days of their own rows",
        f"- {float(rows['alert'].mean()):.2%} of the rows lie in an episode, and are Critical",
    ]
    if any(refresh.relative for refresh in result.refreshes):
        lines.append("- levels are relative to this fleet: no percentage of capacity shows its load")
    if truth is not None and not len(truth):
        lines.append("- the labels have no incident in the replay: every episode counts as not near one")
    if truth is not None and len(truth):
        delay = truth["delay_min"].median()
        lines += [
            f"- **{int(truth['met'].sum())} of {len(truth)} incidents met**"
            + (f", half of them within {delay:.0f} minutes" if np.isfinite(delay) else ""),
            f"- {len(sent) - len(false):,} of {len(sent):,} pages were near an incident (page precision "
            f"{1 - len(false) / max(1, len(sent)):.2f}); {len(false) / days:.2f} false pages for each instance and day",
        ]
    return lines


def _unmatched(label: FloatArray, labels: pd.DataFrame) -> list[str]:
    """List the labels without a replay row, and the replay rows without a label.

    The list is empty if there are none.
    """
    used = int(np.isfinite(label).sum())
    lines = []
    if used < len(labels):
        lines.append(f"- {len(labels) - used:,} of {len(labels):,} labels are of no replay row and were left out")
    if used < len(label):
        lines.append(f"- {len(label) - used:,} of {len(label):,} replay rows have no label and count as quiet")
    return lines


def _per_instance(
    result: Backtest, sent: pd.DataFrame, false: pd.DataFrame, truth: pd.DataFrame | None
) -> list[dict[str, Any]]:
    table = []
    for name, part in result.rows.groupby("instance_id"):
        pages = int((sent["instance_id"] == name).sum())
        line: dict[str, Any] = {
            "instance": name,
            "rows": f"{len(part):,}",
            "unusual rows": f"{float(part['unusual'].mean()):.2%}",
            "pages": pages,
            "pages a day": f"{pages / _days(part, result.period_s):.2f}",
        }
        if truth is not None:
            known = truth[truth["instance_id"] == name]
            line["incidents met"] = f"{int(known['met'].sum())} of {len(known)}"
            line["pages not near one"] = int((false["instance_id"] == name).sum())
        table.append(line)
    return table


def _episodes(result: Backtest, sent: pd.DataFrame) -> list[str]:
    """List the episodes with the highest scores.

    The highest of each instance, of at most 20, are in the list, so that a noisy instance does not hide others.
    """
    lines = [f"## Episodes ({min(LISTED, len(sent))} of {len(sent)})", ""]
    shown = sent.sort_values("peak", ascending=False, kind="stable")
    if len(sent) > LISTED:
        lines += [f"The highest of each instance, at most {LISTED // 2}, then the highest of all, by score.", ""]
        best = shown.index[~shown.duplicated("instance_id")][: LISTED // 2]
        others = shown.index.difference(best, sort=False)[: LISTED - len(best)]
        shown = shown[shown.index.isin(best.union(others))]
    return lines + _table(_listed(result, shown))


def _listed(result: Backtest, sent: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {
            "instance": episode.instance_id,
            "from": clock.iso(episode.start.to_pydatetime()),
            "rows": episode.rows,
            "highest score": f"{episode.peak:.2f}",
            "because": _because(result, result.explanations.get(episode.first, [])),
        }
        for episode in sent.itertuples()
    ]


def _because(result: Backtest, reasons: Sequence[ReasonDocument]) -> str:
    """Return the first two reasons of an opening in words."""
    lines = [reason_text(result.metrics.get(reason["feature"], reason["feature"]), reason) for reason in reasons]
    return "; ".join([line for line in lines if line][:2]) or TOGETHER


def _refreshes(refreshes: list[Refresh]) -> list[dict[str, Any]]:
    return [
        {
            "moment": clock.iso(refresh.ms),
            "family": refresh.family,
            "rows": f"{refresh.rows:,}",
            "paging threshold": f"{refresh.paging_threshold:.3f}",
            "pages a day on its own rows": f"{refresh.pages_expected:.2f}",
            "rows of another level than before": "-" if refresh.churn is None else f"{refresh.churn:.1%}",
            "what happened": "; ".join(_happened(before, refresh)),
        }
        for before, refresh in zip([None, *refreshes[:-1]], refreshes, strict=True)
    ]


def _happened(before: Refresh | None, refresh: Refresh) -> list[str]:
    """List the outcome of a refresh with its reason, then the number of instances.

    The number is listed only if it has changed.
    """
    if not refresh.serves:
        outcome = "nothing would serve: a fall-back"
    elif refresh.kept:
        outcome = "kept"
    elif before is None:
        outcome = "first model"
    elif before.family != refresh.family:
        outcome = f"family {before.family} to {refresh.family}"
    else:
        outcome = "refreshed"
    events = [f"{outcome}: {refresh.why}" if refresh.why and refresh.serves else outcome]
    if before is not None and before.instances != refresh.instances:
        events.append(f"{before.instances} to {refresh.instances} known instances")
    return events


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
                "pages a day": f"{figures['alerts_per_instance_day']:.2f}",
                "vetoes": "; ".join(vetoes.get(family, [])) or "none",
            }
            for family, figures in refresh.contest.figures.items()
        ]
        table += [
            {
                "family": family,
                "VUS-PR on injected incidents": f"{rating:.3f}",
                "pages a day": "-",
                "vetoes": "not fitted: too far behind",
            }
            for family, rating in refresh.contest.trials.items()
        ]
        lines += [*_table(table), ""]
    return lines


def _outcome(refresh: Refresh) -> str:
    if not refresh.serves:
        return (
            f"every family is vetoed, **the DAG would serve nothing**; {refresh.family} labels the replay nevertheless"
        )
    if refresh.contest is not None and refresh.contest.choice is None:
        return f"every family is vetoed, **{refresh.family}** continues to serve as it was"
    return f"**{refresh.family}** serves"


def _table(table: list[dict[str, Any]]) -> list[str]:
    if not table:
        return ["None."]
    heads = list(table[0])
    cells = [[in_markdown(line[head]) for head in heads] for line in table]
    return ["| " + " | ".join(line) + " |" for line in [heads, ["---"] * len(heads), *cells]]


def _pictures(
    result: Backtest,
    spans: pd.DataFrame,
    truth: pd.DataFrame | None,
    sent: pd.DataFrame,
    folder: Path,
    kind: str,
    what: str,
) -> list[str]:
    lines = []
    for number, span in enumerate(spans.itertuples(), 1):
        name = f"{kind}-{number}.png"
        moment = clock.iso(span.start.to_pydatetime())
        caption = f"{in_markdown(span.instance_id)}, {moment}, highest score {span.peak:.2f}"
        draw_around(result, span, what, truth, sent, folder / name)
        lines += [f"![{caption}]({name})", "", f"Instance {caption}", ""]
    return lines or ["None."]

"""The figures of a backtest's report: pages by day, and single episodes, in UTC."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from riskwatch_ml.core.escape import in_figure
from riskwatch_ml.features.training_set import GAP_PERIODS
from riskwatch_ml.plots.style import INK, LINES, UNUSUAL, blank, plain, time_axis

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from riskwatch_ml.backtest.result import Backtest

AROUND = pd.Timedelta(hours=6)
METRICS_SHOWN = 3
INCIDENT = "#8a8f98"
DPI = 100


def draw_days(rows: pd.DataFrame, sent: pd.DataFrame, false: pd.DataFrame | None, path: Path) -> None:
    """Draw the pages of each day, and save the figure.

    ``sent`` are all episodes, ``false`` those that are not near an incident, which are red; it is None without labels.
    ``rows`` are the rows of the replay.
    """
    from matplotlib.ticker import MaxNLocator

    figure = blank(9, 3.2)
    axes = figure.subplots()
    first, last = (_naive(moment.floor("D")) for moment in (rows["timestamp"].min(), rows["timestamp"].max()))
    parts = [(sent, "pages" if false is None else "near an incident", LINES[0])]
    if false is not None:
        parts.append((false, "not near an incident", UNUSUAL))
    for part, label, colour in parts:
        counts = part.groupby(part["start"].dt.floor("D")).size()
        days = counts.index.tz_localize(None).to_numpy() + np.timedelta64(12, "h")
        axes.bar(days, counts.to_numpy(), width=0.8, label=label, color=colour)
    axes.set_xlim(first, last + pd.Timedelta(days=1))
    axes.set_ylabel("pages")
    axes.set_title("Pages of each day", fontsize=11)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    plain(axes)
    time_axis(axes)
    axes.set_xlabel("day (UTC)")
    if false is not None:
        figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    figure.savefig(path, dpi=DPI)


def draw_around(
    result: Backtest, subject: Any, what: str, truth: pd.DataFrame | None, sent: pd.DataFrame, path: Path
) -> None:
    """Draw score and metrics around an episode or incident, and save the figure.

    It shows the metrics that changed most, from six hours before ``subject`` to six hours after it. ``what`` is the
    name of the subject in the legend.
    """
    _around(result, subject, what, truth, sent).savefig(path, dpi=DPI)


def _around(result: Backtest, subject: Any, what: str, truth: pd.DataFrame | None, sent: pd.DataFrame) -> Figure:
    rows = result.rows[result.rows["instance_id"] == subject.instance_id]
    rows = rows[rows["timestamp"].between(subject.start - AROUND, subject.end + AROUND)]
    shown = _moved_most(rows, rows["timestamp"].between(subject.start, subject.end), list(result.metrics.values()))
    figure = blank(9, 2.6 + 1.4 * len(shown))
    panels = np.atleast_1d(figure.subplots(1 + len(shown), 1, sharex=True))
    _draw_score(panels[0], result, rows)
    for axes, metric in zip(panels[1:], shown, strict=True):
        axes.plot(*_line(rows, metric, result.period_s), color=LINES[0], linewidth=0.9)
        axes.set_title(in_figure(metric), fontsize=9, loc="left")
        axes.set_ylabel(in_figure(result.units.get(metric, ""), 24), fontsize=9)
    half = pd.Timedelta(seconds=result.period_s / 2)
    for spans, label, colour in ((truth, "incident", INCIDENT), (sent, "episode", UNUSUAL)):
        for span in [] if spans is None else spans[spans["instance_id"] == subject.instance_id].itertuples():
            if span.end >= rows["timestamp"].min() and span.start <= rows["timestamp"].max():
                for axes in panels:
                    axes.axvspan(*_ends(span, half), color=colour, alpha=0.25, linewidth=0, label=label)
    for axes in panels:
        axes.axvspan(*_ends(subject, half), fill=False, edgecolor=INK, linewidth=1.4, label=what)
        axes.set_xlim(_naive(rows["timestamp"].min()) - half, _naive(rows["timestamp"].max()) + half)
        plain(axes)
    time_axis(panels[-1])
    handles = dict(zip(*reversed(panels[0].get_legend_handles_labels()), strict=True))
    figure.legend(
        handles=list(handles.values()), loc="outside lower center", ncols=len(handles), frameon=False, fontsize=8
    )
    figure.suptitle(f"{in_figure(subject.instance_id, 50)}, {_naive(subject.start):%Y-%m-%d %H:%M} UTC", fontsize=11)
    return figure


def _draw_score(axes: Axes, result: Backtest, rows: pd.DataFrame) -> None:
    """Draw the score, the boundary, and the paging threshold of the serving models."""
    axes.plot(*_line(rows, "score", result.period_s), color=INK, linewidth=0.9)
    peak = float(np.nanmax(rows["score"].to_numpy(float), initial=1.0))
    axes.axhline(1.0, color=LINES[1], linewidth=0.9, linestyle="--", label="1 = unusual")
    moments = rows["timestamp"].dt.as_unit("ms").astype("int64").to_numpy()
    serving = np.searchsorted([refresh.ms for refresh in result.refreshes], moments, side="right") - 1
    threshold = np.array([refresh.paging_threshold for refresh in result.refreshes])[np.maximum(serving, 0)]
    axes.step(
        rows["timestamp"].dt.tz_localize(None).to_numpy(),
        threshold,
        where="post",
        color=UNUSUAL,
        linewidth=0.9,
        linestyle=":",
        label="paging threshold" if threshold.min() <= 2 * peak else "paging threshold (far above)",
    )
    near = threshold[threshold <= 2 * peak]
    axes.set_ylim(0, 1.08 * max(peak, float(near.max(initial=0.0))))
    axes.set_title("score", fontsize=9, loc="left")
    axes.set_ylabel("boundaries", fontsize=9)


def _moved_most(rows: pd.DataFrame, inside: pd.Series, metrics: list[str]) -> list[str]:
    """Return the metrics with the largest change of the mean inside a span.

    The change is in deviations of all rows shown.
    """
    spread = rows[metrics].std().replace(0, np.nan)
    change = ((rows.loc[inside, metrics].mean() - rows[metrics].mean()).abs() / spread).fillna(0)
    return list(change.sort_values(ascending=False, kind="stable").index[:METRICS_SHOWN])


def _line(rows: pd.DataFrame, column: str, period_s: int) -> tuple[np.ndarray, np.ndarray]:
    """Return times and values of a line that does not bridge gaps between rows."""
    moments, values = rows["timestamp"].dt.tz_localize(None).to_numpy(), rows[column].to_numpy(float)
    gaps = np.flatnonzero(np.diff(moments) > np.timedelta64(GAP_PERIODS * period_s, "s")) + 1
    return np.insert(moments, gaps, moments[gaps]), np.insert(values, gaps, np.nan)


def _ends(span: Any, half: pd.Timedelta) -> tuple[pd.Timestamp, pd.Timestamp]:
    """Return the bounds of a span, half a period outside its first and last row.

    So a span of one row is visible.
    """
    return _naive(span.start) - half, _naive(span.end) + half


def _naive(moment: pd.Timestamp) -> pd.Timestamp:
    return moment.tz_localize(None)

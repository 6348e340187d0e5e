"""Figures of one candidate, for its run in MLflow.

They use ``matplotlib.figure.Figure`` directly, without pyplot, global state or display. Times are UTC. Every function
takes plain values and returns a figure; :func:`figures` draws all figures that the data allow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from riskwatch_ml.core.escape import in_figure
from riskwatch_ml.families import FAMILIES
from riskwatch_ml.plots.style import INK, LINES, UNUSUAL, blank, plain, thousands, time_axis
from riskwatch_ml.selection.vus import runs

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from riskwatch_ml.selection.candidate import PlotData

LEVEL_COLOURS = {"Idle": "#7fa6c9", "Normal": "#4f9d69", "High Load": "#e08e2b"}
_MAX_LEAVES = 30
_MAX_CLUSTERS = 60
_MAX_METRICS = 30
_FAR = 3.0  # fleet deviations; larger ones share the last colour
_NAME = 40  # characters of a name on an axis
_INDICES = (
    ("silhouette", "Silhouette (−1 to 1)", "higher is better"),
    ("davies_bouldin", "Davies-Bouldin index", "lower is better"),
)
_Curve = Mapping[str, Sequence[float]]


def figures(plots: PlotData) -> dict[str, Figure]:
    """Draw all figures that the data allow, by file name (PNG).

    A refresh has no elbow, because it keeps its settings and does not search for a number of clusters.
    """
    drawn: dict[str, Figure] = {}
    if plots.curves:
        drawn["elbow.png"] = elbow(plots.curves)
    if plots.linkage is not None and len(plots.linkage):
        drawn["dendrogram.png"] = dendrogram(plots.linkage)
    if plots.profile is not None and not plots.profile.empty:
        drawn["heatmap.png"] = profiles(plots.profile, plots.cluster_sizes)
    if plots.cluster_sizes:
        drawn["cluster_sizes.png"] = sizes(plots.cluster_sizes)
    if len(plots.points) > 1:
        x, y, shares = project(plots.points)
        drawn["pca_by_level.png"] = pca_by_level(x, y, shares, plots.point_levels)
        drawn["pca_by_score.png"] = pca_by_score(x, y, shares, plots.point_scores)
    if plots.timeline is not None and not plots.timeline.empty:
        drawn["score_timeline.png"] = timeline(plots.timeline, plots.paging_threshold)
    return drawn


def elbow(curves: Mapping[str, _Curve]) -> Figure:
    """Draw the cost of each search and the separation indices by clusters.

    The x axis is the number of clusters. Undefined values leave gaps.
    """
    panels: list[tuple[str, str, str, list[str]]] = []
    for search in curves:
        # Costs have no common unit, so each search has a separate panel.
        name, cost = FAMILIES[search].cost
        panels.append(
            ("inertia", f"{name}, {_words(search)}", f"{cost}\nlower is tighter; look for the bend", [search])
        )
    panels += [(*index, list(curves)) for index in _INDICES]
    panels = [panel for panel in panels if any(_measured(curves[search], panel[0]).any() for search in panel[3])]
    figure = blank(4.2 * max(1, len(panels)), 3.9)
    colours = dict(zip(curves, _cycle(len(curves)), strict=True))
    for axes, (name, title, hint, searches) in zip(
        np.atleast_1d(figure.subplots(1, max(1, len(panels)))), panels, strict=False
    ):
        for search in searches:
            curve, is_measured = curves[search], _measured(curves[search], name)
            if not is_measured.any():
                continue
            # A search over another setting, such as a radius, can reach the same k twice.
            order = np.argsort(curve["k"], kind="stable")
            order = order[is_measured[order]]
            ks, points = np.asarray(curve["k"])[order], np.asarray(curve[name])[order]
            axes.plot(ks, points, marker="o", markersize=4, color=colours[search], label=_words(search))
        axes.set_title(title, fontsize=11)
        axes.set_xlabel(f"number of clusters k\n{hint}", fontsize=9)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.yaxis.set_major_formatter(thousands)
        plain(axes)
        if len(axes.lines) > 1:
            axes.legend(frameon=False, fontsize=9)
    figure.suptitle("Choice of the number of clusters")
    return figure


def _measured(curve: _Curve, name: str) -> NDArray[np.bool_]:
    """Return a mask of the points at which a curve has a value."""
    values = np.asarray(curve.get(name, ()), dtype=float)
    return np.isfinite(values) if len(values) else np.zeros(len(curve["k"]), bool)


def dendrogram(linkage: NDArray[np.float64]) -> Figure:
    """Draw the last 30 branches of a tree of merges.

    ``linkage`` is (n − 1, 4) as SciPy defines it.
    """
    from scipy.cluster import hierarchy

    figure = blank(9, 4.6)
    axes = figure.subplots()
    hierarchy.dendrogram(
        linkage,
        p=_MAX_LEAVES,
        truncate_mode="lastp",
        ax=axes,
        color_threshold=0,
        above_threshold_color=LINES[0],
        leaf_rotation=60,
        leaf_font_size=8,
    )
    axes.set_title(f"Dendrogram ({len(linkage) + 1:,} rows, the last {min(_MAX_LEAVES, len(linkage) + 1)} branches)")
    axes.set_xlabel("branch: (n) holds n rows, a bare number is a single row")
    axes.set_ylabel("distance at which branches merge")
    plain(axes)
    axes.grid(visible=False, axis="x")
    return figure


def profiles(profile: pd.DataFrame, cluster_sizes: Mapping[Any, int] | None = None) -> Figure:
    """Draw the cluster means as a heatmap, clusters × metrics.

    ``profile`` holds means in the fleet's standard deviations from the fleet's mean. At most 60 clusters are shown, the
    largest, and at most 30 metrics, those that differ most between these clusters. Both keep the order of ``profile``.
    """
    clusters = _largest(profile.index, cluster_sizes or {})
    all_metrics = profile.to_numpy(dtype=float)[clusters]
    present = np.isfinite(all_metrics)
    reach = np.where(present, all_metrics, -np.inf).max(axis=0) - np.where(present, all_metrics, np.inf).min(axis=0)
    metrics = np.sort(np.argsort(-reach, kind="stable")[:_MAX_METRICS])
    values = all_metrics[:, metrics]
    # Without a limit, one cluster of a few extreme rows would give all others the same colour.
    limit = min(float(np.nanmax(np.abs(values))) or 1.0, _FAR) if np.isfinite(values).any() else 1.0
    figure = blank(2.8 + 0.85 * values.shape[1], 1.9 + 0.45 * values.shape[0])
    axes = figure.subplots()
    image = axes.imshow(values, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto")
    axes.set_xticks(range(values.shape[1]), _told_apart(profile.columns[metrics]), rotation=35, ha="right", fontsize=9)
    axes.set_yticks(range(values.shape[0]), [in_figure(name) for name in profile.index[clusters]], fontsize=9)
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            red, green, blue, _ = image.cmap(image.norm(value))
            ink = "white" if 0.3 * red + 0.59 * green + 0.11 * blue < 0.55 else INK
            axes.text(column, row, f"{round(value, 1) + 0.0:.1f}", ha="center", va="center", fontsize=8, color=ink)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axes, shrink=0.9, extend="both" if limit == _FAR else "neither")
    bar.set_label("fleet deviations", fontsize=9)
    bar.outline.set_visible(False)
    shown = [_part(len(metrics), profile.shape[1], "metrics that differ most")]
    shown.append(_part(len(clusters), len(profile), "largest clusters"))
    axes.set_title(
        "\n".join(["Cluster means below (blue) and above (red) the fleet's mean", *filter(None, shown)]), fontsize=11
    )
    return figure


def sizes(cluster_sizes: Mapping[Any, int]) -> Figure:
    """Draw the number and share of rows of each cluster."""
    clusters = _largest(list(cluster_sizes), cluster_sizes)
    total = sum(int(count) for count in cluster_sizes.values())
    names = [in_figure(list(cluster_sizes)[cluster]) for cluster in clusters]
    counts = np.array([int(count) for count in cluster_sizes.values()])[clusters]
    figure = blank(7.5, 1.5 + 0.36 * len(names))
    axes = figure.subplots()
    axes.barh(range(len(names)), counts, color=LINES[0], height=0.65)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    for bar, count in enumerate(counts):
        axes.annotate(
            f"{count:,} ({count / max(1, total):.1%})",
            (count, bar),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
        )
    axes.set_xlim(0, 1.22 * max(1, counts.max()))
    axes.xaxis.set_major_formatter(thousands)
    axes.set_xlabel("rows")
    axes.set_ylabel("cluster")
    axes.set_title("\n".join(filter(None, ["Cluster sizes", _part(len(clusters), len(cluster_sizes), "largest")])))
    plain(axes)
    axes.grid(visible=False, axis="y")
    return figure


def project(points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64], tuple[float, float]]:
    """Project ``points`` (n, d) on their first two principal components.

    Returns the two coordinates, both (n,), and the shares of the variance. The largest coefficient of a component is
    positive, so equal rows give equal figures.
    """
    centred = np.asarray(points, dtype=float) - np.mean(points, axis=0)
    _, spread, axes = np.linalg.svd(centred, full_matrices=False)
    axes = axes * np.sign(axes[np.arange(len(axes)), np.argmax(np.abs(axes), axis=1)])[:, None]
    projected = centred @ axes[:2].T
    total = float(np.sum(spread**2)) or 1.0
    shares = [float(value**2) / total for value in spread[:2]]
    if projected.shape[1] < 2:
        return projected[:, 0], np.zeros(len(projected)), (shares[0], 0.0)
    return projected[:, 0], projected[:, 1], (shares[0], shares[1])


def pca_by_level(
    x: NDArray[np.float64], y: NDArray[np.float64], shares: tuple[float, float], levels: Sequence[str]
) -> Figure:
    """Draw behaviour vectors on two principal components, coloured by level."""
    figure = blank(6.6, 5)
    axes = figure.subplots()
    row_levels = np.asarray(levels, dtype=object)
    for level in [*LEVEL_COLOURS, *sorted(set(row_levels) - set(LEVEL_COLOURS))]:
        at_level = row_levels == level
        if at_level.any():
            colour = LEVEL_COLOURS.get(level, INK)
            label = f"{level} ({at_level.sum():,})"
            axes.scatter(x[at_level], y[at_level], s=9, color=colour, alpha=0.65, linewidths=0, label=label)
    axes.legend(frameon=False, fontsize=9, markerscale=2, loc="best")
    _components(axes, shares, "Behaviour of the training rows, by level")
    return figure


def pca_by_score(
    x: NDArray[np.float64], y: NDArray[np.float64], shares: tuple[float, float], scores: NDArray[np.float64]
) -> Figure:
    """Draw behaviour vectors on two principal components, coloured by score.

    Unusual rows (score ≥ 1) have a ring.
    """
    figure = blank(6.6, 5)
    axes = figure.subplots()
    order = np.argsort(scores, kind="stable")
    # Scores above 2 share the last colour, so that one extreme row does not give all others the same colour.
    image = axes.scatter(
        x[order], y[order], c=scores[order], s=10, cmap="viridis", vmin=0, vmax=2, alpha=0.8, linewidths=0
    )
    unusual = scores >= 1
    axes.scatter(
        x[unusual],
        y[unusual],
        s=34,
        facecolors="none",
        edgecolors=UNUSUAL,
        linewidths=0.9,
        label=f"unusual: score ≥ 1 ({unusual.sum():,})",
    )
    figure.colorbar(image, ax=axes, extend="max").set_label("score (1 = boundary of the instance)", fontsize=9)
    axes.legend(frameon=False, fontsize=9, loc="best")
    _components(axes, shares, "Behaviour of the training rows, by score")
    return figure


def timeline(scores: pd.DataFrame, paging_threshold: float) -> Figure:
    """Draw the scores of the three highest-scoring instances, one panel each.

    A panel shows the boundary, the paging threshold, and the episodes that the training rows would have opened with
    this model.
    """
    from matplotlib.patches import Patch

    # Rows without enough context have no score, which leaves a gap in the line.
    peaks = scores.groupby("instance_id")["score"].max().fillna(0.0).sort_values(ascending=False, kind="stable").head(3)
    figure = blank(10, 1.5 + 1.7 * len(peaks))
    panels = np.atleast_1d(figure.subplots(len(peaks), 1, sharex=True))
    top = max(1.15, 1.08 * float(peaks.max()))
    threshold_label = f"paging threshold {paging_threshold:,.3f}"
    if paging_threshold > 2 * top:
        threshold_label = f"{threshold_label} (far above)"
    for axes, (instance, peak) in zip(panels, peaks.items(), strict=True):
        rows = scores[scores["instance_id"] == instance].sort_values("timestamp")
        times, values = rows["timestamp"].dt.tz_localize(None).to_numpy(), rows["score"].to_numpy(dtype=float)
        begins, ends = runs(rows["alert"].to_numpy(bool))
        for first, last in zip(begins, ends - 1, strict=True):
            axes.axvspan(times[first], times[last], color=UNUSUAL, alpha=0.2)
        axes.plot(times, values, color=LINES[0], linewidth=0.9)
        lines = [axes.axhline(1, color=INK, linewidth=1, linestyle="--", label="1 = unusual")]
        lines.append(axes.axhline(paging_threshold, color=UNUSUAL, linewidth=1, linestyle=":", label=threshold_label))
        visible_threshold = 1.08 * paging_threshold if paging_threshold <= 2 * top else 0.0
        axes.set_ylim(0, max(1.15, 1.08 * float(peak), visible_threshold))
        axes.set_title(
            f"{in_figure(instance)}: peak {peak:.2f}, unusual rows: {int((values >= 1).sum()):,}, "
            f"episodes: {len(begins):,}",
            fontsize=10,
            loc="left",
        )
        axes.set_ylabel("score")
        plain(axes)
    time_axis(panels[-1])
    figure.legend(
        handles=[*lines, Patch(color=UNUSUAL, alpha=0.2, label="episode")],
        loc="outside lower center",
        ncols=3,
        frameon=False,
        fontsize=9,
    )
    figure.suptitle("The highest-scoring instances of the training rows", fontsize=12)
    return figure


def _largest(names: Sequence[Any], cluster_sizes: Mapping[Any, int]) -> NDArray[np.int64]:
    """Return the indices of the 60 largest clusters, ascending."""
    counts = np.array([int(cluster_sizes.get(name, 0)) for name in names], np.int64)
    return np.sort(np.argsort(-counts, kind="stable")[:_MAX_CLUSTERS])


def _part(shown: int, of: int, what: str) -> str:
    return f"the {shown} of {of:,} {what}" if shown < of else ""


def _told_apart(names: Sequence[Any]) -> list[str]:
    """Return names short enough for an axis, but distinct.

    Names that shortening makes equal stay whole.
    """
    short = [_words(name) for name in names]
    return [word if short.count(word) == 1 else in_figure(name) for word, name in zip(short, names, strict=True)]


def _components(axes: Axes, shares: tuple[float, float], title: str) -> None:
    axes.set_title(title)
    axes.set_xlabel(f"first principal component ({shares[0]:.0%} of the variance)")
    axes.set_ylabel(f"second principal component ({shares[1]:.0%})")
    plain(axes)


def _cycle(n: int) -> list[str]:
    return [LINES[line % len(LINES)] for line in range(n)]


def _words(name: object) -> str:
    return in_figure(str(name).replace("_", " "), _NAME)

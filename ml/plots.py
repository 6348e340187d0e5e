"""The pictures of one candidate, for its page in MLflow.

Figures are built with ``matplotlib.figure.Figure`` directly: no pyplot, no global state, no display. Times are UTC.
Every function takes plain values and returns a figure; :func:`figures` draws all that the data of a candidate allow, by
file name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ml.wording import in_figure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from ml.train import PlotData

LEVEL_COLOURS = {"Idle": "#7fa6c9", "Normal": "#4f9d69", "High Load": "#e08e2b"}
UNUSUAL = "#b3261e"
_INK = "#30343b"
_LINES = ("#2f6690", "#e08e2b", "#6a4c93")
_MAX_LEAVES = 30
_CURVES = (
    ("inertia", "Inertia (sum of squared distances)", "lower is tighter; look for the bend"),
    ("silhouette", "Silhouette (−1 to 1)", "higher is better"),
    ("davies_bouldin", "Davies-Bouldin index", "lower is better"),
)


def figures(plots: PlotData) -> dict[str, Figure]:
    """All figures that the data allow, by file name (PNG)."""
    drawn: dict[str, Figure] = {}
    if plots.curves:
        drawn["elbow.png"] = elbow(plots.curves)
    if plots.linkage is not None and len(plots.linkage):
        drawn["dendrogram.png"] = dendrogram(plots.linkage)
    if plots.profile is not None and not plots.profile.empty:
        drawn["heatmap.png"] = profiles(plots.profile)
    if plots.cluster_sizes:
        drawn["cluster_sizes.png"] = sizes(plots.cluster_sizes)
    if len(plots.points) > 1:
        x, y, shares = project(plots.points)
        drawn["pca_by_level.png"] = pca_by_level(x, y, shares, plots.point_levels)
        drawn["pca_by_score.png"] = pca_by_score(x, y, shares, plots.point_scores)
    if plots.timeline is not None and not plots.timeline.empty:
        drawn["score_timeline.png"] = timeline(plots.timeline)
    return drawn


def elbow(curves: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """Inertia, silhouette and Davies-Bouldin index over the number of clusters, one line per search."""
    shown = [item for item in _CURVES if any(len(curve.get(item[0], ())) for curve in curves.values())]
    figure = _figure(4.2 * max(1, len(shown)), 3.8)
    for axes, (name, label, hint) in zip(np.atleast_1d(figure.subplots(1, max(1, len(shown)))), shown, strict=False):
        for colour, (search, curve) in zip(_cycle(len(curves)), curves.items(), strict=True):
            values = curve.get(name, ())
            if len(values):
                # A search over another setting (a radius) can come to the same k twice.
                order = np.argsort(curve["k"], kind="stable")
                ks, points = np.asarray(curve["k"])[order], np.asarray(values)[order]
                axes.plot(ks, points, marker="o", markersize=4, color=colour, label=_words(search))
        axes.set_title(label, fontsize=11)
        axes.set_xlabel(f"number of clusters k\n({hint})")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.yaxis.set_major_formatter(_thousands)
        _plain(axes)
        if len(curves) > 1:
            axes.legend(frameon=False, fontsize=9)
    figure.suptitle("Choice of the number of clusters")
    return figure


def dendrogram(linkage: NDArray[np.float64]) -> Figure:
    """Tree of merges, its last 30 branches; ``linkage`` is (n − 1, 4) as SciPy defines it."""
    from scipy.cluster import hierarchy

    figure = _figure(9, 4.6)
    axes = figure.subplots()
    hierarchy.dendrogram(
        linkage,
        p=_MAX_LEAVES,
        truncate_mode="lastp",
        ax=axes,
        color_threshold=0,
        above_threshold_color=_LINES[0],
        leaf_rotation=60,
        leaf_font_size=8,
    )
    axes.set_title(f"Dendrogram ({len(linkage) + 1:,} rows, the last {min(_MAX_LEAVES, len(linkage) + 1)} branches)")
    axes.set_xlabel("branch: (n) holds n rows, a bare number is a single row")
    axes.set_ylabel("distance at which branches merge")
    _plain(axes)
    axes.grid(visible=False, axis="x")
    return figure


def profiles(profile: pd.DataFrame) -> Figure:
    """Heatmap, clusters × features, of the mean value in level space (0 = the fleet's middle)."""
    values = profile.to_numpy(dtype=float)
    limit = float(np.nanmax(np.abs(values))) or 1.0 if np.isfinite(values).any() else 1.0
    figure = _figure(2.8 + 0.85 * values.shape[1], 1.9 + 0.45 * values.shape[0])
    axes = figure.subplots()
    image = axes.imshow(values, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto")
    axes.set_xticks(
        range(values.shape[1]), [_words(name) for name in profile.columns], rotation=35, ha="right", fontsize=9
    )
    axes.set_yticks(range(values.shape[0]), [str(name) for name in profile.index], fontsize=9)
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            red, green, blue, _ = image.cmap(image.norm(value))
            ink = "white" if 0.3 * red + 0.59 * green + 0.11 * blue < 0.55 else _INK
            axes.text(column, row, f"{value:.1f}", ha="center", va="center", fontsize=8, color=ink)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axes, shrink=0.9)
    bar.set_label("mean in level space", fontsize=9)
    bar.outline.set_visible(False)
    axes.set_title("Cluster profiles: below (blue) and above (red) the fleet's middle", fontsize=11)
    return figure


def sizes(cluster_sizes: Mapping[Any, int]) -> Figure:
    """Rows per cluster, with their share."""
    names = [str(name) for name in cluster_sizes]
    counts = np.array([int(count) for count in cluster_sizes.values()])
    figure = _figure(7.5, 1.5 + 0.36 * len(names))
    axes = figure.subplots()
    axes.barh(range(len(names)), counts, color=_LINES[0], height=0.65)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    for place, count in enumerate(counts):
        axes.annotate(
            f"{count:,} ({count / max(1, counts.sum()):.1%})",
            (count, place),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
        )
    axes.set_xlim(0, 1.22 * max(1, counts.max()))
    axes.xaxis.set_major_formatter(_thousands)
    axes.set_xlabel("rows")
    axes.set_ylabel("cluster")
    axes.set_title("Cluster sizes")
    _plain(axes)
    axes.grid(visible=False, axis="y")
    return figure


def project(points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64], tuple[float, float]]:
    """First two principal components of ``points`` (n, d): coordinates (n,) each, and their shares of the variance.

    The sign of a component is fixed so that its largest coefficient is positive: the same rows give the same picture.
    """
    centred = np.asarray(points, dtype=float) - np.mean(points, axis=0)
    _, spread, axes = np.linalg.svd(centred, full_matrices=False)
    axes = axes * np.sign(axes[np.arange(len(axes)), np.argmax(np.abs(axes), axis=1)])[:, None]
    placed = centred @ axes[:2].T
    total = float(np.sum(spread**2)) or 1.0
    shares = [float(value**2) / total for value in spread[:2]]
    if placed.shape[1] < 2:
        return placed[:, 0], np.zeros(len(placed)), (shares[0], 0.0)
    return placed[:, 0], placed[:, 1], (shares[0], shares[1])


def pca_by_level(
    x: NDArray[np.float64], y: NDArray[np.float64], shares: tuple[float, float], levels: Sequence[str]
) -> Figure:
    """Behaviour vectors on their first two principal components, coloured by level."""
    figure = _figure(6.6, 5)
    axes = figure.subplots()
    found = np.asarray(levels, dtype=object)
    for level in [*LEVEL_COLOURS, *sorted(set(found) - set(LEVEL_COLOURS))]:
        chosen = found == level
        if chosen.any():
            colour = LEVEL_COLOURS.get(level, _INK)
            label = f"{level} ({chosen.sum():,})"
            axes.scatter(x[chosen], y[chosen], s=9, color=colour, alpha=0.65, linewidths=0, label=label)
    axes.legend(frameon=False, fontsize=9, markerscale=2, loc="best")
    _components(axes, shares, "Behaviour of the training rows, by level")
    return figure


def pca_by_score(
    x: NDArray[np.float64], y: NDArray[np.float64], shares: tuple[float, float], scores: NDArray[np.float64]
) -> Figure:
    """Behaviour vectors on their first two principal components, coloured by score; unusual rows (≥ 1) are ringed."""
    figure = _figure(6.6, 5)
    axes = figure.subplots()
    order = np.argsort(scores, kind="stable")
    # Scores above 2 share the last colour, so that one extreme row does not make all others look alike.
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


def timeline(scores: pd.DataFrame) -> Figure:
    """Score over time of the instances with the highest scores, one panel each, with the boundary at 1."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    # Rows without enough context have no score: a gap in the line.
    peaks = scores.groupby("instance_id")["score"].max().fillna(0.0).sort_values(ascending=False, kind="stable").head(3)
    figure = _figure(10, 1.1 + 1.7 * len(peaks))
    panels = np.atleast_1d(figure.subplots(len(peaks), 1, sharex=True))
    for axes, (instance, peak) in zip(panels, peaks.items(), strict=True):
        rows = scores[scores["instance_id"] == instance].sort_values("timestamp")
        moments, values = rows["timestamp"].dt.tz_localize(None).to_numpy(), rows["score"].to_numpy(dtype=float)
        axes.plot(moments, values, color=_LINES[0], linewidth=0.9)
        axes.axhline(1, color=UNUSUAL, linewidth=1, linestyle="--")
        axes.fill_between(moments, 1, values, where=values >= 1, color=UNUSUAL, alpha=0.25, linewidth=0)
        axes.set_ylim(0, max(1.15, 1.08 * float(peak)))
        axes.set_title(
            f"{in_figure(instance)}: peak {peak:.2f}, {int((values >= 1).sum()):,} unusual rows",
            fontsize=10,
            loc="left",
        )
        axes.set_ylabel("score")
        _plain(axes)
    locator = AutoDateLocator()
    panels[-1].xaxis.set_major_locator(locator)
    panels[-1].xaxis.set_major_formatter(ConciseDateFormatter(locator))
    panels[-1].set_xlabel("time (UTC)")
    figure.suptitle("The three highest-scoring instances (dashed: 1 = unusual)", fontsize=12)
    return figure


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=120, layout="constrained")


def _thousands(value: float, _position: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}"


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)


def _components(axes: Axes, shares: tuple[float, float], title: str) -> None:
    axes.set_title(title)
    axes.set_xlabel(f"first principal component ({shares[0]:.0%} of the variance)")
    axes.set_ylabel(f"second principal component ({shares[1]:.0%})")
    _plain(axes)


def _cycle(n: int) -> list[str]:
    return [_LINES[place % len(_LINES)] for place in range(n)]


def _words(name: object) -> str:
    return in_figure(str(name).replace("_", " "), 40)

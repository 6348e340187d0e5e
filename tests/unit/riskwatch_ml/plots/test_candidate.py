"""Figures of a candidate: all data, missing data, gaps and single values."""

import io
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from riskwatch_ml.plots import candidate
from riskwatch_ml.plots.style import png

ALL = {
    "elbow.png",
    "dendrogram.png",
    "heatmap.png",
    "cluster_sizes.png",
    "pca_by_level.png",
    "pca_by_score.png",
    "score_timeline.png",
}


def plot_data(**changes) -> SimpleNamespace:
    rng = np.random.default_rng(3)
    stamps = pd.date_range("2026-11-22", periods=20, freq="5min", tz="UTC")
    scores = np.r_[np.nan, np.linspace(0.1, 1.3, 19)]
    values = {
        "curves": {"kmeans": {"k": [3, 2], "inertia": [4.0, 9.0], "silhouette": [0.3, 0.4], "davies_bouldin": [1, 2]}},
        "linkage": np.array([[0, 1, 1.0, 2], [2, 3, 2.0, 3]]),
        "profile": pd.DataFrame([[0.1, np.nan], [-2.0, 1.0]], index=["0 (Idle, n=1)", "1 (Normal, n=9)"]),
        "points": rng.normal(size=(20, 4)),
        "point_levels": ["Idle"] * 10 + ["High Load"] * 10,
        "point_scores": scores,
        "cluster_sizes": {"0": 10, "1": 10},
        "paging_threshold": 1.1,
        "timeline": pd.concat(
            [
                pd.DataFrame({"timestamp": stamps, "instance_id": "web-1", "score": scores, "alert": scores > 1.1}),
                pd.DataFrame({"timestamp": stamps, "instance_id": "new", "score": np.nan, "alert": False}),
            ]
        ),
    }
    return SimpleNamespace(**{**values, **changes})


@pytest.mark.filterwarnings("error")
def test_every_figure_becomes_a_png_without_a_warning():
    # GIVEN data with a missing score, a missing profile value and an instance without any score
    drawn = candidate.figures(plot_data())
    # THEN all seven are there and can be written
    assert set(drawn) == ALL
    for figure in drawn.values():
        assert png(figure).startswith(b"\x89PNG")


def test_a_png_has_the_pixels_of_savefig():
    # GIVEN two equal figures with a legend outside the axes and a layout that follows their texts
    one, other = (candidate.timeline(plot_data().timeline, 1.1) for _ in range(2))
    # WHEN one is drawn once, the other one by matplotlib's own way
    target = io.BytesIO()
    other.savefig(target, format="png")
    # THEN
    drawn, saved = (np.asarray(Image.open(file)) for file in (io.BytesIO(png(one)), target))
    assert np.array_equal(drawn, saved)


def test_what_a_family_does_not_have_is_left_out():
    drawn = candidate.figures(plot_data(curves={}, linkage=None, timeline=pd.DataFrame(), points=np.zeros((0, 4))))
    assert set(drawn) == {"heatmap.png", "cluster_sizes.png"}


@pytest.mark.filterwarnings("error")
def test_rows_that_are_all_alike_can_be_drawn():
    # GIVEN no variance at all, one feature and one cluster
    data = plot_data(
        points=np.ones((5, 1)),
        point_levels=["Normal"] * 5,
        point_scores=np.zeros(5),
        profile=pd.DataFrame([[0.0]]),
        cluster_sizes={"0": 0},
    )
    for figure in candidate.figures(data).values():
        png(figure)


def test_an_elbow_is_drawn_in_the_order_of_k():
    figure = candidate.elbow(plot_data().curves)
    line = figure.axes[0].lines[0]
    assert list(line.get_xdata()) == [2, 3]
    assert list(line.get_ydata()) == [9.0, 4.0]


def test_each_search_has_its_own_cost_and_what_is_undefined_is_not_drawn():
    # GIVEN two searches, one of which came to a single cluster
    curves = {
        "kmeans": {"k": [2, 3], "inertia": [9.0, 4.0], "silhouette": [0.4, 0.3], "davies_bouldin": [2, 1]},
        "dbscan": {"k": [3, 1], "inertia": [7.0, 8.0], "silhouette": [0.2, np.nan], "davies_bouldin": [1, np.nan]},
    }
    # WHEN
    panels = candidate.elbow(curves).axes
    # THEN no axis has two kinds of cost, and k = 1 has a cost and no silhouette
    assert [panel.get_title() for panel in panels][:2] == ["Inertia, kmeans", "Cost, dbscan"]
    assert "at most eps" in panels[1].get_xlabel()
    assert list(panels[1].lines[0].get_xdata()) == [1, 3]
    assert [list(line.get_xdata()) for line in panels[2].lines] == [[2, 3], [3]]


def test_a_heatmap_of_many_metrics_shows_those_that_differ_most():
    # GIVEN 2,000 metrics in 100 clusters, two metrics of which tell the clusters apart, one of them not always there
    values = np.zeros((100, 2000))
    values[:, 1500], values[0, 1999], values[1:, 1999] = np.arange(100), np.nan, np.arange(99)
    profile = pd.DataFrame(values, index=[f"c{i}" for i in range(100)], columns=[f"m{i}" for i in range(2000)])
    # WHEN
    figure = candidate.profiles(profile, {f"c{i}": i for i in range(100)})
    # THEN it has a size that can be looked at, says what it leaves out, and keeps the largest clusters
    axes = figure.axes[0]
    assert max(figure.get_size_inches()) < 32
    assert "the 30 of 2,000 metrics that differ most" in axes.get_title()
    assert "the 60 of 100 largest clusters" in axes.get_title()
    assert [tick.get_text() for tick in axes.get_xticklabels()][-2:] == ["m1500", "m1999"]
    assert next(tick.get_text() for tick in axes.get_yticklabels()) == "c40"


def test_long_names_on_an_axis_stay_apart():
    names = [f"{'a' * 30}{each}{'b' * 30}" for each in "xy"]
    figure = candidate.profiles(pd.DataFrame([[0.0, 1.0]], columns=names))
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == names


@pytest.mark.parametrize(("threshold", "top"), [(1.4, 1.08 * 1.4), (90.0, 1.08 * 1.3)])
def test_a_timeline_has_the_episodes_and_the_paging_threshold(threshold, top):
    # GIVEN scores up to 1.3, and the rows above 1.1 in an episode
    figure = candidate.timeline(plot_data().timeline, threshold)
    # THEN the first panel has one episode, the boundary and the threshold, without losing the scores below it
    panel = figure.axes[0]
    assert "episodes: 1" in panel.get_title(loc="left")
    assert len(panel.patches) == 1
    assert [line.get_ydata()[0] for line in panel.lines[1:]] == [1, threshold]
    assert panel.get_ylim() == pytest.approx((0, top))
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[0] == "1 = unusual"
    assert labels[1].startswith("paging threshold")
    assert labels[2] == "episode"


def test_projection_by_hand():
    # GIVEN points on the diagonal of a plane, spread 2 along it and 0 across
    x, y, shares = candidate.project(np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]]))
    # THEN the first component is the diagonal, all of the variance, with a fixed sign
    assert x == pytest.approx([-np.sqrt(2), 0, np.sqrt(2)])
    assert y == pytest.approx([0, 0, 0])
    assert shares == pytest.approx((1.0, 0.0))
    assert candidate.project(np.array([[2.0, 2.0], [1.0, 1.0], [0.0, 0.0]]))[0] == pytest.approx(x[::-1])

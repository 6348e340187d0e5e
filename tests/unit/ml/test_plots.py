"""Every figure draws from what a candidate may bring, including nothing, gaps and single values."""

import io
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from ml import plots

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
        "timeline": pd.concat(
            [
                pd.DataFrame({"timestamp": stamps, "instance_id": "web-1", "score": scores}),
                pd.DataFrame({"timestamp": stamps, "instance_id": "new", "score": np.nan}),
            ]
        ),
    }
    return SimpleNamespace(**{**values, **changes})


@pytest.mark.filterwarnings("error")
def test_every_figure_becomes_a_png_without_a_warning():
    # GIVEN data with a missing score, a missing profile value and an instance without any score
    drawn = plots.figures(plot_data())
    # THEN all seven are there and can be written
    assert set(drawn) == ALL
    for figure in drawn.values():
        target = io.BytesIO()
        figure.savefig(target, format="png", dpi=40)
        assert target.getvalue().startswith(b"\x89PNG")


def test_what_a_family_does_not_have_is_left_out():
    drawn = plots.figures(plot_data(curves={}, linkage=None, timeline=pd.DataFrame(), points=np.zeros((0, 4))))
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
    for figure in plots.figures(data).values():
        figure.savefig(io.BytesIO(), format="png", dpi=40)


def test_an_elbow_is_drawn_in_the_order_of_k():
    figure = plots.elbow(plot_data().curves)
    line = figure.axes[0].lines[0]
    assert list(line.get_xdata()) == [2, 3]
    assert list(line.get_ydata()) == [9.0, 4.0]


def test_projection_by_hand():
    # GIVEN points on the diagonal of a plane, spread 2 along it and 0 across
    x, y, shares = plots.project(np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]]))
    # THEN the first component is the diagonal, all of the variance, with a fixed sign
    assert x == pytest.approx([-np.sqrt(2), 0, np.sqrt(2)])
    assert y == pytest.approx([0, 0, 0])
    assert shares == pytest.approx((1.0, 0.0))
    assert plots.project(np.array([[2.0, 2.0], [1.0, 1.0], [0.0, 0.0]]))[0] == pytest.approx(x[::-1])

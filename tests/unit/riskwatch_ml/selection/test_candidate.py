import json
from datetime import UTC, datetime
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from riskwatch_ml.artifact import archive
from riskwatch_ml.model.explain import label_rows
from riskwatch_ml.model.fit import Recipe
from riskwatch_ml.model.page_budget import PageBudget
from riskwatch_ml.selection.candidate import FAMILIES, TrainingError, _profile, fit_candidate
from riskwatch_ml.selection.ranking import choose
from tests.support.fleets import CATALOGUE, INVENTORY, rows

MOMENT = datetime(2026, 11, 5, tzinfo=UTC)
FIGURES = {
    "silhouette", "davies_bouldin", "calinski_harabasz", "fidelity", "prototypes", "injected_vus_pr",
    "alerts_per_instance_day", "share_idle", "share_normal", "share_high_load", "largest_cluster_share", "fit_seconds",
}  # fmt: skip


def train(frame, family="kmeans", **settings):
    return fit_candidate(frame, CATALOGUE, INVENTORY, Recipe(family, **settings), "t", MOMENT)


@pytest.fixture(scope="module")
def candidates():
    return {family: train(rows(), family) for family in FAMILIES}


def test_every_family_gives_the_same_kinds_of_figures_and_a_model_that_packs(candidates):
    names = {frozenset(candidate.figures) for candidate in candidates.values()}
    assert len(names) == 1
    assert next(iter(names)) >= FIGURES
    for candidate in candidates.values():
        assert archive.pack(candidate.document, candidate.arrays)
        json.dumps(candidate.figures, allow_nan=False)
        assert candidate.figures["prototypes"] <= 256
        assert all(values.dtype == np.float32 for values in candidate.arrays.values())
        assert candidate.document["trained_at"] == "2026-11-05T00:00:00.000Z"
        assert sum(candidate.document["reference"]["levels"].values()) == pytest.approx(1)


def test_training_keeps_to_the_budget_and_finds_injected_incidents(candidates):
    for candidate in candidates.values():
        assert candidate.figures["alerts_per_instance_day"] <= 1.0
        assert candidate.figures["injected_vus_pr"] > 0.4
    quiet = train(rows(), budget=PageBudget(0.01))
    assert quiet.figures["alerts_per_instance_day"] <= candidates["kmeans"].figures["alerts_per_instance_day"]
    assert quiet.figures["paging_threshold"] >= candidates["kmeans"].figures["paging_threshold"]


def test_a_choice_can_be_made(candidates):
    figures = {family: candidate.figures for family, candidate in candidates.items()}
    assert choose(figures).winner in FAMILIES


def test_levels_follow_the_load(candidates):
    # GIVEN rows at little, middling and heavy load
    load = rows(["web-1"], n=3)
    load[list(CATALOGUE.names)] = [[8.0] * 10, [40.0] * 10, [75.0] * 10]
    # WHEN / THEN
    labelled = label_rows(candidates["kmeans"].document, candidates["kmeans"].arrays, load, INVENTORY)
    assert labelled["level"].tolist() == ["Idle", "Normal", "High Load"]


def test_equal_input_gives_equal_bytes(candidates):
    shuffled = rows().sample(frac=1, random_state=5)
    again = train(shuffled)
    want = candidates["kmeans"]
    assert archive.pack(again.document, again.arrays) == archive.pack(want.document, want.arrays)


def test_plot_data_fits_together(candidates):
    for candidate in candidates.values():
        plots = candidate.plots
        assert len(plots.points) == len(plots.point_levels) == len(plots.point_scores) == 2000
        assert plots.points.shape[1] == 10
        assert sum(plots.cluster_sizes.values()) == 3 * 864
        assert list(plots.profile.index) == list(plots.cluster_sizes)
        assert plots.timeline["instance_id"].nunique() == 3
        assert plots.paging_threshold == candidate.figures["paging_threshold"]
        certain = plots.timeline["score"] >= plots.paging_threshold
        assert plots.timeline["alert"].sum() <= 2 * certain.sum()
    assert candidates["hierarchical"].plots.linkage is not None


def test_a_profile_tells_what_every_metric_is_in_a_cluster(candidates):
    # GIVEN a fleet whose level comes from CPU and whose other metrics follow it
    profile = candidates["kmeans"].plots.profile
    busy = profile.index.str.contains("High Load")
    # THEN all of them are above the fleet's mean where it is busy, and the means of all rows are the fleet's
    assert (profile[busy].mean() > 0.5).all()
    weight = list(candidates["kmeans"].plots.cluster_sizes.values())
    assert np.average(profile, axis=0, weights=weight) == pytest.approx(np.zeros(10), abs=1e-9)


def test_a_profile_by_hand():
    # GIVEN values 1, 3 and 5, 7 in two clusters: mean 4, deviation sqrt(5); a metric that stands still; one not there
    values = np.array([[1.0, 0.1, np.nan], [3, 0.1, np.nan], [5, 0.1, np.nan], [7, 0.1, 8.0]])
    table = SimpleNamespace(values=values, features=("a", "b", "c"))
    # WHEN
    profile = _profile(table, np.array([0, 0, 2, 2]), {0: "x", 2: "y"})
    # THEN
    assert profile["a"].to_list() == pytest.approx([-2 / np.sqrt(5), 2 / np.sqrt(5)])
    assert profile["b"].to_list() == pytest.approx([0, 0], abs=1e-12)
    assert np.isnan(profile.loc["x", "c"])
    assert profile.loc["y", "c"] == 0


@pytest.mark.parametrize("family", list(FAMILIES))
def test_awkward_but_possible_rows_train(family):
    # GIVEN a constant metric, one never reported, one instance with few rows, one alone in a role
    frame = rows(["web-1", "db-1"], n=300).assign(latency_ms=5.0, disk_queue_length=np.nan)
    frame = pd.concat([frame, rows(["new-1"], n=10)], ignore_index=True)
    # WHEN
    candidate = train(frame, family)
    # THEN
    assert set(candidate.document["baselines"]["instances"]) == {"web-1", "db-1"}
    labelled = label_rows(candidate.document, candidate.arrays, frame, INVENTORY)
    assert np.isfinite(labelled["score"]).all()
    assert archive.pack(candidate.document, candidate.arrays)


@pytest.mark.parametrize("family", list(FAMILIES))
@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(rows(["only"], n=60), id="one instance"),
        pytest.param(rows(["only"], n=3), id="three rows"),
        pytest.param(rows(["only"], n=60).assign(**dict.fromkeys(CATALOGUE.names, 4.0)), id="all constant"),
        pytest.param(rows(["only"], n=60).iloc[::10], id="gaps everywhere"),
    ],
)
def test_hardly_anything_to_learn_from(family, frame):
    candidate = train(frame, family)
    labelled = label_rows(candidate.document, candidate.arrays, frame, INVENTORY)
    assert np.isfinite(labelled["score"]).all()
    assert archive.pack(candidate.document, candidate.arrays)


def test_a_constant_fleet_is_not_unusual():
    frame = rows(["only"], n=60).assign(**dict.fromkeys(CATALOGUE.names, 4.0))
    candidate = train(frame)
    assert not label_rows(candidate.document, candidate.arrays, frame)["unusual"].any()


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (rows(n=30).iloc[:0], "no rows"),
        (rows(n=30).drop(columns="timestamp"), "timestamp"),
        (rows(n=30).assign(timestamp=lambda x: x["timestamp"].dt.tz_localize(None)), "utc=True"),
        (pd.concat([rows(n=30), rows(["web-2"], n=2)]), r"2 rows repeat .* web-2"),
        (rows(n=30).assign(latency_ms=np.inf), "latency_ms: infinite"),
        (rows(n=30)[["instance_id", "timestamp"]].assign(other=1.0), "no catalogue metric"),
        (rows(n=30).assign(instance_id=None), "no instance_id"),
        (pd.concat([rows(n=30), rows(n=30)[["latency_ms"]]], axis=1), "2 columns 'latency_ms': keep one"),
        (pd.concat([rows(n=30), rows(n=30)[["timestamp"]]], axis=1), "2 columns 'timestamp': keep one"),
    ],
)
def test_rows_that_cannot_be_trained_on_name_the_trouble(frame, message):
    with pytest.raises(TrainingError, match=message):
        train(frame)


def test_arguments_that_make_no_sense():
    with pytest.raises(TrainingError, match="use one of kmeans"):
        train(rows(n=30), "kmeens")
    with pytest.raises(TrainingError, match="budget 0"):
        train(rows(n=30), budget=PageBudget(0))

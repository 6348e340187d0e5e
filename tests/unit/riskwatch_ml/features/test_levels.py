from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

from riskwatch_local.demo import simulator
from riskwatch_ml.families import FAMILIES
from riskwatch_ml.features.levels import name_levels, severities, severity_columns, severity_of
from riskwatch_ml.features.spaces import level_space
from riskwatch_ml.features.training_set import build_space
from riskwatch_ml.model.fit import Recipe, fit_level
from riskwatch_ml.schema import catalogue
from riskwatch_ml.schema.catalogue import Catalogue, Metric


def named(severity, counts):
    return name_levels(np.array(severity, float), np.array(counts))


def test_cpu_alone_says_how_busy_a_row_is_where_half_of_the_rows_report_it():
    features = ("disk_queue_length", "cpu_utilization", "latency_ms", "active_connections")
    assert severity_columns(features, [1.0, 0.5, 1.0, 1.0]) == [1]
    assert severity_columns(features, [1.0, 0.4, 1.0, 1.0]) == [2, 3]
    assert severity_columns(features, [1.0, 0.0, 0.2, 1.0]) == [3]


def test_without_those_metrics_all_reported_ones_count():
    assert severity_columns(("x", "y", "z"), [1.0, 0.0, 0.1]) == [0, 2]
    assert severity_columns(("x", "cpu_utilization"), [1.0, 0.3]) == [0, 1]


def test_a_metric_that_never_moves_says_nothing():
    # GIVEN a CPU that always reads the same beside metrics that move
    features = ("cpu_utilization", "memory_utilization", "latency_ms")
    values = np.array([[5.0, 1.0, 3.0], [5.0, 2.0, np.nan], [np.nan, 3.0, 4.0]])
    # THEN latency speaks, else memory, and CPU where nothing moves
    assert severity_of(values, features) == [2]
    assert severity_of(values[:2], features) == [1]
    assert severity_of(values[:1], features) == [0]


def test_severity_is_the_mean_of_a_clusters_rows():
    # GIVEN two metrics in the level space
    level = np.array([[1.0, 3.0], [3.0, 5.0], [-1.0, -1.0]])
    # WHEN
    severity, counts = severities(level, np.array([2, 2, 0]), 3)
    # THEN cluster 2 has ((1 + 3) + (3 + 5)) / 2, cluster 0 has -2, cluster 1 has no rows
    np.testing.assert_array_equal(severity, [-2.0, np.nan, 6.0])
    assert counts.tolist() == [1, 0, 2]


def test_clusters_are_cut_where_the_gaps_are():
    assert named([2.0, -1.0, 0.1, -0.9, 0.0], [10, 10, 10, 10, 10]) == [
        "High Load", "Idle", "Normal", "Idle", "Normal",
    ]  # fmt: skip


def test_counts_weigh_in():
    # Three rows apart by 0.4 cost less in one group than a thousand rows apart by 0.2.
    assert named([0.0, 0.2, 1.0, 1.4], [1000, 1000, 1, 1]) == ["Idle", "Normal", "High Load", "High Load"]


def test_fewer_than_three_clusters():
    assert named([0.3], [5]) == ["Normal"]
    assert named([0.1, 0.9], [90, 10]) == ["Normal", "High Load"]
    assert named([0.1, 0.9], [10, 90]) == ["Idle", "Normal"]
    assert named([0.1, 0.1, 0.1], [10, 90, 3]) == ["Normal"] * 3


def test_a_label_without_rows_is_normal():
    assert named([np.nan, -1.0, 0.0, 1.0], [0, 5, 5, 5]) == ["Normal", "Idle", "Normal", "High Load"]


@pytest.fixture(scope="module")
def simulated():
    """Every third row of two simulated days, none impossible: the spaces, the true levels, and which are quiet."""
    simulation = simulator.simulate(datetime(2026, 11, 22, 10, tzinfo=UTC), days=2)
    possible = ~(simulation.rows["cpu_utilization"] > 100) & ~(simulation.rows["latency_ms"] < 0)
    possible &= simulation.rows.index % 3 == 0
    space = build_space(simulation.rows[possible], catalogue.load(), simulation.inventory, 300)
    quiet = simulator.quiet_rows(simulation.rows, simulation.incidents)
    return space, simulator.true_levels(simulation)[possible], quiet[possible]


@pytest.mark.parametrize("family", list(FAMILIES))
def test_quiet_rows_of_the_simulated_fleet_get_their_roles_true_level(simulated, family):
    # GIVEN rows of four roles whose sizes differ by orders of magnitude
    space, truth, quiet = simulated
    # WHEN, under two seeds
    found = []
    for seed in (0, 1):
        fit, level, _ = fit_level(space, Recipe(family, seed=seed))
        found.append(np.array(level["names"], object)[fit.map.assign(space.level).labels])
        # THEN
        assert np.mean(found[-1][quiet] == truth[quiet]) >= 0.95
    assert np.mean(found[0] == found[1]) >= 0.98


def wave(n_instances, seed, day):
    """The rows of four days of a daily wave of CPU with noise, a continuum of load: at least a thousand of them."""
    a_day = 288 if n_instances == 1 else 96
    rng = np.random.default_rng(seed)
    stamps = pd.date_range("2026-11-01", periods=5 * a_day, freq=pd.Timedelta(days=1) / a_day, tz="UTC").as_unit("ms")
    angle = np.arange(len(stamps)) * 2 * np.pi / a_day
    parts = [
        pd.DataFrame(
            {
                "instance_id": f"i{number}",
                "timestamp": stamps,
                "cpu_utilization": low + swing * np.sin(angle) + rng.normal(0, 3, len(stamps)),
            }
        )
        for number, (low, swing) in enumerate(
            zip(rng.uniform(20, 45, n_instances), rng.uniform(8, 18, n_instances), strict=True)
        )
    ]
    return pd.concat([part.iloc[day * a_day : (day + 4) * a_day] for part in parts], ignore_index=True)


@pytest.mark.parametrize("n_instances", [1, 3, 8])
@pytest.mark.parametrize("family", ["kmeans", "kmedoids", "hierarchical", "ensemble"])
def test_the_levels_of_a_daily_wave_stay_when_a_day_passes(family, n_instances):
    # GIVEN a fleet whose load has no gaps to cut at, and its rows a day later
    found = []
    watched = Catalogue((Metric("cpu_utilization", "Bench", "cpu"),))
    spaces = [build_space(wave(n_instances, 5, day), watched, {}, 900) for day in (0, 1)]
    # WHEN each day's levels are asked about the last day's rows
    values = spaces[-1].table.values
    for space in spaces:
        fit, level, _ = fit_level(space, Recipe(family))
        labels = fit.map.assign(level_space(values, space.level_center, space.level_scale)).labels
        found.append(np.array(level["names"], object)[labels])
    # THEN at most a tenth of the rows change theirs
    assert np.mean(found[0] != found[1]) <= 0.1
    assert len(set(found[-1])) == 3


@pytest.mark.parametrize("family", list(FAMILIES))
def test_metrics_that_do_not_count_make_no_two_rows_of_one_load_different(family):
    # GIVEN CPU in whole percents, of which there are few, beside a metric that never repeats
    rng = np.random.default_rng(0)
    rows = wave(3, 5, 0)
    rows["cpu_utilization"] = (rows["cpu_utilization"] // 5 * 5).clip(0, 100)
    rows["memory_utilization"] = rng.uniform(20, 80, len(rows))
    watched = Catalogue(tuple(Metric(name, "Bench", name) for name in ("cpu_utilization", "memory_utilization")))
    # WHEN
    space = build_space(rows, watched, {}, 900)
    fit, _, _ = fit_level(space, Recipe(family))
    # THEN the map has no more prototypes than there are loads, and repeats what was fitted
    loads = rows["cpu_utilization"].nunique()
    assert loads < 24
    assert len(np.unique(space.level, axis=0)) == loads
    assert all(len(np.unique(stage.prototypes, axis=0)) == len(stage.prototypes) <= loads for stage in fit.map.stages)
    assert fit.figures["fidelity"] >= 0.98

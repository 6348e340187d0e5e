from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

from riskwatch_local.demo import simulator
from riskwatch_ml.families import FAMILIES
from riskwatch_ml.features.levels import load_columns, load_of, name_levels, severities
from riskwatch_ml.features.training_set import build_training_set
from riskwatch_ml.model.fit import Recipe, fit_level
from riskwatch_ml.model.level_rule import load_rule
from riskwatch_ml.schema import catalogue
from riskwatch_ml.schema.catalogue import LOAD_METRICS, Catalogue
from riskwatch_ml.schema.metric import Metric


def named(severity, counts):
    return name_levels(np.array(severity, float), np.array(counts))


def watching(*names, **changes):
    """Return a catalogue of the metrics ``names``; ``changes`` are other values of it."""
    return Catalogue(tuple(Metric(name, "Bench", name) for name in names), **changes)


def columns(features, reported):
    return load_columns(features, LOAD_METRICS, reported)


def test_cpu_alone_says_how_busy_a_row_is_where_half_of_the_rows_report_it():
    features = ("disk_queue_length", "cpu_utilization", "latency_ms", "active_connections")
    assert columns(features, [1.0, 0.5, 1.0, 1.0]) == (1,)
    assert columns(features, [1.0, 0.4, 1.0, 1.0]) == (2, 3)
    assert columns(features, [1.0, 0.0, 0.2, 1.0]) == (3,)


def test_without_those_metrics_all_reported_ones_count():
    assert columns(("x", "y", "z"), [1.0, 0.0, 0.1]) == (0, 2)
    assert columns(("x", "cpu_utilization"), [1.0, 0.3]) == (0, 1)


def test_the_catalogue_names_the_metrics_that_tell_the_load():
    # GIVEN a kind whose load is its requests, else the age of its messages
    values = np.array([[1.0, 3.0, np.nan], [2.0, 5.0, 7.0], [3.0, 4.0, np.nan], [3.0, np.nan, 8.0], [1.0, 4.0, np.nan]])
    groups = (("requests",), ("age_s",))
    # THEN each group is asked in turn, and a kind without any uses all metrics
    assert load_of(values, watching("cpu_utilization", "requests", "age_s", load_metrics=groups)).columns == (1,)
    assert load_of(values, watching("cpu_utilization", "age_s", "requests", load_metrics=groups)).columns == (1,)
    assert load_of(values, watching("cpu_utilization", "requests", "age_s", load_metrics=())).columns == (0, 1, 2)


def test_a_metric_that_never_moves_says_nothing():
    # GIVEN a CPU that always reads the same beside metrics that move
    watched = watching("cpu_utilization", "memory_utilization", "latency_ms")
    values = np.array([[5.0, 1.0, 3.0], [5.0, 2.0, np.nan], [np.nan, 3.0, 4.0]])
    # THEN latency speaks, else memory, and CPU where nothing moves
    assert load_of(values, watched).columns == (2,)
    assert load_of(values[:2], watched).columns == (1,)
    assert load_of(values[:1], watched).columns == (0,)


def test_only_a_percentage_of_capacity_that_spans_the_space_alone_is_absolute():
    values = np.array([[5.0, 1.0], [7.0, 2.0]])
    percent = Metric("cpu_utilization", "Bench", "cpu", unit="%", lower=0.0, upper=100.0)
    other = Metric("latency_ms", "Bench", "latency", unit="ms", lower=0.0)
    assert load_of(values, Catalogue((percent, other))).percentage
    assert not load_of(values, Catalogue((percent, other), load_metrics=())).percentage
    assert not load_of(values, Catalogue((replace(percent, upper=None), other))).percentage
    assert not load_of(values, Catalogue((replace(percent, unit="ms"), other))).percentage


def test_a_fleet_is_idle_if_nine_of_ten_rows_lie_below_the_low_anchor():
    watched = Catalogue((Metric("cpu_utilization", "Bench", "cpu", never_high_below=10.0),))
    assert load_of(np.append(np.linspace(1, 9, 95), [90.0] * 5)[:, None], watched).idle
    assert not load_of(np.append(np.linspace(1, 9, 85), [90.0] * 15)[:, None], watched).idle
    assert not load_of(np.linspace(1, 9, 95)[:, None], watching("cpu_utilization")).idle


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


def served(training_set, recipe, values):
    """Return the level of rows (n, d) by the levels that a fit would serve."""
    _, document, arrays = fit_level(training_set, recipe)
    rule = load_rule(document, arrays)
    return np.array(rule.names, object)[rule.labels(values)]


@pytest.fixture(scope="module")
def simulated():
    """Return the spaces, true levels and quiet rows of two simulated days.

    Every third row is used, without impossible values.
    """
    simulation = simulator.simulate(datetime(2026, 11, 22, 10, tzinfo=UTC), days=2)
    possible = ~(simulation.rows["cpu_utilization"] > 100) & ~(simulation.rows["latency_ms"] < 0)
    possible &= simulation.rows.index % 3 == 0
    training_set = build_training_set(simulation.rows[possible], catalogue.load(), simulation.inventory, 300)
    quiet = simulator.quiet_rows(simulation.rows, simulation.incidents)
    return training_set, simulator.true_levels(simulation)[possible], quiet[possible]


@pytest.mark.parametrize("family", list(FAMILIES))
def test_quiet_rows_of_the_simulated_fleet_get_their_roles_true_level(simulated, family):
    # GIVEN rows of four roles whose sizes differ by orders of magnitude
    training_set, truth, quiet = simulated
    # WHEN, under two seeds
    found = []
    for seed in (0, 1):
        found.append(served(training_set, Recipe(family, seed=seed), training_set.table.values))
        # THEN
        assert np.mean(found[-1][quiet] == truth[quiet]) >= 0.95
    assert np.mean(found[0] == found[1]) >= 0.98


def wave(n_instances, seed, day):
    """Return four days of a daily CPU wave with noise, at least 1,000 rows.

    Load is a continuum.
    """
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
    watched = Catalogue((Metric("cpu_utilization", "Bench", "cpu"),))
    spaces = [build_training_set(wave(n_instances, 5, day), watched, {}, 900) for day in (0, 1)]
    # WHEN each day's levels are asked about the last day's rows
    values = spaces[-1].table.values
    found = [served(training_set, Recipe(family), values) for training_set in spaces]
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
    training_set = build_training_set(rows, watched, {}, 900)
    fit, _, _ = fit_level(training_set, Recipe(family))
    # THEN the map has no more prototypes than there are loads, and repeats what was fitted
    loads = rows["cpu_utilization"].nunique()
    assert loads < 24
    assert len(np.unique(training_set.level, axis=0)) == loads
    assert all(len(np.unique(stage.prototypes, axis=0)) == len(stage.prototypes) <= loads for stage in fit.map.stages)
    assert fit.figures["fidelity"] >= 0.98

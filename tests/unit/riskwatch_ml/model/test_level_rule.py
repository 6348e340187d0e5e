"""The levels of one metric: clusters along it, noise on its sides, and the anchors of the catalogue."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from riskwatch_ml.families import FAMILIES
from riskwatch_ml.families.prototype_map import PrototypeMap, make_stage
from riskwatch_ml.features.levels import Load, name_levels, severities
from riskwatch_ml.features.training_set import build_training_set
from riskwatch_ml.model.fit import Recipe, fit_level, fit_model
from riskwatch_ml.model.fleet_model import level_labels
from riskwatch_ml.model.level_rule import LevelCuts, fit_cuts, load_rule
from riskwatch_ml.schema import catalogue
from riskwatch_ml.schema.catalogue import Catalogue
from riskwatch_ml.selection.guard_figures import guard_figures
from riskwatch_ml.selection.guards import vetoes

CPU = Catalogue((catalogue.load().by_name["cpu_utilization"],))
RELATIVE = Catalogue((replace(CPU.metrics[0], never_high_below=None, never_idle_above=None),))
LEVELS = ("Idle", "Normal", "High Load")


def fleet(*instances, watched=CPU):
    """Return the training set of instances that each report these values of CPU every 5 minutes."""
    parts = [
        pd.DataFrame(
            {
                "instance_id": f"i{number}",
                "timestamp": pd.date_range("2026-11-01", periods=len(cpu), freq="5min", tz="UTC").as_unit("ms"),
                "cpu_utilization": cpu,
            }
        )
        for number, cpu in enumerate(instances)
    ]
    return build_training_set(pd.concat(parts, ignore_index=True), watched, {}, 300)


def levels(training_set, family, *cpu):
    """Return the levels that a family would serve for values of CPU."""
    _, document, arrays = fit_level(training_set, Recipe(family))
    rule = load_rule(document, arrays)
    return [rule.names[label] for label in rule.labels(np.array(cpu, float)[:, None])]


def cuts(stages, values, table=None, load=None):
    """Return the cuts of a map of rows whose level space is CPU less 50, squashed."""
    training_set = fleet(values)
    training_set = replace(training_set, level_center=np.array([50.0]), level_scale=np.ones(1), load=load or Load((0,)))
    level = np.sign(values - 50.0) * np.log1p(np.abs(values - 50.0))
    found = fit_cuts(PrototypeMap(stages, table), values, replace(training_set, level=level[:, None]))
    return found.idle_below, found.high_from


def test_a_cut_lies_between_the_clusters():
    # GIVEN clusters at 10, 50 and 90
    values = np.array([9.0, 11.0, 49.0, 51.0, 88.0, 92.0])
    stage = make_stage(np.array([[-3.7], [0.0], [3.7]]), [2, 0, 1])
    # THEN the cuts lie in the middle of 11 and 49, and of 51 and 88, in three digits
    assert cuts((stage,), values) == (30.0, 69.5)


def test_noise_belongs_to_its_side():
    # GIVEN clusters within 1 of the squashed -3, 0 and 3, which are 31, 50 and 69; noise between and on both sides
    values = np.array([10.0, 30.0, 32.0, 44.0, 50.0, 51.0, 68.0, 70.0, 97.5])
    stage = make_stage(np.array([[-3.0], [0.0], [3.0]]), [0, 1, 2], radius=1.0, outside=3)
    # THEN 44 belongs to the nearer cluster
    assert cuts((stage,), values) == (41.0, 59.5)


def test_noise_beyond_all_clusters_is_idle_or_high_load():
    # GIVEN one cluster within 1 of the squashed 0, hence from 51 - e to 49 + e
    values = np.array([20.0, 49.0, 50.0, 51.0, 97.5])
    stage = make_stage(np.array([[0.0]]), [0], radius=1.0, outside=1)
    # THEN
    assert cuts((stage,), values) == pytest.approx((51 - np.e, 49 + np.e))
    # THEN without noise the cluster has no end
    assert cuts((make_stage(np.array([[0.0]]), [0]),), values) == (-np.inf, np.inf)


def test_interleaved_clusters_are_named_interval_by_interval():
    # GIVEN two stages whose pairs are one cluster at both ends of the metric, and another in the middle
    values = np.array([9.0, 11.0, 49.0, 51.0, 88.0, 92.0])
    first = make_stage(np.array([[-3.7], [0.0], [3.7]]), [0, 1, 2])
    second = make_stage(np.array([[0.0]]), [0])
    # THEN the ends have different levels
    assert cuts((first, second), values, {(0, 0): 0, (1, 0): 1, (2, 0): 0}) == (30.0, 69.5)


def test_anchors_move_the_cuts():
    load = Load((0,), never_high_below=10.0, never_idle_above=50.0)
    assert load.anchored(0.1, 0.9) == (0.1, 10.0)
    assert load.anchored(70.0, 90.0) == (50.0, 90.0)
    assert load.anchored(-np.inf, np.inf) == (-np.inf, np.inf)
    # THEN an idle fleet has the anchors as its cuts, or one of them and its own cut
    assert replace(load, idle=True).anchored(0.1, 0.9) == (10.0, 50.0)
    assert replace(load, idle=True, never_idle_above=np.inf).anchored(0.1, 0.9) == (10.0, 10.0)
    assert replace(load, idle=True, never_idle_above=np.inf).anchored(0.1, 80.0) == (10.0, 80.0)


def test_cuts_at_infinity_are_null_in_the_document():
    rule = LevelCuts(0, -np.inf, 70.0)
    assert rule.to_document() == {"metric": 0, "idle_below": None, "high_from": 70.0}
    assert load_rule({"cuts": rule.to_document()}, {}) == rule


@pytest.mark.parametrize("family", ["kmeans", "kmedoids", "hierarchical"])
def test_clusters_that_do_not_interleave_have_the_levels_of_their_means(family):
    # GIVEN a day's wave, and the clusters that a family finds in it
    cpu = 40 + 25 * np.sin(np.arange(576) * 2 * np.pi / 288) + np.random.default_rng(4).normal(0, 3, 576)
    training_set = fleet(cpu)
    fit = fit_level(training_set, Recipe(family))[0]
    labels = fit.map.assign(training_set.level).labels
    # WHEN / THEN the cuts give its rows the levels that its clusters have
    names = name_levels(*severities(training_set.level, labels, fit.map.n_labels))
    assert levels(training_set, family, *cpu) == [names[label] for label in labels]


@pytest.mark.parametrize("family", list(FAMILIES))
def test_an_idle_fleet_is_idle(family):
    # GIVEN the case idle_fleet_high_load: CPU about 0.07 %, one row in a hundred at 1.2 %
    rng = np.random.default_rng(0)
    instances = rng.normal(0.07, 0.03, (4, 288)).clip(0)
    instances[:, 7::100] = rng.uniform(1.1, 1.33, instances[:, 7::100].shape)
    training_set = fleet(*instances.round(3))
    # THEN all its rows are Idle, and the rest of the scale has levels
    assert set(levels(training_set, family, *training_set.table.values[:, 0])) == {"Idle"}
    assert levels(training_set, family, 1.2, 9.9, 10, 49, 50, 97.5) == ["Idle"] * 2 + ["Normal"] * 2 + ["High Load"] * 2


def test_one_level_of_an_idle_fleet_is_no_reason_for_a_veto():
    # GIVEN CPU about 0.07 %
    rng = np.random.default_rng(0)
    training_set = fleet(*rng.normal(0.07, 0.03, (2, 288)).clip(0))
    # WHEN
    fitted = fit_model(training_set, CPU, Recipe("kmeans"))
    # THEN
    assert not [veto for veto in vetoes(guard_figures(fitted, training_set, 0)) if "level" in veto]


def test_the_levels_of_an_idle_fleet_never_fall():
    # GIVEN the case dbscan_noise_is_high_load: the same fleet without anchors, and its lowest and highest rows
    rng = np.random.default_rng(0)
    instances = rng.normal(0.07, 0.03, (4, 288)).clip(0)
    instances[:, 7::100] = rng.uniform(1.1, 1.33, instances[:, 7::100].shape)
    training_set = fleet(*instances.round(3), watched=RELATIVE)
    # THEN noise at the low end is not High Load
    cpu = np.sort(training_set.table.values[:, 0])
    found = [LEVELS.index(level) for level in levels(training_set, "dbscan", *cpu)]
    assert found == sorted(found)
    assert (found[0], found[-1]) == (0, 2)


@pytest.mark.parametrize("family", list(FAMILIES))
def test_an_incident_above_all_clusters_is_high_load(family):
    # GIVEN a fleet at 20 to 60 % with an incident at 97.5 %
    rng = np.random.default_rng(1)
    instances = rng.uniform(20.1, 60, (4, 288))
    instances[0, 100:104] = [97.5, 96.9, 97.1, 97.5]
    training_set = fleet(*instances.round(1))
    # THEN
    assert levels(training_set, family, 97.5) == ["High Load"]
    assert levels(training_set, family, 20.1) != ["High Load"]


def test_levels_are_relative_unless_a_percentage_of_capacity_spans_the_space():
    rng = np.random.default_rng(2)
    instances = rng.uniform(20, 60, (2, 288))
    assert fit_level(fleet(*instances), Recipe("kmeans"))[1]["relative"] is False
    requests = Catalogue((replace(RELATIVE.metrics[0], unit="", upper=None),))
    assert fit_level(fleet(*instances, watched=requests), Recipe("kmeans"))[1]["relative"] is True


def test_a_missing_value_has_the_level_of_its_usual_one():
    # GIVEN an instance that is always busy, in a fleet with a quiet one
    rng = np.random.default_rng(3)
    training_set = fleet(rng.normal(20, 1, 288), rng.normal(80, 1, 288))
    fitted = fit_model(training_set, CPU, Recipe("kmeans"))
    table = replace(training_set.table, values=np.full_like(training_set.table.values, np.nan))
    # THEN
    labels = level_labels(fitted.model, table, training_set.baseline)
    assert set(labels[training_set.table.code == 0]) < {0, 1}
    assert set(labels[training_set.table.code == 1]) < {1, 2}

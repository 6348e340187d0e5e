"""Baselines: profile and trust, fallbacks, floors, and peak memory."""

import tracemalloc

import numpy as np
import pandas as pd
import pytest

from riskwatch_ml.features import table as features
from riskwatch_ml.features.baselines import fit_baselines
from riskwatch_ml.features.spaces import NEVER_SEEN_SCALE, fit_level_scaling
from riskwatch_ml.features.table import MetricTable, as_table
from tests.support.fleets import frame

GAP = 6 * 300


def test_a_stable_hour_of_day_profile_is_trusted_and_noise_is_not():
    # GIVEN six days where a follows the hour exactly and b is noise
    hours = (np.arange(6 * 288) // 12) % 24
    noise = np.random.default_rng(0).normal(50, 10, len(hours))
    table = as_table(frame("i", np.column_stack([10.0 * hours, noise]), columns="ab"), ["a", "b"], GAP)
    # WHEN
    baselines = fit_baselines(table, {"i": "web"})
    # THEN a's centre is its hour's mean, b's is nearly the same at every hour
    assert baselines.center[0, :, 0] == pytest.approx(10.0 * np.arange(24))
    assert np.ptp(baselines.center[0, :, 1]) < 0.5
    # and a's scale stands on the floor, 0.3 of its deviation: 10 * sqrt((24**2 - 1) / 12)
    assert baselines.scale[0, :, 0] == pytest.approx(0.3 * 10 * np.sqrt(575 / 12), rel=1e-6)


def test_less_than_two_days_earn_no_profile():
    hours = (np.arange(560) // 12) % 24
    baselines = fit_baselines(as_table(frame("i", 10.0 * hours), ["a"], GAP), {})
    assert np.ptp(baselines.center[0]) == 0


def test_fallbacks_go_from_instance_to_role_to_fleet():
    # GIVEN two instances with 29 hours in two roles, and one with many rows that span less than a day
    rows = pd.concat([frame("w", np.full(30, 10.0), step="1h"), frame("d", np.full(30, 90.0), step="1h")])
    rows = pd.concat([rows, frame("few", np.full(270, 10.0))])
    roles = {"w": "web", "d": "db", "few": "web"}
    baselines = fit_baselines(as_table(rows, ["a"], GAP), roles)
    # THEN
    assert sorted(baselines.instances) == ["d", "w"]
    index = baselines.index(["w", "few", "nobody"], roles)
    assert index.tolist() == [baselines.instances["w"], baselines.roles["web"], baselines.fleet]
    assert baselines.center[baselines.roles["web"], 0, 0] == 10
    assert baselines.center[baselines.fleet, 0, 0] == pytest.approx((300 * 10 + 30 * 90) / 330, rel=1e-6)


@pytest.mark.parametrize(("step", "rows"), [("1min", 1440), ("5min", 288), ("1h", 24)])
def test_a_day_of_rows_earns_a_baseline_and_two_a_profile(step, rows):
    # GIVEN an instance with exactly one day, then two, of a metric that follows the hour
    def fitted(days):
        hour = np.arange(rows * days) * 24 // rows % 24
        return fit_baselines(as_table(frame("a", 10.0 * hour, step=step), ["a"], GAP), {})

    # THEN
    assert list(fitted(1).instances) == ["a"]
    assert np.ptp(fitted(1).center[0, :, 0]) == 0
    if rows // 24 >= 6:
        assert np.ptp(fitted(2).center[0, :, 0]) > 200


def test_a_metric_that_one_instance_lacks_comes_from_its_role():
    both = [[x, 5.0] for x in range(30)]
    rows = pd.concat([frame("w1", both, columns="ab", step="1h")])
    rows = pd.concat([rows, frame("w2", [[x, np.nan] for x in range(30)], columns="ab", step="1h")])
    baselines = fit_baselines(as_table(rows, ["a", "b"], GAP), {"w1": "web", "w2": "web"})
    assert baselines.center[baselines.instances["w2"], :, 1].tolist() == [5.0] * 24


def test_constant_and_absent_metrics_do_no_harm():
    # GIVEN a metric that never moves and one that was never reported
    table = as_table(frame("i", [[4.0, np.nan]] * 40, columns="ab"), ["a", "b"], GAP)
    baselines = fit_baselines(table, {})
    # WHEN the same rows, and a row with a value for the unknown metric, are measured
    later = as_table(frame("i", [[4.0, 123.0]], columns="ab"), ["a", "b"], GAP)
    # THEN nothing is divided by zero and the unknown metric says nothing
    assert baselines.behaviour(table, np.zeros(40, int)).tolist() == [[0.0, 0.0]] * 40
    assert baselines.behaviour(later, np.zeros(1, int)) == pytest.approx(np.zeros((1, 2)), abs=1e-9)
    assert baselines.scale[0, 0, 1] == np.float32(NEVER_SEEN_SCALE)


def test_parameters_are_float32_before_they_are_used():
    rng = np.random.default_rng(0)
    baselines = fit_baselines(as_table(frame("i", rng.normal(size=100)), ["a"], GAP), {})
    center, scale = fit_level_scaling(rng.normal(size=(50, 3)), np.zeros(50, int), [0, 1])
    for values in (baselines.center, baselines.scale, center, scale):
        assert np.array_equal(values, values.astype(np.float32))


def test_baselines_of_many_instances_need_little_memory_beside_the_rows():
    # GIVEN 400 instances of 300 rows: one mask of all rows for each instance would be 48 MB
    rng = np.random.default_rng(0)
    count, each = 400, 300
    code = np.repeat(np.arange(count), each)
    names = tuple(f"i-{number:03d}" for number in range(count))
    values = rng.normal(10, 2, (count * each, 1))
    table = MetricTable(("a",), names, code, np.tile(np.arange(each) * 300_000, count), code.copy(), values)
    # WHEN
    tracemalloc.start()
    found = fit_baselines(table, {name: f"role {number % 2}" for number, name in enumerate(names)})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # THEN every instance, both roles and the fleet have theirs
    assert len(found.center) == count + 3
    assert found.center[found.instances["i-007"], 0, 0] == pytest.approx(values[code == 7].mean(), abs=0.5)
    assert peak < 30e6


def test_rows_in_many_blocks_give_what_one_block_gives(monkeypatch):
    # GIVEN three instances of three days with gaps and missing values
    rng = np.random.default_rng(1)
    rows = pd.concat([frame(name, rng.normal(20, 3, (864, 2)), columns=("a", "b")) for name in "xyz"])
    rows.iloc[::5, 2] = np.nan
    table = as_table(rows, ["a", "b"], GAP)
    roles = {"x": "web", "y": "web", "z": "db"}
    whole = fit_baselines(table, roles)
    own = whole.index(table.instances, roles)[table.code]
    scaling = np.array([20.0, 20.0]), np.array([3.0, 3.0])

    # WHEN they are computed on in blocks of 100
    monkeypatch.setattr(features, "BLOCK_ROWS", 100)
    parts = fit_baselines(table, roles)

    # THEN baselines agree as far as a float32 file can tell, and given the same ones the spaces are equal
    assert parts.center == pytest.approx(whole.center, rel=1e-6)
    assert parts.scale == pytest.approx(whole.scale, rel=1e-4)
    blocks = whole.behaviour(table, own), whole.level(table, own, *scaling)
    monkeypatch.undo()
    for given, expected in zip(blocks, (whole.behaviour(table, own), whole.level(table, own, *scaling)), strict=True):
        assert np.array_equal(given, expected)

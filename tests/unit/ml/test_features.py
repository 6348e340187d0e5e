import tracemalloc

import numpy as np
import pandas as pd
import pytest

from ml.features import (
    LEAST_WITHIN,
    NEVER_SEEN_SCALE,
    MetricTable,
    RowsError,
    as_table,
    fit_baselines,
    fit_level_scaling,
    squash,
    window_ends,
    windows,
)

GAP = 6 * 300


def frame(instance, values, start="2026-11-01", step="5min", columns=("a",)):
    values = np.asarray(values, float).reshape(-1, len(columns))
    times = pd.date_range(start, periods=len(values), freq=step, tz="UTC").as_unit("ms")
    return pd.DataFrame({"instance_id": instance, "timestamp": times} | dict(zip(columns, values.T, strict=True)))


def test_rows_are_sorted_and_cut_at_gaps():
    # GIVEN rows out of order, with 30 minutes (no gap) and 31 minutes (a gap) between rows
    rows = pd.concat([frame("b", [7]), frame("a", [1, 2, 3], step="30min"), frame("a", [4], "2026-11-01T01:31")])
    # WHEN
    table = as_table(rows.sample(frac=1, random_state=1), ["a"], GAP)
    # THEN
    assert table.values[:, 0].tolist() == [1, 2, 3, 4, 7]
    assert table.segment.tolist() == [0, 0, 0, 1, 2]
    assert table.position.tolist() == [0, 1, 2, 0, 0]
    assert table.hour.tolist() == [0, 0, 1, 1, 0]


def test_an_absent_column_and_an_infinite_value_are_missing():
    table = as_table(frame("a", [np.inf, 2]), ["a", "b"], GAP)
    assert np.isnan(table.values[:, 1]).all()
    assert np.isnan(table.values[0, 0])


def test_timestamps_without_a_zone_are_refused():
    rows = frame("a", [1])
    rows["timestamp"] = rows["timestamp"].dt.tz_localize(None)
    with pytest.raises(RowsError, match="utc=True"):
        as_table(rows, ["a"], GAP)


def test_windows_are_oldest_first_and_stay_in_their_segment():
    # GIVEN two segments of three rows and one row, two features
    rows = pd.concat([frame("a", [[1, 10], [2, 20], [3, 30]], columns="xy"), frame("b", [[4, 40]], columns="xy")])
    table = as_table(rows, ["x", "y"], GAP)
    # WHEN
    vectors, ends = windows(table.values, table, 2)
    # THEN
    assert vectors.tolist() == [[1, 10, 2, 20], [2, 20, 3, 30]]
    assert ends.tolist() == [1, 2]
    assert window_ends(table, 1).tolist() == [0, 1, 2, 3]


def test_squash():
    assert squash(np.array([-(np.e - 1), 0.0, np.e - 1])) == pytest.approx([-1, 0, 1])


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
    rows = pd.concat([rows, frame("few", np.full(280, 10.0))])
    roles = {"w": "web", "d": "db", "few": "web"}
    baselines = fit_baselines(as_table(rows, ["a"], GAP), roles)
    # THEN
    assert sorted(baselines.instances) == ["d", "w"]
    index = baselines.index(["w", "few", "nobody"], roles)
    assert index.tolist() == [baselines.instances["w"], baselines.roles["web"], baselines.fleet]
    assert baselines.center[baselines.roles["web"], 0, 0] == 10
    assert baselines.center[baselines.fleet, 0, 0] == pytest.approx((310 * 10 + 30 * 90) / 340, rel=1e-6)


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


def test_the_level_scaling_by_hand():
    # GIVEN one instance: 0..100, the same with a wild value and a gap, a constant, an absent metric and one that is not
    # asked for
    steps = np.arange(101.0)
    wild = np.where(steps == 100, 1e9, steps)
    wild[50] = np.nan
    values = np.column_stack([steps, wild, np.full(101, 7.0), np.full(101, np.nan), steps])
    # WHEN
    center, scale = fit_level_scaling(values, np.zeros(101, int), [0, 1, 2, 3])
    # THEN deciles at 10 and 90 give 50 and 80 / 2.563 whatever lies beyond
    assert center[:3] == pytest.approx([50.0, 50.0, 7.0], abs=0.5)
    assert scale[:2] == pytest.approx([80 / 2.563] * 2, rel=0.02)
    assert scale[2] == pytest.approx((1e-3 * 7 + 1e-6) / LEAST_WITHIN, rel=1e-6)
    assert scale[3:].tolist() == [np.float32(NEVER_SEEN_SCALE)] * 2


def test_a_metric_that_hardly_ever_moves_is_scaled_by_its_deviation():
    values = np.zeros((100, 1))
    values[:5] = 10.0
    assert fit_level_scaling(values, np.zeros(100, int), [0])[1] == pytest.approx([10 * np.sqrt(0.05 * 0.95)])


def test_a_metric_that_tells_instances_apart_weighs_less():
    # GIVEN two instances: the first metric moves alike on both, the second is of another size on one of them
    load = np.tile([0.0, 1.0, 2.0, 3.0], 50)
    code = np.repeat([0, 1], 100)
    values = np.column_stack([load, load + 30 * code])
    # WHEN
    alone = [fit_level_scaling(values[:, [column]], code, [0])[1][0] for column in (0, 1)]
    scale = fit_level_scaling(values, code, [0, 1])[1]
    # THEN the second one's scale grows by the share of its variance that lies within instances
    z = squash((values[:, 1] - 16.5) / alone[1])
    within = np.mean([z[code == 0].var(), z[code == 1].var()]) / z.var()
    assert within < 0.05
    assert scale[0] == pytest.approx(alone[0])
    assert scale[1] == pytest.approx(alone[1] / within, rel=1e-3)


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

"""Metric tables, windows, the squash and the level space."""

import numpy as np
import pandas as pd
import pytest

from riskwatch_ml.features.spaces import LEAST_WITHIN, NEVER_SEEN_SCALE, fit_level_scaling, squash
from riskwatch_ml.features.table import RowsError, as_table, window_ends, windows
from tests.support.fleets import frame

GAP = 6 * 300


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


def test_names_are_told_apart_as_text():
    # GIVEN names that are numbers, text, and a category that no row has
    rows = pd.concat([frame(10, [1.0]), frame("9", [2.0]), frame("10", [3.0], "2026-11-02")])
    kinds = pd.concat([frame("b", [1.0]), frame("a", [2.0])])
    kinds["instance_id"] = pd.Categorical(kinds["instance_id"], ["b", "unused", "a"])

    # WHEN
    table, of_kinds = as_table(rows, ["a"], GAP), as_table(kinds, ["a"], GAP)

    # THEN the number and its text are one instance, in the order of text
    assert (table.instances, table.values[:, 0].tolist()) == (("10", "9"), [1.0, 3.0, 2.0])
    assert (of_kinds.instances, of_kinds.values[:, 0].tolist()) == (("a", "b"), [2.0, 1.0])


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


def test_chosen_rows_are_cut_where_neighbours_are_missing():
    # GIVEN two segments of an instance and one of another
    rows = pd.concat([frame("a", [1, 2, 3, 4]), frame("a", [5, 6], "2026-11-02"), frame("b", [7, 8])])
    # WHEN the third row is left out
    table = as_table(rows, ["x"], GAP).cut(np.array([0, 1, 3, 4, 5, 6, 7]))
    # THEN no window reaches over it, nor over a segment's end
    assert table.segment.tolist() == [0, 0, 1, 2, 2, 3, 3]
    assert window_ends(table, 2).tolist() == [1, 4, 6]


def test_squash():
    assert squash(np.array([-(np.e - 1), 0.0, np.e - 1])) == pytest.approx([-1, 0, 1])


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

"""Metric tables: order, gaps, missing values and windows."""

import numpy as np
import pandas as pd
import pytest

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

"""Rows without an instance column: one series, several one after another, or refused."""

import numpy as np
import pytest

from riskwatch_ml.ingest import csv_series
from riskwatch_ml.ingest.csv_series import SequenceError


def split(*minutes):
    """Split rows at these minutes; the first is on line 2, after the header."""
    return csv_series.split(np.array(minutes, np.int64) * 60_000, np.arange(2, 2 + len(minutes)))


def test_series_one_after_another_are_counted_in_file_order():
    # GIVEN three series, the last of them shorter and later
    found = split(0, 5, 10, 15, 0, 5, 10, 15, 10, 15, 20)

    # WHEN / THEN
    assert found.series.tolist() == [0] * 4 + [1] * 4 + [2] * 3
    assert (found.count, found.note) == (3, None)


def test_series_from_newest_to_oldest_keep_their_order():
    # GIVEN / WHEN
    found = split(10, 5, 0, 10, 5, 0)

    # THEN the first of the file is the first series
    assert found.series.tolist() == [0, 0, 0, 1, 1, 1]
    assert "newest to oldest" in found.note


def test_times_that_never_repeat_are_one_series():
    # GIVEN / WHEN
    found = split(10, 0, 20, 5, 15)

    # THEN the note says that the rows were out of order
    assert found.series.tolist() == [0] * 5
    assert found.note == "rows are not in order of time (first on line 3): sorted"


def test_a_clock_set_back_is_not_a_second_series():
    # GIVEN three hours, one row a minute, then the last hour again and on: an hour in autumn
    found = split(*range(180), *range(120, 400))

    # WHEN / THEN
    assert found.count == 1
    assert not found.series.any()


@pytest.mark.parametrize(
    ("minutes", "words"),
    [
        ([37 * number % 60 for number in range(120)], r"60 times are repeated .*\(first on line 4\)"),
        ([0, 0, 0, 5, 5, 5], r"4 rows have the same time as the row before \(first on line 3\): add a column"),
    ],
)
def test_rows_that_no_order_assigns_are_refused(minutes, words):
    # GIVEN / WHEN / THEN
    with pytest.raises(SequenceError, match=words):
        split(*minutes)

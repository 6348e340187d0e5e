"""History and replay in one frame, and what of them cannot be replayed."""

import numpy as np
import pandas as pd
import pytest

from ml.catalogue import load
from ml.replay_rows import BacktestError, joined_rows, usual_period


def frame(start, **columns):
    """Three rows of each of two instances, ten minutes apart."""
    times = pd.date_range(start, periods=3, freq="10min", tz="UTC")
    names = np.repeat(["b", "a"], 3)
    return pd.DataFrame({"instance_id": names, "timestamp": [*times, *times]} | (columns or {"cpu": 1.0, "own": 2.0}))


HISTORY, REPLAY = frame("2026-11-01"), frame("2026-11-02")


def test_rows_are_joined_and_columns_are_named():
    # GIVEN a column by an alias of the catalogue, one that nobody knows, a text, and one that the history lacks
    columns = {"CPUUtilization": 1.0, "own": 2.0, "note": "text"}
    history, replay = frame("2026-11-01", **columns), frame("2026-11-02", **columns, late=3.0)

    # WHEN
    rows, metrics = joined_rows(history, replay, load())

    # THEN the catalogue's metric has its name, the other one a made-up one, in the order of the history
    assert [(metric.name, column) for metric, column in metrics] == [
        ("cpu_utilization", "CPUUtilization"),
        ("column_1", "own"),
    ]
    assert metrics[1][0].direction == "both"
    assert list(rows.columns) == ["instance_id", "timestamp", "cpu_utilization", "column_1", "replayed"]
    # AND rows are sorted by instance and time, each marked
    assert rows["instance_id"].tolist() == ["a"] * 6 + ["b"] * 6
    assert rows["replayed"].tolist() == [False, False, False, True, True, True] * 2
    assert usual_period(rows) == 600


def test_one_row_each_says_nothing_of_the_period():
    assert usual_period(HISTORY.drop_duplicates("instance_id")) == 300


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x.iloc[:0], "the replay has no rows"),
        (lambda x: x.drop(columns="timestamp"), "the replay has no column timestamp"),
        (lambda x: x[["instance_id", "timestamp"]].assign(other=1.0), "no numeric column"),
        (lambda x: x.assign(cpu="text", own="text"), "no numeric column"),
        (lambda x: x.assign(instance_id=None), "no instance_id"),
        (
            lambda x: pd.concat([x, x.tail(1)]),
            r"1 rows repeat an \(instance_id, timestamp\), the first is a at 2026-11-02",
        ),
    ],
)
def test_what_cannot_be_replayed_is_named(change, message):
    with pytest.raises(BacktestError, match=message):
        joined_rows(HISTORY, change(REPLAY), load())


def test_one_metric_in_two_columns_is_refused():
    twice = {"cpu_utilization": 1.0, "CPUUtilization": 2.0}
    with pytest.raises(BacktestError, match="cpu_utilization, CPUUtilization are the same metric"):
        joined_rows(frame("2026-11-01", **twice), frame("2026-11-02", **twice), load())

"""History and replay in one frame, and what of them cannot be replayed."""

import numpy as np
import pandas as pd
import pytest

from riskwatch_ml.backtest.inputs import BacktestError, early_rows, joined_rows, shown_columns, usual_period
from riskwatch_ml.schema.catalogue import load


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


def test_the_period_is_that_of_the_history():
    # GIVEN a replay whose rows are five times as far apart
    rows, _ = joined_rows(HISTORY, REPLAY, load())
    sparse = REPLAY.assign(timestamp=REPLAY["timestamp"] + 4 * (REPLAY["timestamp"] - REPLAY["timestamp"].min()))
    # WHEN / THEN
    assert usual_period(rows) == usual_period(joined_rows(HISTORY, sparse, load())[0]) == 600


def test_without_two_rows_in_the_history_the_first_step_of_the_replay_is_the_period():
    # GIVEN one row each of the past, and a replay of which more and sparser rows come to light
    history = HISTORY.drop_duplicates("instance_id")
    later = [frame(f"2026-11-{day:02d}").iloc[::2] for day in range(3, 9)]
    short, long = (joined_rows(history, pd.concat(x), load())[0] for x in ([REPLAY], [REPLAY, *later]))
    # WHEN / THEN
    assert usual_period(short) == usual_period(long) == 600
    # AND one row each says nothing
    once, _ = joined_rows(history, REPLAY.drop_duplicates("instance_id"), load())
    assert usual_period(once) == 300


def test_a_column_called_as_a_result_is_shown_apart():
    columns = {"score": 1.0, "score (metric)": 2.0, "own": 3.0}
    _, metrics = joined_rows(frame("2026-11-01", **columns), frame("2026-11-02", **columns), load())
    assert list(shown_columns(metrics).values()) == ["score (metric) (metric)", "score (metric)", "own"]


@pytest.mark.parametrize("kinds", [("int64", "float64"), ("float64", "int64"), ("int64", "str"), ("Int64", "float32")])
def test_whole_numbers_name_one_instance_whatever_their_type(kinds):
    history, replay = (
        x.assign(instance_id=x["instance_id"].map({"a": 9, "b": 10}).astype(kind))
        for x, kind in zip((HISTORY, REPLAY), kinds, strict=True)
    )
    rows, _ = joined_rows(history, replay, load())
    assert rows["instance_id"].tolist() == ["10"] * 6 + ["9"] * 6


def test_other_numbers_keep_their_fraction():
    rows, _ = joined_rows(*(x.assign(instance_id=[9.5, 9.5, 9.5, 10, 10, 10]) for x in (HISTORY, REPLAY)), load())
    assert set(rows["instance_id"]) == {"9.5", "10.0"}


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x.dt.tz_localize(None),
        lambda x: x.dt.tz_convert("America/New_York"),
        lambda x: x.dt.strftime("%Y-%m-%d %H:%M:%S"),
        lambda x: x.map(lambda moment: moment.isoformat()),
        lambda x: x.astype(object),
    ],
    ids=["no zone", "another zone", "text without a zone", "text with a zone", "objects"],
)
def test_timestamps_are_read_in_any_form_that_is_clear(change):
    rows, _ = joined_rows(HISTORY, REPLAY.assign(timestamp=change(REPLAY["timestamp"])), load())
    pd.testing.assert_frame_equal(rows, joined_rows(HISTORY, REPLAY, load())[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x.dt.as_unit("ms").astype("int64"), "timestamp of the replay is a number .* unit="),
        (lambda x: x.dt.as_unit("ms").astype("int64").astype(object), "timestamp of the replay is a number"),
        (lambda x: x.dt.as_unit("s").astype("int64").astype(float), "timestamp of the replay is a number"),
        (lambda x: ["yesterday"] * len(x), "timestamp of the replay cannot be read .* pd.to_datetime"),
        (
            lambda x: [str(t)[:19] if place % 2 else t.isoformat() for place, t in enumerate(x)],
            "timestamp of the replay cannot be read .* all with a zone or all without",
        ),
        (lambda x: x.where(x.index > 0), "some rows of the replay have no timestamp"),
    ],
    ids=["milliseconds", "objects", "seconds", "garbage", "partly with a zone", "absent"],
)
def test_timestamps_that_could_mean_anything_are_refused(change, message):
    with pytest.raises(BacktestError, match=message):
        joined_rows(HISTORY, REPLAY.assign(timestamp=change(REPLAY["timestamp"])), load())


def test_replay_rows_that_the_history_has_passed_are_counted():
    # GIVEN a replay of one instance that begins between the last rows of its history
    shift = HISTORY["timestamp"].max() - pd.Timedelta(minutes=17) - REPLAY["timestamp"].min()
    moved = REPLAY["timestamp"].where(REPLAY["instance_id"] != "a", REPLAY["timestamp"] + shift)
    # WHEN / THEN the first model knew what came after two of its rows
    assert early_rows(joined_rows(HISTORY, REPLAY.assign(timestamp=moved), load())[0]) == 2


def test_a_stretch_of_the_replay_may_lie_long_before_the_history():
    # GIVEN chosen days: one a month before the history, one after it
    chosen = pd.concat([frame("2026-10-01"), REPLAY])
    rows, _ = joined_rows(HISTORY, chosen, load())
    assert early_rows(rows) == 6
    assert early_rows(joined_rows(HISTORY, REPLAY, load())[0]) == 0


def test_a_history_and_a_replay_that_were_swapped_are_refused():
    with pytest.raises(BacktestError, match=r"2 of 2 instances: are the two swapped"):
        joined_rows(REPLAY, HISTORY, load())


def test_instances_may_have_lived_at_different_times():
    # GIVEN an instance whose whole replay is older than the history of the other
    shift = pd.Timedelta(days=-30)
    history, replay = (
        x.assign(timestamp=x["timestamp"].where(x["instance_id"] == "a", x["timestamp"] + shift))
        for x in (HISTORY, REPLAY)
    )
    assert len(joined_rows(history, replay, load())[0]) == 12


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x.iloc[:0], "the replay has no rows"),
        (lambda x: x.drop(columns="timestamp"), "the replay has no column timestamp"),
        (lambda x: x[["instance_id", "timestamp"]].assign(other=1.0), "no numeric column"),
        (lambda x: x.assign(cpu="text", own="text"), "no numeric column"),
        (lambda x: x.assign(instance_id=None), "some rows of the replay have no instance_id"),
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

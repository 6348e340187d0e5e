"""Reading the user's own fleet: its interval, offset and safe names, and the errors for unsuitable files."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from riskwatch_local.demo.own_data import FleetError, read_fleet

NOW = datetime(2026, 11, 22, 10, 3, tzinfo=UTC)


def series(instance, start, periods, step="5min", **metrics):
    times = pd.date_range(start, periods=periods, freq=step, tz="UTC").as_unit("ms")
    columns = metrics or {"m00": np.arange(periods, dtype="float32")}
    return pd.DataFrame({"instance_id": instance, "timestamp": times, **columns})


def save(directory, history, replay, labels=None):
    history.to_parquet(directory / "history.parquet")
    replay.to_parquet(directory / "replay.parquet")
    if labels is not None:
        labels.to_parquet(directory / "labels.parquet")
    return directory


@pytest.fixture
def shared(tmp_path):
    """Two instances on one axis: a day of history, a day of replay; b ends ten minutes after a."""
    history = pd.concat([series("a", "2025-01-06", 288), series("b", "2025-01-06", 288)])
    replay = pd.concat([series("a", "2025-01-07", 288), series("b", "2025-01-07", 290)])
    labels = replay[["instance_id", "timestamp"]].assign(label=0)
    labels.loc[labels["timestamp"] == pd.Timestamp("2025-01-07T12:00Z"), "label"] = 1
    return save(tmp_path, history, replay, labels)


def test_a_shared_axis_is_cut_at_the_earliest_end_and_moved_by_one_offset(shared):
    # WHEN half a day is read at 10:03
    fleet = read_fleet(shared, days=0.5, now=NOW)
    # THEN both instances have 144 rows that end with the last full step, 09:55; the data ended at midnight of 8 January
    assert fleet.step_s == 300
    assert fleet.rows.groupby("instance_id").size().to_dict() == {"a": 144, "b": 144}
    assert fleet.rows["timestamp"].max() == pd.Timestamp("2026-11-22T09:55Z")
    assert fleet.rows["timestamp"].min() == pd.Timestamp("2026-11-21T22:00Z")
    assert fleet.shift == NOW.replace(minute=0) - datetime(2025, 1, 8, tzinfo=UTC)
    assert set(fleet.shifts.values()) == {fleet.shift}
    # the last value of a's second day is 287
    assert fleet.rows[fleet.rows["instance_id"] == "a"]["m00"].iloc[-1] == 287


def test_labels_move_with_their_rows(shared):
    # GIVEN an incident at noon of the day that ends at midnight THEN it is 12 hours before 10:00
    fleet = read_fleet(shared, days=1, now=NOW)
    incident = fleet.labels[fleet.labels["label"] == 1]
    assert list(incident["instance_id"]) == ["a", "b"]
    assert (incident["timestamp"] == pd.Timestamp("2026-11-21T22:00Z")).all()
    assert len(fleet.labels) == len(fleet.rows)


def test_history_and_replay_are_one_series(shared):
    fleet = read_fleet(shared, days=4, now=NOW)
    assert fleet.rows.groupby("instance_id").size().to_dict() == {"a": 576, "b": 576}
    assert (fleet.rows.groupby("instance_id")["timestamp"].diff().dropna() == pd.Timedelta(minutes=5)).all()


def test_until_is_the_end_of_the_stretch(shared):
    fleet = read_fleet(shared, days=0.25, until=datetime(2025, 1, 6, 12, 2, tzinfo=UTC), now=NOW)
    # 06:00 to 12:00 of the first day: rows 72 to 143
    values = fleet.rows[fleet.rows["instance_id"] == "b"]["m00"]
    assert (values.iloc[0], values.iloc[-1]) == (72, 143)
    assert fleet.rows["timestamp"].max() == pd.Timestamp("2026-11-22T09:55Z")
    assert fleet.labels.empty


def test_instances_without_a_shared_time_axis_all_end_now(tmp_path):
    # GIVEN two series collected a year apart, off the grid by 2 and 4 minutes
    save(
        tmp_path,
        pd.concat([series("a", "2013-10-09T16:02", 100), series("b", "2014-04-10T00:04", 100)]),
        pd.concat([series("a", "2013-10-10T00:22", 100), series("b", "2014-04-10T08:24", 100)]),
    )
    # WHEN an hour is read
    fleet = read_fleet(tmp_path, days=1 / 24, now=NOW)
    # THEN each has its own last hour, on the grid, and its own offset of whole steps
    assert fleet.rows.groupby("instance_id").size().to_dict() == {"a": 12, "b": 12}
    assert set(fleet.rows.groupby("instance_id")["timestamp"].max()) == {pd.Timestamp("2026-11-22T09:55Z")}
    assert fleet.shifts["a"] - fleet.shifts["b"] > timedelta(days=180)
    assert all(shift % timedelta(seconds=300) == timedelta(0) for shift in fleet.shifts.values())
    assert fleet.shift == fleet.shifts["b"]
    assert fleet.labels is None


def test_any_names_become_safe_and_are_remembered(tmp_path):
    # GIVEN metrics whose names are reserved, long, alike or foreign, and labels beside them
    names = ["score", "Latency (ms)", "latency.ms", "5xx", "größe|p99", "n" * 300]
    frame = series("web server/1", "2025-01-06", 24, **{name: np.ones(24) for name in names}, label=np.ones(24))
    save(tmp_path, frame[:12], frame[12:])
    fleet = read_fleet(tmp_path, now=NOW)
    # THEN they can be published and traced back; the label is no metric
    assert fleet.catalogue.names[:5] == ("score_metric", "latency_ms", "latency_ms_2", "m_5xx", "gr_e_p99")
    assert fleet.names["latency_ms_2"] == "latency.ms"
    assert set(fleet.names.values()) == set(names)
    assert fleet.instances == {"web-server-1": "web server/1"}
    assert {metric.namespace for metric in fleet.catalogue.metrics} == {"Fleet"}
    assert {metric.direction for metric in fleet.catalogue.metrics} == {"both"}
    assert list(fleet.rows.columns) == ["instance_id", "timestamp", *fleet.catalogue.names]


def test_a_csv_with_a_host_column_is_read(tmp_path):
    frame = pd.concat([series("a", "2025-01-06", 12), series("b", "2025-01-06", 12)]).assign(region="eu")
    path = tmp_path / "metrics.csv"
    frame.rename(columns={"instance_id": "Host", "timestamp": "Timestamp"}).to_csv(path, index=False)
    fleet = read_fleet(path, now=NOW)
    assert len(fleet.rows) == 24
    assert fleet.catalogue.names == ("m00",)


def test_series_appended_in_a_csv_without_an_instance_column_are_instances(tmp_path):
    path = tmp_path / "metrics.csv"
    frame = pd.concat([series("a", "2025-01-06", 12), series("b", "2025-01-06", 12)])
    frame.drop(columns="instance_id").to_csv(path, index=False)
    fleet = read_fleet(path, now=NOW)
    assert fleet.rows.groupby("instance_id").size().to_dict() == {"metrics-1": 12, "metrics-2": 12}
    assert "found two sequences, treated as two instances" in fleet.notes[0]


def test_repeated_timestamps_in_parquet_without_an_instance_column_are_refused(tmp_path):
    path = tmp_path / "metrics.parquet"
    frame = pd.concat([series("a", "2025-01-06", 12), series("b", "2025-01-06", 12)])
    frame.drop(columns="instance_id").to_parquet(path)
    with pytest.raises(FleetError, match=r"12 timestamps appear more than once: add a column instance_id"):
        read_fleet(path, now=NOW)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"instance_id": ["a", "a"], "value": [1.0, 2.0]}, r"no timestamp column; found columns instance_id, value"),
        (
            {"instance_id": ["a", "a"], "timestamp": ["2025-01-06", "2025-01-07"]},
            "line 1: there is no column of numbers beside timestamp, instance_id",
        ),
        (
            {"timestamp": ["yesterday", "today"], "value": [1.0, 2.0]},
            r"metrics.csv: line 2, column timestamp: 'yesterday' is no time",
        ),
        ({"instance_id": ["a", "b"], "timestamp": ["2025-01-06"] * 2, "value": [1.0, 2.0]}, "there is no step"),
    ],
)
def test_an_unsuitable_file_is_described(tmp_path, columns, message):
    path = tmp_path / "metrics.csv"
    pd.DataFrame(columns).to_csv(path, index=False)
    with pytest.raises(FleetError, match=message):
        read_fleet(path, now=NOW)


def test_an_unknown_layout_names_its_files_and_the_expected_ones(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(FleetError, match=r"no history.parquet and no replay.parquet; found notes.txt; expected a dir"):
        read_fleet(tmp_path)
    with pytest.raises(FleetError, match="does not exist"):
        read_fleet(tmp_path / "absent.csv")


def test_an_empty_interval_names_the_span_of_the_data(shared):
    with pytest.raises(FleetError, match=r"no rows in the 4 days before 2020.*run from 2025-01-06"):
        read_fleet(shared, until=datetime(2020, 1, 1, tzinfo=UTC), now=NOW)


def test_a_name_that_the_catalogue_knows_brings_bounds_and_direction(tmp_path):
    # GIVEN a CSV with columns as CloudWatch exports name them, and one of the user's own
    path = tmp_path / "metrics.csv"
    frame = series("web-1", "2025-01-06", 24, CPUUtilization=np.ones(24), colour=np.ones(24))
    frame.to_csv(path, index=False)

    # WHEN
    fleet = read_fleet(path, now=NOW)

    # THEN it is the catalogue's feature under the column's own CloudWatch name; the other knows no bounds
    cpu, colour = fleet.catalogue.metrics
    assert (cpu.name, cpu.metric, cpu.upper, cpu.direction, cpu.scale) == (
        "cpu_utilization", "cpuutilization", 100.0, "up", 1.0,
    )  # fmt: skip
    assert (colour.name, colour.upper, colour.direction) == ("colour", None, "both")
    assert fleet.names == {"cpu_utilization": "CPUUtilization", "colour": "colour"}
    assert list(fleet.rows.columns) == ["instance_id", "timestamp", "cpu_utilization", "colour"]


def test_a_step_that_is_no_period_is_refused_at_once(tmp_path):
    path = tmp_path / "metrics.csv"
    times = pd.date_range("2025-01-06", periods=50, freq="7min", tz="UTC")
    pd.DataFrame({"instance_id": "a", "timestamp": times, "load": 1.0}).to_csv(path, index=False)
    with pytest.raises(FleetError, match=r"420 s apart.*resample"):
        read_fleet(path, now=NOW)

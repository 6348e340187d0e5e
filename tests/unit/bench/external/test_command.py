"""The command: pages of a replay, tables, JSON and errors."""

import json

import numpy as np
import pandas as pd
import pytest

from bench.external import __main__ as command
from bench.external.folder import Series, read_series
from riskwatch_ml.backtest.inputs import BacktestError
from riskwatch_ml.backtest.result import Backtest
from tests.unit.bench.external.conftest import NAMES, WINDOW


def replay_with_alerts(alerts, opened=()):
    """Return a backtest that alerts at positions of the replay; ``opened`` are those that open an episode."""

    def backtest(history, replay, **_options):
        rows = replay[["instance_id", "timestamp"]].reset_index(drop=True)
        alert = np.isin(np.arange(len(rows)), alerts)
        return Backtest(rows.assign(alert=alert), [], {}, 300, {row: [] for row in opened})

    return backtest


def test_a_page_is_the_row_that_opens_an_episode(nab, monkeypatch):
    # GIVEN two runs of alerts, an episode that opens within a run, and one that opens without a page
    series = read_series(nab, "*_a.csv")[0]
    monkeypatch.setattr(command, "backtest", replay_with_alerts([10, 11, 12, 20], opened=[10, 12, 15, 20]))

    # WHEN / THEN rows are counted from the beginning of the file
    assert command.pages_of(series, "kmeans", 0).tolist() == [100, 102, 110]


def test_rows_of_the_same_time_are_replayed_once(monkeypatch):
    # GIVEN a file of 40 rows, six of them for learning, in which three times are the same
    times = pd.date_range("2026-01-01", periods=40, freq="5min", tz="UTC").as_unit("ms").to_series()
    times.iloc[11:13] = times.iloc[10]
    series = Series("folder/file.csv", pd.DatetimeIndex(times), np.zeros(40), ())
    monkeypatch.setattr(command, "backtest", replay_with_alerts([4, 5]))

    # WHEN / THEN the fifth row of the replay is row 10, the sixth row 13
    assert command.pages_of(series, "kmeans", 0).tolist() == [10]
    monkeypatch.setattr(command, "backtest", replay_with_alerts([5]))
    assert command.pages_of(series, "kmeans", 0).tolist() == [13]


def test_no_alert_is_no_page(nab, monkeypatch):
    series = read_series(nab, "*_a.csv")[0]
    monkeypatch.setattr(command, "backtest", replay_with_alerts([]))
    assert command.pages_of(series, "kmeans", 0).tolist() == []


def test_the_command_prints_a_table_for_each_profile_and_writes_json(nab, tmp_path, capsys):
    # WHEN a file is replayed by the backtest itself
    path = tmp_path / "out.json"
    command.main([str(nab), "--files", "*_a.csv", "--family", "kmeans", "--json", str(path)])

    # THEN
    printed = capsys.readouterr().out
    assert "standard: a false page costs 0.11, a missed window 1" in printed
    assert "reward low FP: a false page costs 0.22, a missed window 1" in printed
    assert "reward low FN: a false page costs 0.11, a missed window 2" in printed
    document = json.loads(path.read_text())
    lines = {(line["profile"], line["detector"]): line for line in document["lines"]}
    assert len(lines) == 9
    for profile in ("standard", "reward_low_FP_rate", "reward_low_FN_rate"):
        assert lines[profile, "null"]["score"] == 0
        assert lines[profile, "perfect"]["score"] == pytest.approx(100)
    assert document["files"] == [NAMES[0]]
    pages = document["pages"][NAMES[0]]
    assert lines["standard", "Riskwatch"]["pages"] == len(pages)
    # THEN the burst of 50 deviations is met
    assert any(WINDOW[0] <= row <= WINDOW[1] for row in pages)
    assert lines["standard", "Riskwatch"]["windows_met"] == 1


def test_files_without_windows_have_pages_but_no_score(nab, monkeypatch, tmp_path, capsys):
    # GIVEN
    (nab / "labels" / "combined_windows.json").write_text(json.dumps({NAMES[0]: []}))
    monkeypatch.setattr(command, "backtest", replay_with_alerts([10]))

    # WHEN
    command.main([str(nab), "--files", "*_a.csv", "--json", str(tmp_path / "out.json")])

    # THEN
    assert "0 of 0" in capsys.readouterr().out
    first = json.loads((tmp_path / "out.json").read_text())["lines"][0]
    assert (first["detector"], first["score"], first["pages"]) == ("null", None, 0)


def test_an_error_is_one_line(nab):
    (nab / "data" / NAMES[0]).unlink()
    with pytest.raises(SystemExit, match=r"external: .*cpu_a\.csv is missing"):
        command.main([str(nab)])


def test_a_series_that_cannot_be_replayed_is_named(nab, monkeypatch):
    def fail(*_, **__):
        raise BacktestError("the history has no rows")

    monkeypatch.setattr(command, "backtest", fail)
    with pytest.raises(SystemExit, match=r"external: realAWSCloudwatch/cpu_a\.csv: the history has no rows"):
        command.main([str(nab)])

"""`riskwatch backtest`: its results, and its errors on files that cannot be used."""

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from riskwatch_cli.main import app


def fleet(hours, start="2026-11-01"):
    n = hours * 12
    times = pd.date_range(start, periods=n, freq="5min", tz="UTC").as_unit("ms")
    values = np.random.default_rng(0).normal(10, 1, (n, 2))
    return pd.DataFrame({"instance_id": "a", "timestamp": times, "m0": values[:, 0], "m1": values[:, 1]})


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Write a valid history and replay to the current folder."""
    monkeypatch.chdir(tmp_path)
    fleet(26).to_parquet("history.parquet")
    fleet(2, "2026-11-02T02:00").to_parquet("replay.parquet")
    return tmp_path


def run(*options, history="history.parquet", replay="replay.parquet"):
    command = ["backtest", "--history", history, "--replay", replay, "--out", "out.parquet", "--family", "kmeans"]
    return CliRunner().invoke(app, [*command, *options])


def test_every_replay_row_is_written_with_its_verdict(files):
    # WHEN
    result = run()

    # THEN
    assert result.exit_code == 0
    assert "24 rows labelled, 1 models" in result.output
    written = pd.read_parquet("out.parquet")
    assert list(written.columns) == ["instance_id", "timestamp", "score", "alert", "risk", "level"]
    assert len(written) == 24


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "odd.parquet does not exist"),
        ("folder", "odd.parquet is a folder"),
        (b"timestamp,cpu\n", "odd.parquet cannot be read as Parquet"),
        (b"", "odd.parquet cannot be read as Parquet"),
        (fleet(1).drop(columns="timestamp"), "has no column timestamp"),
        (fleet(1).iloc[:0], "has no rows"),
    ],
    ids=["missing", "a folder", "a CSV", "empty", "no timestamp", "no rows"],
)
@pytest.mark.parametrize("which", ["history", "replay"])
def test_a_file_that_cannot_be_used_is_named(files, content, message, which):
    # GIVEN
    odd = files / "odd.parquet"
    if isinstance(content, pd.DataFrame):
        content.to_parquet(odd)
    elif isinstance(content, bytes):
        odd.write_bytes(content)
    elif content == "folder":
        odd.mkdir()

    # WHEN
    result = run(**{which: "odd.parquet"})

    # THEN one line, no traceback, nothing written
    assert result.exit_code == 1
    assert message in result.output
    assert "Traceback" not in result.output
    assert len(result.output.strip().splitlines()) == 1
    assert not (files / "out.parquet").exists()
    assert not (files / ".riskwatch").exists()


LABELS = fleet(2, "2026-11-02T02:00")[["instance_id", "timestamp"]].assign(label=0)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (LABELS.drop(columns="label"), "labels.parquet: the labels have no column label"),
        (LABELS.assign(label="1"), "labels.parquet: label is str, not a number"),
        (pd.concat([LABELS, LABELS.tail(1)]), "labels.parquet: 1 labels repeat an (instance_id, timestamp)"),
        (LABELS.assign(timestamp=7), "labels.parquet: timestamp of the labels is a number (7)"),
        (LABELS.assign(timestamp="noon-ish"), "labels.parquet: timestamp of the labels cannot be read"),
    ],
    ids=["no label", "text", "repeated", "numbers for times", "no times"],
)
def test_labels_are_checked_before_the_long_work(files, labels, message):
    labels.to_parquet("labels.parquet")
    result = run("--report", "report", "--labels", "labels.parquet")
    assert result.exit_code == 1
    assert message in result.output
    assert not (files / "out.parquet").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--labels", "replay.parquet"], "--labels are used by the report only: give --report FOLDER too"),
        (["--out", "folder"], "--out folder is a folder"),
        (["--out", "replay.parquet/out.parquet"], "--out: replay.parquet is a file, not a folder"),
        (["--report", "history.parquet"], "--report: history.parquet is a file, not a folder"),
    ],
)
def test_paths_are_checked_before_the_long_work(files, options, message, monkeypatch):
    (files / "folder").mkdir()
    monkeypatch.setattr("riskwatch_ml.backtest.replay.backtest", None)
    result = run(*options)
    assert result.exit_code == 1
    assert message in result.output
    assert len(result.output.strip().splitlines()) == 1


def test_columns_that_are_not_used_are_named(files):
    # GIVEN numbers stored as text, and a column that only one of the files has
    pd.read_parquet("history.parquet").assign(queue="3", note="ok", old=1.0).to_parquet("history.parquet")
    pd.read_parquet("replay.parquet").assign(queue=3, note="ok", new=1.0).to_parquet("replay.parquet")
    # WHEN
    result = run()
    # THEN
    assert result.exit_code == 0
    assert (
        "columns not used: queue (str in the history, not a number), note (str in the history, not a number), "
        "old (not in the replay), new (not in the history)"
    ) in result.output


def test_a_report_takes_labels_whose_numbers_are_written_otherwise(files):
    # GIVEN ids that are whole numbers, of another type in each file
    for name, kind in (("history", "int64"), ("replay", "float64")):
        rows = pd.read_parquet(f"{name}.parquet")
        rows.assign(instance_id=np.full(len(rows), 9).astype(kind)).to_parquet(f"{name}.parquet")
    LABELS.assign(instance_id=9, label=[0] * 20 + [1] * 4).to_parquet("labels.parquet")
    # WHEN
    result = run("--report", "report", "--labels", "labels.parquet")
    # THEN
    assert result.exit_code == 0
    assert "of 1 incidents met" in (files / "report" / "report.md").read_text()
    assert set(pd.read_parquet("out.parquet")["instance_id"]) == {"9"}


def test_rows_whose_later_days_the_first_model_knew_are_counted(files):
    # GIVEN a replay that begins with two hours of a month before the history
    pd.concat([fleet(2, "2026-10-01"), pd.read_parquet("replay.parquet")]).to_parquet("replay.parquet")
    # WHEN
    result = run()
    # THEN
    assert result.exit_code == 0
    assert "24 rows are older than their instance's history: the first model was fitted to later rows" in result.output


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--budget", "1"), ["--budget 1 was in alerts per instance and day", "--pages-per-day", "--ordinary-days"]),
        (("--pages-per-day", "4", "--pages-per-instance-day", "1"), ["two budgets"]),
        (("--pages-per-day", "0"), ["0.0 pages for each instance and day are no budget"]),
    ],
)
def test_a_budget_that_cannot_be_used_is_refused_with_the_units(files, options, words):
    # WHEN
    result = run(*options)

    # THEN
    assert result.exit_code != 0
    for word in words:
        assert word in " ".join(result.output.split())
    assert not (files / "out.parquet").exists()


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ((), "the budget is 1.0 pages a day on ordinary days"),
        (("--pages-per-day", "3"), "the budget is 3.0 pages a day on all days"),
        (("--pages-per-day", "3", "--ordinary-days"), "the budget is 3.0 pages a day on ordinary days"),
        (("--pages-per-instance-day", "0.5"), "the budget is 0.5 pages a day on all days"),
        (("--pages-per-instance-day", "0.5", "--ordinary-days"), "the budget is 0.5 pages a day on ordinary days"),
    ],
)
def test_the_report_names_the_budget(files, options, line):
    # WHEN
    result = run(*options, "--report", "report")

    # THEN
    assert result.exit_code == 0
    assert line in (files / "report" / "report.md").read_text()

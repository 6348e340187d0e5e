"""The report of a backtest from labels worked out by hand: what counts, what is false, and names that are markup."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from riskwatch_ml.backtest import report
from riskwatch_ml.backtest.episodes import ReportError, episodes
from riskwatch_ml.backtest.result import Backtest, Refresh

START = pd.Timestamp("2026-11-04", tz="UTC")
MS = int(START.timestamp() * 1000)


def labelled(alert, names=("a",), step="5min", score=None, metrics=("m0",)):
    """Rows of each instance with the same alerts, a score of 2 in them and 0.5 elsewhere."""
    alert = np.asarray(alert, bool)
    times = pd.date_range(START, periods=len(alert), freq=step).as_unit("ms")
    part = {"timestamp": times, "score": np.where(alert, 2.0, 0.5) if score is None else score, "alert": alert}
    part |= {"risk": "Normal", "level": "Normal", "unusual": alert} | {name: np.arange(len(alert)) for name in metrics}
    return pd.concat([pd.DataFrame({"instance_id": name} | part) for name in names], ignore_index=True)


def result(rows, metrics=("m0",)):
    refresh = Refresh(MS, "kmeans", 100, 1, 1.25, 0.5, None)
    told = {int(first): [{"feature": metrics[0], "value": 9, "low": 1, "high": 2}] for first in episodes(rows)["first"]}
    return Backtest(rows, [refresh], {name: name for name in metrics}, 300, told)


def at(n, *places):
    mask = np.zeros(n, bool)
    mask[list(places)] = True
    return mask


def test_names_that_are_markup_are_shown_as_text(tmp_path):
    # GIVEN an instance and a metric whose names would break a table, a link, a page and a formula
    name, metric = "<script>alert(1)</script>|x\ny](z)", "a$\\used$ and $%$\n|"
    rows = labelled(at(48, 20, 21), names=(name,), metrics=(metric,))
    # WHEN
    text = report.write(result(rows, (metric,)), tmp_path).read_text()
    # THEN they are text on one line, and every row of a table has its columns
    assert "<script>" not in text
    assert r"&lt;script&gt;alert(1)&lt;/script&gt;\|x y\](z)" in text
    assert r"a\$\\used\$ and \$%\$ \| 9, above the usual 1 to 2" in text
    tables = [line.replace(r"\|", "") for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in tables} == {6, 8}
    assert (tmp_path / "alert-1.png").stat().st_size > 1000


def test_each_episode_is_a_page(tmp_path):
    # GIVEN runs 15 minutes apart, a third 20 minutes later, and one of an hour and five minutes
    alert = at(100, 10, 13, 17, *range(50, 64))
    rows = labelled(alert, names=("a", "b"))
    # WHEN
    found = episodes(rows)
    text = report.write(result(rows), tmp_path).read_text()
    # THEN the first two are one, and the long one is one page, too
    assert found["first"].tolist() == [10, 17, 50, 110, 117, 150]
    assert found["rows"].tolist() == [2, 1, 14, 2, 1, 14]
    assert "**6 pages**: 17.3 a day, 8.6 in a shift of 12 hours, 864 a day for 100 instances" in text
    assert "the budget is 2.0 pages a day on ordinary days; the models expected 1.0" in text
    assert "| a | 100 | 17.00% | 3 | 8.64 |" in text


def test_the_report_says_if_levels_are_relative(tmp_path):
    found = result(labelled(at(48)))
    words = "levels are relative to this fleet"
    assert words not in report.write(found, tmp_path).read_text()
    found.refreshes.append(replace(found.refreshes[0], relative=True))
    assert words in report.write(found, tmp_path).read_text()


def test_a_replay_without_an_alert_has_a_report(tmp_path):
    rows = labelled(at(48))
    text = report.write(result(rows), tmp_path, truth(rows, 20)).read_text()
    assert "**0 pages**" in text
    assert "0 of 1 incidents met" in text
    assert (tmp_path / "missed-1.png").stat().st_size > 1000


def truth(rows, *places):
    return rows[["instance_id", "timestamp"]].assign(label=at(len(rows), *places).astype(int))


@pytest.mark.parametrize(("place", "false"), [(20, False), (18, False), (22, False), (17, True), (23, True)])
def test_an_episode_is_false_farther_than_ten_minutes_from_every_incident(tmp_path, place, false):
    # GIVEN an incident and an alert so many rows of five minutes away from it
    rows = labelled(at(48, 20))
    # WHEN
    text = report.write(result(rows), tmp_path, truth(rows, place)).read_text()
    # THEN
    assert f"- {1 - int(false)} of 1 pages were near an incident (page precision {1 - int(false):.2f})" in text
    assert f"{int(place == 20)} of 1 incidents met" in text


def test_an_incident_of_another_instance_excuses_nothing(tmp_path):
    rows = labelled(at(48, 20), names=("a", "b"))
    text = report.write(result(rows), tmp_path, truth(rows, 20)).read_text()
    assert "- 1 of 2 pages were near an incident" in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"instance_id": "A"}, r"none of the 48 labels is of a replay row: the labels begin with A at .*with a at"),
        ({"timestamp": pd.date_range("2026-11-04T09:00", periods=48, freq="5min")}, "without a zone is read as UTC"),
    ],
)
def test_labels_of_other_rows_are_refused(tmp_path, change, message):
    rows = labelled(at(48, 20))
    with pytest.raises(ReportError, match=message):
        report.write(result(rows), tmp_path, truth(rows, 20).assign(**change))


def test_labels_that_fit_in_part_are_counted(tmp_path):
    # GIVEN labels of half of the rows, and of a moment after the replay
    rows = labelled(at(48, 20))
    later = pd.DataFrame({"instance_id": ["a"], "timestamp": [START + pd.Timedelta(days=1)], "label": [1]})
    # WHEN
    text = report.write(result(rows), tmp_path, pd.concat([truth(rows)[:24], later])).read_text()
    # THEN
    assert "- 1 of 25 labels are of no replay row and were left out" in text
    assert "- 24 of 48 replay rows have no label and count as quiet" in text
    assert "- the labels have no incident in the replay" in text


def test_the_episode_table_has_the_highest_and_some_of_each_instance():
    # GIVEN 60 episodes of a noisy instance and one low one of a quiet instance, whose name comes last
    noisy = labelled(at(600, *range(0, 600, 10)), score=np.linspace(1.5, 9, 600), step="15min")
    quiet = labelled(at(600, 300), names=("z",), step="15min")
    rows = pd.concat([noisy, quiet], ignore_index=True)
    # WHEN
    lines = report._episodes(result(rows), episodes(rows))
    # THEN
    assert lines[0] == "## Episodes (40 of 61)"
    table = [line.split(" | ") for line in lines if line.startswith("| ")][2:]
    assert len(table) == 40
    peaks = [float(cells[3]) for cells in table]
    assert peaks == sorted(peaks, reverse=True)
    assert peaks[0] == pytest.approx(8.88, abs=0.01)
    assert table[-1][0] == "| z"

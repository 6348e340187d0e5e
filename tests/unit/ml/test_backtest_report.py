"""The report of a backtest from labels worked out by hand: what counts, what is false, and names that are markup."""

import numpy as np
import pandas as pd
import pytest

from ml import backtest_report
from ml.backtest import Backtest, Refresh

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
    told = {
        int(first): [{"feature": metrics[0], "value": 9, "low": 1, "high": 2}]
        for first in backtest_report.episodes(rows)["first"]
    }
    return Backtest(rows, [refresh], {name: name for name in metrics}, 300, told)


def at(n, *places):
    mask = np.zeros(n, bool)
    mask[list(places)] = True
    return mask


@pytest.mark.filterwarnings("error")
def test_names_that_are_markup_are_shown_as_text(tmp_path):
    # GIVEN an instance and a metric whose names would break a table, a link, a page and a formula
    name, metric = "<script>alert(1)</script>|x\ny](z)", "a$\\used$ and $%$\n|"
    rows = labelled(at(48, 20, 21), names=(name,), metrics=(metric,))
    # WHEN
    text = backtest_report.write(result(rows, (metric,)), tmp_path).read_text()
    # THEN they are text on one line, and every row of a table has its columns
    assert "<script>" not in text
    assert r"&lt;script&gt;alert(1)&lt;/script&gt;\|x y\](z)" in text
    assert r"a\$\\used\$ and \$%\$ \| 9 (expected 1 to 2)" in text
    tables = [line.replace(r"\|", "") for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in tables} == {5, 6, 7}
    assert (tmp_path / "alert-1.png").stat().st_size > 1000

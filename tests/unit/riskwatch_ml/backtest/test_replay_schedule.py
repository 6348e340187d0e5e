"""When a replay fits anew, to which rows, what it keeps, and what it says of it."""

from functools import partial

import numpy as np
import pandas as pd
import pytest

from riskwatch_lambda.episode_rule import EXPIRE_AFTER_MS
from riskwatch_ml.backtest import report
from riskwatch_ml.backtest.replay import backtest
from riskwatch_ml.core.settings import SettingsError
from riskwatch_ml.features.training_set import fit_training_set
from riskwatch_ml.selection.contest import run_contest

START = pd.Timestamp("2026-11-01", tz="UTC")


def fleet(hours, since_h=0.0, step_min=60, names=("a",), seed=0):
    """Rows of two metrics that follow the day, from ``since_h`` hours after the start on."""
    n = int(hours * 60 / step_min)
    times = pd.date_range(START + pd.Timedelta(hours=since_h), periods=n, freq=f"{step_min}min").as_unit("ms")
    rng = np.random.default_rng(seed)
    wave = 3 * np.sin(times.hour.to_numpy() * np.pi / 12)
    own = [
        pd.DataFrame(
            {
                "instance_id": name,
                "timestamp": times,
                "m0": 10 + wave + rng.normal(0, 1, n),
                "m1": 5 + rng.normal(0, 1, n),
            }
        )
        for name in names
    ]
    return pd.concat(own, ignore_index=True)


def guards_that(monkeypatch, veto):
    """Put ``veto(number of the renewal)`` in place of every guard; contests are between two families."""
    renewals = []

    def counted(*args):
        renewals.append(args)
        return fit_training_set(*args)

    monkeypatch.setattr("riskwatch_ml.backtest.replay.fit_training_set", counted)
    monkeypatch.setattr(
        "riskwatch_ml.backtest.replay.run_contest", partial(run_contest, families=("kmeans", "kmedoids"))
    )
    for module in ("selection.ranking", "selection.contest", "backtest.replay"):
        monkeypatch.setattr(f"riskwatch_ml.{module}.vetoes", lambda figures: ["no"] if veto(len(renewals)) else [])


def test_the_first_model_learns_from_the_newest_28_days_of_the_history():
    # GIVEN 40 days of history, a row an hour
    found = backtest(fleet(40 * 24), fleet(12, since_h=40 * 24), family="kmeans").refreshes
    assert [refresh.rows for refresh in found] == [28 * 24]


def test_a_refresh_learns_from_the_28_days_before_it():
    found = backtest(fleet(30 * 24), fleet(48, since_h=30 * 24), family="kmeans").refreshes
    assert [refresh.rows for refresh in found] == [28 * 24, 28 * 24]


def test_the_setting_history_days_is_what_a_model_learns_from(monkeypatch):
    # GIVEN five days in the settings, which lack all else
    monkeypatch.delenv("RISKWATCH_CONFIG", raising=False)
    monkeypatch.setenv("RISKWATCH_HISTORY_DAYS", "5")
    history, replay = fleet(30 * 24), fleet(48, since_h=30 * 24)
    # WHEN / THEN
    found = backtest(history, replay, family="kmeans").refreshes
    assert [refresh.rows for refresh in found] == [5 * 24, 5 * 24]
    # AND an argument takes precedence
    found = backtest(history, replay, family="kmeans", history_days=7).refreshes
    assert [refresh.rows for refresh in found] == [7 * 24, 7 * 24]


def test_a_history_of_no_day_is_refused(monkeypatch):
    monkeypatch.setenv("RISKWATCH_HISTORY_DAYS", "0")
    with pytest.raises(SettingsError, match="history_days is 0: use at least 1"):
        backtest(fleet(72), fleet(12, since_h=72), family="kmeans")


def test_nothing_is_refreshed_on_less_than_a_day_of_rows():
    # GIVEN three hours of history, and a refresh due every six hours
    found = backtest(fleet(3, step_min=15), fleet(30, since_h=3, step_min=15), family="kmeans", refit_hours=6).refreshes
    # THEN at the 18th hour there are 21 hours of rows, which do not do; at the 24th there are 27
    since = pd.Timedelta(hours=3) + START
    assert [(pd.Timestamp(each.ms, unit="ms", tz="UTC") - since) / pd.Timedelta(hours=1) for each in found] == [0, 24]


def test_a_contest_is_held_every_week(monkeypatch):
    # GIVEN a replay of eight days, guards that let all pass, and two refreshes a week
    guards_that(monkeypatch, lambda number: False)
    found = backtest(fleet(72), fleet(8 * 24, since_h=72), refit_hours=84).refreshes
    assert [refresh.contest is not None for refresh in found] == [True, False, True]
    assert found[0].why.startswith("there was no champion")


def test_a_model_that_was_kept_is_told_as_kept(monkeypatch, tmp_path):
    # GIVEN guards that let the first contest pass and nobody afterwards
    guards_that(monkeypatch, lambda number: number > 1)
    replay = fleet(36, since_h=72, seed=1)
    # WHEN
    result = backtest(fleet(72), replay, refit_hours=12)
    # THEN a refresh that is vetoed, in a contest in vain or without one, changes neither model nor rows
    first, *others = result.refreshes
    assert [refresh.kept for refresh in result.refreshes] == [False, True, True]
    assert {(refresh.family, refresh.rows, refresh.churn) for refresh in others} == {(first.family, 72, 0.0)}
    # AND the rows have the labels of a replay without a refresh
    guards_that(monkeypatch, lambda number: number > 1)
    pd.testing.assert_frame_equal(result.rows, backtest(fleet(72), replay, refit_hours=1000).rows)
    # AND the report says why
    text = report.write(result, tmp_path).read_text()
    assert "kept: the guards vetoed the refresh (no); every family was vetoed: what serves stays |" in text
    assert "kept: the guards vetoed the refresh (no) |" in text
    assert f"first model: there was no champion: {first.family} won the first contest |" in text


def test_the_report_says_how_many_rows_changed_their_level(monkeypatch, tmp_path):
    monkeypatch.setattr("riskwatch_ml.backtest.replay.label_churn", lambda before, after, table, inventory: 0.0123)
    result = backtest(fleet(72), fleet(48, since_h=72, names=("a", "b")), family="kmeans", refit_hours=36)
    assert [refresh.churn for refresh in result.refreshes] == [None, 0.0123]
    text = report.write(result, tmp_path).read_text()
    assert "| 1.2% | refreshed; 1 to 2 known instances |" in text


@pytest.mark.parametrize(
    ("gap_ms", "alert"), [(EXPIRE_AFTER_MS, True), (EXPIRE_AFTER_MS + 300_000, False)], ids=["a day", "more"]
)
def test_an_episode_of_an_instance_not_heard_of_for_a_day_is_over(gap_ms, alert):
    # GIVEN trouble in the last row before a gap, and quiet rows after it
    history, replay = fleet(72, step_min=5), fleet(4, since_h=72, step_min=5, seed=1)
    replay.loc[23, ["m0", "m1"]] += 60
    replay.loc[24:, "timestamp"] += pd.Timedelta(gap_ms - 300_000, unit="ms")
    # WHEN
    rows = backtest(history, replay, family="kmeans", refit_hours=1000, new_normal_hours=1000).rows
    # THEN the first quiet row belongs to the episode, unless the episode has expired as it does live
    assert rows["alert"][23]
    assert rows["alert"].tolist()[24:26] == [alert, False]
    assert rows["risk"][24] == ("Critical" if alert else rows["level"][24])


def test_progress_is_told_as_it_comes():
    told = []
    backtest(fleet(72), fleet(30, since_h=72), family="kmeans", progress=lambda done, total: told.append((done, total)))
    assert told == [(0, 30), (12, 30), (24, 30), (30, 30)]

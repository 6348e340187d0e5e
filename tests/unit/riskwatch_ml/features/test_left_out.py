"""The rows that a fit leaves out because of episodes, worked out by hand."""

import numpy as np
import pandas as pd
import pytest

from riskwatch_ml.features.left_out import PastEpisode, metric_changes, rows_left_out

HOUR = 3_600_000
NAMES = ("a", "b")
NOW = 100 * HOUR


@pytest.fixture
def hourly():
    """A row an hour of two instances: codes and times (ms)."""
    return np.repeat([0, 1], 100), np.tile(np.arange(100) * HOUR, 2)


def left_out(hourly, *episodes, hours=24):
    return rows_left_out(NAMES, *hourly, episodes, NOW, hours)


def test_rows_of_an_open_episode_are_left_out_of_its_instance_only(hourly):
    found = left_out(hourly, PastEpisode("a", 90 * HOUR, True))
    assert np.flatnonzero(~found.kept).tolist() == list(range(90, 100))
    assert found.note == "10 rows in an open episode"
    assert found.new_normals == ()


@pytest.mark.parametrize(("hours", "learned"), [(10, True), (10.5, False)])
def test_an_episode_that_lasts_is_learned_and_the_rows_before_it_are_left_out(hourly, hours, learned):
    # GIVEN an episode that opened 30 hours before the fit, and a limit around that
    episode = PastEpisode("b", 70 * HOUR, True, "b@70", ("cpu",))
    found = left_out(hourly, episode, hours=hours * 3 - 0.0)
    # THEN either the rows before it are left out, or its own
    assert np.flatnonzero(~found.kept).tolist() == [100 + n for n in (range(70) if learned else range(70, 100))]
    assert found.new_normals == ((episode,) if learned else ())


def test_the_rows_before_stay_while_those_since_are_too_few_for_a_baseline(hourly):
    # GIVEN an episode of 23 rows that is learned already: a baseline needs 24
    found = left_out(hourly, PastEpisode("a", 77 * HOUR, True), hours=6)
    assert found.kept.all()
    assert len(found.new_normals) == 1
    # WHEN there is one row more THEN they are left out
    enough = left_out(hourly, PastEpisode("a", 76 * HOUR, True), hours=6)
    assert np.flatnonzero(~enough.kept).tolist() == list(range(76))


def test_a_new_normal_stays_one_and_a_later_episode_is_left_out_of_it(hourly):
    # GIVEN an episode that ended as the new normal, and one that is open since
    found = left_out(hourly, PastEpisode("a", 50 * HOUR, False), PastEpisode("a", 90 * HOUR, True))
    assert np.flatnonzero(found.kept).tolist() == [*range(50, 90), *range(100, 200)]
    assert found.note == "10 rows in an open episode, 50 rows before the new normal of their instance"
    # AND it is not learned a second time
    assert found.new_normals == ()


def test_an_episode_of_an_instance_without_rows_changes_nothing(hourly):
    found = left_out(hourly, PastEpisode("gone", 10 * HOUR, True))
    assert (found.kept.all(), found.note, found.new_normals) == (True, "", ())


def test_rows_may_come_in_any_order_and_be_none(hourly):
    order = np.random.default_rng(0).permutation(200)
    shuffled = hourly[0][order], hourly[1][order]
    episode = PastEpisode("a", 90 * HOUR, True)
    assert (left_out(shuffled, episode).reason == left_out(hourly, episode).reason[order]).all()
    assert left_out((np.zeros(0, int), np.zeros(0, int)), episode).note == ""


def test_the_change_is_told_in_medians_of_the_instance():
    # GIVEN a metric that doubles, one that came, and one that the catalogue no longer has
    moments = pd.date_range("2026-11-01", periods=6, freq="1h", tz="UTC").as_unit("ms")
    rows = pd.DataFrame(
        {"instance_id": "a", "timestamp": moments, "cpu": [1, 2, 3, 4, 4.00001, 9], "new": [np.nan] * 4 + [7, 7]}
    )
    other = rows.assign(instance_id="b", cpu=50.0)
    since = int(moments[3].timestamp() * 1000)
    episode = PastEpisode("a", since, True, metrics=("cpu", "new", "gone"))
    # THEN
    without_reasons = metric_changes(rows, episode._replace(metrics=()))
    assert [change["feature"] for change in without_reasons] == ["cpu", "new"]
    assert metric_changes(pd.concat([rows, other]), episode) == [
        {"feature": "cpu", "before": 2.0, "after": 4.0},
        {"feature": "new", "before": None, "after": 7.0},
    ]

"""When a replay refits."""

import math

import numpy as np
import pytest

from riskwatch_ml.backtest.refit_schedule import RefitSchedule
from riskwatch_ml.core.clock import HOUR_MS

START = 1_800_000 * HOUR_MS + 7 * 60_000


def at(hours):
    return START + round(hours * HOUR_MS)


@pytest.fixture
def schedule():
    """A refit a day, and episodes that are learned after twelve hours."""
    return RefitSchedule(START, 24 * HOUR_MS, 12)


def test_without_episodes_each_interval_begins_with_a_refit(schedule):
    # GIVEN / WHEN the replay goes through two days
    moments, moment = [], START
    while moment < at(48):
        moments.append((moment, schedule.is_due(moment, [])))
        moment = schedule.next_moment(moment, [])

    # THEN it looks twice a day for episodes, none of which could have been learned in between
    assert moments == [(at(0), True), (at(12), False), (at(24), True), (at(36), False)]


def test_an_episode_makes_one_refit_due_at_the_full_hour_after_its_time(schedule):
    # GIVEN an episode that opens at half past three
    episode = (4, at(3.5))
    assert schedule.is_due(START, [])

    # WHEN / THEN
    assert schedule.next_moment(at(12), [episode]) == at(16)
    assert not schedule.is_due(at(15), [episode])
    assert schedule.is_due(at(16), [episode])
    assert not schedule.is_due(at(17), [episode])
    # It opens again: that is another episode.
    assert schedule.is_due(at(22), [(4, at(10))])


def test_an_episode_that_is_never_learned_makes_no_refit_due():
    # GIVEN
    schedule = RefitSchedule(START, 24 * HOUR_MS, math.inf)
    assert schedule.is_due(START, [])

    # WHEN / THEN
    assert schedule.next_moment(START, [(0, START)]) == at(24)
    assert not schedule.is_due(at(23), [(0, START)])


def test_intervals_without_rows_are_left_out(schedule):
    # GIVEN rows of the first and of the tenth day
    due = np.array([START, at(1), at(9 * 24 + 5)])

    # WHEN / THEN
    assert schedule.skip_gap(at(0.5), due) == at(0.5)
    assert schedule.skip_gap(at(12), due) == at(9 * 24)
    assert schedule.skip_gap(at(9 * 24 + 6), due) is None

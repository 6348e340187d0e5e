"""A long incident with refreshes in its middle, labelled by the backtest and by the function with the same models."""

from __future__ import annotations

import pytest

from riskwatch_lambda.alerting.budget import Limits
from riskwatch_ml.core import clock
from tests.support import replaying
from tests.support.replaying import END
from tests.support.world import HOUR_MS

DAYS = 3, 2.5
BEFORE_REFRESH_H = 3
START_H = 24 - BEFORE_REFRESH_H
CUT_MS = clock.epoch_ms(END) - round(DAYS[1] * 24 * HOUR_MS)
BEGAN_MS = CUT_MS + START_H * HOUR_MS
WEB = {"web-1", "web-2"}


def _labelled(hours):
    """Label the fleet with an incident of so many hours.

    Give the world, the alerts of the incident by time, and the time at which a refresh of its own learned it, or None.
    """
    fleet = replaying.disturbed(DAYS, START_H, hours, END)
    before = replaying.backtested(fleet, refit_hours=24)
    learned = [ms for ms, _ in before.models if (ms - CUT_MS) % (24 * HOUR_MS)]
    assert (len(before.models), len(learned)) == (3 + len(learned), hours > 12)
    world = replaying.labelled(fleet, before.models, Limits())
    rows = [row for row in world.s3.lines("labelled") if row["instance_id"] in WEB]
    alerts = [(clock.epoch_ms(clock.parse(row["timestamp"])), row["alert"]) for row in rows]
    return world, alerts, learned[0] if learned else None


def _share(alerts, from_ms, to_ms):
    inside = [alert for ms, alert in alerts if from_ms <= ms < to_ms]
    return sum(inside) / len(inside)


def _events(world, until_ms):
    """Give the ends of episodes of the web servers, from the begin of the incident until a time."""
    return [
        (message["event"], entry["instance_id"], entry["closed"])
        for message in world.sns.messages
        for part in ("resolved", "new_normal")
        for entry in message[part]
        if entry["instance_id"] in WEB and BEGAN_MS <= clock.epoch_ms(clock.parse(entry["closed"])) <= until_ms
    ]


def test_a_refresh_in_the_middle_of_an_incident_neither_ends_it_nor_says_so():
    # WHEN an incident of six hours meets a refresh after three
    world, alerts, _ = _labelled(6)
    end_ms = BEGAN_MS + 6 * HOUR_MS

    # THEN its rows lie in an open episode until it ends
    assert _share(alerts, BEGAN_MS, end_ms) >= 0.95
    # AND nothing said before that it is over, and then it is told as resolved
    assert _events(world, end_ms - 1) == []
    assert {(event, name) for event, name, _ in _events(world, end_ms + HOUR_MS)} == {("resolved", n) for n in WEB}


@pytest.mark.parametrize("hours", [24, 39])
def test_an_incident_that_is_learned_ends_as_new_normal_once(hours):
    # WHEN an incident meets a refresh after three hours, and goes on beyond the twelve after which it is learned
    world, alerts, learned_ms = _labelled(hours)
    end_ms = BEGAN_MS + hours * HOUR_MS

    # THEN its rows lie in an open episode until a refresh of its own learns it, within the hour after the limit
    assert 12 * HOUR_MS <= learned_ms - BEGAN_MS <= 14 * HOUR_MS
    assert _share(alerts, BEGAN_MS, learned_ms) >= 0.95
    # AND one message says for each server what is normal from now on
    ends = _events(world, end_ms)
    assert sorted(name for event, name, _ in ends if event == "new_normal") == sorted(WEB)
    # AND only a short episode, of a row that twelve hours did not show, is resolved before the incident is over
    resolved = [clock.epoch_ms(clock.parse(closed)) for event, _, closed in ends if event == "resolved"]
    assert all(learned_ms < closed_ms <= learned_ms + HOUR_MS for closed_ms in resolved)
    assert len(resolved) <= 1
    # AND hardly a later row of the incident is an alert
    assert _share(alerts, learned_ms, end_ms) < 0.05

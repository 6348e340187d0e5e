"""Escalations of an open episode: twice the score, or high load, an hour after the message."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from riskwatch_lambda.episode_rule import is_escalation
from tests.support import tiny
from tests.support.tiny import CPU, NET, PERIOD_MS
from tests.support.world import (
    AN_HOUR,
    AT_NOON,
    ELEVEN,
    EPISODE,
    HOUR_MS,
    LINES,
    NOW,
    PAGING_CPU,
    QUIET_CPU,
    TWICE_CPU,
    TWO_HOURS,
    World,
    all_told,
    backlogged,
    notified_lines,
    row,
)

if TYPE_CHECKING:
    from riskwatch_lambda.model.document import Model

# A score of 3.3, where the opening row has 2.
NOT_TWICE_CPU = CPU + math.e**3.3 - 1
# A score of 3.4, and High Load.
BUSY_CPU = 40.0


def _model(paging_threshold: float) -> Model:
    """Give a model with normal values that are the same at every hour."""
    center = [tiny.baseline(50, 500), tiny.baseline(30, 300), tiny.baseline(CPU, NET)]
    return tiny.model({"center": center}, rule={**tiny.DOCUMENT["rule"], "paging_threshold": paging_threshold})


def test_an_open_episode_that_doubles_is_told_once_more_after_an_hour():
    # GIVEN an episode reported at 11:00 with a score of 2
    world = backlogged()
    world.send(row(PAGING_CPU))

    # WHEN it reaches 4 within the hour, an hour after the message, and goes on so
    for at in (1, AN_HOUR - 1, AN_HOUR, AN_HOUR + 1, TWO_HOURS + 1):
        world.send(row(TWICE_CPU, at))

    # THEN one message says so, an hour after the first
    assert notified_lines(world, "escalated") == [[EPISODE]]
    message = world.sns.messages[-1]
    assert message["subject"] == "Riskwatch: shop: web-1 got worse"
    assert message["attributes"] == {"event": "escalated", "service": "shop", "risk": "Critical"}
    assert message["escalated"][0]["score"] == 4.0
    assert world.dynamodb.state("web-1")["told_peak"] == 4.0
    # AND its end is reported once
    world.send(row(QUIET_CPU, TWO_HOURS + 2), row(QUIET_CPU, TWO_HOURS + 3))
    world.tick(NOW + 3 * HOUR_MS)
    assert [all_told(world, line) for line in LINES] == [[EPISODE]] * 3


def test_what_grows_less_than_twofold_is_not_told_again():
    # GIVEN an episode reported with a score of 2, WHEN it goes on with 3.3, THEN no message follows
    world = backlogged()
    for at in (0, AN_HOUR, TWO_HOURS):
        world.send(row(PAGING_CPU if at == 0 else NOT_TWICE_CPU, at))
    assert len(world.sns.messages) == 1


@pytest.mark.parametrize(
    ("reported_level", "level", "peak", "expected"),
    [
        ("Normal", "Normal", 3.99, False),
        ("Normal", "Normal", 4.0, True),
        ("Normal", "High Load", 2.0, True),
        ("High Load", "High Load", 2.0, False),
        ("Idle", "Normal", 2.0, False),
    ],
)
def test_worse_is_twice_the_score_or_high_load(reported_level, level, peak, expected):
    # GIVEN a report with a score of 2, WHEN / THEN
    assert is_escalation(2.0, reported_level, peak, level) is expected


def test_an_escalation_that_fails_is_sent_by_the_tick():
    # GIVEN an escalation whose message fails
    world = backlogged()
    world.send(row(PAGING_CPU))
    world.sns.failing = 1
    world.send(row(TWICE_CPU, AN_HOUR))

    # WHEN ticks come, THEN it is sent when its claim is stale, once
    for late in (300_000, 300_001, 700_000):
        world.tick(ELEVEN + TWO_HOURS * PERIOD_MS, wall=NOW + late)
    assert notified_lines(world, "escalated") == [[EPISODE]]


def test_an_escalation_beyond_the_budget_is_a_line_of_the_digest():
    # GIVEN a budget of one page a day, which the opening took, and an escalation to High Load that is not severe
    world = World(_model(paging_threshold=1.95), AT_NOON)
    world.send(row(PAGING_CPU))
    world.send(row(BUSY_CPU, AN_HOUR))
    world.send(row(BUSY_CPU, AN_HOUR + 1))
    assert len(world.sns.messages) == 1

    # WHEN ticks come until noon of the next day
    for hours in range(1, 26):
        world.tick(ELEVEN + hours * HOUR_MS)
        world.send(row(BUSY_CPU, hours * AN_HOUR))

    # THEN the digest has it, once
    assert all_told(world, "escalated") == [EPISODE]
    assert [message["event"] for message in world.sns.messages] == ["opened", "digest"]


def test_a_severe_escalation_is_paged_beyond_the_budget():
    # GIVEN a budget of one page a day, which the opening took
    world = backlogged(AT_NOON)
    world.send(row(PAGING_CPU))

    # WHEN the peak reaches twice the paging threshold, THEN it is paged all the same
    world.send(row(TWICE_CPU, AN_HOUR))
    assert [message["event"] for message in world.sns.messages] == ["opened", "escalated"]

"""Ticks: messages that were not sent, what is over, and episodes of instances without data."""

from __future__ import annotations

import json

import pytest

from riskwatch_lambda.alerting.budget import Limits
from riskwatch_lambda.table import TableError
from tests.support import tiny
from tests.support.world import (
    AN_HOUR,
    DAY_MS,
    DONE,
    ELEVEN,
    EPISODE,
    HALF_AN_HOUR,
    HOUR_MS,
    INSTANCES,
    NOTHING,
    NOW,
    PAGING_CPU,
    QUIET_CPU,
    SEVEN_HOURS,
    World,
    all_told,
    backlogged,
    incidents,
    notified_lines,
    put_in_cooldown,
    row,
    unfinished,
)


def test_what_was_paged_is_told_to_be_over_once_and_together(world):
    # GIVEN two instances of a service whose episodes were reported and closed, and one that goes on
    for at, cpu in enumerate([PAGING_CPU, QUIET_CPU, QUIET_CPU]):
        world.send(row(cpu, at), row(cpu, at, "web-2"), row(PAGING_CPU, at, "web-3"))

    # WHEN ticks come
    for late in (0, 1, HOUR_MS):
        world.tick(NOW + late)

    # THEN one message says so, and the third is still looked at
    assert notified_lines(world, "resolved") == [[EPISODE, EPISODE.replace("web-1", "web-2")]]
    message = world.sns.messages[-1]
    assert message["subject"] == "Riskwatch: shop: 2 instances are back to normal"
    assert message["attributes"] == {"event": "resolved", "service": "shop"}
    assert message["resolved"][0]["closed"] == "2026-11-22T11:10:00.000Z"
    assert "- web-1, back to normal: 2026-11-22 11:00 UTC to 2026-11-22 11:10 UTC, peak 2.00" in message["text"]
    assert unfinished(world) == [EPISODE.replace("web-1", "web-3")]


def signs(capsys):
    """The times of the signs of life that the function has just printed."""
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return [line["_aws"]["Timestamp"] for line in lines if "TicksAnswered" in line]


def test_an_answered_tick_is_reported_and_nothing_else_is(world, capsys):
    # WHEN the function is asked for its model, as every run begins, and rows come THEN that is no sign of life
    world.handle({"selftest": {}})
    world.send(row(QUIET_CPU, 0))
    assert signs(capsys) == []

    # WHEN a tick comes that has nothing to do
    assert world.tick(NOW) == NOTHING
    assert signs(capsys) == [NOW]

    # WHEN the episodes cannot be read
    world.dynamodb.failing_reads = 100
    with pytest.raises(TableError):
        world.tick(NOW + 1)
    assert signs(capsys) == []


def test_an_end_that_could_not_be_told_is_told_later(world):
    # GIVEN an episode that is over, and a topic that fails
    world.send(*incidents(0))
    world.sns.failing = 1
    later = NOW + HOUR_MS
    assert world.tick(later)["failed"] == 1

    # WHEN ticks come a moment later and when the claim is stale, THEN the second sends it
    assert world.tick(later + 1)["sent"] == 0
    assert world.tick(later + 300_001)["sent"] == 1
    assert notified_lines(world, "resolved") == [[EPISODE]]


def test_more_ends_than_a_message_holds_take_another_one(world):
    # GIVEN the episodes of 60 instances, reported in messages of one service
    names = [f"web-{number}" for number in range(60)]
    world = World(tiny.model(baselines={"instances": dict.fromkeys(names, 2), "roles": {}, "fleet": 0}))
    world.send(*(data for name in names for data in incidents(0, instance=name)))

    # WHEN the tick comes, THEN every end has its line
    world.tick(NOW + 3 * DAY_MS)
    assert [len(ids) for ids in notified_lines(world, "resolved")] == [50, 10]
    assert sorted(each.partition("@")[0] for each in all_told(world, "resolved")) == sorted(names)


def test_the_tick_closes_episodes_that_nothing_is_heard_of(world):
    # GIVEN an open episode whose newest row is of 11:00, and a verdict that an operator added to its list item
    world.send(row(PAGING_CPU))
    key = next(key for key in world.dynamodb.items if key[0].startswith("episodes#"))
    world.dynamodb.items[key]["verdict"] = {"S": "useful"}

    # WHEN ticks come 24 hours after it, and a moment later
    answers = [world.tick(ELEVEN + DAY_MS), world.tick(ELEVEN + DAY_MS + 1)]

    # THEN the second closes it and says why, and what the operator added stays
    assert answers == [{**NOTHING, "open": 1}, {**NOTHING, "expired": 1, "sent": 1}]
    state, (listed,) = world.dynamodb.state("web-1"), world.dynamodb.listed()
    assert state["status"] == listed["status"] == "closed"
    assert state["closed_ms"] == ELEVEN + DAY_MS + 1
    assert listed["verdict"] == "useful"
    assert world.sns.messages[-1]["resolved"][0]["expired"] is True
    assert "closed, no data on cpu for 24 h" in world.sns.messages[-1]["text"]


def test_the_tick_goes_by_the_newest_row_at_any_age(world):
    # GIVEN two open episodes of 11:00, on pages that hold one item each; rows follow in one of them for five days
    world.dynamodb.page_size = 1
    world.send(row(PAGING_CPU), row(PAGING_CPU, instance="web-2"))
    world.dynamodb.set("web-2", last_ms={"N": str(ELEVEN + 5 * DAY_MS)})

    # WHEN ticks come a moment more than 24 hours after the newest row of each
    answers = [world.tick(ELEVEN + late * DAY_MS + 1, wall=ELEVEN + 6 * DAY_MS + 1) for late in (1, 6)]

    # THEN each closes one
    assert [(each["expired"], each["open"]) for each in answers] == [(1, 1), (1, 0)]
    assert world.dynamodb.state("web-2")["closed_ms"] == ELEVEN + 6 * DAY_MS + 1


def test_an_episode_that_a_batch_moves_meanwhile_does_not_expire(world):
    # GIVEN an open episode, and a batch that comes just before the tick closes it
    world.send(row(PAGING_CPU))
    world.dynamodb.before_write = lambda: world.send(row(PAGING_CPU, 12 * 24))

    # WHEN the tick comes, THEN it leaves the episode open
    assert world.tick(ELEVEN + DAY_MS + 1)["expired"] == 0
    assert world.dynamodb.state("web-1")["status"] == "open"


def test_a_cooldown_of_an_earlier_release_that_an_episode_outlasts_is_paged_then(world):
    # GIVEN an episode of 11:30 that goes on, which an earlier release held for one reported at 11:00
    world = backlogged()
    world.send(*(row(PAGING_CPU, at) for at in range(HALF_AN_HOUR, AN_HOUR + 6)))
    put_in_cooldown(world, "web-1", ELEVEN)
    second = "web-1@2026-11-22T11:30:00.000Z"
    assert notified_lines(world) == [[second]]

    # WHEN ticks come whose rows reach just below an hour after 11:00, the hour, and beyond
    for late in (HOUR_MS - 1, HOUR_MS, HOUR_MS + 1):
        world.tick(ELEVEN + late)

    # THEN it is reported at the hour, once more
    assert notified_lines(world) == [[second], [second]]
    assert world.dynamodb.state("web-1")["notified"] == "sent"


@pytest.mark.parametrize("newer", [False, True])
def test_an_index_that_lags_behind_makes_nobody_hear_twice(newer):
    # GIVEN an episode to send again, one that is over, and one that waits for the digest; maybe newer ones since
    world = World(limits=Limits(1, 1000))
    world.sns.failing = 1
    for name in INSTANCES["instances"]:
        world.send(*incidents(0, instance=name))
    if newer:
        world.send(*incidents(SEVEN_HOURS), *incidents(SEVEN_HOURS, instance="web-2"))
    world.dynamodb.hold_index()

    # WHEN ticks come that all see the index as it is now
    for late in range(4):
        world.tick(NOW + DAY_MS + late * 400_000)

    # THEN no line came twice
    assert {message["event"] for message in world.sns.messages} == {"opened", "resolved", "digest"}
    lines = [
        (part, each["episode_id"])
        for message in world.sns.messages
        for part in ("opened", "resolved")
        for each in message[part]
    ]
    assert len(lines) == len(set(lines))


def test_writes_that_meet_another_one_are_tried_again(world, capsys):
    # GIVEN a table on which others write the same items at the same moment
    world.dynamodb.busy = 2

    # WHEN a batch comes, THEN it waits and writes; and a table that stays busy is a failure that comes again
    assert world.send(row(PAGING_CPU)) == DONE
    assert world.pauses == [0.05, 0.1]
    world.dynamodb.busy = 4
    assert world.send(row(PAGING_CPU, 1)) != DONE
    assert "written by others at 4 tries" in capsys.readouterr().out


def test_the_tick_is_one_line_of_metrics(world, capsys):
    # GIVEN a message that fails twice, WHEN a tick comes, THEN the metric that the alarm looks at says so
    world.sns.failing = 2
    world.send(row(PAGING_CPU))
    capsys.readouterr()
    world.tick(NOW + HOUR_MS)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[-1]["MessagesFailed"] == 1
    assert {"Name": "MessagesFailed", "Unit": "Count"} in lines[-1]["_aws"]["CloudWatchMetrics"][0]["Metrics"]


@pytest.mark.parametrize(
    "tick",
    [
        None,
        {},
        {"now": 1.5},
        {"now": -1},
        {"now": 1, "overdue": {}},
        {"now": 1, "overdue": ["web-1"]},
        {"now": 1, "overdue": [["web-1", "shop"]]},
        {"now": 1, "overdue": [["web-1", "shop", 1.5]]},
        {"now": 1, "overdue": [["", "shop", 1]]},
    ],
)
def test_a_tick_that_is_not_understood_is_refused(world, tick):
    # GIVEN a tick without time or with an odd list, WHEN it comes, THEN it is an error
    with pytest.raises(ValueError, match="tick"):
        world.handle({"tick": tick})

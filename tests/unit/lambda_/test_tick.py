"""What a tick makes good: messages that were not sent, and episodes of which nothing is heard any more."""

from __future__ import annotations

import pytest

from tests.unit.lambda_.world import (
    AN_HOUR,
    DONE,
    ELEVEN,
    EPISODE,
    HOUR_MS,
    NOW,
    PAGING_CPU,
    QUIET_CPU,
    TWO_HOURS,
    TWO_HOURS_LATER,
    World,
    backlogged,
    incidents,
    row,
    told,
)


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize("crash", [False, True])
def test_the_tick_sends_an_older_message_that_failed_though_a_newer_one_went_out(crash):
    # GIVEN two incidents in one batch, of which the first message fails
    world = backlogged()
    world.sns.failing = 1
    world.send(*incidents(0, TWO_HOURS))
    assert told(world) == [[TWO_HOURS_LATER]]
    assert [item["notified"] for item in world.dynamodb.listed()] == ["pending", "sent"]
    if crash:
        # AND the process ended before it could mark the second
        key = next(key for key in world.dynamodb.items if key[1].startswith("2026-11-22T13"))
        for item in (world.dynamodb.items[key], world.dynamodb.items["instance#web-1", "current"]):
            item["notified"] = {"S": "pending"}

    # WHEN ticks come after exactly five minutes, a moment later, and again, in the morning after
    answers = [world.tick(NOW + 300_000 + late)["resent"] for late in (0, 1, 24 * HOUR_MS)]

    # THEN the second tick sends what is pending, each episode once, and no item stays pending
    assert answers == [0, 1 + crash, 0]
    assert told(world)[1:] == [[EPISODE], [TWO_HOURS_LATER]][: 1 + crash]
    assert [item["notified"] for item in world.dynamodb.listed()] == ["sent", "sent"]
    state = world.dynamodb.state("web-1")
    assert (state["episode_id"], state["notified"], state["notified_ms"]) == (TWO_HOURS_LATER, "sent", NOW + 300_001)


@pytest.mark.parametrize(("days", "resent"), [(1, 1), (2, 0)])
def test_the_tick_looks_for_older_messages_on_the_two_newest_days(days, resent):
    # GIVEN three incidents, of which the message of the second failed, on pages that hold one item each
    world = backlogged()
    world.dynamodb.page_size = 1
    world.send(*incidents(0))
    world.sns.failing = 1
    world.send(*incidents(TWO_HOURS, 2 * TWO_HOURS))
    assert [item["notified"] for item in world.dynamodb.listed()] == ["sent", "pending", "sent"]

    # WHEN the tick comes on a later day, of another instance, THEN it sends the message until the end of the next one
    assert world.tick(ELEVEN + days * 24 * HOUR_MS, "web-9")["resent"] == resent


def test_a_message_that_fails_stays_pending_and_the_tick_sends_it(world):
    # GIVEN a topic that fails once
    world.sns.failing = 1
    assert world.send(row(PAGING_CPU)) == DONE
    assert (world.dynamodb.state("web-1")["notified"], world.sns.messages) == ("pending", [])

    # WHEN ticks come after exactly five minutes, a moment later, and again
    answers = [world.tick(NOW + 300_000 + late) for late in (0, 1, 2)]

    # THEN the second sends it, once, and state and list say so
    assert answers == [{"resent": sent, "expired": 0, "open": 1} for sent in (0, 1, 0)]
    assert [each["episode_id"] for each in world.sns.messages[0]["opened"]] == [EPISODE]
    state, (listed,) = world.dynamodb.state("web-1"), world.dynamodb.listed()
    assert state["notified"] == listed["notified"] == "sent"
    assert state["notified_ms"] == NOW + 300_001


def test_a_message_that_never_went_out_keeps_the_next_episode_quiet_and_is_sent(world):
    # GIVEN an episode whose message failed, closed since, and another one within the cool-down
    world.sns.failing = 1
    for each in [*incidents(0), row(PAGING_CPU, 3)]:
        world.send(each)
    assert told(world) == []
    assert [item["notified"] for item in world.dynamodb.listed()] == ["pending", "cooldown"]

    # WHEN a tick comes, THEN it tells of the older one alone
    assert world.tick(NOW + HOUR_MS)["resent"] == 1
    assert told(world) == [[EPISODE]]
    assert [item["notified"] for item in world.dynamodb.listed()] == ["sent", "cooldown"]
    assert world.dynamodb.state("web-1")["notified"] == "cooldown"


def test_the_tick_closes_episodes_that_have_gone_silent(world):
    # GIVEN an open episode whose newest row is of 11:00, and a verdict that an operator added to its list item
    world.send(row(PAGING_CPU))
    key = next(key for key in world.dynamodb.items if key[0].startswith("episodes#"))
    world.dynamodb.items[key]["verdict"] = {"S": "useful"}

    # WHEN ticks come 24 hours after it, and a moment later
    day = 24 * HOUR_MS
    answers = [world.tick(ELEVEN + day), world.tick(ELEVEN + day + 1)]

    # THEN the second closes it, and what the operator added stays
    assert answers == [{"resent": 0, "expired": 0, "open": 1}, {"resent": 0, "expired": 1, "open": 0}]
    state, (listed,) = world.dynamodb.state("web-1"), world.dynamodb.listed()
    assert state["status"] == listed["status"] == "closed"
    assert state["closed_ms"] == ELEVEN + day + 1
    assert listed["verdict"] == "useful"


def test_the_tick_finds_the_open_episodes_of_two_days_by_itself(world):
    # GIVEN two open episodes of 11:00, on pages that hold one item each; a quiet row follows in one of them at 12:00
    world.dynamodb.page_size = 1
    world.send(row(PAGING_CPU), row(PAGING_CPU, instance="web-2"))
    world.send(row(QUIET_CPU, AN_HOUR, instance="web-2"))
    day = 24 * HOUR_MS

    # WHEN ticks come that name nobody, 24 hours after 11:00, a moment later, and at 12:00 and a moment
    answers = [world.tick_of_nobody(ELEVEN + day + late) for late in (0, 1, HOUR_MS + 1)]

    # THEN each closes a day after its newest row, which the state knows and the list does not; open are all found
    assert [(each["expired"], each["open"]) for each in answers] == [(0, 2), (1, 1), (1, 0)]
    assert world.dynamodb.state("web-1")["closed_ms"] == ELEVEN + day + 1
    assert world.dynamodb.state("web-2")["closed_ms"] == ELEVEN + day + HOUR_MS + 1
    assert [item["status"] for item in world.dynamodb.listed()] == ["closed", "closed"]


def test_an_episode_that_opened_long_ago_is_found_through_its_instance(world):
    # GIVEN an episode that opened six days ago and had its newest row on the fifth day
    world.send(row(PAGING_CPU))
    day = 24 * HOUR_MS
    world.dynamodb.set("web-1", last_ms={"N": str(ELEVEN + 5 * day)})

    # WHEN ticks come a day and a moment after that row, THEN the one that names the instance closes it
    assert world.tick_of_nobody(ELEVEN + 6 * day + 1) == {"resent": 0, "expired": 0, "open": 0}
    assert world.tick(ELEVEN + 6 * day + 1) == {"resent": 0, "expired": 1, "open": 0}


@pytest.mark.parametrize("tick", [None, {}, {"now": 1.5, "instances": []}, {"now": 1, "instances": ["a", 2]}])
def test_a_tick_that_is_not_understood_is_refused(world, tick):
    # GIVEN a tick without time or instances, WHEN it comes, THEN it is an error
    with pytest.raises(ValueError, match="tick"):
        world.handle({"tick": tick})

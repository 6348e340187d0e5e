"""Messages that a tick sends again: they failed, were interrupted, or their claim is stale."""

from __future__ import annotations

import pytest

from riskwatch_lambda.events import tick
from riskwatch_lambda.table import TableError
from tests.support.tiny import PERIOD_MS
from tests.support.world import (
    DAY_MS,
    DONE,
    ELEVEN,
    EPISODE,
    HOUR_MS,
    NOTHING,
    NOW,
    PAGING_CPU,
    SEVEN_HOURS,
    SEVEN_HOURS_LATER,
    CrashError,
    World,
    backlogged,
    incidents,
    notified_lines,
    row,
    unfinished,
)


@pytest.mark.parametrize("crash", [False, True])
def test_the_tick_sends_an_older_message_that_failed_though_a_newer_one_went_out(crash):
    # GIVEN two incidents in one batch, of which the first message fails
    world = backlogged()
    world.sns.failing = 1
    event = world.event(*incidents(0, SEVEN_HOURS))
    if crash:
        # AND the process ends when the second is out and not yet marked
        world.crash()
        with pytest.raises(CrashError):
            world.handle(event)
    else:
        world.handle(event)
    assert notified_lines(world) == [[SEVEN_HOURS_LATER]]
    assert [item["notified"] for item in world.dynamodb.listed()] == ["pending", "pending" if crash else "sent"]

    # WHEN ticks come after exactly five minutes, a moment later, and again, in the morning after
    for late in (0, 1, DAY_MS):
        world.tick(NOW + 300_000 + late)

    # THEN the second tick sends what is pending, each episode once, and no item stays pending
    assert notified_lines(world)[1:] == [[EPISODE], [SEVEN_HOURS_LATER]][: 1 + crash]
    assert [item["notified"] for item in world.dynamodb.listed()] == ["sent", "sent"]
    # AND each end is reported once
    assert sorted(each for message in notified_lines(world, "resolved") for each in message) == [
        EPISODE,
        SEVEN_HOURS_LATER,
    ]
    assert unfinished(world) == []


def test_a_message_that_fails_stays_pending_and_the_tick_sends_it(world):
    # GIVEN a topic that fails once
    world.sns.failing = 1
    assert world.send(row(PAGING_CPU)) == DONE
    assert (world.dynamodb.state("web-1")["notified"], world.sns.messages) == ("pending", [])

    # WHEN ticks come after exactly five minutes, a moment later, and again
    answers = [world.tick(NOW + 300_000 + late) for late in (0, 1, 2)]

    # THEN the second sends it, once, and state and list say so
    assert answers == [{**NOTHING, "sent": sent, "open": 1} for sent in (0, 1, 0)]
    assert notified_lines(world) == [[EPISODE]]
    state, (listed,) = world.dynamodb.state("web-1"), world.dynamodb.listed()
    assert state["notified"] == listed["notified"] == "sent"
    assert state["notified_ms"] == NOW + 300_001
    assert "claimed_ms" not in state


def test_a_message_is_sent_however_old_the_episode_is(world):
    # GIVEN a topic that was down for nine days
    world.sns.failing = 9
    world.send(row(PAGING_CPU))
    failed = [world.tick(NOW + day * DAY_MS)["failed"] for day in range(1, 9)]

    # WHEN it is back, THEN the tick sends the message, though the episode has expired since
    assert failed == [1] * 8
    world.tick(NOW + 9 * DAY_MS)
    assert notified_lines(world) == [[EPISODE]]
    assert "already over" in world.sns.messages[0]["text"]


@pytest.mark.parametrize("skew_ms", [-2 * HOUR_MS, 2 * HOUR_MS])
def test_a_clock_that_is_two_hours_off_delays_no_message(world, skew_ms):
    # GIVEN a message that failed in an environment whose clock is two hours off
    world.sns.failing = 1
    world.send(row(PAGING_CPU), now=NOW + skew_ms)

    # WHEN a tick comes in one whose clock is right, THEN it sends the message, once
    world.tick(ELEVEN + PERIOD_MS, wall=NOW)
    world.tick(ELEVEN + PERIOD_MS, wall=NOW + 1)
    assert notified_lines(world) == [[EPISODE]]


def test_a_replay_of_the_past_is_told_as_it_would_have_been_live(world):
    # GIVEN rows of a month ago, by the wall clock, and a message that fails
    later = NOW + 30 * DAY_MS
    world.sns.failing = 1
    world.send(row(PAGING_CPU), now=later)

    # WHEN ticks come whose rows reach 11:05, a moment and six minutes later by the wall clock
    for wall in (1, 360_000):
        world.tick(ELEVEN + PERIOD_MS, wall=later + wall)

    # THEN the second sends it, and the episode has not expired
    assert notified_lines(world) == [[EPISODE]]
    assert world.dynamodb.state("web-1")["status"] == "open"


def test_two_ticks_at_once_send_a_message_once(world):
    # GIVEN a message that failed
    world.sns.failing = 1
    world.send(row(PAGING_CPU))

    # WHEN another tick runs just before this one claims the message
    world.dynamodb.before_write = lambda: world.tick(NOW + HOUR_MS)
    world.tick(NOW + HOUR_MS, wall=NOW + HOUR_MS + 1)

    # THEN one message went out
    assert notified_lines(world) == [[EPISODE]]


def test_a_crash_between_publish_and_mark_sends_one_message_twice(world):
    # GIVEN a process that ends when the message is out and not yet marked
    world.crash()
    event = world.event(row(PAGING_CPU))
    with pytest.raises(CrashError):
        world.handle(event)

    # WHEN the batch comes again, and ticks come until the next day
    world.handle(event, NOW + 60_000)
    for late in range(0, 12 * HOUR_MS, 300_000):
        world.tick(NOW + late)

    # THEN the message came once more
    assert notified_lines(world) == [[EPISODE], [EPISODE]]
    assert len(world.sns.messages) == 2


def test_a_crash_between_claim_and_publish_loses_nothing(world):
    # GIVEN a process that ends before anything is published
    world.sns.failing = -1
    publish = world.sns.publish

    def die(**message) -> None:
        raise CrashError

    world.sns.publish = die
    event = world.event(row(PAGING_CPU))
    with pytest.raises(CrashError):
        world.handle(event)
    world.sns.publish = publish
    world.sns.failing = 0

    # WHEN the batch comes again, THEN it leaves the claim alone, and a tick sends it when the claim is stale
    world.handle(event, NOW + 60_000)
    assert notified_lines(world) == []
    world.tick(NOW + 300_001)
    assert notified_lines(world) == [[EPISODE]]


def failed_pages(world: World) -> None:
    """Leave the pages of three services, which could not be sent."""
    world.sns.failing = 3
    for instance, service in (("web-1", "a"), ("web-2", "b"), ("web-3", "c")):
        world.send(row(PAGING_CPU, instance=instance, service=service))
    assert (world.sns.failing, world.sns.messages) == (0, [])


def test_a_tick_that_ends_early_leaves_the_others_for_the_next_one(world):
    # GIVEN three messages that failed, and a tick that ends when the first of them is out
    failed_pages(world)
    world.crash()
    with pytest.raises(CrashError):
        world.tick(NOW + HOUR_MS)
    assert [message["service"] for message in world.sns.messages] == ["a"]

    # WHEN the next one comes a moment later, THEN it sends what was not claimed yet
    world.tick(NOW + HOUR_MS + 1)
    assert [message["service"] for message in world.sns.messages] == ["a", "b", "c"]


def test_what_a_tick_has_no_room_for_is_paged_by_the_next(world, monkeypatch):
    # GIVEN room for two episodes a tick, and three messages that failed
    monkeypatch.setattr(tick, "MAX_PAGED", 2)
    failed_pages(world)

    # WHEN / THEN ticks send two, one and none
    assert [world.tick(NOW + HOUR_MS + late)["sent"] for late in range(3)] == [2, 1, 0]
    assert [message["service"] for message in world.sns.messages] == ["a", "b", "c"]


def test_a_throttled_table_is_an_error_of_the_tick(world):
    # GIVEN a pending message and a table that refuses reads
    world.sns.failing = 1
    world.send(row(PAGING_CPU))
    world.dynamodb.failing_reads = 1

    # WHEN a tick comes, THEN it fails for the caller to see, and the next one makes it good
    with pytest.raises(TableError, match="cannot read yes from table"):
        world.tick(NOW + HOUR_MS)
    world.tick(NOW + HOUR_MS)
    assert notified_lines(world) == [[EPISODE]]


def test_a_table_that_is_throttled_at_the_claim_leaves_the_message_for_the_next_tick(world):
    # GIVEN a pending message and a table that refuses a write
    world.sns.failing = 1
    world.send(row(PAGING_CPU))
    world.dynamodb.failing = 1

    # WHEN ticks come, THEN the second sends it
    assert [world.tick(NOW + HOUR_MS + late)["sent"] for late in (0, 1)] == [0, 1]


def test_an_older_episode_keeps_its_place_when_a_newer_one_is_told():
    # GIVEN two incidents in one batch, of which the first message fails, and a state that knows the second
    world = backlogged()
    world.sns.failing = 1
    world.send(*incidents(0, SEVEN_HOURS))

    # WHEN the tick reports the first, THEN the state still says when the second was reported
    world.tick(NOW + HOUR_MS)
    state = world.dynamodb.state("web-1")
    assert (state["episode_id"], state["notified_ms"]) == (SEVEN_HOURS_LATER, NOW)

"""What a tick makes good: messages that were not sent, what is over, and episodes of which nothing is heard."""

from __future__ import annotations

import json

import pytest

from riskwatch_lambda import tick
from riskwatch_lambda.table import RegistryError
from tests.unit.lambda_.tiny import PERIOD_MS
from tests.unit.lambda_.world import (
    AN_HOUR,
    DONE,
    ELEVEN,
    EPISODE,
    HALF_AN_HOUR,
    HOUR_MS,
    NOW,
    PAGING_CPU,
    QUIET_CPU,
    TWO_HOURS,
    TWO_HOURS_LATER,
    CrashError,
    World,
    backlogged,
    incidents,
    row,
    told,
)

DAY_MS = 24 * HOUR_MS
NOTHING = {"sent": 0, "failed": 0, "held": 0, "expired": 0, "silent": 0, "open": 0}


@pytest.fixture
def world() -> World:
    return World()


def unfinished(world: World) -> list[str]:
    """Give the ids of the episodes that a tick still looks at."""
    return [item["episode_id"] for item in world.dynamodb.listed() if "unfinished" in item]


@pytest.mark.parametrize("crash", [False, True])
def test_the_tick_sends_an_older_message_that_failed_though_a_newer_one_went_out(crash):
    # GIVEN two incidents in one batch, of which the first message fails
    world = backlogged()
    world.sns.failing = 1
    event = world.event(*incidents(0, TWO_HOURS))
    if crash:
        # AND the process ends when the second is out and not yet marked
        world.crash()
        with pytest.raises(CrashError):
            world.handle(event)
    else:
        world.handle(event)
    assert told(world) == [[TWO_HOURS_LATER]]
    assert [item["notified"] for item in world.dynamodb.listed()] == ["pending", "pending" if crash else "sent"]

    # WHEN ticks come after exactly five minutes, a moment later, and again, in the morning after
    for late in (0, 1, DAY_MS):
        world.tick(NOW + 300_000 + late)

    # THEN the second tick sends what is pending, each episode once, and no item stays pending
    assert told(world)[1:] == [[EPISODE], [TWO_HOURS_LATER]][: 1 + crash]
    assert [item["notified"] for item in world.dynamodb.listed()] == ["sent", "sent"]
    # AND each end is told once
    assert sorted(each for message in told(world, "resolved") for each in message) == [EPISODE, TWO_HOURS_LATER]
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
    assert told(world) == [[EPISODE]]
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
    assert told(world) == [[EPISODE]]
    assert "over by now" in world.sns.messages[0]["text"]


@pytest.mark.parametrize("skew_ms", [-2 * HOUR_MS, 2 * HOUR_MS])
def test_a_clock_that_is_two_hours_off_delays_no_message(world, skew_ms):
    # GIVEN a message that failed in an environment whose clock is two hours off
    world.sns.failing = 1
    world.send(row(PAGING_CPU), now=NOW + skew_ms)

    # WHEN a tick comes in one whose clock is right, THEN it sends the message, once
    world.tick(ELEVEN + PERIOD_MS, wall=NOW)
    world.tick(ELEVEN + PERIOD_MS, wall=NOW + 1)
    assert told(world) == [[EPISODE]]


def test_a_replay_of_the_past_is_told_as_it_would_have_been_live(world):
    # GIVEN rows of a month ago, by the wall clock, and a message that fails
    later = NOW + 30 * DAY_MS
    world.sns.failing = 1
    world.send(row(PAGING_CPU), now=later)

    # WHEN ticks come whose rows reach 11:05, a moment and six minutes later by the wall clock
    for wall in (1, 360_000):
        world.tick(ELEVEN + PERIOD_MS, wall=later + wall)

    # THEN the second sends it, and the episode has not expired
    assert told(world) == [[EPISODE]]
    assert world.dynamodb.state("web-1")["status"] == "open"


def test_two_ticks_at_once_send_a_message_once(world):
    # GIVEN a message that failed
    world.sns.failing = 1
    world.send(row(PAGING_CPU))

    # WHEN another tick runs just before this one claims the message
    world.dynamodb.before_write = lambda: world.tick(NOW + HOUR_MS)
    world.tick(NOW + HOUR_MS, wall=NOW + HOUR_MS + 1)

    # THEN one message went out
    assert told(world) == [[EPISODE]]


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
    assert told(world) == [[EPISODE], [EPISODE]]
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
    assert told(world) == []
    world.tick(NOW + 300_001)
    assert told(world) == [[EPISODE]]


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
    monkeypatch.setattr(tick, "MOST_PAGED", 2)
    failed_pages(world)

    # WHEN / THEN ticks send two, one and none
    assert [world.tick(NOW + HOUR_MS + late)["sent"] for late in range(3)] == [2, 1, 0]
    assert [message["service"] for message in world.sns.messages] == ["a", "b", "c"]


def test_what_was_paged_is_told_to_be_over_once_and_together(world):
    # GIVEN two instances of a service whose episodes were told and closed, and one that goes on
    for at, cpu in enumerate([PAGING_CPU, QUIET_CPU, QUIET_CPU]):
        world.send(row(cpu, at), row(cpu, at, "web-2"), row(PAGING_CPU, at, "web-3"))

    # WHEN ticks come
    for late in (0, 1, HOUR_MS):
        world.tick(NOW + late)

    # THEN one message says so, and the third is still looked at
    assert told(world, "resolved") == [[EPISODE, EPISODE.replace("web-1", "web-2")]]
    message = world.sns.messages[-1]
    assert message["subject"] == "Riskwatch: shop: 2 instances are back to normal"
    assert message["attributes"] == {"event": "resolved", "service": "shop"}
    assert message["resolved"][0]["closed"] == "2026-11-22T11:10:00.000Z"
    assert "- web-1, back to normal: 2026-11-22 11:00 UTC to 2026-11-22 11:10 UTC, peak 2.00" in message["text"]
    assert unfinished(world) == [EPISODE.replace("web-1", "web-3")]


def test_an_end_that_could_not_be_told_is_told_later(world):
    # GIVEN an episode that is over, and a topic that fails
    world.send(*incidents(0))
    world.sns.failing = 1
    assert world.tick(NOW)["failed"] == 1

    # WHEN ticks come a moment later and when the claim is stale, THEN the second tells it
    assert world.tick(NOW + 1)["sent"] == 0
    assert world.tick(NOW + 300_001)["sent"] == 1
    assert told(world, "resolved") == [[EPISODE]]


def test_more_ends_than_a_message_holds_take_another_one(world):
    # GIVEN 120 episodes of a day, 30 of them told, and as many pages as there are
    world = backlogged()
    world.send(*incidents(*range(0, 720, 12)))
    assert len(told(world)) == 60

    # WHEN the tick comes, THEN every end has its line
    world.tick(NOW + 3 * DAY_MS)
    assert [len(ids) for ids in told(world, "resolved")] == [50, 10]
    assert {each for ids in told(world, "resolved") for each in ids} == {each for ids in told(world) for each in ids}


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
    assert "given up, no rows for a day" in world.sns.messages[-1]["text"]


def test_the_tick_goes_by_the_newest_row_at_any_age(world):
    # GIVEN two open episodes of 11:00, on pages that hold one item each; rows follow in one of them for five days
    world.dynamodb.page_size = 1
    world.send(row(PAGING_CPU), row(PAGING_CPU, instance="web-2"))
    world.dynamodb.set("web-2", last_ms={"N": str(ELEVEN + 5 * DAY_MS)})

    # WHEN ticks come a moment more than 24 hours after the newest row of each
    answers = [world.tick(ELEVEN + late * DAY_MS + 1) for late in (1, 6)]

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


def test_a_cooldown_that_an_episode_outlasts_is_paged_then(world):
    # GIVEN an episode told at 11:00 and over, and one of 11:30 that goes on
    world = backlogged()
    world.send(*incidents(0), *(row(PAGING_CPU, at) for at in range(HALF_AN_HOUR, AN_HOUR + 6)))
    second = "web-1@2026-11-22T11:30:00.000Z"
    assert told(world) == [[EPISODE]]

    # WHEN ticks come whose rows reach just below an hour after 11:00, the hour, and beyond
    for late in (HOUR_MS - 1, HOUR_MS, HOUR_MS + 1):
        world.tick(ELEVEN + late)

    # THEN the second one is told at the hour, once
    assert told(world) == [[EPISODE], [second]]
    assert world.dynamodb.state("web-1")["notified"] == "sent"


@pytest.mark.parametrize("newer", [False, True])
def test_an_index_that_lags_behind_makes_nobody_hear_twice(newer):
    # GIVEN an episode to send again, one that is over, and one that waits for the digest; maybe newer ones since
    world = World()
    world.sns.failing = 1
    world.send(*incidents(0))
    world.send(*[row(cpu, at, "web-2") for at, cpu in enumerate([PAGING_CPU, QUIET_CPU, QUIET_CPU, PAGING_CPU] * 2)])
    if newer:
        world.send(
            *[row(cpu, 30 + at, name) for name in ("web-1", "web-2") for at, cpu in enumerate([PAGING_CPU, 10, 10])]
        )
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


def test_a_throttled_table_is_an_error_of_the_tick(world):
    # GIVEN a pending message and a table that refuses reads
    world.sns.failing = 1
    world.send(row(PAGING_CPU))
    world.dynamodb.failing_reads = 1

    # WHEN a tick comes, THEN it fails for the caller to see, and the next one makes it good
    with pytest.raises(RegistryError, match="cannot read yes from table"):
        world.tick(NOW + HOUR_MS)
    world.tick(NOW + HOUR_MS)
    assert told(world) == [[EPISODE]]


def test_a_table_that_is_throttled_at_the_claim_leaves_the_message_for_the_next_tick(world):
    # GIVEN a pending message and a table that refuses a write
    world.sns.failing = 1
    world.send(row(PAGING_CPU))
    world.dynamodb.failing = 1

    # WHEN ticks come, THEN the second sends it
    assert [world.tick(NOW + HOUR_MS + late)["sent"] for late in (0, 1)] == [0, 1]


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


def test_an_older_episode_keeps_its_place_when_a_newer_one_is_told():
    # GIVEN two incidents in one batch, of which the first message fails, and a state that knows the second
    world = backlogged()
    world.sns.failing = 1
    world.send(*incidents(0, TWO_HOURS))

    # WHEN the tick tells the first, THEN the state still says of the second when it was told
    world.tick(NOW + HOUR_MS)
    state = world.dynamodb.state("web-1")
    assert (state["episode_id"], state["notified_ms"]) == (TWO_HOURS_LATER, NOW)

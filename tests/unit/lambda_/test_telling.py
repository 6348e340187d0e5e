"""What is told when: escalations, the daily budget and its digest, maintenance windows."""

from __future__ import annotations

import math
from typing import Any

import pytest

from riskwatch_lambda import handler
from riskwatch_lambda.budget import Limits
from riskwatch_lambda.episodes import worse
from riskwatch_lambda.handler import SetupError
from riskwatch_lambda.table import ConflictError
from tests.unit.lambda_.tiny import CPU, PERIOD_MS
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
    World,
    backlogged,
    incidents,
    row,
    told,
)

# Scores of 3.3 and 4, where the opening row has 2; the latter is high load, too.
NOT_TWICE_CPU, TWICE_CPU = CPU + math.e**3.3 - 1, CPU + math.e**4 - 1
NOON = ELEVEN + HOUR_MS
AT_NOON = Limits(service=1, fleet=1000, digest_hour=12)
LINES = ("opened", "escalated", "resolved")


def all_told(world: World, line: str) -> list[str]:
    """Give the episodes that have a line of a kind in any message."""
    return [each["episode_id"] for message in world.sns.messages for each in message[line]]


# --- Escalation -------------------------------------------------------------------------------------------------------


def test_an_open_episode_that_doubles_is_told_once_more_after_an_hour():
    # GIVEN an episode told at 11:00 with a score of 2
    world = backlogged()
    world.send(row(PAGING_CPU))

    # WHEN it reaches 4 within the hour, an hour after the message, and goes on so
    for at in (1, AN_HOUR - 1, AN_HOUR, AN_HOUR + 1, TWO_HOURS + 1):
        world.send(row(TWICE_CPU, at))

    # THEN one message says so, an hour after the first
    assert told(world, "escalated") == [[EPISODE]]
    message = world.sns.messages[-1]
    assert message["subject"] == "Riskwatch: shop: web-1 got worse"
    assert message["attributes"] == {"event": "escalated", "service": "shop", "risk": "Critical"}
    assert message["escalated"][0]["score"] == 4.0
    assert world.dynamodb.state("web-1")["told_peak"] == 4.0
    # AND its end is told once
    world.send(row(QUIET_CPU, TWO_HOURS + 2), row(QUIET_CPU, TWO_HOURS + 3))
    world.tick(NOW + 3 * HOUR_MS)
    assert [all_told(world, line) for line in LINES] == [[EPISODE]] * 3


def test_what_grows_less_than_twofold_is_not_told_again():
    # GIVEN an episode told with a score of 2, WHEN it goes on with 3.3, THEN nothing more is told
    world = backlogged()
    for at in (0, AN_HOUR, TWO_HOURS):
        world.send(row(PAGING_CPU if at == 0 else NOT_TWICE_CPU, at))
    assert len(world.sns.messages) == 1


@pytest.mark.parametrize(
    ("told_level", "level", "peak", "expected"),
    [
        ("Normal", "Normal", 3.99, False),
        ("Normal", "Normal", 4.0, True),
        ("Normal", "High Load", 2.0, True),
        ("High Load", "High Load", 2.0, False),
        ("Idle", "Normal", 2.0, False),
    ],
)
def test_worse_is_twice_the_score_or_high_load(told_level, level, peak, expected):
    # GIVEN what was told with a score of 2, WHEN / THEN
    assert worse(2.0, told_level, peak, level) is expected


def test_an_escalation_that_fails_is_sent_by_the_tick():
    # GIVEN an escalation whose message fails
    world = backlogged()
    world.send(row(PAGING_CPU))
    world.sns.failing = 1
    world.send(row(TWICE_CPU, AN_HOUR))

    # WHEN ticks come, THEN it is sent when its claim is stale, once
    for late in (300_000, 300_001, 700_000):
        world.tick(ELEVEN + TWO_HOURS * PERIOD_MS, wall=NOW + late)
    assert told(world, "escalated") == [[EPISODE]]


def test_an_escalation_beyond_the_budget_is_a_line_of_the_digest():
    # GIVEN a budget of one page a day, which the opening took
    world = backlogged(AT_NOON)
    world.send(row(PAGING_CPU))
    world.send(row(TWICE_CPU, AN_HOUR))
    world.send(row(TWICE_CPU, AN_HOUR + 1))
    assert len(world.sns.messages) == 1

    # WHEN ticks come until noon of the next day
    for hours in range(1, 26):
        world.tick(ELEVEN + hours * HOUR_MS)
        world.send(row(TWICE_CPU, hours * AN_HOUR))

    # THEN the digest has it, once
    assert all_told(world, "escalated") == [EPISODE]
    assert [message["event"] for message in world.sns.messages] == ["opened", "digest"]


# --- Budget and digest ------------------------------------------------------------------------------------------------


def test_beyond_the_daily_budget_pages_become_lines_of_the_digest():
    # GIVEN room for one page of a service a day, two instances that open at 11:00 and 11:30, and a second service
    world = World(limits=Limits(service=1, fleet=2, digest_hour=12))
    second = "web-2@2026-11-22T11:30:00.000Z"
    world.send(row(PAGING_CPU), row(PAGING_CPU, instance="web-3", service="other"))
    world.send(row(PAGING_CPU, HALF_AN_HOUR, "web-2"))

    # WHEN ticks come before noon and at noon
    answers = [world.tick(NOON + late)["sent"] for late in (-1, 0, 300_000)]

    # THEN the third is a line of one digest
    assert answers == [0, 1, 0]
    assert len(told(world)) == 2
    assert told(world, "digest") == [[second]]
    digest = world.sns.messages[-1]
    assert digest["subject"] == "Riskwatch: digest: 1 opened, 0 got worse, 0 over"
    assert digest["attributes"] == {"event": "digest", "service": "fleet"}
    assert "- web-2 since 2026-11-22 11:30 UTC, score 2.00, load Normal" in digest["text"]


def test_the_end_of_what_a_digest_told_is_a_line_of_the_next():
    # GIVEN an episode that a digest told at noon, and that ends at 12:10
    world = backlogged(Limits(service=0, digest_hour=12))
    world.send(row(PAGING_CPU))
    world.tick(NOON)
    world.send(row(QUIET_CPU, AN_HOUR + 1), row(QUIET_CPU, AN_HOUR + 2))

    # WHEN ticks come every hour for two days, THEN the end is told at the next noon, once
    for hours in range(1, 48):
        world.tick(NOON + hours * HOUR_MS)
    assert [message["event"] for message in world.sns.messages] == ["digest", "digest"]
    assert all_told(world, "opened") == all_told(world, "resolved") == [EPISODE]
    assert "unfinished" not in world.dynamodb.listed()[0]


def test_what_opened_and_ended_before_a_digest_has_both_lines_in_it():
    # GIVEN an episode told, and another one within its cool-down, both over
    world = backlogged(Limits(digest_hour=12))
    world.send(*incidents(0, HALF_AN_HOUR))
    second = "web-1@2026-11-22T11:30:00.000Z"

    # WHEN ticks come
    for hours in range(48):
        world.tick(ELEVEN + hours * HOUR_MS)

    # THEN each has one opening line and one end
    assert told(world, "digest") == [[second]]
    assert all_told(world, "opened") == all_told(world, "resolved") == [EPISODE, second]


def test_a_digest_can_be_asked_for():
    # GIVEN an episode that waits for the digest, WHEN it is asked for, THEN it comes
    world = backlogged(Limits(service=0, digest_hour=8))
    world.send(row(PAGING_CPU))
    assert world.tick(ELEVEN + PERIOD_MS)["sent"] == 0
    assert world.tick(ELEVEN + PERIOD_MS, digest=True)["sent"] == 1
    assert told(world, "digest") == [[EPISODE]]


def test_a_day_has_its_own_budget_in_the_time_of_the_rows():
    # GIVEN room for one page a day and a backlog of three days in one batch, with two incidents on each
    world = backlogged(Limits(service=1))
    day = 24 * AN_HOUR
    world.send(*incidents(0, 5 * AN_HOUR, day, day + 5 * AN_HOUR, 2 * day))

    # THEN each day has one page
    assert [ids[0][6:19] for ids in told(world)] == ["2026-11-22T11", "2026-11-23T11", "2026-11-24T11"]
    assert [item["notified"] for item in world.dynamodb.listed()] == ["sent", "budget", "sent", "budget", "sent"]


def test_the_cooldown_counts_what_was_sent_only():
    # GIVEN no page left for the service, and an episode that the budget held shortly before midnight
    world = backlogged(Limits(service=1))
    late = 12 * AN_HOUR + HALF_AN_HOUR
    world.send(*incidents(0))
    world.send(*incidents(late))
    assert world.dynamodb.state("web-1")["told_since_ms"] == ELEVEN

    # WHEN the instance opens again half an hour later, on the next day, THEN it is paged
    world.send(row(PAGING_CPU, late + HALF_AN_HOUR))
    assert told(world)[-1] == ["web-1@2026-11-23T00:00:00.000Z"]


def test_counters_that_cannot_be_written_leave_the_page_for_the_tick():
    # GIVEN a table that refuses the counter after the episode is written
    world = backlogged()
    world.dynamodb.before_write = lambda: setattr(world.dynamodb, "failing", 1)
    assert world.send(row(PAGING_CPU)) == DONE
    assert (world.sns.messages, world.dynamodb.state("web-1")["notified"]) == ([], "pending")

    # WHEN the tick comes, THEN it sends the page
    world.tick(NOW + HOUR_MS)
    assert told(world) == [[EPISODE]]


def test_a_message_that_fails_costs_no_page_of_the_budget():
    # GIVEN a budget of one page a day, and a topic that is down for twenty ticks
    world = backlogged(AT_NOON)
    world.sns.failing = 21
    world.send(row(PAGING_CPU))
    for n in range(1, 21):
        assert world.tick(ELEVEN + PERIOD_MS, wall=NOW + n * 600_000)["failed"] == 1

    # WHEN it is back
    world.tick(ELEVEN + PERIOD_MS, wall=NOW + 21 * 600_000)

    # THEN the page goes out as one, and the counters say one
    assert told(world) == [[EPISODE]]
    counters = [item["pages"] for key, item in world.dynamodb.items.items() if key[0] == "budget#2026-11-22"]
    assert counters == [{"N": "1"}, {"N": "1"}]


def test_a_page_that_cannot_be_given_back_is_told_all_the_same():
    # GIVEN a message that fails, and a table that fails when the page is to be given back
    world = backlogged()
    publish = world.sns.publish

    def fail(**message: Any) -> None:
        world.dynamodb.failing = 1
        world.sns.failing, world.sns.publish = 1, publish
        publish(**message)

    world.sns.publish = fail
    assert world.send(row(PAGING_CPU)) == DONE

    # WHEN a tick comes, THEN it sends the message
    world.tick(ELEVEN + PERIOD_MS, wall=NOW + 300_001)
    assert told(world) == [[EPISODE]]


def test_the_counters_expire():
    # GIVEN a page, WHEN it is counted, THEN fleet and service have it, to be removed a month later
    world = backlogged()
    world.send(row(PAGING_CPU))
    counters = {key: item for key, item in world.dynamodb.items.items() if key[0] == "budget#2026-11-22"}
    assert {sk: item["pages"]["N"] for (_, sk), item in counters.items()} == {"fleet": "1", "service#shop": "1"}
    assert {item["expires_s"]["N"] for item in counters.values()} == {str((ELEVEN + 30 * 24 * HOUR_MS) // 1000)}


@pytest.mark.parametrize(
    ("name", "value"),
    [("SERVICE_PAGES", "-1"), ("FLEET_PAGES", "many"), ("DIGEST_HOUR", "24"), ("DIGEST_HOUR", "")],
)
def test_a_budget_that_makes_no_sense_stops_the_function(monkeypatch, name, value):
    # GIVEN / WHEN / THEN
    monkeypatch.setenv(f"RISKWATCH_{name}", value)
    with pytest.raises(SetupError, match=f"RISKWATCH_{name} is"):
        handler._limits()


def test_the_budget_is_that_of_the_environment(monkeypatch):
    # GIVEN / WHEN / THEN
    assert handler._limits() == Limits(20, 100, 8)
    for name, value in (("SERVICE_PAGES", "3"), ("FLEET_PAGES", "7"), ("DIGEST_HOUR", "0")):
        monkeypatch.setenv(f"RISKWATCH_{name}", value)
    assert handler._limits() == Limits(3, 7, 0)


# --- Maintenance windows ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("scope", "name"), [("all", ""), ("service", "shop"), ("instance", "web-1")])
def test_what_opens_within_a_window_is_recorded_and_not_paged(scope, name):
    # GIVEN a window from 11:00 to 12:00, and an episode within it
    world = backlogged()
    window = world.window(scope, name, ELEVEN, NOON)
    world.send(*incidents(0))

    # WHEN ticks come for two days, THEN nobody hears of it, and it is on record with the window
    for hours in range(48):
        world.tick(ELEVEN + hours * HOUR_MS)
    assert world.sns.messages == []
    (listed,) = world.dynamodb.listed()
    assert (listed["notified"], listed["window_id"]) == ("maintenance", window.window_id)
    assert "unfinished" not in listed
    # AND the cool-down does not count it
    world.send(row(PAGING_CPU, AN_HOUR))
    assert told(world) == [["web-1@2026-11-22T12:00:00.000Z"]]


@pytest.mark.parametrize(
    ("scope", "name", "start", "end"),
    [
        ("service", "store", ELEVEN, NOON),
        ("instance", "web-2", ELEVEN, NOON),
        ("all", "", ELEVEN + 1, NOON),
        ("all", "", ELEVEN - HOUR_MS, ELEVEN),
    ],
)
def test_a_window_of_others_or_of_another_time_holds_nothing(scope, name, start, end):
    # GIVEN / WHEN / THEN
    world = backlogged()
    world.window(scope, name, start, end)
    world.send(row(PAGING_CPU))
    assert told(world) == [[EPISODE]]


def test_an_episode_that_outlasts_its_window_is_told_then():
    # GIVEN an episode that opens within a window and goes on
    world = backlogged()
    world.window("service", "shop", ELEVEN, NOON)
    world.send(row(PAGING_CPU))

    # WHEN ticks come before its end, at its end, and later
    for late in (-1, 0, 1, HOUR_MS):
        world.tick(NOON + late)
    world.send(row(QUIET_CPU, AN_HOUR), row(QUIET_CPU, AN_HOUR + 1))
    world.tick(NOON + 2 * HOUR_MS)

    # THEN it is told at the end, and its own end later
    assert [all_told(world, line) for line in LINES] == [[EPISODE], [], [EPISODE]]
    assert world.dynamodb.listed()[0]["window_id"]


def test_a_tick_of_the_past_releases_nothing_into_a_window():
    # GIVEN an episode that a window holds
    world = backlogged()
    world.window("service", "shop", ELEVEN, NOON)
    world.send(row(PAGING_CPU))

    # WHEN somebody streams a stretch of yesterday while the window is active, and it ends later
    world.tick(ELEVEN - 24 * HOUR_MS, wall=NOW)
    assert world.sns.messages == []
    world.tick(NOON, wall=NOW + HOUR_MS)

    # THEN the episode is told at the end
    assert told(world) == [[EPISODE]]


def test_a_window_that_is_removed_ends_then_and_stays_on_record():
    # GIVEN an episode within a window that somebody removes at 11:30
    world = backlogged()
    window = world.window("all", "", ELEVEN, NOON)
    world.send(row(PAGING_CPU))
    world.windows.remove(window, ELEVEN + HOUR_MS // 2, "grace")

    # WHEN the next tick comes, THEN it tells the episode
    world.tick(ELEVEN + HOUR_MS // 2 + 1)
    assert told(world) == [[EPISODE]]
    # AND the record says who did, and a second removal is refused
    (stored,) = world.windows.read()
    assert stored == window._replace(removed_ms=ELEVEN + HOUR_MS // 2, removed_by="grace")
    with pytest.raises(ConflictError):
        world.windows.remove(window, NOON, "ada")
    assert world.dynamodb.items["maintenance", window.window_id]["expires_s"]["N"] == str(NOON // 1000 + 90 * 86_400)


def test_a_window_id_that_is_taken_is_refused():
    # GIVEN / WHEN / THEN
    world = backlogged()
    window = world.window("all", "", ELEVEN, NOON)
    with pytest.raises(ConflictError):
        world.windows.add(window)


def test_what_outlasts_its_window_when_the_budget_is_used_up_waits_for_the_next_digest():
    # GIVEN room for one page, which is taken, and an episode that goes on when its window ends at noon
    world = World(limits=AT_NOON)
    world.send(row(PAGING_CPU, instance="web-2"))
    world.window("instance", "web-1", ELEVEN, NOON)
    world.send(row(PAGING_CPU))

    # WHEN ticks come at noon, after it, and at the next noon
    for late in (0, 300_000, 23 * HOUR_MS):
        world.tick(NOON + late)
    assert told(world, "digest") == []
    world.tick(NOON + 24 * HOUR_MS)

    # THEN the next digest has it, once
    assert told(world, "digest") == [[EPISODE]]


def test_an_escalation_within_a_window_waits_for_its_end():
    # GIVEN an episode that was told, and that doubles within a window
    world = backlogged()
    world.send(row(PAGING_CPU))
    world.window("all", "", NOON, NOON + HOUR_MS)
    world.send(row(TWICE_CPU, AN_HOUR))
    assert told(world, "escalated") == []

    # WHEN it is as bad after the window, THEN it is told
    world.send(row(TWICE_CPU, TWO_HOURS))
    assert told(world, "escalated") == [[EPISODE]]


def test_an_escalation_within_a_second_window_is_held_too():
    # GIVEN an episode that outlasted a window and was told, and that doubles in another window
    world = backlogged()
    world.window("all", "", ELEVEN, ELEVEN + 1)
    world.send(row(PAGING_CPU))
    world.tick(ELEVEN + PERIOD_MS)
    assert told(world) == [[EPISODE]]
    world.window("all", "", NOON, NOON + 2 * HOUR_MS)

    # WHEN / THEN
    world.send(row(TWICE_CPU, TWO_HOURS))
    assert told(world, "escalated") == []


def test_a_held_cooldown_does_not_end_within_a_window():
    # GIVEN an episode held by the cool-down, and a window in which the cool-down ends
    world = backlogged()
    world.send(*incidents(0), row(PAGING_CPU, HALF_AN_HOUR))
    world.window("all", "", NOON - 1, NOON + HOUR_MS)

    # WHEN ticks come within the window and at its end, THEN it is told at the end
    assert [world.tick(moment)["sent"] for moment in (NOON, NOON + HOUR_MS)] == [1, 1]
    assert [message["event"] for message in world.sns.messages] == ["opened", "resolved", "opened"]


def test_windows_that_cannot_be_read_leave_the_page_for_the_tick():
    # GIVEN a table that refuses to give the windows, after the batch has read its states
    world = backlogged()
    world.dynamodb.before_write = lambda: setattr(world.dynamodb, "failing_reads", 1)
    assert world.send(row(PAGING_CPU)) == DONE
    assert world.sns.messages == []

    # WHEN the tick comes, THEN it sends the page
    world.tick(NOW + HOUR_MS)
    assert told(world) == [[EPISODE]]


def test_a_quiet_batch_asks_for_no_windows():
    # GIVEN a table that refuses every query, WHEN a batch without openings comes, THEN nothing is asked
    world = backlogged()
    world.dynamodb.query = None
    assert world.send(row(QUIET_CPU), row(QUIET_CPU, instance="web-2")) == DONE


def test_the_hour_of_two_incidents_is_paged_twice():
    # GIVEN two incidents two hours apart WHEN both are told THEN each has opening and end, and nothing is left
    world = backlogged()
    world.send(*incidents(0, TWO_HOURS))
    world.tick(NOW + 3 * HOUR_MS)
    assert [all_told(world, line) for line in LINES] == [[EPISODE, TWO_HOURS_LATER], [], [EPISODE, TWO_HOURS_LATER]]

"""Maintenance windows: what opens within one is recorded, held, and paged when it ends."""

from __future__ import annotations

import pytest

from riskwatch_lambda.table import ConflictError
from tests.support.tiny import PERIOD_MS
from tests.support.world import (
    AN_HOUR,
    AT_NOON,
    DONE,
    ELEVEN,
    EPISODE,
    HALF_AN_HOUR,
    HOUR_MS,
    LINES,
    NOON,
    NOW,
    PAGING_CPU,
    QUIET_CPU,
    TWICE_CPU,
    TWO_HOURS,
    World,
    all_told,
    backlogged,
    incidents,
    notified_lines,
    put_in_cooldown,
    row,
)


@pytest.mark.parametrize(("scope", "name"), [("all", ""), ("service", "shop"), ("instance", "web-1")])
def test_what_opens_within_a_window_is_recorded_and_not_paged(scope, name):
    # GIVEN a window from 11:00 to 12:00, and an episode within it
    world = backlogged()
    window = world.window(scope, name, ELEVEN, NOON)
    world.send(*incidents(0))

    # WHEN ticks come for two days, THEN no message is sent, and it is on record with the window
    for hours in range(48):
        world.tick(ELEVEN + hours * HOUR_MS)
    assert world.sns.messages == []
    (listed,) = world.dynamodb.listed()
    assert (listed["notified"], listed["window_id"]) == ("maintenance", window.window_id)
    assert "unfinished" not in listed
    # AND the cool-down does not count it
    world.send(row(PAGING_CPU, AN_HOUR))
    assert notified_lines(world) == [["web-1@2026-11-22T12:00:00.000Z"]]


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
    assert notified_lines(world) == [[EPISODE]]


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

    # THEN it is reported at the end, and its own end later
    assert [all_told(world, line) for line in LINES] == [[EPISODE], [], [EPISODE]]
    assert world.dynamodb.listed()[0]["window_id"]


def test_a_tick_of_the_past_releases_nothing_into_a_window():
    # GIVEN an episode that a window holds
    world = backlogged()
    world.window("service", "shop", ELEVEN, NOON)
    world.send(row(PAGING_CPU))

    # WHEN rows of yesterday are streamed while the window is active, and it ends later
    world.tick(ELEVEN - 24 * HOUR_MS, wall=NOW)
    assert world.sns.messages == []
    world.tick(NOON, wall=NOW + HOUR_MS)

    # THEN the episode is reported at the end
    assert notified_lines(world) == [[EPISODE]]


def test_a_window_that_is_removed_ends_then_and_stays_on_record():
    # GIVEN an episode within a window that an operator removes at 11:30
    world = backlogged()
    window = world.window("all", "", ELEVEN, NOON)
    world.send(row(PAGING_CPU))
    world.windows.remove(window, ELEVEN + HOUR_MS // 2, "grace")

    # WHEN the next tick comes, THEN it pages the episode
    world.tick(ELEVEN + HOUR_MS // 2 + 1)
    assert notified_lines(world) == [[EPISODE]]
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
    assert notified_lines(world, "digest") == []
    world.tick(NOON + 24 * HOUR_MS)

    # THEN the next digest has it, once
    assert notified_lines(world, "digest") == [[EPISODE]]


def test_an_escalation_within_a_window_waits_for_its_end():
    # GIVEN an episode that was reported, and that doubles within a window
    world = backlogged()
    world.send(row(PAGING_CPU))
    world.window("all", "", NOON, NOON + HOUR_MS)
    world.send(row(TWICE_CPU, AN_HOUR))
    assert notified_lines(world, "escalated") == []

    # WHEN it is as bad after the window, THEN it is reported
    world.send(row(TWICE_CPU, TWO_HOURS))
    assert notified_lines(world, "escalated") == [[EPISODE]]


def test_an_escalation_within_a_second_window_is_held_too():
    # GIVEN an episode that outlasted a window and was reported, and that doubles in another window
    world = backlogged()
    world.window("all", "", ELEVEN, ELEVEN + 1)
    world.send(row(PAGING_CPU))
    world.tick(ELEVEN + PERIOD_MS)
    assert notified_lines(world) == [[EPISODE]]
    world.window("all", "", NOON, NOON + 2 * HOUR_MS)

    # WHEN / THEN
    world.send(row(TWICE_CPU, TWO_HOURS))
    assert notified_lines(world, "escalated") == []


def test_a_held_cooldown_does_not_end_within_a_window():
    # GIVEN an episode that the cool-down of an earlier release holds, and a window in which the cool-down ends
    world = backlogged()
    world.send(row(PAGING_CPU, HALF_AN_HOUR))
    put_in_cooldown(world, "web-1", ELEVEN)
    world.window("all", "", NOON - 1, NOON + HOUR_MS)

    # WHEN ticks come within the window and at its end, THEN it is reported at the end
    assert [world.tick(moment)["sent"] for moment in (NOON, NOON + HOUR_MS)] == [0, 1]
    assert [message["event"] for message in world.sns.messages] == ["opened", "opened"]


def test_windows_that_cannot_be_read_leave_the_page_for_the_tick():
    # GIVEN a table that refuses to give the windows, after the batch has read its states
    world = backlogged()
    world.dynamodb.before_write = lambda: setattr(world.dynamodb, "failing_reads", 1)
    assert world.send(row(PAGING_CPU)) == DONE
    assert world.sns.messages == []

    # WHEN the tick comes, THEN it sends the page
    world.tick(NOW + HOUR_MS)
    assert notified_lines(world) == [[EPISODE]]


def test_a_quiet_batch_asks_for_no_windows():
    # GIVEN a table that refuses every query, WHEN a batch without openings comes, THEN nothing is asked
    world = backlogged()
    world.dynamodb.query = None
    assert world.send(row(QUIET_CPU), row(QUIET_CPU + 1)) == DONE

"""Episodes that rows of the future have poisoned before such rows were refused: closed, and their times cut back."""

from __future__ import annotations

import pytest

from tests.support.tiny import PERIOD_MS
from tests.support.world import (
    DAY_MS,
    ELEVEN,
    HOUR_MS,
    NOW,
    PAGING_CPU,
    QUIET_CPU,
    TWICE_CPU,
    World,
    all_told,
    incidents,
    notified_lines,
    row,
    unfinished,
)

FUTURE = 120 * DAY_MS // PERIOD_MS
POISONED = "web-1@2027-03-22T11:00:00.000Z"
TODAY = "web-1@2026-11-22T11:05:00.000Z"


def poison(world: World, *records: dict) -> None:
    """Let rows of the future through, as earlier releases did: they arrive in the future."""
    for record in records:
        world.send(record)
    world.wall = NOW


@pytest.mark.parametrize("is_repaired_by", ["tick", "batch"])
@pytest.mark.parametrize("rows", [1, 3], ids=["open", "closed"])
def test_a_poisoned_instance_is_paged_again(world, is_repaired_by, rows):
    # GIVEN an episode that a row of the future opened, and maybe rows of the future closed
    poison(world, *[row(cpu, FUTURE + at) for at, cpu in enumerate([PAGING_CPU, QUIET_CPU, QUIET_CPU][:rows])])
    assert notified_lines(world) == [[POISONED]]

    # WHEN a tick comes, or none, and a harmful row of today
    if is_repaired_by == "tick":
        world.tick(NOW)
    world.send(row(PAGING_CPU, 1), now=NOW + PERIOD_MS)

    # THEN it opens an episode and is paged, and the poisoned one is closed in the list
    assert notified_lines(world) == [[POISONED], [TODAY]]
    status = {item["episode_id"]: item["status"] for item in world.dynamodb.listed()}
    assert status == {POISONED: "closed", TODAY: "open"}
    assert world.dynamodb.state("web-1")["since_ms"] == ELEVEN + PERIOD_MS
    # AND its page is ended once, with the reason, in the ticks that follow
    for late in (1, 2):
        world.tick(NOW + late * PERIOD_MS)
    assert all_told(world, "resolved") == [POISONED]
    assert unfinished(world) == [TODAY]
    if rows == 1:
        (message,) = [message for message in world.sns.messages if message["event"] == "resolved"]
        assert "closed, its rows were ahead of the clock" in message["text"]


def test_what_was_not_paged_is_a_line_of_the_daily_summary(world):
    # GIVEN a poisoned episode that could not be paged
    world.sns.failing = 1
    poison(world, row(PAGING_CPU, FUTURE))

    # WHEN ticks come, and the hour of the summary passes, THEN no message says opened or resolved
    world.tick(NOW)
    assert world.sns.messages == []
    for late in (1, 2, 3):
        world.tick(NOW + late * DAY_MS)
    assert {message["event"] for message in world.sns.messages} == {"digest"}
    assert notified_lines(world, "digest") == [[POISONED]]
    assert unfinished(world) == []


def test_an_episode_of_today_that_a_row_of_the_future_continued_is_closed(world):
    # GIVEN an episode of today, which a row of the future keeps from ending
    world.send(row(PAGING_CPU))
    poison(world, row(PAGING_CPU, FUTURE))

    # WHEN a tick comes
    world.tick(NOW)

    # THEN it is over now, and a row that follows and is more severe opens
    state = world.dynamodb.state("web-1")
    assert (state["status"], state["closed_ms"], state["last_ms"]) == ("closed", NOW, ELEVEN)
    world.send(row(TWICE_CPU, 1))
    assert world.dynamodb.state("web-1")["episode_id"] == TODAY


def test_an_episode_without_data_is_found_again(world):
    # GIVEN an instance that a wrong clock found without data in the future
    world.tick(NOW + 121 * DAY_MS, [["web-1", "shop", NOW + 120 * DAY_MS]])

    # WHEN a tick of today names it THEN it opens today, and is paged
    last_ms = NOW - HOUR_MS
    world.tick(NOW, [["web-1", "shop", last_ms]])
    assert world.dynamodb.items["instance#web-1", "silent"]["since_ms"] == {"N": str(last_ms)}
    assert [len(ids) for ids in notified_lines(world)] == [1, 1]


def test_an_episode_that_is_right_is_left_alone_by_a_slow_clock_and_a_late_delivery(world):
    # GIVEN an open episode WHEN rows of it come while the clock of the function is two hours slow, or come again late
    first = world.event(row(PAGING_CPU))
    world.handle(first, NOW - 2 * HOUR_MS)
    world.send(*(row(PAGING_CPU, at) for at in range(1, 7)), now=NOW - 2 * HOUR_MS)
    world.handle(first, NOW + HOUR_MS)
    world.tick(NOW + HOUR_MS, wall=NOW - 2 * HOUR_MS)

    # THEN it goes on
    (listed,) = world.dynamodb.listed()
    assert (listed["status"], world.dynamodb.state("web-1")["status"]) == ("open", "open")


def test_a_closed_episode_is_not_told_again(world):
    # GIVEN an episode of today that is over and told WHEN ticks come THEN nothing is repaired
    world.send(*incidents(0))
    world.tick(NOW + HOUR_MS)
    before = dict(world.dynamodb.items)
    world.tick(NOW + HOUR_MS + PERIOD_MS)
    assert world.dynamodb.items == before

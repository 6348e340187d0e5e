"""A missing metric is counted and named, and a row without it does not close an episode that it opened."""

from __future__ import annotations

import copy
import json
import math
from typing import Any

import pytest

from tests.support import tiny
from tests.support.tiny import CPU, NET, PERIOD_MS, E
from tests.support.world import (
    DAY_MS,
    ELEVEN,
    EPISODE,
    NOON,
    PAGING_CPU,
    QUIET_CPU,
    World,
    backlogged,
    row,
)

EXHAUSTED_CPU = 96.0


def incomplete(at: int, cpu: float | None = None, net: float | None = NET) -> dict[str, Any]:
    """Give a record of one row, ``at`` periods after 11:00, with a metric missing."""
    return tiny.stream_record([[cpu, net]], last_ms=ELEVEN + at * PERIOD_MS)


@pytest.fixture
def world() -> World:
    return backlogged()


def opened_by(world: World) -> dict[str, list[str]]:
    items = [item for item in world.dynamodb.items.values() if "opened_by" in item and "revision" in item]
    return {item["instance_id"]["S"]: json.loads(item["opened_by"]["S"]) for item in items}


def alerts(world: World) -> list[bool]:
    return [label["alert"] for label in sorted(world.s3.lines("labelled/"), key=lambda label: label["timestamp"])]


def test_missing_metrics_are_named_in_the_row_and_counted(world, capsys):
    # GIVEN / WHEN rows with all metrics, one and none
    world.send(row(QUIET_CPU), incomplete(1), incomplete(2, net=None))

    # THEN each row names what it lacks, and the batch counts it
    assert [label["missing"] for label in world.s3.lines("labelled/")] == [[], ["cpu"], ["cpu", "net"]]
    metrics = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (metrics["ValuesKept"], metrics["ValuesMissing"], metrics["RowsIncomplete"]) == (3, 3, 2)


def test_rows_without_the_metric_that_opened_an_episode_do_not_close_it(world):
    # GIVEN an episode that cpu opened, and a quiet row
    world.send(row(PAGING_CPU), row(QUIET_CPU, 1))

    # WHEN cpu is missing for an hour, in a batch and in batches of their own
    world.send(*(incomplete(at) for at in range(2, 8)))
    for at in range(8, 14):
        world.send(incomplete(at))

    # THEN the episode goes on, and the next quiet row with cpu closes it: it is the second one
    assert alerts(world) == [True] * 14
    world.send(row(QUIET_CPU, 14), now=NOON)
    assert alerts(world) == [True] * 14 + [False]
    assert [item["status"] for item in world.dynamodb.listed()] == ["closed"]


def test_a_refused_value_is_as_good_as_none(world):
    # GIVEN an episode that cpu opened, WHEN cpu is impossible from then on, THEN it goes on
    world.send(row(PAGING_CPU), *(incomplete(at, cpu=288.0) for at in range(1, 5)))
    assert alerts(world) == [True] * 5


def test_rows_without_another_metric_close_it(world):
    # GIVEN an episode that cpu opened, WHEN net is missing from then on, THEN two quiet rows end it
    world.send(row(PAGING_CPU), *(incomplete(at, QUIET_CPU, None) for at in range(1, 4)))
    assert alerts(world) == [True, True, False, False]


def test_a_row_that_pages_for_another_metric_goes_on_with_the_episode(world):
    # GIVEN an episode that cpu opened, and a quiet row, WHEN net pages while cpu is missing
    far_net = NET + 10 * (E + 1) ** 2
    world.send(row(PAGING_CPU), row(QUIET_CPU, 1), incomplete(2, None, far_net), row(QUIET_CPU, 3))

    # THEN the quiet rows are counted from there
    assert alerts(world) == [True] * 4


def test_an_exhausted_metric_must_be_there_to_end_the_episode():
    # GIVEN an episode that an exhausted cpu opened, where net carries the score
    world = backlogged()
    world.send(tiny.stream_record([[EXHAUSTED_CPU, NET + 10 * math.e**9]], last_ms=ELEVEN))
    assert [reason["feature"] for reason in world.s3.lines("labelled/")[0]["reasons"]] == ["cpu", "net"]

    # THEN cpu opened it, too, and the rows without it do not close it
    assert opened_by(world) == {"web-1": ["cpu", "net"]}
    world.send(*(incomplete(at) for at in range(1, 4)))
    assert alerts(world) == [True] * 4


def test_an_episode_expires_a_day_after_the_last_row_that_could_close_it(world):
    # GIVEN an episode whose metric stays away, while other metrics come
    world.send(row(PAGING_CPU))
    last = ELEVEN + DAY_MS
    world.send(tiny.stream_record([[None, NET]], last_ms=last), now=last)
    assert world.tick(last)["open"] == 1

    # WHEN a day is over, THEN it expires
    assert world.tick(last + PERIOD_MS)["expired"] == 1
    assert "closed, no data on cpu for 24 h" in world.sns.messages[-1]["text"]
    assert [(item["episode_id"], item["status"]) for item in world.dynamodb.listed()] == [(EPISODE, "closed")]


def test_a_second_delivery_of_such_a_row_changes_nothing(world):
    # GIVEN an episode, and a row without its metric
    world.send(row(PAGING_CPU))
    event = world.event(incomplete(1))
    world.handle(event)
    before = copy.deepcopy(world.dynamodb.items)

    # WHEN it comes again, THEN nothing is written
    world.handle(event)
    assert world.dynamodb.items == before


def test_an_episode_of_an_earlier_release_closes_as_it_did(world):
    # GIVEN an open episode whose item does not say what opened it
    world.send(row(PAGING_CPU))
    for item in world.dynamodb.items.values():
        item.pop("opened_by", None)

    # WHEN two rows without cpu come, THEN it is closed
    world.send(incomplete(1), incomplete(2))
    assert alerts(world) == [True, True, False]


def test_the_metric_with_the_larger_part_of_the_distance_is_the_one_that_opened_it():
    # GIVEN / WHEN a row in which net is farther than cpu, and one in which cpu is
    world = World()
    world.send(tiny.stream_record([[CPU + 2 * E, NET + 200 * E]], last_ms=ELEVEN))
    world.send(tiny.stream_record([[CPU + 20 * E, NET + 10 * E]], "web-2", last_ms=ELEVEN))

    # THEN
    assert opened_by(world) == {"web-1": ["net"], "web-2": ["cpu"]}

"""Rows that come again, come late or are old: they are labelled, and decide nothing."""

from __future__ import annotations

import json

import pytest

from riskwatch_lambda.arrival import OLD_LIMIT_MS
from riskwatch_lambda.clock import iso
from riskwatch_lambda.episodes.seen import encode
from tests.support import tiny
from tests.support.tiny import CPU, NET, PERIOD_MS
from tests.support.world import (
    DAY_MS,
    DONE,
    ELEVEN,
    EPISODE,
    INSTANCES,
    NOW,
    PAGING_CPU,
    QUIET_CPU,
    World,
    all_told,
    notified_lines,
    row,
)


def _strict():
    """Give a model for which the usual rows page."""
    return tiny.model({"center": [tiny.baseline(1, 10)] * 3}, baselines=INSTANCES, model_id="tiny-2")


def _day_rows(count, step_ms, newest_ms):
    """Give a pack with rows of web-1, a step apart."""
    ts = [newest_ms - step_ms * back for back in reversed(range(count))]
    columns = [[CPU] * count, [NET] * count]
    entry = {"id": "web-1", "role": "web", "newest": count, "ts": ts, "columns": columns}
    return {"v": 2, "service": "shop", "features": ["cpu", "net"], "instances": [entry]}


def test_rows_that_come_again_after_a_model_swap_page_nobody():
    # GIVEN two hours of quiet rows of an instance that never had an episode
    world = World()
    rows = [row(QUIET_CPU, at) for at in range(24)]
    for sent in rows:
        assert world.send(sent) == DONE

    # WHEN they are sent again, and a new model finds them unusual
    world.model = _strict()
    assert world.send(*rows) == DONE
    world.tick(world.wall, [])

    # THEN the second verdicts open, page and resolve nothing
    labels = world.s3.lines("labelled/")
    assert len(labels) == 48
    assert [label["alert"] for label in labels] == [False] * 48
    assert world.sns.messages == []
    assert world.dynamodb.listed() == []
    # AND the next new row is judged as ever
    world.send(row(QUIET_CPU, 24))
    assert notified_lines(world) == [[f"web-1@{iso(ELEVEN + 24 * PERIOD_MS)}"]]


def test_rows_that_come_again_neither_end_nor_escalate_an_episode():
    # GIVEN an open episode whose newest rows lack the metric that opened it
    world = World()
    world.send(row(PAGING_CPU), *(tiny.stream_record([[None, NET]], last_ms=ELEVEN + n * PERIOD_MS) for n in (1, 2, 3)))

    # WHEN these rows come again, complete and quiet
    world.send(*(row(QUIET_CPU, n) for n in (1, 2, 3)))

    # THEN the episode goes on, and the rows lie in it
    assert world.dynamodb.state("web-1")["status"] == "open"
    assert {label["episode_id"] for label in world.s3.lines("labelled/")} == {EPISODE}


def test_new_rows_of_a_catch_up_open_episodes_whatever_other_instances_have_sent():
    # GIVEN a fleet whose rows are up to date, all of one service but one instance, whose account could not be read
    world = World()
    world.send(*(row(QUIET_CPU, at, "web-2") for at in range(60)))

    # WHEN its rows of five hours come late THEN they page
    arrived = ELEVEN + 61 * PERIOD_MS
    rows = [row(cpu, at) for at, cpu in enumerate([QUIET_CPU, PAGING_CPU, PAGING_CPU])]
    world.handle(world.event(*rows, arrived_ms=arrived), arrived)
    assert notified_lines(world) == [["web-1@2026-11-22T11:05:00.000Z"]]


@pytest.mark.parametrize(("late_ms", "pages"), [(0, 1), (1, 0)])
def test_a_row_is_too_old_to_page_a_day_and_six_hours_after_its_time(late_ms, pages):
    world = World()
    arrived = ELEVEN + OLD_LIMIT_MS + late_ms
    assert world.handle(world.event(row(PAGING_CPU), arrived_ms=arrived), arrived) == DONE
    assert len(world.sns.messages) == pages
    assert [label["alert"] for label in world.s3.lines("labelled/")] == [bool(pages)]
    assert [item["instance_id"] for item in world.dynamodb.listed()] == ["web-1"] * pages


def test_the_rows_of_25_years_read_no_more_days_than_the_same_rows_in_succession():
    # GIVEN an instance with an episode WHEN a pack with one row a day of 25 years comes, or with rows in succession
    queries = {}
    for step_ms in (DAY_MS, PERIOD_MS):
        world = World()
        world.send(row(PAGING_CPU))
        before = world.dynamodb.queries
        assert world.send(_day_rows(9000, step_ms, ELEVEN - PERIOD_MS)) == DONE
        assert len(world.s3.lines("labelled/")) == 9001
        queries[step_ms] = world.dynamodb.queries - before

    # THEN only the days within the limit are read
    assert queries[DAY_MS] <= queries[PERIOD_MS] <= 3


def test_a_mark_of_the_future_is_ignored():
    # GIVEN the mark of a row that an earlier clock accepted
    world = World()
    for part in range(4):
        key = "seen#shardId-000000000000", str(part)
        marks = {"B": encode({"web-1": ELEVEN + 365 * DAY_MS})}
        world.dynamodb.items[key] = {"pk": {"S": key[0]}, "sk": {"S": key[1]}, "rows": marks}
    world.send(row(PAGING_CPU))
    assert notified_lines(world) == [[EPISODE]]


def test_a_quiet_batch_writes_a_few_items_whatever_its_number_of_instances():
    names = {f"web-{number}": 2 for number in range(200)}
    world = World(tiny.model(baselines={"instances": names, "roles": {"web": 1}, "fleet": 0}))
    world.send(*(row(QUIET_CPU, 0, name) for name in names))
    assert world.dynamodb.writes <= 4
    # AND a batch that comes again writes nothing
    before = world.dynamodb.writes
    world.send(*(row(QUIET_CPU, 0, name) for name in names))
    assert world.dynamodb.writes == before


def test_marks_that_cannot_be_written_fail_no_batch(capsys):
    world = World()
    world.dynamodb.failing = 10
    assert world.send(row(QUIET_CPU)) == DONE
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["reason"][:18] for line in lines if line.get("event") == "newest rows not marked"] == [
        "cannot write table"
    ]


def test_an_episode_that_opened_is_told_over_once_though_its_rows_come_twice():
    world = World()
    rows = [row(cpu, at) for at, cpu in enumerate([PAGING_CPU, QUIET_CPU, QUIET_CPU])]
    world.send(*rows)
    world.model = _strict()
    world.send(*rows)
    world.tick(NOW + PERIOD_MS, [])
    assert (all_told(world, "opened"), all_told(world, "resolved")) == ([EPISODE], [EPISODE])
    assert [label["alert"] for label in world.s3.lines("labelled/")] == [True, True, False] * 2

"""A tick over episodes of two kinds: each follows the rule of its kind."""

from __future__ import annotations

import pytest

from riskwatch_lambda.events.tick import TickError
from tests.support import kinds, world
from tests.support.kinds import CARTS, EC2, ORDERS, PAGING, RDS
from tests.support.tiny import PERIOD_MS
from tests.support.world import ELEVEN, HOUR_MS, PAGING_CPU, World, notified_lines

MINUTE_MS = 60_000


def made() -> World:
    """Give a function whose databases have a cool-down of ten minutes, and its other instances one of an hour."""
    return World(kinds.model())


def flapping() -> World:
    """Give a function with an open episode of each kind, which an earlier release opened at 11:09 in a cool-down."""
    function = made()
    last_ms = ELEVEN + 9 * MINUTE_MS
    function.send({**world.row(PAGING_CPU), "ts": [last_ms]}, kinds.row(PAGING, last_ms=last_ms))
    for name in ("web-1", ORDERS):
        world.put_in_cooldown(function, name, ELEVEN)
    return function


def test_a_cool_down_ends_by_the_rule_of_the_kind():
    # GIVEN an open episode of each kind, held by a cool-down that began at 11:00
    function = flapping()
    before = len(function.sns.messages)

    # WHEN ticks come 11 and 61 minutes after the first pages
    function.tick(ELEVEN + 11 * MINUTE_MS)
    early = [line["instance_id"] for message in function.sns.messages[before:] for line in message["opened"]]
    function.tick(ELEVEN + 61 * MINUTE_MS)
    late = [line["instance_id"] for message in function.sns.messages[before:] for line in message["opened"]]

    # THEN the database is paged first
    assert (early, late) == ([ORDERS], [ORDERS, "web-1"])


def test_episodes_of_all_kinds_expire_and_resolve():
    # GIVEN an open episode of each kind
    function = made()
    function.send(world.row(PAGING_CPU), kinds.row(PAGING))

    # WHEN a tick comes more than a day later
    answer = function.tick(ELEVEN + 25 * HOUR_MS)

    # THEN both have expired, and the message about their ends names the kinds
    assert answer["expired"] == 2
    (message,) = [message for message in function.sns.messages if message["event"] == "resolved"]
    assert {line["instance_id"]: line["resource_kind"] for line in message["resolved"]} == {"web-1": EC2, ORDERS: RDS}


def test_a_group_spans_the_time_of_the_rule_of_its_kind():
    # GIVEN two openings of databases and two of others, each five minutes apart, in services of their own
    function = made()
    function.send(
        *(kinds.row(PAGING, at, name, service="data") for at, name in enumerate((ORDERS, CARTS))),
        *(world.row(PAGING_CPU, at, name) for at, name in enumerate(("web-1", "web-2"))),
    )

    # THEN those of databases, with a span of a minute, are two pages
    assert sorted(map(len, notified_lines(function))) == [1, 1, 2]


def test_the_caller_names_the_kind_of_an_instance_without_data():
    # GIVEN an instance of each kind that has sent nothing for long
    function = made()
    overdue = [[ORDERS, "shop", ELEVEN], ["web-1", "shop", ELEVEN]]
    request = {"now": ELEVEN + 6 * PERIOD_MS, "overdue": overdue, "kinds": {ORDERS: RDS}}

    # WHEN the tick names the kind of one
    function.handle({"tick": request}, ELEVEN + 6 * PERIOD_MS)

    # THEN its episode has it, and the other is of the first kind
    items = {item["instance_id"]: item.get("resource_kind") for item in function.dynamodb.listed()}
    assert items == {ORDERS: RDS, "web-1": None}
    assert {item["kind"] for item in function.dynamodb.listed()} == {"silent"}


def test_an_episode_of_a_kind_that_the_model_no_longer_has_ends():
    # GIVEN an open episode of a database WHEN a model without databases serves, and a day goes by
    function = made()
    function.send(kinds.row(PAGING))
    function.model = World().model
    answer = function.tick(ELEVEN + 25 * HOUR_MS)

    # THEN it ends as any other
    assert (answer["expired"], answer["failed"]) == (1, 0)
    assert function.outputs.repository.unfinished() == []


@pytest.mark.parametrize("named", [[], "rds", {ORDERS: 1}, {ORDERS: None}])
def test_kinds_that_are_not_understood_are_refused(named):
    # GIVEN / WHEN / THEN
    request = {"now": ELEVEN, "overdue": [[ORDERS, "shop", ELEVEN]], "kinds": named}
    with pytest.raises(TickError, match="kinds"):
        made().handle({"tick": request})

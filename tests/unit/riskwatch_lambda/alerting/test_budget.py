"""The daily budget of pages, its counters, and the digest of what it held back."""

from __future__ import annotations

from typing import Any

import pytest

from riskwatch_lambda import handler
from riskwatch_lambda.alerting.budget import Limits
from riskwatch_lambda.handler import SetupError
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
    SEVEN_HOURS,
    SEVEN_HOURS_LATER,
    World,
    all_told,
    backlogged,
    incidents,
    notified_lines,
    row,
    spent,
)


def test_beyond_the_daily_budget_pages_become_lines_of_the_digest():
    # GIVEN room for one page of a service a day, two instances that open at 11:00 and 11:30, and a second service
    world = World(limits=Limits(service=1, fleet=2, daily_summary_hour=12))
    second = "web-2@2026-11-22T11:30:00.000Z"
    world.send(row(PAGING_CPU), row(PAGING_CPU, instance="web-3", service="other"))
    world.send(row(PAGING_CPU, HALF_AN_HOUR, "web-2"))

    # WHEN ticks come before noon and at noon
    answers = [world.tick(NOON + late)["sent"] for late in (-1, 0, 300_000)]

    # THEN the third is a line of one digest
    assert answers == [0, 1, 0]
    assert len(notified_lines(world)) == 2
    assert notified_lines(world, "digest") == [[second]]
    digest = world.sns.messages[-1]
    assert digest["subject"] == "Riskwatch: daily summary: 1 opened, 0 got worse, 0 resolved"
    assert digest["attributes"] == {"event": "digest", "service": "fleet"}
    assert "- web-2 since 2026-11-22 11:30 UTC, score 2.00, load Normal" in digest["text"]


def test_the_end_of_what_a_digest_told_is_a_line_of_the_next():
    # GIVEN an episode in a digest at noon, and that ends at 12:10
    world = spent(daily_summary_hour=12)
    world.send(row(PAGING_CPU))
    world.tick(NOON)
    world.send(row(QUIET_CPU, AN_HOUR + 1), row(QUIET_CPU, AN_HOUR + 2))

    # WHEN ticks come every hour for two days, THEN the end is reported at the next noon, once
    for hours in range(1, 48):
        world.tick(NOON + hours * HOUR_MS)
    assert [message["event"] for message in world.sns.messages] == ["digest", "digest"]
    assert all_told(world, "opened") == all_told(world, "resolved") == [EPISODE]
    assert "unfinished" not in world.dynamodb.listed()[0]


def test_what_opened_and_ended_before_a_digest_has_both_lines_in_it():
    # GIVEN room for one page, an episode reported, and one of another instance, both over
    world = World(limits=Limits(1, 1000, daily_summary_hour=12))
    world.send(*incidents(0), *incidents(HALF_AN_HOUR, instance="web-2"))
    second = "web-2@2026-11-22T11:30:00.000Z"

    # WHEN ticks come
    for hours in range(48):
        world.tick(ELEVEN + hours * HOUR_MS)

    # THEN each has one opening line and one end
    assert notified_lines(world, "digest") == [[second]]
    assert all_told(world, "opened") == all_told(world, "resolved") == [EPISODE, second]


def test_a_digest_can_be_asked_for():
    # GIVEN an episode that waits for the digest, WHEN it is asked for, THEN it comes
    world = spent()
    world.send(row(PAGING_CPU))
    assert world.tick(ELEVEN + PERIOD_MS)["sent"] == 0
    assert world.tick(ELEVEN + PERIOD_MS, daily_summary=True)["sent"] == 1
    assert notified_lines(world, "digest") == [[EPISODE]]


def test_a_day_has_its_own_budget_in_the_time_of_the_rows():
    # GIVEN room for one page a day and a backlog of three days in one batch, with two incidents on each
    world = backlogged(Limits(1, 1000))
    day = 24 * AN_HOUR
    world.send(*incidents(0, SEVEN_HOURS, day, day + SEVEN_HOURS, 2 * day))

    # THEN each day has one page
    assert [ids[0][6:19] for ids in notified_lines(world)] == ["2026-11-22T11", "2026-11-23T11", "2026-11-24T11"]
    assert [item["notified"] for item in world.dynamodb.listed()] == ["sent", "budget", "sent", "budget", "sent"]


def test_the_last_report_of_an_instance_is_one_that_was_sent():
    # GIVEN room for one page, WHEN the budget mutes a second episode of an instance
    world = backlogged(Limits(1, 1000))
    late = 12 * AN_HOUR + HALF_AN_HOUR
    world.send(*incidents(0))
    world.send(row(PAGING_CPU, late))

    # THEN the state knows the opening that was sent
    state = world.dynamodb.state("web-1")
    assert (state["notified"], state["told_since_ms"]) == ("budget", ELEVEN)


def test_counters_that_cannot_be_written_leave_the_page_for_the_tick():
    # GIVEN a table that refuses the counter after the episode is written
    world = backlogged()
    world.dynamodb.before_write = lambda: setattr(world.dynamodb, "failing", 1)
    assert world.send(row(PAGING_CPU)) == DONE
    assert (world.sns.messages, world.dynamodb.state("web-1")["notified"]) == ([], "pending")

    # WHEN the tick comes, THEN it sends the page
    world.tick(NOW + HOUR_MS)
    assert notified_lines(world) == [[EPISODE]]


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
    assert notified_lines(world) == [[EPISODE]]
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
    assert notified_lines(world) == [[EPISODE]]


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
    assert handler._limits() == Limits(0, 0, 8)
    for name, value in (("SERVICE_PAGES", "3"), ("FLEET_PAGES", "7"), ("DIGEST_HOUR", "0")):
        monkeypatch.setenv(f"RISKWATCH_{name}", value)
    assert handler._limits() == Limits(3, 7, 0)


def test_two_incidents_are_paged_and_resolved_each():
    # GIVEN two incidents seven hours apart WHEN both are reported THEN each has opening and end, and nothing is left
    world = backlogged()
    world.send(*incidents(0, SEVEN_HOURS))
    world.tick(NOW + 8 * HOUR_MS)
    assert [all_told(world, line) for line in LINES] == [[EPISODE, SEVEN_HOURS_LATER], [], [EPISODE, SEVEN_HOURS_LATER]]

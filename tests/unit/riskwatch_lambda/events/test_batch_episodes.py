"""Episodes and messages of batches, against in-memory services with real conditions."""

from __future__ import annotations

import math

import pytest

from tests.support import tiny
from tests.support.tiny import CPU, PERIOD_MS
from tests.support.world import (
    AN_HOUR,
    DONE,
    ELEVEN,
    EPISODE,
    HALF_AN_HOUR,
    HOUR_MS,
    INSTANCES,
    NOW,
    PAGING_CPU,
    QUIET_CPU,
    SEVEN_HOURS,
    SEVEN_HOURS_LATER,
    TWICE_CPU,
    World,
    backlogged,
    held_openings,
    incidents,
    notified_lines,
    row,
)


@pytest.fixture
def world() -> World:
    return World()


def test_an_episode_opens_goes_on_and_closes_over_batches(world):
    # GIVEN a row a batch: page, quiet, page with a higher score, quiet, quiet
    for at, cpu in enumerate([PAGING_CPU, QUIET_CPU, CPU + math.e**3 - 1, QUIET_CPU, QUIET_CPU]):
        assert world.send(row(cpu, at)) == DONE

    # THEN alert holds from the opening row until before the closing one
    assert [label["alert"] for label in world.s3.lines("labelled/")] == [True] * 4 + [False]
    # AND state and list item have the same values of the closed episode
    state, (listed,) = world.dynamodb.state("web-1"), world.dynamodb.listed()
    assert (state["status"], state["episode_id"], state["peak"], state["below"]) == ("closed", EPISODE, 3.0, 2)
    assert (state["since_ms"], state["closed_ms"]) == (ELEVEN, ELEVEN + 4 * PERIOD_MS)
    assert (listed["pk"], listed["sk"]) == ("episodes#2026-11-22", "2026-11-22T11:00:00.000Z#web-1")
    same = set(listed) - {"pk", "sk", "message_id", "unfinished", "expires_s"}
    assert same == set(state) - {"pk", "sk", "recent", "revision", "openings"}
    assert {name: listed[name] for name in same} == {name: state[name] for name in same}
    # AND one message went out, for the opening
    assert len(world.sns.messages) == 1


def test_rows_of_one_batch_count_in_event_order_and_once(world):
    # GIVEN the rows of an episode out of order, one of them twice
    cpus = [PAGING_CPU, QUIET_CPU, QUIET_CPU]
    shuffled = [row(cpus[at], at) for at in (2, 1, 0, 1)]

    # WHEN they come in one batch
    world.send(*shuffled)

    # THEN the episode covers the first two times
    assert [label["alert"] for label in world.s3.lines("labelled/")] == [False, True, True, True]
    assert world.dynamodb.state("web-1")["closed_ms"] == ELEVEN + 2 * PERIOD_MS


def test_two_incidents_of_an_instance_seven_hours_apart_in_one_batch_are_both_told():
    # GIVEN a backlog with two incidents of an instance
    world = backlogged()
    event = world.event(*incidents(0, SEVEN_HOURS))

    # WHEN it comes, and comes again
    world.handle(event)
    items = repr(list(world.dynamodb.items.values()))
    world.handle(event, NOW + 60_000)

    # THEN each has its own message, once, and both are marked
    assert notified_lines(world) == [[EPISODE], [SEVEN_HOURS_LATER]]
    assert [item["notified"] for item in world.dynamodb.listed()] == ["sent", "sent"]
    state = world.dynamodb.state("web-1")
    assert (state["episode_id"], state["notified"], state["notified_ms"]) == (SEVEN_HOURS_LATER, "sent", NOW)
    assert repr(list(world.dynamodb.items.values())) == items
    # AND no opening is left for a tick, only that both are over
    assert world.tick(NOW + 8 * HOUR_MS)["sent"] == 1
    assert notified_lines(world, "resolved") == [[EPISODE, SEVEN_HOURS_LATER]]


def test_two_incidents_of_an_instance_half_an_hour_apart_in_one_batch_give_one_message(world):
    # GIVEN a backlog with two incidents within the cool-down, WHEN it comes
    world.send(*incidents(0, HALF_AN_HOUR))

    # THEN the first is an episode that is reported, and the second is held
    assert notified_lines(world) == [[EPISODE]]
    assert [item["notified"] for item in world.dynamodb.listed()] == ["sent"]
    (held,) = held_openings(world)
    assert (held.opening.outcome, held.opening.since_ms) == ("cooldown", ELEVEN + HALF_AN_HOUR * PERIOD_MS)
    # AND its rows are no alerts
    assert [label["alert"] for label in world.s3.lines("labelled/")] == [True, True, False] + [False] * 3


@pytest.mark.parametrize(
    ("role", "cpu", "alert"),
    [
        pytest.param("web", 99.0, True, id="exhausted and far beyond its role"),
        pytest.param("web", 40.0, True, id="far beyond its role"),
        pytest.param("web", 35.0, False, id="beyond the threshold, not beyond that of a new instance"),
        pytest.param("lab", 96.0, True, id="exhausted, of an unknown role"),
        pytest.param("lab", 80.0, False, id="far beyond the fleet, of an unknown role"),
    ],
)
def test_a_new_instance_pages_from_its_first_row_if_it_is_exhausted_or_far_beyond_its_role(world, role, cpu, alert):
    # GIVEN the first row of an instance without a baseline, its network as usual for the role web or for the fleet
    net = 300.0 if role == "web" else 500.0
    sent = row(cpu, instance="new-1")
    world.send({**sent, "role": role, "rows": [[cpu, net] for _ in sent["rows"]]})

    # THEN it is labelled, and an episode opens and a message goes out only if it matters
    (label,) = world.s3.lines("labelled/")
    assert (label["unusual"], label["alert"]) == (True, alert)
    assert len(world.sns.messages) == alert


def test_episodes_of_a_service_that_open_together_share_a_message(world):
    # GIVEN two instances of a service 10 minutes apart, one 20 minutes after the first, and one of another service
    world.model = tiny.model(
        baselines={"instances": {"web-1": 2, "web-2": 2, "web-3": 2, "db-1": 2}, "roles": {}, "fleet": 0}
    )

    # WHEN they open in one batch
    world.send(
        row(PAGING_CPU, 0),
        row(PAGING_CPU, 2, "web-2"),
        row(PAGING_CPU, 4, "web-3"),
        row(PAGING_CPU, 0, "db-1", service="store"),
    )

    # THEN the first two share a message; the one beyond 15 minutes and the other service have their own
    shared = [
        (message["service"], [each["instance_id"] for each in message["opened"]]) for message in world.sns.messages
    ]
    assert shared == [("shop", ["web-1", "web-2"]), ("shop", ["web-3"]), ("store", ["db-1"])]
    assert [message["subject"] for message in world.sns.messages] == [
        "Riskwatch: shop: 2 instances behave unusually",
        "Riskwatch: shop: web-3 behaves unusually",
        "Riskwatch: store: db-1 behaves unusually",
    ]
    assert {item["notified"] for item in world.dynamodb.listed()} == {"sent"}


def test_the_message_says_what_when_and_why(world):
    # GIVEN an episode, WHEN its message goes out
    world.send(row(PAGING_CPU))

    # THEN it carries what the contract names
    (message,) = world.sns.messages
    assert message["attributes"] == {"event": "opened", "service": "shop", "risk": "Critical"}
    assert (message["version"], message["event"], message["service"]) == (1, "opened", "shop")
    assert (message["model_id"], message["model_version"]) == ("tiny-1", "7")
    around = "since=2026-11-22T10%3A00%3A00.000Z&until=2026-11-22T12%3A00%3A00.000Z"
    assert message["link"] == f"https://link/riskwatch/?instance=web-1&exact=1&{around}"
    (opened,) = message["opened"]
    assert (opened["episode_id"], opened["since"], opened["score"]) == (EPISODE, "2026-11-22T11:00:00.000Z", 2.0)
    assert opened["reasons"][0] == {
        "feature": "cpu",
        "value": 16.39,
        "low": 7.0,
        "high": 13.0,
        "share": 1.0,
        "direction": "up",
    }
    assert "cpu 16.39, above the usual 7 to 13" in message["text"]


def test_an_opening_within_the_cooldown_is_held_until_it_gets_more_severe():
    # GIVEN an episode reported at NOW and closed
    world = backlogged()
    world.send(*incidents(0))

    # WHEN the instance opens again an hour later
    world.send(row(PAGING_CPU, AN_HOUR), now=NOW + 10 * HOUR_MS)

    # THEN it is held whatever the clock says, and the state still has the reported episode
    state = world.dynamodb.state("web-1")
    assert (state["status"], state["episode_id"], state["notified"]) == ("closed", EPISODE, "sent")
    assert [held.opening.outcome for held in held_openings(world)] == ["cooldown"]
    assert len(world.sns.messages) == 1

    # WHEN its score doubles, THEN it is an episode from there on, and is reported
    world.send(row(TWICE_CPU, AN_HOUR + 1))
    assert notified_lines(world) == [[EPISODE], ["web-1@2026-11-22T12:05:00.000Z"]]
    assert [held.opening.outcome for held in held_openings(world)] == ["paged"]


def test_a_conflict_is_decided_anew_on_what_is_stored(world):
    # GIVEN an open episode, and a writer who closes it just before the batch writes
    world.send(row(PAGING_CPU))

    def close() -> None:
        world.dynamodb.set("web-1", status={"S": "closed"}, closed_ms={"N": str(ELEVEN + 1)})

    world.dynamodb.before_write = close

    # WHEN the next paging row comes, more severe than the first
    assert world.send(row(TWICE_CPU, 1)) == DONE

    # THEN it has opened a new episode instead of going on with the closed one
    state = world.dynamodb.state("web-1")
    assert (state["status"], state["since_ms"], state["notified"]) == ("open", ELEVEN + PERIOD_MS, "sent")


def test_a_backlog_with_more_openings_than_a_transaction_holds_is_written_whole():
    # GIVEN 120 openings of one instance, three rows each, WHEN they come in one batch
    world = backlogged()
    assert world.send(*incidents(*range(0, 360, 3))) == DONE

    # THEN the first is an episode with a message, and all others are listed as held, with their ends
    assert [item["status"] for item in world.dynamodb.listed()] == ["closed"]
    assert notified_lines(world) == [[EPISODE]]
    held = [one for day in ("2026-11-22", "2026-11-23") for one in held_openings(world, day)]
    assert [one.opening.outcome for one in held] == ["cooldown"] * 119
    assert all(one.opening.end_ms == one.opening.since_ms + 2 * PERIOD_MS for one in held)


def test_more_than_a_hundred_instances_are_read_in_several_requests(world):
    # GIVEN 150 instances of one service that open at once
    names = [f"web-{number}" for number in range(150)]
    world.model = tiny.model(baselines={"instances": dict.fromkeys(names, 2), "roles": {}, "fleet": 0})

    # WHEN they come, THEN they share one message that lists 50 and counts the rest
    assert world.send(*[row(PAGING_CPU, instance=name) for name in names]) == DONE
    (message,) = world.sns.messages
    assert (len(message["opened"]), message["more"]) == (50, 100)
    assert {item["notified"] for item in world.dynamodb.listed()} == {"sent"}


def test_a_service_name_of_any_letters_gives_a_subject_that_sns_accepts(world):
    # GIVEN a long service name that is not ASCII, WHEN it is reported, THEN the subject is cut and plain
    world.send(row(PAGING_CPU, service="ü" * 120))
    assert world.sns.messages[0]["subject"].startswith("Riskwatch: ????")
    assert len(world.sns.messages[0]["subject"]) == 99


def test_with_two_of_three_the_first_page_is_remembered_between_batches():
    # GIVEN a rule of 2 of 3 rows
    rule = {**tiny.DOCUMENT["rule"], "m": 2, "n": 3}
    world = World(tiny.model(baselines=INSTANCES, rule=rule))

    # WHEN a page, a quiet row and a page come in three batches
    for at, cpu in enumerate([PAGING_CPU, QUIET_CPU, PAGING_CPU]):
        world.send(row(cpu, at))

    # THEN the episode opens at the third
    assert [label["alert"] for label in world.s3.lines("labelled/")] == [False, False, True]
    assert len(world.sns.messages) == 1

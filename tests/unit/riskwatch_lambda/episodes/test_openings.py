"""Openings in the table: memory and held opening of an instance, and the list of held openings."""

from __future__ import annotations

import json

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from riskwatch_lambda.clock import DAY_MS, HOUR_MS
from riskwatch_lambda.episode_rule import EpisodeState
from riskwatch_lambda.episodes.openings import (
    HeldOpening,
    held_key,
    held_values,
    memory_values,
    read_held,
    read_held_state,
    read_openings,
)
from riskwatch_lambda.episodes.repository import EpisodeRepository
from riskwatch_lambda.items import DamagedItem, DamagedItemError, parse_item
from riskwatch_lambda.paging_rule import (
    COOLING,
    FAMILIAR,
    OUTCOMES,
    PAGED,
    TRAINED,
    Familiar,
    Held,
    Opening,
    Signature,
)
from riskwatch_lambda.table import Table
from tests.support import tiny
from tests.support.openings import TEN, UP
from tests.support.tiny import NET, PERIOD_MS
from tests.support.world import ELEVEN, INSTANCES, PAGING_CPU, QUIET_CPU, World, notified_lines, row

LISTED = HeldOpening(
    *("web-1", "shop", "rds", Opening(UP, TEN, TEN + PERIOD_MS, 1.25, 0.0, FAMILIAR)), 1.5, 3, is_by_hour=True
)
GOING_ON = HeldOpening("web-1", "shop", "", Opening(UP, TEN, None, 1.25, 0.0, COOLING), 1.0)

_MS = st.integers(0, 253_402_300_799_999)
_REAL = st.floats(0, 1e6).map(lambda value: round(value, 6))
_OPENING = st.builds(
    Opening,
    st.builds(Signature, st.text(max_size=8), st.sampled_from(["up", "down", "exhausted"])),
    *(_MS, st.none() | _MS, _REAL, _REAL, st.sampled_from(OUTCOMES)),
)
_HELD = st.builds(
    Held,
    st.builds(
        EpisodeState,
        *(st.just(True), _MS, _MS, st.none(), st.integers(0, 5), st.just(0.0), st.just(())),
        st.lists(st.text(max_size=8), max_size=3).map(tuple),
        st.just(0),
    ),
    st.none() | st.builds(Familiar, _REAL, _MS, st.integers(0, 7), st.booleans()),
)


@given(st.none() | st.lists(_OPENING, max_size=32).map(tuple), st.none() | _HELD)
def test_memory_and_held_opening_are_read_as_written(memory, held):
    # GIVEN a memory and a held opening, or none
    assume(memory or held is None)
    values = memory_values(held, memory)

    # WHEN they are read, THEN they are the same; without any, the attributes are absent
    item = {name: value for name, value in values.items() if value is not None}
    assert (read_held_state(item), read_openings(item)) == (held, memory)
    assert set(item) == {name for name, value in (("held", held), ("openings", memory)) if value is not None}


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "[1]",
        "[[]]",
        '[["cpu","up",1,2,1.0,1.0]]',
        '[["cpu","up",1,2,1.0,1.0,"unknown"]]',
        '[[1,"up",1,2,1.0,1.0,"paged"]]',
        '[["cpu",null,1,2,1.0,1.0,"paged"]]',
        '[["cpu","up",-1,2,1.0,1.0,"paged"]]',
        '[["cpu","up",1.5,2,1.0,1.0,"paged"]]',
        '[["cpu","up",true,2,1.0,1.0,"paged"]]',
        '[["cpu","up",1,"2",1.0,1.0,"paged"]]',
        '[["cpu","up",1,2,"high",1.0,"paged"]]',
        '[["cpu","up",1,2,1.0,null,"paged"]]',
        '[["cpu","up",1,2,1.0,1.0,["paged"]]]',
        "[",
        "1",
        "null",
    ],
)
def test_a_damaged_memory_is_reported(text):
    # GIVEN an item whose memory no release writes, WHEN it is read
    damaged: list[DamagedItem] = []
    memory = parse_item({"openings": {"S": text}}, read_openings, damaged.append)

    # THEN it is reported, or it is an empty memory
    assert (memory, len(damaged)) in ((None, 1), ((), 0))
    assert damaged or text == "{}"


@pytest.mark.parametrize(
    "text",
    ["[]", "{}", "[1,2,0,[]]", "[1,2,0,[],[1.0]]", "[null,2,0,[],null]", '[1,"2",0,[],null]', "[1,2,0,1,null]", "1"],
)
def test_a_damaged_held_opening_is_reported(text):
    # GIVEN / WHEN / THEN
    damaged: list[DamagedItem] = []
    assert parse_item({"held": {"S": text}}, read_held_state, damaged.append) is None
    assert len(damaged) == 1


def test_attributes_that_are_no_texts_are_damaged():
    # GIVEN attributes of another type, WHEN they are read, THEN the error names them
    for name, read in (("openings", read_openings), ("held", read_held_state)):
        with pytest.raises(DamagedItemError, match=name):
            read({name: {"N": "1"}})


@pytest.mark.parametrize("held", [LISTED, GOING_ON], ids=["ended", "going on"])
def test_a_held_opening_of_the_list_is_read_as_written(held):
    # GIVEN a list item, WHEN it is read, THEN it is the same
    item = {name: value for name, value in held_values(held).items() if value is not None} | held_key(held)
    assert read_held(item) == held


def test_the_key_of_a_list_item_is_the_time_of_its_opening_and_the_instance():
    # GIVEN an opening at ten, WHEN / THEN
    assert held_key(LISTED) == {"pk": {"S": "held#2026-11-22"}, "sk": {"S": "2026-11-22T10:00:00.000Z#web-1"}}


def test_a_list_item_stays_for_thirty_days():
    # GIVEN an opening at ten, WHEN it is written, THEN the table deletes it 30 days later
    assert held_values(LISTED)["expires_s"] == {"N": str((TEN + 30 * DAY_MS) // 1000)}


DAMAGES = {
    "no time": lambda item: item.pop("since_ms"),
    "no peak": lambda item: item.pop("peak"),
    "no threshold": lambda item: item.pop("paging_threshold"),
    "no metric": lambda item: item.pop("metric"),
    "no instance": lambda item: item.pop("instance_id"),
    "an unknown outcome": lambda item: item.update(outcome={"S": "trained"}),
    "a peak that is no number": lambda item: item.update(peak={"N": "high"}),
    "too many days": lambda item: item.update(days={"N": "101"}),
    "a time with a fraction": lambda item: item.update(end_ms={"N": "1.5"}),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_list_item_is_reported(damage):
    # GIVEN a damaged item, WHEN it is read, THEN it is reported
    item = {name: value for name, value in held_values(LISTED).items() if value is not None}
    damage(item)
    damaged: list[DamagedItem] = []
    assert parse_item(item, read_held, damaged.append) is None
    assert len(damaged) == 1


# Everything unusual reaches the paging threshold.
LOW = {**tiny.DOCUMENT["rule"], "paging_threshold": 1.0}


def familiar_world() -> World:
    """Give a world in which web-1 has openings of cpu at eleven on the last two days, with a score of 2."""
    known = [["cpu", "up", (ELEVEN - days * DAY_MS) // 1000, 20, 1.1] for days in (2, 1)]
    return World(tiny.model(baselines=INSTANCES, openings={"web-1": known}, rule=LOW))


# A score of 1.1.
USUAL_CPU = tiny.CPU + 2.718281828459045**1.1 - 1


def usual(at: int, instance: str = "web-1") -> dict:
    """Give a row that opens at a familiar strength."""
    return tiny.stream_record([[USUAL_CPU, NET]], instance, last_ms=ELEVEN + at * PERIOD_MS)


def held_of(world: World) -> list[HeldOpening]:
    return EpisodeRepository(Table(world.dynamodb, "table")).held("2026-11-22")


def test_a_familiar_opening_is_listed_when_it_begins_and_when_it_ends():
    # GIVEN an instance whose openings at this hour are usual
    world = familiar_world()

    # WHEN it opens
    world.send(usual(0))

    # THEN it is listed, without an end, and neither paged nor an episode
    (held,) = held_of(world)
    assert held == HeldOpening(
        "web-1", "shop", "", Opening(UP, ELEVEN, None, pytest.approx(1.1), 0.0, FAMILIAR), 1.0, 2, is_by_hour=True
    )
    assert (notified_lines(world), world.dynamodb.listed()) == ([], [])

    # WHEN it ends, THEN the same item has the end
    world.send(row(QUIET_CPU, 1), row(QUIET_CPU, 2))
    (held,) = held_of(world)
    assert held.opening[1:3] == (ELEVEN, ELEVEN + 2 * PERIOD_MS)
    assert world.dynamodb.state("web-1")["status"] == "closed"


def test_a_familiar_opening_that_pages_is_listed_as_paged_and_is_an_episode():
    # GIVEN a familiar opening, WHEN it gets severe
    world = familiar_world()
    world.send(usual(0), row(PAGING_CPU, 1))

    # THEN the list says that it paged, and the episode names both times
    (held,) = held_of(world)
    assert (held.opening.outcome, held.opening.since_ms) == (PAGED, ELEVEN)
    (listed,) = world.dynamodb.listed()
    assert (listed["since_ms"], listed["opened_ms"]) == (ELEVEN + PERIOD_MS, ELEVEN)
    assert listed["paging_threshold"] == 1.0
    assert notified_lines(world) == [["web-1@2026-11-22T11:05:00.000Z"]]


def test_an_opening_below_the_threshold_is_remembered_only():
    # GIVEN a new opening below the threshold, WHEN it comes
    world = World()
    world.send(usual(0))

    # THEN the state has it, and the list does not
    memory = json.loads(world.dynamodb.state("web-1")["openings"])
    assert [opening[-1] for opening in memory] == ["below"]
    assert held_of(world) == []


def test_the_memory_of_the_training_rows_is_kept_from_the_first_opening_on():
    # GIVEN openings in the training rows, WHEN one opens, THEN the state has all of them
    world = familiar_world()
    world.send(usual(0))
    memory = json.loads(world.dynamodb.state("web-1")["openings"])
    assert [opening[-1] for opening in memory] == [TRAINED, TRAINED, FAMILIAR]

    # WHEN another model comes into service, THEN its training rows do not count for this instance
    world.model = tiny.model(baselines=INSTANCES, openings={"web-1": [["net", "up", ELEVEN // 1000, 5, 2.0]]})
    world.send(row(QUIET_CPU, 1), row(QUIET_CPU, 2))
    memory = json.loads(world.dynamodb.state("web-1")["openings"])
    assert [opening[-1] for opening in memory] == [TRAINED, TRAINED, FAMILIAR]


def test_the_list_of_a_day_is_sorted_by_time_and_leaves_damaged_items_out():
    # GIVEN held openings of two instances, and a damaged item among them
    known = [["cpu", "up", (ELEVEN - days * DAY_MS) // 1000, 20, 1.1] for days in (2, 1)]
    world = World(tiny.model(baselines=INSTANCES, openings=dict.fromkeys(("web-1", "web-2"), known), rule=LOW))
    world.send(usual(1), usual(0, "web-2"))
    world.dynamodb.items["held#2026-11-22", "x"] = {"pk": {"S": "held#2026-11-22"}, "sk": {"S": "x"}}

    # WHEN the day is read
    damaged: list[DamagedItem] = []
    held = EpisodeRepository(Table(world.dynamodb, "table"), damaged.append).held("2026-11-22")

    # THEN
    assert [one.instance_id for one in held] == ["web-2", "web-1"]
    assert [item.sk for item in damaged] == ["x"]
    assert EpisodeRepository(Table(world.dynamodb, "table")).held("2026-11-21") == []


def test_a_muted_page_of_a_maintenance_window_is_not_remembered():
    # GIVEN a window in which web-1 has an episode
    world = World()
    world.window("instance", "web-1", ELEVEN, ELEVEN + HOUR_MS)
    world.send(row(PAGING_CPU), row(QUIET_CPU, 1), row(QUIET_CPU, 2))
    assert notified_lines(world) == []
    assert world.dynamodb.listed()[0]["notified"] == "maintenance"

    # WHEN one alike opens after it, within the six hours of its cool-down
    world.send(row(PAGING_CPU, 24), now=ELEVEN + 3 * HOUR_MS)

    # THEN it pages, and the memory has this opening alone
    assert notified_lines(world) == [["web-1@2026-11-22T13:00:00.000Z"]]
    memory = json.loads(world.dynamodb.state("web-1")["openings"])
    assert [(opening[2], opening[-1]) for opening in memory] == [(ELEVEN + 2 * HOUR_MS, PAGED)]


def test_a_muted_page_that_was_held_at_first_is_not_remembered():
    # GIVEN a window in which a familiar opening gets severe
    world = familiar_world()
    world.window("instance", "web-1", ELEVEN, ELEVEN + HOUR_MS)
    world.send(usual(0), row(PAGING_CPU, 1), row(QUIET_CPU, 2), row(QUIET_CPU, 3))

    # WHEN one as severe opens after it, THEN it pages
    world.send(row(PAGING_CPU, 24), now=ELEVEN + 3 * HOUR_MS)
    assert notified_lines(world) == [["web-1@2026-11-22T13:00:00.000Z"]]


def test_a_page_beyond_the_window_is_remembered():
    # GIVEN an episode outside of any window, WHEN one alike opens two hours later, THEN it is in cool-down
    world = World()
    world.send(row(PAGING_CPU), row(QUIET_CPU, 1), row(QUIET_CPU, 2))
    world.send(row(PAGING_CPU, 24), now=ELEVEN + 3 * HOUR_MS)
    assert len(notified_lines(world)) == 1
    (held,) = held_of(world)
    assert (held.opening.outcome, held.days, held.is_by_hour) == (COOLING, 0, False)


def test_an_item_of_an_earlier_release_has_no_memory():
    # GIVEN an item without the attributes, WHEN it is read, THEN there is no memory, and not an empty one
    assert (read_openings({}), read_held_state({})) == (None, None)
    assert memory_values(None, ())["openings"] == {"S": "[]"}


@pytest.mark.parametrize(
    "values",
    [
        {"held": [TEN, TEN, 0, [], None]},
        {"held": [TEN, TEN, 0, [], None], "openings": []},
        {"openings": [["cpu", "up", 10**18, None, 1.1, 0.0, PAGED]]},
    ],
    ids=["held without a memory", "held with an empty memory", "a time after the year 9999"],
)
def test_a_memory_that_the_rule_cannot_continue_is_damaged(values):
    # GIVEN attributes that no release writes, WHEN they are read, THEN the item counts as damaged
    item = {name: {"S": json.dumps(value)} for name, value in values.items()}
    with pytest.raises(DamagedItemError):
        _ = read_openings(item), read_held_state(item)

"""Damaged and foreign items of the table: each is named and counted, and costs at most its own instance."""

from __future__ import annotations

import json

import pytest

from tests.support import tiny
from tests.support.tiny import PERIOD_MS
from tests.support.world import (
    DAY_MS,
    DONE,
    ELEVEN,
    EPISODE,
    HOUR_MS,
    NOW,
    PAGING_CPU,
    QUIET_CPU,
    World,
    all_told,
    notified_lines,
    row,
    unfinished,
)

DAMAGES = {
    "no peak": lambda item: item.pop("peak", None),
    "peak as text": lambda item: item.update(peak={"S": "1"}),
    "unknown status": lambda item: item.update(status={"S": "OPENED"}),
    "reasons that are no JSON": lambda item: item.update(reasons={"S": "[{"}),
    "reasons of another shape": lambda item: item.update(reasons={"S": '[{"feature":"cpu"}]'}),
    "changes without numbers": lambda item: item.update(new_normal={"S": '[{"feature":"cpu","before":"low"}]'}),
    "reasons nested too deep": lambda item: item.update(reasons={"S": "[" * 100_000}),
    "a time with a fraction": lambda item: item.update(since_ms={"N": "1.5"}),
    "a time after the calendar": lambda item: item.update(last_ms={"N": "9" * 30}),
    "no model": lambda item: item.pop("model_id", None),
    "a service that is no text": lambda item: item.update(service={"N": "1"}),
    "another instance's episode": lambda item: item.update(instance_id={"S": "web-2"}),
    "nothing of ours": lambda item: [item.pop(name) for name in set(item) - {"pk", "sk", "unfinished"}],
}
HARMLESS = {
    "further attributes": lambda item: item.update(note={"S": "x"}, map={"M": {}}),
    "no revision": lambda item: item.pop("revision", None),
    "a revision that is no number": lambda item: item.update(revision={"S": "first"}) if "revision" in item else None,
}
STATE = "instance#web-1", "current"
LISTED = "episodes#2026-11-22", f"{EPISODE.partition('@')[2]}#web-1"


def _logged(capsys):
    """Give the lines about damaged items."""
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return [line for line in lines if line.get("event") == "item damaged"]


@pytest.fixture
def world():
    """An open and paged episode of web-1."""
    world = World()
    world.send(row(PAGING_CPU))
    return world


@pytest.mark.parametrize("damage", {**DAMAGES, **HARMLESS}.values(), ids={**DAMAGES, **HARMLESS})
def test_a_batch_labels_every_row_and_replaces_a_damaged_state(world, damage, capsys):
    # GIVEN a damaged state WHEN rows of this instance and of another come
    damage(world.dynamodb.items[STATE])
    assert world.send(row(QUIET_CPU, 1), row(PAGING_CPU, 1, "web-2")) == DONE

    # THEN all rows are labelled, and the episode of the list goes on: it is not paged a second time
    labels = {
        (label["instance_id"], label["timestamp"][11:16]): label["alert"] for label in world.s3.lines("labelled/")
    }
    assert labels == {("web-1", "11:00"): True, ("web-1", "11:05"): True, ("web-2", "11:05"): True}
    assert notified_lines(world) == [[EPISODE], ["web-2@2026-11-22T11:05:00.000Z"]]
    # AND the state is sound from now on, and the episode ends once
    assert world.send(row(QUIET_CPU, 2)) == DONE
    assert world.dynamodb.state("web-1")["closed_ms"] == ELEVEN + 2 * PERIOD_MS
    world.tick(NOW + PERIOD_MS, [])
    assert all_told(world, "resolved") == [EPISODE]


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_state_is_named_and_counted(world, damage, capsys):
    damage(world.dynamodb.items[STATE])
    capsys.readouterr()
    world.send(row(QUIET_CPU, 1))
    (line,) = _logged(capsys)
    assert (line["level"], line["pk"], line["sk"], line["ItemsDamaged"]) == ("ERROR", *STATE, 1)
    assert line["_aws"]["CloudWatchMetrics"][0]["Metrics"] == [{"Name": "ItemsDamaged", "Unit": "Count"}]
    assert 0 < len(line["reason"]) <= 120


@pytest.mark.parametrize("damage", {**DAMAGES, **HARMLESS}.values(), ids={**DAMAGES, **HARMLESS})
def test_state_and_list_item_damaged_cost_their_instance_alone(world, damage):
    # GIVEN both items of web-1 damaged WHEN its rows and those of another instance come, and ticks
    for key in (STATE, LISTED):
        damage(world.dynamodb.items[key])
    assert world.send(row(PAGING_CPU, 1), row(PAGING_CPU, 1, "web-2")) == DONE
    assert world.send(*(row(QUIET_CPU, at, name) for at in (2, 3) for name in ("web-1", "web-2"))) == DONE
    world.tick(NOW + DAY_MS + PERIOD_MS, [])

    # THEN the other one is paged and resolved, and web-1 opens and closes from now on
    assert len(world.s3.lines("labelled/")) == 7
    assert "web-2@2026-11-22T11:05:00.000Z" in all_told(world, "opened")
    assert "web-2@2026-11-22T11:05:00.000Z" in all_told(world, "resolved")
    assert world.dynamodb.state("web-1")["status"] == "closed"


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_tick_leaves_a_damaged_list_item_out_and_says_nothing_of_it(world, damage, capsys):
    # GIVEN a damaged list item, and the episode of another instance that is over
    damage(world.dynamodb.items[LISTED])
    world.send(*(row(cpu, at, "web-2") for at, cpu in enumerate([PAGING_CPU, QUIET_CPU, QUIET_CPU])))
    capsys.readouterr()

    # WHEN a tick comes THEN it ends the other one, names the item, and never tells that the damaged one is over
    answer = world.tick(NOW + PERIOD_MS, [["web-3", "shop", ELEVEN]])
    assert (answer["failed"], answer["silent"]) == (0, 1)
    assert all_told(world, "resolved") == ["web-2@2026-11-22T11:00:00.000Z"]
    assert {(line["pk"], line["sk"]) for line in _logged(capsys)} == {LISTED}


def test_a_foreign_item_in_the_index_stops_no_tick(world):
    key = "episodes#2026-11-22", "2026-11-22T03:00:00.000Z#foreign"
    world.dynamodb.items[key] = {
        "pk": {"S": key[0]},
        "sk": {"S": key[1]},
        "unfinished": {"S": "yes"},
        "note": {"S": "someone wrote this"},
    }
    assert world.tick(NOW, [])["open"] == 1
    assert world.dynamodb.items[key]["note"] == {"S": "someone wrote this"}


@pytest.mark.parametrize("name", ["fleet", "service#shop"])
def test_a_damaged_counter_of_pages_mutes_nobody(name, capsys):
    # GIVEN a counter of the day that is no number
    world = World()
    key = "budget#2026-11-22", name
    world.dynamodb.items[key] = {"pk": {"S": key[0]}, "sk": {"S": key[1]}, "pages": {"S": "many"}}

    # WHEN an episode opens THEN it is paged, and the counter counts again
    world.send(row(PAGING_CPU))
    assert notified_lines(world) == [[EPISODE]]
    assert world.dynamodb.items[key]["pages"] == {"N": "1"}
    assert [(line["pk"], line["sk"]) for line in _logged(capsys)] == [key]


def test_a_damaged_maintenance_window_mutes_nothing_and_leaves_the_others(capsys):
    # GIVEN a window of an unknown scope, one without an end, and a sound one of web-2
    world = World()
    world.window("instance", "web-2", ELEVEN - DAY_MS, ELEVEN + DAY_MS)
    for window_id, values in {"bad-1": {"scope": {"S": "planet"}}, "bad-2": {"scope": {"S": "all"}}}.items():
        times = {"from_ms": {"N": "0"}, **({"until_ms": {"N": str(NOW + DAY_MS)}} if window_id == "bad-1" else {})}
        world.dynamodb.items["maintenance", window_id] = {
            "pk": {"S": "maintenance"},
            "sk": {"S": window_id},
            **values,
            **times,
        }

    # WHEN two instances open THEN only the one in the sound window is muted, and both damaged ones are named
    world.send(row(PAGING_CPU), row(PAGING_CPU, 0, "web-2"))
    assert notified_lines(world) == [[EPISODE]]
    assert {line["sk"] for line in _logged(capsys)} == {"bad-1", "bad-2"}


def test_damaged_marks_of_newest_rows_are_written_again(world, capsys):
    # GIVEN marks that are no compressed text
    keys = [key for key in world.dynamodb.items if key[0].startswith("seen#")]
    for key in keys:
        world.dynamodb.items[key]["rows"] = {"B": b"someone wrote this"}
    assert len(keys) == 1
    capsys.readouterr()

    # WHEN a row comes THEN it counts, the marks are named, and the next batch reads them
    world.send(row(PAGING_CPU, 1))
    assert [(line["pk"], line["sk"]) for line in _logged(capsys)] == keys
    world.send(row(PAGING_CPU, 2))
    assert _logged(capsys) == []


def test_an_overwritten_state_is_that_of_the_condition(world):
    # GIVEN a damaged state, and another writer who mends it just before the batch writes
    sound = {name: dict(value) for name, value in world.dynamodb.items[STATE].items()}
    world.dynamodb.items[STATE].pop("peak")

    def mend() -> None:
        world.dynamodb.items[STATE] = {**sound, "revision": {"N": "40"}}

    world.dynamodb.before_write = mend

    # WHEN a row comes THEN the batch decides again on the mended state
    assert world.send(row(PAGING_CPU, 1)) == DONE
    assert world.dynamodb.state("web-1")["revision"] == 41


def test_an_open_episode_that_the_state_no_longer_has_expires_once(world):
    # GIVEN a damaged state, and an index that does not have the open episode yet
    world.dynamodb.items[STATE].pop("peak")
    world.dynamodb.stale_index = {}
    world.send(row(PAGING_CPU, 1))
    world.dynamodb.stale_index = None

    # WHEN the new episode closes and days pass THEN each is told and over once; the cool-down was lost with the state
    world.send(row(QUIET_CPU, 2), row(QUIET_CPU, 3))
    for days in (2, 3):
        world.tick(NOW + days * DAY_MS, [])
    both = [EPISODE, "web-1@2026-11-22T11:05:00.000Z"]
    assert (sorted(all_told(world, "opened")), sorted(all_told(world, "resolved"))) == (both, both)
    assert unfinished(world) == []


def test_a_tick_ends_no_episode_with_a_damaged_state(world):
    # GIVEN an episode that goes on for thirty hours, and a state that was damaged since
    for hours in (10, 20, 30):
        world.send(row(PAGING_CPU, hours * 12), now=NOW + hours * HOUR_MS)
    world.dynamodb.items[STATE].update(status={"S": "OPENED"})

    # WHEN a tick comes, THEN nothing is over
    world.tick(NOW + 30 * HOUR_MS, [])
    assert all_told(world, "resolved") == []
    # AND it goes on with the next row
    world.send(row(PAGING_CPU, 361), now=NOW + 31 * HOUR_MS)
    assert unfinished(world) == [EPISODE]


def test_an_unfinished_episode_without_a_state_expires_once():
    # GIVEN an open and paged episode whose state was deleted
    world = World(tiny.model(baselines={"instances": {"web-1": 2}, "roles": {}, "fleet": 0}))
    world.send(row(PAGING_CPU))
    del world.dynamodb.items[STATE]

    # WHEN days pass THEN it is over once, and no tick looks at it any more
    for days in (2, 3):
        world.tick(NOW + days * DAY_MS, [])
    assert all_told(world, "resolved") == [EPISODE]
    assert unfinished(world) == []

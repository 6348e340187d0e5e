"""Rows ahead of their arrival: refused with the cause, with the same fate at every delivery, and without any effect."""

from __future__ import annotations

import base64
import json
import math
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from riskwatch_lambda import arrival
from riskwatch_lambda.clock import iso
from tests.support import tiny
from tests.support.packing import entry, pack
from tests.support.tiny import CPU, NET, PERIOD_MS
from tests.support.world import DAY_MS, DONE, ELEVEN, HOUR_MS, NOW, PAGING_CPU, QUIET_CPU, World, row

# A score of 3.
HARMFUL_CPU = CPU + math.e**3 - 1
ARRIVED = NOW - 1500


def _times(world: World) -> list[str]:
    return [label["timestamp"] for label in world.s3.lines("labelled/")]


@pytest.mark.parametrize(
    ("ahead_ms", "cause"),
    [
        (2 * HOUR_MS, arrival.TIME_ZONE),
        (3 * HOUR_MS + 12 * 60_000, arrival.CLOCK),
        (120 * DAY_MS, arrival.YEAR),
    ],
)
def test_a_row_ahead_is_quarantined_with_its_cause_and_mutes_no_instance(world, ahead_ms, cause, capsys):
    # GIVEN a harmful row ahead of its arrival
    ahead = {**row(PAGING_CPU), "ts": [ARRIVED + ahead_ms]}
    event = world.event(ahead, arrived_ms=ARRIVED)

    # WHEN it comes, THEN it is refused, with the cause, and counted; nothing opens
    assert world.handle(event) == DONE
    (refused,) = world.s3.lines("quarantine/")
    assert (refused["reason"], refused["rows"]) == (arrival.refusal(cause), 1)
    assert json.loads(base64.b64decode(refused["data"])) == ahead
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["RowsQuarantined"] == 1
    assert (world.dynamodb.items, world.sns.messages) == ({}, [])

    # AND it has the same fate if it is delivered again when its time has come
    world.s3.objects.clear()
    world.handle(event, ARRIVED + ahead_ms + HOUR_MS)
    assert world.s3.lines("labelled/") == []
    assert world.s3.lines("quarantine/") == [refused]

    # AND a harmful row of today opens an episode and pages
    world.send(row(PAGING_CPU))
    assert [label["risk"] for label in world.s3.lines("labelled/")] == ["Critical"]
    assert len(world.sns.messages) == 1


def test_a_row_ahead_within_a_pack_costs_that_row_alone(world):
    # GIVEN a pack of three rows, the middle one a year ahead
    packed = entry("web-1", [[QUIET_CPU, NET]] * 3, 3)
    packed["ts"][1] += 365 * DAY_MS

    # WHEN it comes, THEN the rows around it are labelled: they are not "earlier than the row before"
    world.handle(world.event(pack(packed), arrived_ms=ARRIVED))
    assert _times(world) == ["2026-11-22T10:50:00.000Z", "2026-11-22T11:00:00.000Z"]
    (refused,) = world.s3.lines("quarantine/")
    assert refused["reason"] == arrival.refusal(arrival.YEAR)


def test_a_context_row_ahead_is_no_context(world):
    # GIVEN a record whose context row is ahead, WHEN it comes, THEN its newest row is labelled without it
    record = {**row(QUIET_CPU), "ts": [NOW + DAY_MS, ELEVEN], "rows": [[99.0, NET], [CPU, NET]]}
    world.handle(world.event(record, arrived_ms=ARRIVED))
    assert _times(world) == ["2026-11-22T11:00:00.000Z"]


# Around the arrival, around the limit, and anywhere that a record may name.
_MOMENTS = st.one_of(
    st.integers(-2 * DAY_MS, 2 * DAY_MS).map(lambda off: ARRIVED + off),
    st.integers(-3, 3).map(lambda off: ARRIVED + arrival.AHEAD_LIMIT_MS + off),
    st.integers(-12, 12).map(lambda periods: ELEVEN + periods * PERIOD_MS),
    st.integers(-(2**63), 2**63),
)
_CPUS = st.sampled_from([QUIET_CPU, PAGING_CPU, HARMFUL_CPU])
_NAMES = st.sampled_from(["web-1", "web-2", "web-3"])


@st.composite
def _records(draw: st.DrawFn) -> tuple[dict[str, Any], int]:
    """Draw a record of either form, and the number of rows that it asks to label."""
    count = draw(st.integers(1, 4))
    ts = draw(st.lists(_MOMENTS, min_size=count, max_size=count))
    rows = [[draw(_CPUS), NET] for _ in range(count)]
    if draw(st.booleans()):
        return {**tiny.stream_record(rows, draw(_NAMES)), "ts": ts}, 1
    newest = draw(st.integers(1, count))
    return pack({**entry(draw(_NAMES), rows, newest), "ts": ts}), newest


@settings(derandomize=True, max_examples=100, deadline=None)
@given(st.lists(_records(), min_size=1, max_size=5))
@example([({**row(PAGING_CPU), "ts": [ARRIVED + arrival.AHEAD_LIMIT_MS]}, 1)])
def test_whatever_the_times_every_row_is_accounted_for_and_no_instance_is_muted(records):
    # GIVEN records with any times in any order
    world = World()
    event = world.event(*(record for record, _ in records), arrived_ms=ARRIVED)

    # WHEN they come in one batch, and once more
    assert world.handle(event) == world.handle(event) == DONE

    # THEN every row is labelled or refused, and no labelled one is ahead
    labelled, refused = world.s3.lines("labelled/"), world.s3.lines("quarantine/")
    assert len(labelled) + sum(document["rows"] for document in refused) == sum(rows for _, rows in records)
    latest = iso(ARRIVED + arrival.AHEAD_LIMIT_MS)
    assert all(label["timestamp"] <= latest for label in labelled)

    # AND once what is open and its cool-down are over, a harmful row of score 3 opens an episode as it arrives
    later = ELEVEN + 7 * HOUR_MS
    names = ("web-1", "web-2", "web-3")
    world.send(*(row(QUIET_CPU, at, name) for name in names for at in (6, 7)), now=later)
    world.s3.objects.clear()
    world.handle(world.event(*(row(HARMFUL_CPU, 84, name) for name in names), arrived_ms=later), later)
    opened = world.s3.lines("labelled/")
    assert [(label["score"], label["episode_id"]) for label in opened] == [
        (3.0, f"{name}@2026-11-22T18:00:00.000Z") for name in names
    ]

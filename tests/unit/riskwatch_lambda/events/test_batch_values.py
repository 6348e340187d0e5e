"""Impossible values: each costs itself, every value is accounted for, and no instance is muted."""

from __future__ import annotations

import json
import math
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from riskwatch_lambda import arrival
from tests.support import tiny
from tests.support.packing import entry, pack
from tests.support.tiny import CPU, NET, PERIOD_MS
from tests.support.world import DAY_MS, DONE, ELEVEN, HOUR_MS, NOW, PAGING_CPU, QUIET_CPU, World, row

# A score of 3.
HARMFUL_CPU = CPU + math.e**3 - 1
ARRIVED = NOW - 1500
NAMES = ("web-1", "web-2", "web-3")


def test_an_impossible_value_costs_that_value(world, capsys):
    # GIVEN a quiet row with an impossible cpu, and a harmful row with an impossible net
    world.send(
        tiny.stream_record([[288.0, NET]], last_ms=ELEVEN),
        tiny.stream_record([[PAGING_CPU, -2e15]], last_ms=ELEVEN + PERIOD_MS),
    )

    # WHEN both are stored, THEN both are labelled without the value, and the second pages
    first, second = world.s3.lines("labelled/")
    assert (first["cpu"], first["net"], first["missing"], first["alert"]) == (None, NET, ["cpu"], False)
    assert (second["cpu"], second["net"], second["missing"], second["alert"]) == (PAGING_CPU, None, ["net"], True)
    assert first["refused_values"] == [
        {"feature": "cpu", "value": 288.0, "reason": "cpu is 288, above its upper bound 100"}
    ]
    assert len(world.sns.messages) == 1
    # AND nothing is in quarantine, and the values are counted
    assert world.s3.lines("quarantine/") == []
    counted = next(line for line in map(json.loads, capsys.readouterr().out.splitlines()) if "ValuesKept" in line)
    assert (counted["ValuesKept"], counted["ValuesRefused"], counted["ValuesMissing"]) == (2, 2, 2)


_MOMENTS = st.one_of(
    st.integers(-12, 12).map(lambda periods: ELEVEN + periods * PERIOD_MS),
    st.integers(-2 * DAY_MS, 2 * DAY_MS).map(lambda off: ARRIVED + off),
    st.integers(-3, 3).map(lambda off: ARRIVED + arrival.AHEAD_LIMIT_MS + off),
    st.integers(-(2**63), 2**63),
)
_VALUES = st.one_of(
    st.sampled_from([QUIET_CPU, PAGING_CPU, HARMFUL_CPU, NET, None, -0.5, 288, 2e15, -(10**400), 1e308]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(),
)
_WRONG = st.sampled_from(["1", True, [], {}, "x" * 400])


@st.composite
def _records(draw: st.DrawFn) -> tuple[dict[str, Any], int, int]:
    """Draw a record of either form, and the numbers of rows and of values that it asks to label."""
    value = st.one_of(_VALUES, _VALUES, _VALUES, _VALUES, _VALUES, _WRONG) if draw(st.booleans()) else _VALUES
    single = draw(st.booleans())
    parts, rows, values = [], 0, 0
    for name in [draw(st.sampled_from(NAMES))] if single else draw(st.lists(st.sampled_from(NAMES), max_size=3)):
        count = draw(st.integers(1, 4))
        newest = 1 if single else draw(st.integers(1, count))
        cells = [[draw(value), draw(value)] for _ in range(count)]
        ts = draw(st.lists(_MOMENTS, min_size=count, max_size=count))
        parts.append((name, cells, newest, ts))
        rows += newest
        values += sum(type(cell) in (int, float) for cell_row in cells[-newest:] for cell in cell_row)
    if single:
        ((name, cells, _, ts),) = parts
        return {**tiny.stream_record(cells, name), "ts": ts}, rows, values
    entries = [{**entry(name, cells, newest), "ts": ts} for name, cells, newest, ts in parts]
    return pack(*entries), max(1, rows), values


@settings(derandomize=True, max_examples=150, deadline=None)
@given(st.lists(_records(), min_size=1, max_size=5))
@example([(tiny.stream_record([[288.0, None]], last_ms=ELEVEN), 1, 1)])
def test_whatever_comes_rows_and_values_add_up_and_no_instance_is_muted(records):
    # GIVEN records with any times and values in any order
    world = World()
    event = world.event(*(record for record, _, _ in records), arrived_ms=ARRIVED)

    # WHEN they come in one batch, and once more
    assert world.handle(event) == world.handle(event) == DONE

    # THEN every row is labelled or refused, and every value kept or refused
    labelled, refused = world.s3.lines("labelled/"), world.s3.lines("quarantine/")
    assert len(labelled) + sum(document["rows"] for document in refused) == sum(rows for _, rows, _ in records)
    kept = sum(label[name] is not None for label in labelled for name in ("cpu", "net"))
    lost = sum(len(label["refused_values"]) for label in labelled) + sum(document["values"] for document in refused)
    assert kept + lost == sum(values for _, _, values in records)
    # AND a labelled row has values within bounds only, and names what it lacks
    assert all(label["cpu"] is None or 0 <= label["cpu"] <= 100 for label in labelled)
    assert all(label["missing"] == [name for name in ("cpu", "net") if label[name] is None] for label in labelled)
    _check_that_harm_opens_an_episode(world)


def _check_that_harm_opens_an_episode(world: World) -> None:
    """Assert that a harmful row of score 3 opens an episode once what is open and its cool-down are over."""
    later = ELEVEN + 7 * HOUR_MS
    world.send(*(row(QUIET_CPU, at, name) for name in NAMES for at in (6, 7)), now=later)
    world.s3.objects.clear()
    world.handle(world.event(*(row(HARMFUL_CPU, 84, name) for name in NAMES), arrived_ms=later), later)
    assert [(label["score"], label["episode_id"]) for label in world.s3.lines("labelled/")] == [
        (3.0, f"{name}@2026-11-22T18:00:00.000Z") for name in NAMES
    ]

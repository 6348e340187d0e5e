"""The nearest prototype found along an axis is the one that comparing with every prototype finds, ties included."""

from __future__ import annotations

import math
import random
import struct

import pytest

from riskwatch_lambda.model.arrays import ArrayFile
from riskwatch_lambda.model.prototype_map import (
    MIN_TO_ORDER,
    MapError,
    Stage,
    distance_to,
    label_of,
    nearest,
    read_map,
)
from tests.support import tiny

Points = list[tuple[float, ...]]


def stage(prototypes: Points, scale: tuple[float, float] = (1.0, 1.0)) -> Stage:
    """Give the level's stage as a model file brings it, its numbers being those of float32."""
    level = {"map": {"stages": [{"prototypes": "level_map", "labels": [0] * len(prototypes)}]}, "names": ["Idle"]}
    arrays = {"level_map": [list(prototype) for prototype in prototypes], "level_scale": list(scale)}
    return tiny.model(arrays, level=level).level.map.stages[0]


def brute(where: Stage, vector: tuple[float, ...]) -> tuple[float, int]:
    distances = [math.dist(prototype, vector) for prototype in where.prototypes]
    return min(distances), distances.index(min(distances))


def floats(**arrays: Points) -> ArrayFile:
    """Give an array file that holds these prototypes."""
    index, blob = {}, b""
    for name, points in arrays.items():
        index[name] = {"type": "f4", "offset": len(blob), "shape": [len(points), 2]}
        blob += struct.pack(f"<{2 * len(points)}f", *(value for point in points for value in point))
    return ArrayFile(index, blob)


def along(count: int, seed: int) -> Points:
    """Give prototypes that lie mostly along their second axis, whole numbers so that many distances are equal."""
    rng = random.Random(seed)
    return [(float(rng.randint(-3, 3)), float(rng.randint(-60, 60))) for _ in range(count)]


@pytest.mark.parametrize("count", [MIN_TO_ORDER, 36, 256])
@pytest.mark.parametrize("seed", [1, 2])
def test_the_order_finds_what_brute_force_finds(count: int, seed: int):
    # GIVEN prototypes along an axis, with doubles among them, and vectors near, between and far from them
    where = stage(along(count, seed))
    rng = random.Random(seed)
    vectors = [(rng.uniform(-80, 80), rng.uniform(-80, 80)) for _ in range(300)]
    vectors += [(float(rng.randint(-5, 5)), float(rng.randint(-65, 65))) for _ in range(300)]
    vectors += [(x, y) for x, y in where.prototypes]

    # WHEN the nearest is looked for along it, THEN distance and index are those of brute force
    assert where.order is not None
    assert where.order.axis == 1
    assert [nearest(where, vector) for vector in vectors] == [brute(where, vector) for vector in vectors]


@pytest.mark.parametrize("seed", [1, 2])
def test_two_ordered_stages_with_a_radius_label_as_the_plain_search_does(seed: int):
    # GIVEN two stages along an axis, labels of their own for each prototype, and a table of all pairs
    points = [along(36, seed), along(48, seed + 10)]
    radii, outside = (4.0, 6.0), (36, 48)
    table = {f"{a},{b}": 49 * a + b for a in range(37) for b in range(49)}
    stages = [
        {"prototypes": f"stage{n}", "labels": list(range(len(points[n]))), "radius": radii[n], "outside": outside[n]}
        for n in (0, 1)
    ]
    where = read_map({"stages": stages, "table": table}, floats(stage0=points[0], stage1=points[1]), 2, "level.map")
    assert all(each.order is not None for each in where.stages)
    rng = random.Random(seed)
    vectors = [(rng.uniform(-12, 12), rng.uniform(-70, 70)) for _ in range(300)]
    vectors += [(float(rng.randint(-12, 12)), float(rng.randint(-65, 65))) for _ in range(300)]
    vectors += [(x + radius, y) for radius, part in zip(radii, points, strict=True) for x, y in part]

    # WHEN they are labelled, THEN labels and distances are those of comparing with every prototype
    pairs = []
    for vector in vectors:
        (near, first), (far, second) = (brute(each, vector) for each in where.stages)
        pairs.append((outside[0] if near > radii[0] else first, outside[1] if far > radii[1] else second))
        assert label_of(where, vector) == 49 * pairs[-1][0] + pairs[-1][1]
        assert distance_to(where, vector) == ((near + far) / 2, first)
    # AND the vectors lay within and beyond each radius, and exactly on it
    assert {(a == 36, b == 48) for a, b in pairs} == {(False, False), (False, True), (True, False), (True, True)}
    assert all(any(brute(each, v)[0] == each.radius for v in vectors) for each in where.stages)


def test_the_first_of_prototypes_that_are_all_alike_is_the_nearest():
    where = stage([(1.0, 2.0)] * 80)
    assert nearest(where, (1.0, 3.0)) == (1.0, 0)


def test_few_distances_are_computed_where_prototypes_lie_along_an_axis(monkeypatch):
    # GIVEN 256 prototypes along an axis, and a count of the distances that are computed
    where = stage([(float(n % 3), float(n)) for n in range(256)])
    computed = []
    monkeypatch.setattr("riskwatch_lambda.model.prototype_map.dist", lambda a, b: computed.append(a) or math.dist(a, b))

    # WHEN the nearest of a vector among them is looked for, THEN few were compared
    assert nearest(where, (1.0, 100.2)) == (pytest.approx(0.2), 100)
    assert len(computed) < 6


def test_prototypes_that_lie_along_no_axis_are_compared_one_by_one():
    ring = [(math.cos(n), math.sin(n)) for n in range(100)]
    spread = stage([(x, y) for x, y in ring])
    three = stage([*along(MIN_TO_ORDER - 1, 4)])
    assert (three.order, nearest(three, (0.0, 0.0))) == (None, brute(three, (0.0, 0.0)))
    assert nearest(spread, (0.3, 0.1)) == brute(spread, (0.3, 0.1))


def test_an_axis_that_makes_no_difference_to_a_level_is_left_out():
    # GIVEN a scale beyond all values, as training gives it to a metric that says nothing of the load
    narrow = stage([(1.0, 1e-20), (2.0, -1e-20)], scale=(1.0, 1e30))
    assert narrow.prototypes == ((1.0,), (2.0,))

    # WHEN its prototypes lie apart on that axis after all, THEN it stays
    assert len(stage([(1.0, 0.5), (2.0, 0.0)], scale=(1.0, 1e30)).prototypes[0]) == 2
    # AND so do all of them where no metric makes a difference
    assert len(stage([(0.0, 0.0)], scale=(1e30, 1e30)).prototypes[0]) == 2


def test_a_map_that_is_no_object_is_refused():
    with pytest.raises(MapError, match="level needs a list of stages"):
        read_map([], ArrayFile({}, b""), 2, "level")

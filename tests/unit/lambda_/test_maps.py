"""The nearest prototype found in balls is the one that comparing with every prototype finds, ties included."""

from __future__ import annotations

import math
import random

import pytest

from riskwatch_lambda.maps import LEAST_FOR_BALLS, Stage, nearest, read_map
from tests.unit.lambda_ import tiny


def stage(prototypes: list[tuple[float, ...]]) -> Stage:
    """Give a stage as a model file brings it, its numbers being those of float32."""
    level = {"map": {"stages": [{"prototypes": "level_map", "labels": [0] * len(prototypes)}]}, "names": ["Idle"]}
    return tiny.model({"level_map": [list(prototype) for prototype in prototypes]}, level=level).level.map.stages[0]


def brute(where: Stage, vector: tuple[float, ...]) -> tuple[float, int]:
    distances = [math.dist(prototype, vector) for prototype in where.prototypes]
    return min(distances), distances.index(min(distances))


def clustered(count: int, seed: int) -> list[tuple[float, ...]]:
    """Give prototypes around four places, whole numbers so that many distances are equal."""
    rng = random.Random(seed)
    places = [(0, 0), (40, 3), (-30, 50), (7, -60)]
    return [tuple(float(at + rng.randint(-4, 4)) for at in places[n % 4]) for n in range(count)]


@pytest.mark.parametrize("count", [LEAST_FOR_BALLS, 97, 256])
@pytest.mark.parametrize("seed", [1, 2])
def test_balls_find_what_brute_force_finds(count: int, seed: int):
    # GIVEN clustered prototypes with doubles among them, and vectors near, between and far from them
    where = stage(clustered(count, seed))
    rng = random.Random(seed)
    vectors = [(rng.uniform(-80, 80), rng.uniform(-80, 80)) for _ in range(300)]
    vectors += [(float(rng.randint(-45, 45)), float(rng.randint(-65, 55))) for _ in range(300)]
    vectors += [(x, y) for x, y in where.prototypes]

    # WHEN the nearest is looked for in balls, THEN distance and index are those of brute force
    assert len(where.balls) > 4
    assert [nearest(where, vector) for vector in vectors] == [brute(where, vector) for vector in vectors]


def test_balls_partition_the_prototypes():
    # GIVEN prototypes in balls, THEN each is in one of them and none beyond its radius
    where = stage(clustered(100, 3))
    assert sorted(index for ball in where.balls for index in ball.indices) == list(range(100))
    for ball in where.balls:
        assert list(ball.indices) == sorted(ball.indices)
        assert ball.members == tuple(where.prototypes[index] for index in ball.indices)
        assert max(math.dist(ball.pivot, member) for member in ball.members) == ball.radius


def test_prototypes_that_are_all_alike_are_one_ball():
    where = stage([(1.0, 2.0)] * 80)
    assert [(ball.radius, len(ball.members)) for ball in where.balls] == [(0.0, 80)]
    assert nearest(where, (1.0, 3.0)) == (1.0, 0)


def test_few_prototypes_are_compared_one_by_one():
    assert stage(clustered(LEAST_FOR_BALLS - 1, 4)).balls == ()


def test_far_fewer_distances_are_computed_where_prototypes_lie_in_clusters():
    # GIVEN 256 prototypes in four places and a vector near one of them
    where = stage(clustered(256, 5))

    # WHEN the balls that cannot hold the nearest are left out, THEN less than half of the prototypes are left
    for vector in [(1.0, 1.0), (41.0, 0.0), (-28.0, 52.0)]:
        best, _ = nearest(where, vector)
        visited = [ball for ball in where.balls if math.dist(ball.pivot, vector) - ball.radius <= best]
        assert len(where.balls) + sum(len(ball.members) for ball in visited) < 128


def test_a_map_that_is_no_object_is_refused():
    from riskwatch_lambda.arrays import ArrayFile
    from riskwatch_lambda.maps import MapError

    with pytest.raises(MapError, match="level needs a list of stages"):
        read_map([], ArrayFile({}, b""), 2, "level")

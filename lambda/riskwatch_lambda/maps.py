"""Prototype maps: the one representation that serves every family.

A map has one or two stages. A stage labels a vector with the label of its nearest prototype, or with ``outside`` when
even that one is farther than ``radius``. With two stages a table gives the label of each pair of stage labels.

The nearest of many prototypes is found in *balls* of prototypes that lie together: by the triangle inequality no member
of a ball is nearer than the distance to the ball's pivot less its radius, so a ball beyond the nearest prototype so far
is skipped whole. The result is that of comparing with every prototype, ties included.
"""

from __future__ import annotations

from itertools import product, repeat
from math import dist, inf, sqrt
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from riskwatch_lambda.arrays import ArrayFile

Vector = tuple[float, ...]

# With fewer prototypes comparing with each of them is faster.
LEAST_FOR_BALLS = 64
# Far above what rounding does to distances between squashed values, far below what matters.
ROUNDING = 1e-9


class MapError(ValueError):
    """A map of a model document is incomplete or contradicts itself."""


class Ball(NamedTuple):
    """Prototypes around the first stage's prototype ``pivot``; ``indices`` are their places in the stage, ascending."""

    pivot: Vector
    radius: float
    members: tuple[Vector, ...]
    indices: tuple[int, ...]


class Stage(NamedTuple):
    """Prototypes with a label each, and the radius beyond which the label is ``outside``.

    ``balls`` partition the prototypes where these are many enough for that to pay.
    """

    prototypes: tuple[Vector, ...]
    labels: tuple[int, ...]
    radius: float | None
    outside: int | None
    balls: tuple[Ball, ...]

    @property
    def reachable(self) -> set[int]:
        """Give every label that the stage can assign."""
        return {*self.labels} if self.radius is None or self.outside is None else {*self.labels, self.outside}


class PrototypeMap(NamedTuple):
    """One stage, or two stages and a table."""

    stages: tuple[Stage, ...]
    table: Mapping[tuple[int, int], int] | None

    @property
    def reachable(self) -> set[int]:
        """Give every label that the map can assign."""
        return self.stages[0].reachable if self.table is None else set(self.table.values())


class Place(NamedTuple):
    """Where a vector lies in a map: its label, its distance, and the nearest prototype of the first stage."""

    label: int
    distance: float
    prototype: Vector


def locate(where: PrototypeMap, vector: Vector) -> Place:
    """Find the place of a vector; among prototypes equally near the first one decides.

    The distance is Euclidean, to the nearest prototype; with two stages it is the mean of the two nearest distances.
    """
    first = where.stages[0]
    distance, index = nearest(first, vector)
    label = _label(first, distance, index)
    if where.table is not None:
        other, other_index = nearest(where.stages[1], vector)
        label = where.table[label, _label(where.stages[1], other, other_index)]
        distance = (distance + other) / 2
    return Place(label, distance, first.prototypes[index])


def nearest(stage: Stage, vector: Vector) -> tuple[float, int]:
    """Give the distance to the nearest prototype and its index, the lowest one among prototypes equally near."""
    if not stage.balls:
        distances = list(map(dist, stage.prototypes, repeat(vector)))
        least = min(distances)
        return least, distances.index(least)
    to_pivots = [dist(ball.pivot, vector) for ball in stage.balls]
    first = to_pivots.index(min(to_pivots))
    best = _nearest_in(stage.balls[first], vector)
    for number, (ball, to_pivot) in enumerate(zip(stage.balls, to_pivots, strict=True)):
        if to_pivot - ball.radius <= best[0] + ROUNDING and number != first:
            best = min(best, _nearest_in(ball, vector))
    return best


def _nearest_in(ball: Ball, vector: Vector) -> tuple[float, int]:
    distances = list(map(dist, ball.members, repeat(vector)))
    least = min(distances)
    return least, ball.indices[distances.index(least)]


def _label(stage: Stage, distance: float, index: int) -> int:
    if stage.radius is not None and stage.outside is not None and distance > stage.radius:
        return stage.outside
    return stage.labels[index]


def _balls(prototypes: Sequence[Vector]) -> tuple[Ball, ...]:
    """Partition prototypes into about the square root of their number of balls.

    Each pivot is the prototype farthest from the pivots before it (Gonzalez 1985); the others go to the nearest pivot.
    """
    if len(prototypes) < LEAST_FOR_BALLS:
        return ()
    pivots: list[Vector] = []
    owner, to_owner = [0] * len(prototypes), [inf] * len(prototypes)
    for number in range(round(sqrt(len(prototypes)))):
        pivots.append(prototypes[to_owner.index(max(to_owner))])
        for index, distance in enumerate(map(dist, prototypes, repeat(pivots[-1]))):
            if distance < to_owner[index]:
                owner[index], to_owner[index] = number, distance
    balls = []
    for number, pivot in enumerate(pivots):
        indices = tuple(index for index, own in enumerate(owner) if own == number)
        if indices:  # of prototypes that are all alike the first pivot owns every one
            members = tuple(prototypes[index] for index in indices)
            balls.append(Ball(pivot, max(to_owner[index] for index in indices), members, indices))
    return tuple(balls)


def read_map(document: object, arrays: ArrayFile, width: int, where: str) -> PrototypeMap:
    """Read a map whose vectors have ``width`` values; raises MapError, naming the place ``where`` it stands."""
    if not isinstance(document, dict) or not isinstance(document.get("stages"), list):
        raise MapError(f"{where} needs a list of stages")
    stages = tuple(
        _read_stage(stage, arrays, width, f"{where}.stages[{position}]")
        for position, stage in enumerate(document["stages"])
    )
    table = document.get("table")
    if len(stages) != (1 if table is None else 2):
        raise MapError(f"{where} has {len(stages)} stages: one without a table, or two with a table")
    return PrototypeMap(stages, None if table is None else _read_table(table, stages, where))


def _read_stage(document: object, arrays: ArrayFile, width: int, where: str) -> Stage:
    if not isinstance(document, dict):
        raise MapError(f"{where} is not an object")
    labels, radius, outside = (document.get(key) for key in ("labels", "radius", "outside"))
    if not isinstance(labels, list) or not labels or any(type(label) is not int for label in labels):
        raise MapError(f"{where}.labels must be whole numbers, one a prototype")
    if radius is not None and (type(radius) not in (int, float) or not radius > 0):
        raise MapError(f"{where}.radius is {radius!r}, expected null or a distance above 0")
    if radius is not None and type(outside) is not int:
        raise MapError(f"{where}.outside is {outside!r}: a stage with a radius needs a label for what lies outside")
    name = document.get("prototypes")
    if not isinstance(name, str):
        raise MapError(f"{where}.prototypes must name an array")
    values = tuple(arrays.floats(name, (len(labels), width)))
    prototypes = tuple(values[start : start + width] for start in range(0, len(values), width))
    return Stage(prototypes, tuple(labels), radius, outside, _balls(prototypes))


def _read_table(document: Any, stages: Sequence[Stage], where: str) -> dict[tuple[int, int], int]:
    """Read the table and see that it answers every pair of labels that the stages can give."""
    table: dict[tuple[int, int], int] = {}
    try:
        for key, label in document.items():
            first, second = key.split(",")
            table[int(first), int(second)] = label
    except (AttributeError, ValueError) as error:
        raise MapError(f'{where}.table must map "a,b" to a label') from error
    if any(type(label) is not int for label in table.values()):
        raise MapError(f"{where}.table must hold whole numbers")
    missing = sorted(set(product(stages[0].reachable, stages[1].reachable)) - table.keys())
    if missing:
        raise MapError(f"{where}.table has no label for {missing[:5]}")
    return table

"""Prototype maps: the one representation that serves every family.

A map has one or two stages. A stage labels a vector with the label of its nearest prototype, or with ``outside`` when
even that one is farther than ``radius``. With two stages a table gives the label of each pair of stage labels.

Where prototypes lie mostly along one axis, few of them are compared: none is nearer than the difference along that
axis, so the nearest lies on it no farther away than any prototype is. The result is that of comparing with every
prototype, ties included.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import product, repeat
from math import dist
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from riskwatch_lambda.model.arrays import ArrayFile

Vector = tuple[float, ...]

# With fewer prototypes comparing with each of them is as fast.
LEAST_TO_ORDER = 8
# Share of the squared deviations that lies along one axis; below it most prototypes would be left to compare with.
DOMINANT = 0.5
# Far above what rounding does to distances between squashed values, far below what matters.
ROUNDING = 1e-9


class MapError(ValueError):
    """A map of a model document is incomplete or contradicts itself."""


class Order(NamedTuple):
    """Prototypes in the order of their ``values`` along an axis; ``indices`` are their places in the stage."""

    axis: int
    values: tuple[float, ...]
    prototypes: tuple[Vector, ...]
    indices: tuple[int, ...]


class Stage(NamedTuple):
    """Prototypes with a label each, and the radius beyond which the label is ``outside``.

    ``order`` is there where searching along an axis pays.
    """

    prototypes: tuple[Vector, ...]
    labels: tuple[int, ...]
    radius: float | None
    outside: int | None
    order: Order | None

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


def label_of(where: PrototypeMap, vector: Vector) -> int:
    """Label a vector; among prototypes equally near the first one decides."""
    label = _label(where.stages[0], vector)
    return label if where.table is None else where.table[label, _label(where.stages[1], vector)]


def distance_to(where: PrototypeMap, vector: Vector) -> tuple[float, int]:
    """Give the Euclidean distance to the nearest prototype, and the index of that of the first stage.

    With two stages the distance is the mean of the two nearest ones.
    """
    distance, index = nearest(where.stages[0], vector)
    if where.table is not None:
        distance = (distance + nearest(where.stages[1], vector)[0]) / 2
    return distance, index


def nearest(stage: Stage, vector: Vector) -> tuple[float, int]:
    """Give the distance to the nearest prototype and its index, the lowest one among prototypes equally near."""
    order = stage.order
    if order is None:
        distances = list(map(dist, stage.prototypes, repeat(vector)))
        least = min(distances)
        return least, distances.index(least)
    at, values = vector[order.axis], order.values
    beside = bisect_left(values, at, 0, len(values) - 1)
    if beside and at - values[beside - 1] < values[beside] - at:
        beside -= 1
    reach = dist(order.prototypes[beside], vector)
    first = bisect_left(values, at - reach - ROUNDING)
    end = bisect_right(values, at + reach + ROUNDING)
    if end - first == 1:
        return reach, order.indices[first]
    return min(zip(map(dist, order.prototypes[first:end], repeat(vector)), order.indices[first:end], strict=True))


def _label(stage: Stage, vector: Vector) -> int:
    distance, index = nearest(stage, vector)
    if stage.radius is not None and stage.outside is not None and distance > stage.radius:
        return stage.outside
    return stage.labels[index]


def _order(prototypes: Sequence[Vector]) -> Order | None:
    """Sort prototypes along the axis on which they lie farthest apart, if they mostly lie along it."""
    if len(prototypes) < LEAST_TO_ORDER:
        return None
    columns = list(zip(*prototypes, strict=True))
    means = [sum(column) / len(column) for column in columns]
    spread = [dist(column, [mean] * len(column)) ** 2 for column, mean in zip(columns, means, strict=True)]
    if max(spread) < DOMINANT * sum(spread):
        return None
    axis = spread.index(max(spread))
    indices = sorted(range(len(prototypes)), key=columns[axis].__getitem__)
    ordered = tuple(prototypes[index] for index in indices)
    return Order(axis, tuple(prototype[axis] for prototype in ordered), ordered, tuple(indices))


def narrowed(where: PrototypeMap, axes: Sequence[int]) -> PrototypeMap:
    """Give the map over some of its axes alone."""
    stages = []
    for stage in where.stages:
        prototypes = tuple(tuple(prototype[axis] for axis in axes) for prototype in stage.prototypes)
        stages.append(stage._replace(prototypes=prototypes, order=_order(prototypes)))
    return where._replace(stages=tuple(stages))


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
    return Stage(prototypes, tuple(labels), radius, outside, _order(prototypes))


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

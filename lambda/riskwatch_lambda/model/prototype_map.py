"""Prototype maps: the common representation of every family.

A map has one or two stages. A stage gives a vector the label of its nearest prototype, or ``outside`` if that prototype
is farther than ``radius``. With two stages, a table gives the label of each pair of stage labels.

If prototypes spread mostly along one axis, only few distances are computed: a distance is at least the difference along
that axis, so a prototype is skipped if its difference exceeds the distance to another prototype. The result is the same
as with all prototypes, ties included.
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

# With fewer prototypes, computing all distances is as fast.
MIN_TO_ORDER = 8
# Minimum share of the squared deviations along one axis; below it, few prototypes would be skipped.
DOMINANT = 0.5
# Far above the rounding errors of distances between squashed values, far below relevant differences.
ROUNDING = 1e-9


class MapError(ValueError):
    """A map of a model document is incomplete or inconsistent."""


class Order(NamedTuple):
    """Prototypes sorted by their ``values`` along an axis.

    ``indices`` are their positions in the stage.
    """

    axis: int
    values: tuple[float, ...]
    prototypes: tuple[Vector, ...]
    indices: tuple[int, ...]


class Stage(NamedTuple):
    """Prototypes with one label each.

    Beyond ``radius``, the label is ``outside``. ``order`` is None unless a search along an axis saves time.
    """

    prototypes: tuple[Vector, ...]
    labels: tuple[int, ...]
    radius: float | None
    outside: int | None
    order: Order | None

    @property
    def reachable(self) -> set[int]:
        """Return every label that the stage can assign."""
        return {*self.labels} if self.radius is None or self.outside is None else {*self.labels, self.outside}


class PrototypeMap(NamedTuple):
    """One stage, or two stages with a table."""

    stages: tuple[Stage, ...]
    table: Mapping[tuple[int, int], int] | None

    @property
    def reachable(self) -> set[int]:
        """Return every label that the map can assign."""
        return self.stages[0].reachable if self.table is None else set(self.table.values())


def label_of(where: PrototypeMap, vector: Vector) -> int:
    """Return the label of a vector.

    Among equally near prototypes, the first one decides.
    """
    label = _label(where.stages[0], vector)
    return label if where.table is None else where.table[label, _label(where.stages[1], vector)]


def distance_to(where: PrototypeMap, vector: Vector) -> tuple[float, int]:
    """Return the Euclidean distance to the nearest prototype, and its index.

    The index is that of the first stage. With two stages, the distance is the mean of both stages.
    """
    distance, index = nearest(where.stages[0], vector)
    if where.table is not None:
        distance = (distance + nearest(where.stages[1], vector)[0]) / 2
    return distance, index


def nearest(stage: Stage, vector: Vector) -> tuple[float, int]:
    """Return the distance to the nearest prototype, and its index.

    Among equally near prototypes, the lowest index counts.
    """
    order = stage.order
    if order is None:
        distances = list(map(dist, stage.prototypes, repeat(vector)))
        least = min(distances)
        return least, distances.index(least)
    value, values = vector[order.axis], order.values
    closest = bisect_left(values, value, 0, len(values) - 1)
    if closest and value - values[closest - 1] < values[closest] - value:
        closest -= 1
    reach = dist(order.prototypes[closest], vector)
    first = bisect_left(values, value - reach - ROUNDING)
    end = bisect_right(values, value + reach + ROUNDING)
    if end - first == 1:
        return reach, order.indices[first]
    return min(zip(map(dist, order.prototypes[first:end], repeat(vector)), order.indices[first:end], strict=True))


def _label(stage: Stage, vector: Vector) -> int:
    distance, index = nearest(stage, vector)
    if stage.radius is not None and stage.outside is not None and distance > stage.radius:
        return stage.outside
    return stage.labels[index]


def _order(prototypes: Sequence[Vector]) -> Order | None:
    """Return prototypes sorted along their axis of largest spread.

    Returns None if that axis does not dominate.
    """
    if len(prototypes) < MIN_TO_ORDER:
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


def project_axes(where: PrototypeMap, axes: Sequence[int]) -> PrototypeMap:
    """Return the map restricted to some of its axes."""
    stages = []
    for stage in where.stages:
        prototypes = tuple(tuple(prototype[axis] for axis in axes) for prototype in stage.prototypes)
        stages.append(stage._replace(prototypes=prototypes, order=_order(prototypes)))
    return where._replace(stages=tuple(stages))


def read_map(document: object, arrays: ArrayFile, width: int, where: str) -> PrototypeMap:
    """Return a map of vectors with ``width`` values.

    Raises MapError; ``where`` is the path of the map in its texts.
    """
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
    """Return the table of a map with two stages.

    Raises MapError unless it has a label for every pair of labels of the stages.
    """
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

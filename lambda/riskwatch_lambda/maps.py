"""Prototype maps: the one representation that serves every family.

A map has one or two stages. A stage labels a vector with the label of its nearest prototype, or with ``outside`` when
even that one is farther than ``radius``. With two stages a table gives the label of each pair of stage labels.
"""

from __future__ import annotations

from itertools import product, repeat
from math import dist
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from riskwatch_lambda.arrays import ArrayFile

Vector = tuple[float, ...]


class MapError(ValueError):
    """A map of a model document is incomplete or contradicts itself."""


class Stage(NamedTuple):
    """Prototypes with a label each, and the radius beyond which the label is ``outside``."""

    prototypes: tuple[Vector, ...]
    labels: tuple[int, ...]
    radius: float | None
    outside: int | None

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
    label, distance, prototype = _nearest(where.stages[0], vector)
    if where.table is None:
        return Place(label, distance, prototype)
    second, other, _ = _nearest(where.stages[1], vector)
    return Place(where.table[label, second], (distance + other) / 2, prototype)


def _nearest(stage: Stage, vector: Vector) -> Place:
    distances = list(map(dist, stage.prototypes, repeat(vector)))
    distance = min(distances)
    index = distances.index(distance)
    label = stage.labels[index]
    if stage.radius is not None and stage.outside is not None and distance > stage.radius:
        label = stage.outside
    return Place(label, distance, stage.prototypes[index])


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
    values = arrays.take(name, (len(labels), width))
    prototypes = tuple(tuple(values[start : start + width]) for start in range(0, len(values), width))
    return Stage(prototypes, tuple(labels), radius, outside)


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

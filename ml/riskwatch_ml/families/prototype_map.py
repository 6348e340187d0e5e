"""The prototype map: labelled prototypes, the served form of every family.

A map has one or two stages of labelled prototypes with an optional radius, and a table from two stage labels to one. It
costs one nearest-prototype search per row and stage, takes a few kilobytes and needs no library, so the Lambda serves
all families with the same code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NotRequired, TypedDict

import numpy as np

from riskwatch_ml.core.arrays import FloatArray, IntArray, float16

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CHUNK_CELLS = 131_072  # cells of one block of a distance matrix: 1 MB, which fits into the cache of a processor
TIE = 1e-9


class StageDocument(TypedDict):
    """A stage as JSON; `prototypes` is the name of an array.

    The other fields are those of `Stage`. A stage without a radius has neither `radius` nor `outside`, or null.
    """

    prototypes: str
    labels: list[int]
    radius: NotRequired[float | None]
    outside: NotRequired[int | None]


class MapDocument(TypedDict):
    """A map as JSON; the keys of `table` are two stage labels separated by a comma.

    A map with one stage has no table, or null.
    """

    stages: list[StageDocument]
    table: NotRequired[dict[str, int] | None]


@dataclass(frozen=True)
class Stage:
    """Labelled prototypes (p, d).

    A vector farther than ``radius`` from all of them has the label ``outside``.
    """

    prototypes: FloatArray
    labels: IntArray
    radius: float | None = None
    outside: int | None = None

    def assign(self, x: FloatArray) -> tuple[IntArray, FloatArray, IntArray]:
        """Return label, distance and index of the nearest prototype of vectors (n, d).

        Each result is (n,).
        """
        index, distance = nearest(x, self.prototypes)
        labels = self.labels[index]
        if self.radius is not None and self.outside is not None:
            labels = np.where(distance > self.radius, self.outside, labels)
        return labels, distance, index


@dataclass(frozen=True)
class Assigned:
    """Labels and distances of n vectors.

    ``index`` is the nearest prototype of the first stage.
    """

    labels: IntArray
    distance: FloatArray
    index: IntArray


@dataclass(frozen=True)
class PrototypeMap:
    """One stage, or two stages and a table from their two labels to one."""

    stages: tuple[Stage, ...]
    table: Mapping[tuple[int, int], int] | None = None

    @property
    def size(self) -> int:
        """Number of prototypes over all stages."""
        return sum(len(stage.prototypes) for stage in self.stages)

    @property
    def n_labels(self) -> int:
        """Number of labels: they are 0 .. n_labels - 1."""
        if self.table is not None:
            return max(self.table.values()) + 1
        stage = self.stages[0]
        return max(int(stage.labels.max()), -1 if stage.outside is None else stage.outside) + 1

    def assign(self, x: FloatArray) -> Assigned:
        """Return labels, distances and nearest first-stage prototypes of vectors (n, d).

        With two stages the distance is the mean of both.
        """
        labels, distance, index = self.stages[0].assign(x)
        if self.table is None:
            return Assigned(labels, distance, index)
        second, second_distance, _ = self.stages[1].assign(x)
        lookup = np.full((int(labels.max(initial=0)) + 1, int(second.max(initial=0)) + 1), -1)
        for (a, b), label in self.table.items():
            if a < lookup.shape[0] and b < lookup.shape[1]:
                lookup[a, b] = label
        return Assigned(lookup[labels, second].astype(np.int64), (distance + second_distance) / 2, index)

    def unlabelled(self) -> PrototypeMap:
        """Return a map with the same distances and one label, 0, which a document stores in few bytes."""
        stages = tuple(Stage(stage.prototypes, np.zeros_like(stage.labels)) for stage in self.stages)
        return PrototypeMap(stages, None if self.table is None else {(0, 0): 0})

    def to_document(self, prefix: str) -> tuple[MapDocument, dict[str, FloatArray]]:
        """Return the map as JSON values, and its arrays by name.

        The names start with ``prefix``.
        """
        arrays = {f"{prefix}_stage{i}": stage.prototypes for i, stage in enumerate(self.stages)}
        document: MapDocument = {"stages": []}
        for name, stage in zip(arrays, self.stages, strict=True):
            stage_document: StageDocument = {"prototypes": name, "labels": [int(label) for label in stage.labels]}
            # Absent fields keep the artifact small: it has a map for each member of each group and kind.
            if stage.radius is not None:
                stage_document |= {"radius": stage.radius, "outside": stage.outside}
            document["stages"].append(stage_document)
        if self.table is not None:
            document["table"] = {f"{a},{b}": label for (a, b), label in sorted(self.table.items())}
        return document, arrays

    @staticmethod
    def from_document(document: MapDocument, arrays: Mapping[str, FloatArray]) -> PrototypeMap:
        """Return the map that ``to_document`` wrote."""
        stages = tuple(
            Stage(
                np.asarray(arrays[stage["prototypes"]], np.float64),
                np.asarray(stage["labels"], np.int64),
                stage.get("radius"),
                stage.get("outside"),
            )
            for stage in document["stages"]
        )
        table = document.get("table")
        if table is None:
            return PrototypeMap(stages)
        pairs = {tuple(map(int, key.split(","))): int(label) for key, label in table.items()}
        return PrototypeMap(stages, {(pair[0], pair[1]): label for pair, label in pairs.items()})


def make_stage(
    prototypes: FloatArray, labels: Sequence[int] | IntArray, radius: float | None = None, outside: int | None = None
) -> Stage:
    """Return a stage, rounded to the precision of the model file.

    Prototypes that rounding makes equal all stay. The first one wins every tie, here and in the Lambda, so the others
    change no verdict, and the size of the map counts them.
    """
    rounded = None if radius is None else float(np.float32(radius))
    return Stage(float16(prototypes), np.asarray(labels, np.int64), rounded, outside)


def nearest(x: FloatArray, prototypes: FloatArray) -> tuple[IntArray, FloatArray]:
    """Return index of and Euclidean distance to the nearest prototype of each vector.

    A tie goes to the lowest index. Takes O(n p d) time in blocks of about 1 MB. The fast form of the distance cannot
    distinguish very close candidates; they are compared again by differences, as in the Lambda.
    """
    squared = np.einsum("ij,ij->i", prototypes, prototypes)
    doubled = -2 * prototypes.T
    index = np.empty(len(x), np.int64)
    distance = np.empty(len(x))
    step = max(1, CHUNK_CELLS // max(prototypes.shape))
    for low in range(0, len(x), step):
        block = x[low : low + step]
        cost = block @ doubled
        cost += squared
        rows = np.arange(len(block))
        best = cost.argmin(axis=1)
        tie_limit = cost[rows, best] + TIE * (1 + squared.max() + np.einsum("ij,ij->i", block, block))
        cost[rows, best] = np.inf
        for row in np.flatnonzero(cost.min(axis=1) <= tie_limit):
            best[row] = ((prototypes - block[row]) ** 2).sum(axis=1).argmin()
        index[low : low + step] = best
        distance[low : low + step] = np.sqrt(((block - prototypes[best]) ** 2).sum(axis=1))
    return index, distance

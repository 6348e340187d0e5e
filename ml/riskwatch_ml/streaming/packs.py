"""Packed stream records: rows to label, with the rows before them.

A pack holds rows of the instances of one service, in the form that `riskwatch_lambda.scoring.records` documents. The
packs of a service follow each other in time.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from riskwatch_lambda.scoring.records import PACK, PACK_LIMIT
from riskwatch_ml.core import clock
from riskwatch_ml.core.arrays import BoolArray, FloatArray, IntArray
from riskwatch_ml.core.errors import UserInputError
from riskwatch_ml.schema import inventory
from riskwatch_ml.schema.catalogue import Catalogue
from riskwatch_ml.schema.inventory import Instance

# Large enough to make the context that packs repeat small, small enough for many services to share a call.
PACK_BYTES = 256 * 1024
# What the function takes; only a single row with its context may come near it.
MOST_PACK_BYTES = PACK_LIMIT // 4 * 3
# Most numbers are shorter, none is longer by much: a first guess of a pack's size.
VALUE_BYTES = 20


class StreamError(UserInputError):
    """Records cannot be built or sent; the message says how many went through and what to do."""


@dataclass(frozen=True)
class Pack:
    """One stream record: JSON, its service, and how many rows it asks to label."""

    service: str
    data: bytes
    rows: int


class Packer:
    """Metric rows, ready to be cut into packs.

    A row's context are the newest rows before it, never across a gap longer than the model allows, because training
    cuts its windows there too. A row with a physically impossible value is sent, for the function to quarantine with
    its reason, and is nobody's context: training never sees it either.

    Parameters
    ----------
    rows
        Metric rows, any order, one per instance and time. A row without any of the features is left out.
    instances
        The inventory: role and service of each instance.
    context_rows
        Rows that the model can use at most, the labelled one included.
    max_gap_s
        Longest distance, in seconds, between two rows of one window.
    metrics
        The model's features in its order, with their physical bounds.

    Raises
    ------
    StreamError
        A feature is missing in `rows` or is no number, an instance has two rows of one time, or `context_rows` is
        below 1.
    """

    def __init__(
        self,
        rows: pd.DataFrame,
        instances: Mapping[str, Instance],
        context_rows: int,
        max_gap_s: int,
        metrics: Catalogue,
    ) -> None:
        if context_rows < 1:
            raise StreamError(f"context_rows is {context_rows}: a row to label is one itself")
        values = _values(rows, metrics.names)
        some = ~np.isnan(values).all(axis=1)
        names = rows["instance_id"].astype(str)[some]
        known = [inventory.lookup(instances, name) for name in names.unique()]
        self._instances = sorted(known, key=lambda instance: (instance.service, instance.instance_id))
        place = {instance.instance_id: code for code, instance in enumerate(self._instances)}
        code = names.map(place).to_numpy(dtype=np.int64)
        ms = rows["timestamp"][some].astype("datetime64[ms, UTC]").astype("int64").to_numpy()
        order = np.lexsort((ms, code))
        self._features = metrics.names
        self._code, self._ms, self._values = code[order], ms[order], values[some][order]
        self._refuse_twice()
        self._possible = _possible(self._values, metrics)
        usable = np.flatnonzero(self._possible)
        first = _first_rows(self._code[usable], self._ms[usable], context_rows, max_gap_s * 1000)
        self._oldest = np.arange(len(order))
        self._oldest[usable] = usable[first]

    def packs(self, start: datetime, end: datetime) -> list[Iterator[Pack]]:
        """Cut the rows with start <= timestamp < end (aware) into packs: for each service its packs, oldest first."""
        inside = (self._ms >= clock.epoch_ms(start)) & (self._ms < clock.epoch_ms(end))
        wanted = np.flatnonzero(inside)
        services = np.array([instance.service for instance in self._instances], dtype=object)[self._code[wanted]]
        borders = np.flatnonzero(services[1:] != services[:-1]) + 1
        return [self._cut(part) for part in np.split(wanted, borders) if len(part)]

    def _cut(self, wanted: IntArray) -> Iterator[Pack]:
        """Yield the rows of one service in as few packs as needed: halved in time, at one time by instance."""
        blocks = np.split(wanted, np.flatnonzero(np.diff(self._code[wanted])) + 1)
        contexts = [self._context(block) for block in blocks]
        count = len(wanted) + sum(map(len, contexts))
        if len(wanted) == 1 or count * (len(self._features) + 1) * VALUE_BYTES <= PACK_BYTES:
            pack = self._pack(blocks, contexts)
            if len(pack.data) <= PACK_BYTES or len(wanted) == 1:
                yield pack
                return
        times = np.unique(self._ms[wanted])
        early = self._ms[wanted] < times[len(times) // 2]
        if len(times) == 1:
            early = np.arange(len(wanted)) < len(wanted) // 2
        yield from self._cut(wanted[early])
        yield from self._cut(wanted[~early])

    def _context(self, block: IntArray) -> IntArray:
        """Return the rows before the block, of one instance, that its first possible row needs."""
        possible = block[self._possible[block]]
        if not len(possible):
            return possible
        oldest = self._oldest[possible[0]]
        context: IntArray = oldest + np.flatnonzero(self._possible[oldest : block[0]])
        return context

    def _pack(self, blocks: list[IntArray], contexts: list[IntArray]) -> Pack:
        service = self._instances[self._code[blocks[0][0]]].service
        entries = [self._entry(block, context) for block, context in zip(blocks, contexts, strict=True)]
        document = {"v": PACK, "service": service, "features": list(self._features), "instances": entries}
        data = json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
        if len(data) > MOST_PACK_BYTES:
            raise StreamError(
                f"a row of {entries[0]['id']} has {len(data)} bytes with its context, the function takes "
                f"{MOST_PACK_BYTES}: use a model of fewer metrics"
            )
        return Pack(service, data, sum(map(len, blocks)))

    def _entry(self, block: IntArray, context: IntArray) -> dict[str, Any]:
        span = np.concatenate([context, block])
        instance = self._instances[self._code[block[0]]]
        columns = [[None if value != value else value for value in column] for column in self._values[span].T.tolist()]
        return {
            "id": instance.instance_id,
            "role": instance.role,
            "newest": len(block),
            "ts": self._ms[span].tolist(),
            "columns": columns,
        }

    def _refuse_twice(self) -> None:
        twice = np.flatnonzero((np.diff(self._code) == 0) & (np.diff(self._ms) == 0))
        if len(twice):
            name, moment = self._instances[self._code[twice[0]]].instance_id, clock.iso(int(self._ms[twice[0]]))
            raise StreamError(f"{name} has two rows of {moment}: keep one of them")


def _values(rows: pd.DataFrame, features: tuple[str, ...]) -> FloatArray:
    """Return the features of all rows as floats (n, d), NaN where missing."""
    missing = [name for name in features if name not in rows.columns]
    if missing:
        raise StreamError(f"the rows have no {missing[0]}, which the model needs: add it to the catalogue")
    try:
        values: FloatArray = rows[list(features)].to_numpy(dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise StreamError(f"the rows hold something that is no number: {error}") from error
    infinite = np.argwhere(np.isinf(values))
    if len(infinite):
        row, column = infinite[0]
        raise StreamError(f"{rows['instance_id'].iloc[row]} has an infinite {features[column]}: leave the value out")
    return values


def _possible(values: FloatArray, metrics: Catalogue) -> BoolArray:
    """Which rows lie within the physical bounds of every metric; a missing value is no violation."""
    low = [-np.inf if metric.lower is None else metric.lower for metric in metrics.metrics]
    high = [np.inf if metric.upper is None else metric.upper for metric in metrics.metrics]
    impossible: BoolArray = np.any((values < low) | (values > high), axis=1)
    return ~impossible


def _first_rows(code: IntArray, ms: IntArray, context_rows: int, max_gap_ms: int) -> IntArray:
    """Return, for each row, the position of the oldest row of its context."""
    places = np.arange(len(ms))
    begins = np.ones(len(ms), dtype=bool)
    begins[1:] = (np.diff(code) != 0) | (np.diff(ms) > max_gap_ms)
    run = np.maximum.accumulate(np.where(begins, places, 0)) if len(ms) else places
    first: IntArray = np.maximum(run, places - context_rows + 1)
    return first

"""Packed stream records: rows to label, with the context rows before them.

A pack has rows of the instances of one service and kind, in the format that `riskwatch_lambda.scoring.records`
documents. The packs of a service and kind follow each other in time.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from riskwatch_lambda.scoring.records import PACK_LIMIT, encode_pack
from riskwatch_ml.core import clock
from riskwatch_ml.core.arrays import FloatArray, IntArray
from riskwatch_ml.core.errors import UserInputError
from riskwatch_ml.schema import inventory, metric_rows
from riskwatch_ml.schema.catalogue import Catalogue
from riskwatch_ml.schema.inventory import Instance

if TYPE_CHECKING:
    from riskwatch_lambda.scoring.records import PackedInstance

# Large, because packs repeat context rows; small, so that many services can share a call.
PACK_BYTES = 256 * 1024
# The limit of the function; only a single row with its context may be near it.
MAX_PACK_BYTES = PACK_LIMIT // 4 * 3
# Estimated bytes of a number in JSON: most numbers are shorter, none is much longer.
VALUE_BYTES = 20


class StreamError(UserInputError):
    """Records cannot be built or sent.

    The message says how many rows were accepted, and the fix.
    """


@dataclass(frozen=True)
class Pack:
    """One stream record: JSON, its service, and the numbers of rows to label and of their values."""

    service: str
    data: bytes
    rows: int
    values: int = 0


class Packer:
    """Metric rows that can be cut into packs.

    The context of a row are the newest rows before it, but not across a gap longer than the model allows, because
    training cuts its windows at such gaps. An impossible value is sent, so that the function refuses it with a reason;
    an infinite one is sent as the largest float. A row that its impossible values cost is sent too. It is never
    context, because training leaves it out.

    Parameters
    ----------
    rows
        Metric rows in any order, one per instance and time. A row without any of the features is left out.
    instances
        The inventory: role and service of each instance.
    context_rows
        The most rows that the model can use, the labelled one included.
    max_gap_s
        The longest distance in seconds between two rows of one window.
    metrics
        The features of the model in its order, with their physical bounds.
    kind
        The kind of all rows, None for the first kind of the live model: other kinds have other features, and are packed
        by a packer of their own.

    Raises
    ------
    StreamError
        `rows` lacks a feature or has a value that is not a number, an instance has two rows of one time, or
        `context_rows` is below 1.
    """

    def __init__(
        self,
        rows: pd.DataFrame,
        instances: Mapping[str, Instance],
        context_rows: int,
        max_gap_s: int,
        metrics: Catalogue,
        kind: str | None = None,
    ) -> None:
        if context_rows < 1:
            raise StreamError(f"context_rows is {context_rows}: use at least 1, because the labelled row counts")
        values = _values(rows, metrics.names)
        has_value = ~np.isnan(values).all(axis=1)
        names = rows["instance_id"].astype(str)[has_value]
        known = [inventory.lookup(instances, name) for name in names.unique()]
        self._instances = sorted(known, key=lambda instance: (instance.service, instance.instance_id))
        codes = {instance.instance_id: code for code, instance in enumerate(self._instances)}
        code = names.map(codes).to_numpy(dtype=np.int64)
        ms = rows["timestamp"][has_value].astype("datetime64[ms, UTC]").astype("int64").to_numpy()
        order = np.lexsort((ms, code))
        self._features, self._kind = metrics.names, kind
        self._code, self._ms, self._values = code[order], ms[order], values[has_value][order]
        self._refuse_duplicates()
        impossible = metric_rows.find_impossible(self._values, metrics)
        self._usable = ~metric_rows.find_refused_rows(self._values, impossible)
        usable = np.flatnonzero(self._usable)
        first = _first_rows(self._code[usable], self._ms[usable], context_rows, max_gap_s * 1000)
        self._oldest = np.arange(len(order))
        self._oldest[usable] = usable[first]

    def packs(self, start: datetime, end: datetime) -> list[Iterator[Pack]]:
        """Return the packs of each service, oldest first, as lazy queues.

        The packs have the rows with start <= timestamp < end (aware) to label.
        """
        inside = (self._ms >= clock.epoch_ms(start)) & (self._ms < clock.epoch_ms(end))
        to_label = np.flatnonzero(inside)
        services = np.array([instance.service for instance in self._instances], dtype=object)[self._code[to_label]]
        borders = np.flatnonzero(services[1:] != services[:-1]) + 1
        return [self._cut(service_rows) for service_rows in np.split(to_label, borders) if len(service_rows)]

    def _cut(self, to_label: IntArray) -> Iterator[Pack]:
        """Yield the rows of one service in few packs.

        Rows that do not fit into a pack are halved in time; rows of one time are halved by instance.
        """
        blocks = np.split(to_label, np.flatnonzero(np.diff(self._code[to_label])) + 1)
        contexts = [self._context(block) for block in blocks]
        count = len(to_label) + sum(map(len, contexts))
        if len(to_label) == 1 or count * (len(self._features) + 1) * VALUE_BYTES <= PACK_BYTES:
            pack = self._pack(blocks, contexts)
            if len(pack.data) <= PACK_BYTES or len(to_label) == 1:
                yield pack
                return
        times = np.unique(self._ms[to_label])
        early = self._ms[to_label] < times[len(times) // 2]
        if len(times) == 1:
            early = np.arange(len(to_label)) < len(to_label) // 2
        yield from self._cut(to_label[early])
        yield from self._cut(to_label[~early])

    def _context(self, block: IntArray) -> IntArray:
        """Return the context rows of a block of one instance.

        They are the rows before the block that its first usable row needs.
        """
        usable = block[self._usable[block]]
        if not len(usable):
            return usable
        oldest = self._oldest[usable[0]]
        context: IntArray = oldest + np.flatnonzero(self._usable[oldest : block[0]])
        return context

    def _pack(self, blocks: list[IntArray], contexts: list[IntArray]) -> Pack:
        service = self._instances[self._code[blocks[0][0]]].service
        entries = [self._entry(block, context) for block, context in zip(blocks, contexts, strict=True)]
        data = encode_pack(service, self._features, entries, self._kind)
        if len(data) > MAX_PACK_BYTES:
            raise StreamError(
                f"a row of {entries[0]['id']} has {len(data)} bytes with its context, the function takes at most "
                f"{MAX_PACK_BYTES}: use a model with fewer metrics"
            )
        values = sum(int((~np.isnan(self._values[block])).sum()) for block in blocks)
        return Pack(service, data, sum(map(len, blocks)), values)

    def _entry(self, block: IntArray, context: IntArray) -> "PackedInstance":
        entry_rows = np.concatenate([context, block])
        instance = self._instances[self._code[block[0]]]
        columns = [
            [None if value != value else value for value in column] for column in self._values[entry_rows].T.tolist()
        ]
        return {
            "id": instance.instance_id,
            "role": instance.role,
            "newest": len(block),
            "ts": self._ms[entry_rows].tolist(),
            "columns": columns,
        }

    def _refuse_duplicates(self) -> None:
        repeated = np.flatnonzero((np.diff(self._code) == 0) & (np.diff(self._ms) == 0))
        if len(repeated):
            first = repeated[0]
            name, moment = self._instances[self._code[first]].instance_id, clock.iso(int(self._ms[first]))
            raise StreamError(f"{name} has two rows of {moment}: keep one of them")


def _values(rows: pd.DataFrame, features: tuple[str, ...]) -> FloatArray:
    """Return the features of all rows as floats (n, d), NaN if missing.

    An infinite value becomes the largest float, because JSON has no infinity.
    """
    missing = [name for name in features if name not in rows.columns]
    if missing:
        raise StreamError(f"the rows have no {missing[0]}, which the model needs: add it to the catalogue")
    try:
        values: FloatArray = rows[list(features)].to_numpy(dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise StreamError(f"the rows have a value that is not a number: {error}") from error
    return np.nan_to_num(values, nan=np.nan)


def _first_rows(code: IntArray, ms: IntArray, context_rows: int, max_gap_ms: int) -> IntArray:
    """Return the index of the oldest row of each row's context."""
    index = np.arange(len(ms))
    is_first = np.ones(len(ms), dtype=bool)
    is_first[1:] = (np.diff(code) != 0) | (np.diff(ms) > max_gap_ms)
    segment_start = np.maximum.accumulate(np.where(is_first, index, 0)) if len(ms) else index
    first: IntArray = np.maximum(segment_start, index - context_rows + 1)
    return first

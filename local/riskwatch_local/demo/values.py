"""The values of the demo: those that entered are kept or refused, in the export and in the stream.

A value is a number of a metric; a missing one is none. A refused row refuses all its values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

from riskwatch_ml.schema import metric_rows
from riskwatch_ml.storage import keys

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from riskwatch_ml.schema.catalogue import Catalogue
    from riskwatch_ml.storage.bucket import Store


class ValueCounts(TypedDict):
    """Values that entered, and what became of them.

    `refused_alone` counts the refused values of rows that stayed; `refused` includes those of refused rows.
    """

    received: int
    kept: int
    refused: int
    refused_alone: int


def exported(store: Store, metrics: Catalogue, start: datetime, end: datetime) -> ValueCounts:
    """Count the values of the exported rows of a kind with start <= timestamp < end, as the bucket has them."""
    counts = {
        layer: metric_rows.count_values(store.read_hours(keys.of_kind(layer, metrics), start, end))
        for layer in (keys.RAW, keys.VALIDATED, keys.QUARANTINE)
    }
    alone = len(store.read_hours(keys.of_kind(keys.REFUSED_VALUES, metrics), start, end))
    return {
        "received": counts[keys.RAW],
        "kept": counts[keys.VALIDATED],
        "refused": counts[keys.QUARANTINE] + alone,
        "refused_alone": alone,
    }


def streamed(
    sent: int, labelled: Sequence[Mapping[str, Any]], refused: Sequence[Mapping[str, Any]], catalogue: Catalogue
) -> ValueCounts:
    """Count the values of the streamed rows of a kind: `sent` to the stream, the others as the function stored them."""
    alone = sum(len(row["refused_values"]) for row in labelled)
    return {
        "received": sent,
        "kept": sum(row.get(name) is not None for row in labelled for name in catalogue.names),
        "refused": alone + sum(record["values"] for record in refused),
        "refused_alone": alone,
    }


def total(counts: Iterable[ValueCounts]) -> ValueCounts:
    """Return the sums of the counts of several kinds."""
    every = list(counts)
    return {
        "received": sum(item["received"] for item in every),
        "kept": sum(item["kept"] for item in every),
        "refused": sum(item["refused"] for item in every),
        "refused_alone": sum(item["refused_alone"] for item in every),
    }


def adds_up(counts: ValueCounts) -> bool:
    """Return whether every value was kept or refused, and there was one."""
    return 0 < counts["received"] == counts["kept"] + counts["refused"]


def line(counts: ValueCounts) -> str:
    """Return the line of the summary."""
    return "{received} = {kept} kept + {refused} refused, {refused_alone} of them without their row".format(**counts)

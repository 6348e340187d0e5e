"""The rows, values, episodes and incidents of the demo by kind."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from riskwatch_local.demo import values
from riskwatch_ml.schema import catalogue, metric_rows
from riskwatch_ml.storage import keys

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from riskwatch_local.demo.figures import IncidentFigures, KindIncidents, KindStream, RowCounts
    from riskwatch_local.demo.publish import KindRows
    from riskwatch_ml.schema.catalogue import Catalogue
    from riskwatch_ml.storage.bucket import Store

# The key of labelled rows and refused records with their kind.
KIND = "resource_kind"


def exported(store: Store, metrics: Catalogue, start: datetime, end: datetime) -> RowCounts:
    """Count the rows of a kind with start <= timestamp < end in the bucket."""
    return {
        "exported": len(store.read_hours(keys.of_kind(keys.RAW, metrics), start, end)),
        "validated": len(store.read_hours(keys.of_kind(keys.VALIDATED, metrics), start, end)),
        "quarantined": len(store.read_hours(keys.of_kind(keys.QUARANTINE, metrics), start, end)),
    }


def total(counts: Iterable[RowCounts]) -> RowCounts:
    """Return the sums of the counts of several kinds."""
    every = list(counts)
    return {
        "exported": sum(item["exported"] for item in every),
        "validated": sum(item["validated"] for item in every),
        "quarantined": sum(item["quarantined"] for item in every),
    }


def streamed(
    newest: Sequence[KindRows],
    sent: Mapping[str, int],
    labelled: Sequence[Mapping[str, Any]],
    refused: Sequence[Mapping[str, Any]],
) -> dict[str, KindStream]:
    """Count the streamed rows and values of each kind.

    `newest` are the rows to stream, `sent` counts those with a value; the others are as the function stored them. A
    labelled row or refused record that names no kind is of the first one.
    """
    first = newest[0].catalogue.kind
    result: dict[str, KindStream] = {}
    for metrics, rows in newest:
        of_kind = [row for row in labelled if (row.get(KIND) or first) == metrics.kind]
        parts = [part for part in refused if (part.get(KIND) or first) == metrics.kind]
        result[metrics.kind] = {
            "sent": sent[metrics.kind],
            "labelled": len(of_kind),
            "quarantined": sum(part["rows"] for part in parts),
            "values": values.streamed(metric_rows.count_values(rows), of_kind, parts, metrics),
        }
    return result


def instances(names: Iterable[str], kinds: Sequence[Catalogue]) -> Counter[str]:
    """Count instance ids, repeated ones too, by kind."""
    return Counter(catalogue.of_instance(name, kinds).kind for name in names)


def incidents(matched: IncidentFigures | None, kinds: Sequence[Catalogue]) -> dict[str, KindIncidents | None]:
    """Count the incidents of each kind; None if they are unknown."""
    if matched is None:
        return dict.fromkeys((metrics.kind for metrics in kinds), None)
    made = instances((item["instance_id"] for item in matched["list"]), kinds)
    met = instances((item["instance_id"] for item in matched["list"] if item["met"]), kinds)
    return {metrics.kind: {"made": made[metrics.kind], "met": met[metrics.kind]} for metrics in kinds}

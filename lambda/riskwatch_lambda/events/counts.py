"""Figures of a batch: labelled rows by risk, values by outcome, latencies."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from riskwatch_lambda.scoring.labelled_row import RISKS, risk_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from riskwatch_lambda.episodes.episode import Scored
    from riskwatch_lambda.events.batch import EpisodeIds, Labelled, QuarantinedRecord
    from riskwatch_lambda.events.delivery import Delivery
    from riskwatch_lambda.model.document import Model


def event_time(scored: Scored) -> int:
    """Return the time of a scored row in epoch milliseconds."""
    return scored.record.ts[-1]


def row_counts(labelled: Sequence[Labelled], episode_ids: EpisodeIds) -> dict[str, int]:
    """Return the numbers of labelled rows: all, by risk, unusual, no context."""
    risks = Counter(
        risk_of(scored.verdict.level, episode_ids[scored.record.instance_id, event_time(scored)])
        for _, scored in labelled
    )
    return {
        "RowsLabelled": len(labelled),
        **{f"Rows{risk.replace(' ', '')}": risks[risk] for risk in RISKS},
        "RowsUnusual": sum(scored.verdict.unusual for _, scored in labelled),
        "RowsWithoutContext": sum(not scored.verdict.context for _, scored in labelled),
    }


def value_counts(labelled: Sequence[Labelled], refused: Sequence[QuarantinedRecord]) -> dict[str, int]:
    """Return the numbers of values: kept, refused, and missing in labelled rows.

    Values in = kept + refused. A refused row refuses all its values; the values of a record that cannot be read are
    unknown. A refused value of a labelled row is missing, too.
    """
    rows = [scored.record for _, scored in labelled]
    missing = [len(scored.verdict.missing) for _, scored in labelled]
    of_rows = sum(len(values) for record in rows for values in record.refused_values.values())
    return {
        "ValuesKept": sum(len(record.rows[-1]) for record in rows) - sum(missing),
        "ValuesRefused": of_rows + sum(document["values"] for document in refused),
        "ValuesMissing": sum(missing),
        "RowsIncomplete": sum(map(bool, missing)),
    }


def latencies_ms(
    deliveries: Sequence[Delivery], labelled: Sequence[Labelled], parts: Mapping[str, Model], done_ms: int
) -> dict[str, int]:
    """Return the latencies of a batch in milliseconds.

    They are those of the oldest record since its put, and of the newest row since the end of its period. Older rows do
    not count, since they may be sent late on purpose, for example to catch up.
    """
    waits = {"PutToDone": done_ms - min(delivery.arrived_ms for delivery in deliveries)}
    if labelled:
        newest = max((scored for _, scored in labelled), key=event_time)
        period_s = parts[newest.record.resource_kind].period_s
        waits["DatapointToDone"] = done_ms - event_time(newest) - period_s * 1000
    # Clocks of different machines may make a latency negative.
    return {name: max(0, ms) for name, ms in waits.items()}

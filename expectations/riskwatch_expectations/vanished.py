"""Metrics that vanished and have not come back.

The suite that finds them compares with the day before. A day after a metric vanished, that day has no value of it
either, and the suite finds nothing. So the bucket keeps what vanished, and each validation finds it again until a value
comes, the catalogue drops the metric, or its instance has sent no rows for two weeks.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypedDict

from riskwatch_expectations.validate import VANISHED, Finding
from riskwatch_ml.core import clock
from riskwatch_ml.storage import keys

if TYPE_CHECKING:
    import pandas as pd

    from riskwatch_expectations.validate import Interval, Validation
    from riskwatch_ml.schema.catalogue import Catalogue
    from riskwatch_ml.storage.bucket import Store

KEPT = timedelta(days=14)  # CloudWatch lists a metric for about as long


class Memory(TypedDict):
    """What has vanished until `end`: the time since when, by instance and metric. Times are ISO 8601 in UTC."""

    end: str
    since: dict[str, dict[str, str]]


def _memory(value: Any) -> Memory:
    clock.parse(value["end"])
    since = {str(name): {str(m): str(at) for m, at in metrics.items()} for name, metrics in value["since"].items()}
    return {"end": value["end"], "since": since}


def remember(store: Store, catalogue: Catalogue, interval: Interval, part: str, outcome: Validation) -> Validation:
    """Return the validation with a finding for each metric that vanished before and is still missing.

    The memory of the part follows. An interval that ends before the newest one of the memory neither reads nor changes
    it.
    """
    key = keys.vanished(part, catalogue)
    before = store.get_state(key, _memory) or {"end": clock.iso(interval.end), "since": {}}
    if clock.parse(before["end"]) > clock.utc(interval.end):
        return outcome
    fresh = {(one.instance_id, one.metric) for one in outcome.findings if one.check == VANISHED}
    kept = _still_missing(before["since"], outcome.validated, catalogue, interval)
    again = [
        Finding(VANISHED, "warning", f"{name}: {metric} has had no values since {since}", name, metric)
        for name, metrics in kept.items()
        for metric, since in metrics.items()
        if (name, metric) not in fresh and (outcome.validated["instance_id"] == name).any()
    ]
    for name, metric in fresh:
        if name is not None and metric is not None:
            kept.setdefault(name, {}).setdefault(metric, clock.iso(interval.start))
    after: Memory = {"end": clock.iso(interval.end), "since": kept}
    if kept or before["since"]:
        store.put_json(key, after)
    return replace(outcome, findings=(*outcome.findings, *again))


def _still_missing(
    since: dict[str, dict[str, str]], rows: pd.DataFrame, catalogue: Catalogue, interval: Interval
) -> dict[str, dict[str, str]]:
    """Return the part of the memory that no value of the rows, the catalogue or the time ends."""
    kept: dict[str, dict[str, str]] = {}
    for name, metrics in since.items():
        of_instance = rows[rows["instance_id"] == name]
        for metric, moment in metrics.items():
            has_value = metric in rows.columns and bool(of_instance[metric].notna().any())
            left = of_instance.empty and interval.end - clock.parse(moment) > KEPT
            if metric in catalogue.names and not has_value and not left:
                kept.setdefault(name, {})[metric] = moment
    return kept

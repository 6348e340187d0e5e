"""When drift asks for a retrain: two of three reports in a row."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from riskwatch_ml.core import clock
from riskwatch_ml.storage import keys

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from riskwatch_ml.storage.bucket import Store

REPORTS = 3
VIOLATIONS = 2
SPAN = timedelta(hours=24)


def retrain_wanted(report: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether a report and enough of the two before it violate, and no other has asked for a retrain.

    `others` are the reports of other runs within a day of this one, oldest first. Only those of the same model can
    support it; a request for any model stands against it.
    """
    if any(item["retrain"] for item in others) or not report["distribution"]["violated"]:
        return False
    before = [item for item in others if item["model_id"] == report["model_id"] and item["at"] < report["at"]]
    violations = 1 + sum(bool(item["distribution"]["violated"]) for item in before[-(REPORTS - 1) :])
    return violations >= VIOLATIONS


def other_reports(store: Store, key: str, moment: datetime) -> list[dict[str, Any]]:
    """Return the reports of other runs than that of `key` within a day of the moment, oldest first."""
    prefixes = [keys.reports_of(moment + timedelta(days=shift)) for shift in (-1, 0, 1)]
    found = [store.get_json(other) for prefix in prefixes for other in store.keys(prefix) if other != key]
    return [item for item in found if item and abs(clock.parse(item["at"]) - moment) < SPAN]

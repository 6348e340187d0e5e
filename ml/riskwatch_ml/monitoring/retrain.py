"""The requests of a watch report: a retrain after drift, a refresh once an open episode may be learned as normal."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict, cast

from riskwatch_ml.core import clock
from riskwatch_ml.monitoring.alert_volume import AlertVolume
from riskwatch_ml.storage import keys

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from riskwatch_ml.monitoring.drift import DriftReport
    from riskwatch_ml.storage.bucket import Store

REPORTS = 3
VIOLATIONS = 2
SPAN = timedelta(hours=24)


class RecentAlerts(AlertVolume):
    """The alert volume of the UTC days (``YYYY-MM-DD``) that a report covers."""

    days: list[str]


class WatchReport(TypedDict):
    """The stored report of one run of `watch_model`.

    `rows` counts the labelled rows of the model in service. `at` is the time that the run was due (ISO 8601, UTC).
    `retrain` is true if the report requests a retrain, `reason` says why it would. `findings` say in words what keeps
    the report from measuring what serves. `to_learn` are the ids of the open episodes that a training would learn as
    normal. Reports of earlier releases have neither.
    """

    at: str
    model_id: str
    rows: int
    distribution: DriftReport
    alerts: RecentAlerts
    retrain: bool
    reason: str
    findings: NotRequired[list[str]]
    to_learn: NotRequired[list[str]]


def retrain_wanted(report: WatchReport, others: Sequence[WatchReport]) -> bool:
    """Return whether a report requests a retrain.

    It does if it and one of the two before it violate the drift limit. `others` are the
    reports of other runs within a day of it, oldest first. Only reports of the same model support it. The result is
    False if one of the others, of any model, has requested a retrain.
    """
    if any(other["retrain"] for other in others) or not report["distribution"]["violated"]:
        return False
    before = [other for other in others if other["model_id"] == report["model_id"] and other["at"] < report["at"]]
    violations = 1 + sum(bool(other["distribution"]["violated"]) for other in before[-(REPORTS - 1) :])
    return violations >= VIOLATIONS


def new_to_learn(report: WatchReport, others: Sequence[WatchReport]) -> list[str]:
    """Return the episodes of ``to_learn`` that none of the ``others`` before the report has named.

    A refresh is requested for them once; whatever comes of it, the daily training learns them.
    """
    known = {name for other in others if other["at"] < report["at"] for name in other.get("to_learn", [])}
    return [name for name in report.get("to_learn", []) if name not in known]


def other_reports(store: Store, key: str, moment: datetime) -> list[WatchReport]:
    """Return the reports within a day of a moment (UTC) except that at `key`.

    They are sorted by time, oldest first.
    """
    prefixes = [keys.reports_of(moment + timedelta(days=shift)) for shift in (-1, 0, 1)]
    listed = (other for prefix in prefixes for other in store.keys(prefix) if other != key)
    reports = (store.get_state(other, _report) for other in listed)
    return [report for report in reports if report and abs(clock.parse(report["at"]) - moment) < SPAN]


def _report(value: Any) -> WatchReport:
    """Return a stored report, with what `retrain_wanted` reads of it checked."""
    checked = {
        "at": clock.iso(clock.parse(value["at"])),
        "model_id": str(value["model_id"]),
        "retrain": bool(value["retrain"]),
        "distribution": {**value["distribution"], "violated": bool(value["distribution"]["violated"])},
    }
    return cast("WatchReport", {**value, **checked})

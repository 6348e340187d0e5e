"""The stored report of the watch: what it measures of each part of the model in service.

The fields of the first kind are the top level of a report, those of each other kind are under `kinds`. So a report of
an installation with one kind has no `kinds`, as those of earlier releases.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict, cast

from riskwatch_ml.core import clock
from riskwatch_ml.monitoring import drift
from riskwatch_ml.monitoring.alert_volume import AlertVolume
from riskwatch_ml.storage import keys

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    import pandas as pd

    from riskwatch_ml.model.document import ModelDocument
    from riskwatch_ml.monitoring.drift import DriftReport
    from riskwatch_ml.storage.bucket import Store

SPAN = timedelta(hours=24)
COLUMNS = ("level", "unusual", "model_id")
"""The columns of labelled rows that a report needs, beside instance and time."""


class RecentAlerts(AlertVolume):
    """The alert volume of the UTC days (``YYYY-MM-DD``) that a report covers, of all kinds together."""

    days: list[str]


class KindReport(TypedDict):
    """The measurement of one part of the model.

    `rows` counts the labelled rows of the part. `retrain` is true if the report requests a retrain of the kind.
    `to_learn` are the ids of the open episodes that a training of the kind would learn as normal.
    """

    model_id: str
    rows: int
    distribution: DriftReport
    retrain: bool
    to_learn: NotRequired[list[str]]  # earlier releases did not list them


class DatedReport(KindReport):
    """The measurement of one part at the time that the run was due (ISO 8601, UTC)."""

    at: str


class WatchReport(DatedReport):
    """The stored report of one run of `watch_model`.

    `reason` says why it would request a retrain. `findings` say in words what keeps the report from measuring what
    serves. `kinds` has the reports of all parts of the model but the first.
    """

    alerts: RecentAlerts
    reason: str
    findings: NotRequired[list[str]]  # earlier releases had none
    kinds: NotRequired[dict[str, KindReport]]  # one part


def measure(rows: pd.DataFrame, model: ModelDocument) -> KindReport:
    """Return the report of one part, from rows that it labelled; it requests nothing yet.

    Raises DriftError as `drift.report` does.
    """
    return {
        "model_id": model["model_id"],
        "rows": len(rows),
        "distribution": drift.report(rows, model["reference"]),
        "retrain": False,
    }


def of_kind(reports: Sequence[WatchReport], kind: str) -> list[DatedReport]:
    """Return the reports of a kind that is not the first one, those without the kind left out."""
    listed = ((report["at"], report.get("kinds", {}).get(kind)) for report in reports)
    return [{**part, "at": at} for at, part in listed if part is not None]


def others(store: Store, key: str, moment: datetime) -> list[WatchReport]:
    """Return the reports within a day of a moment (UTC) except that at `key`.

    They are sorted by time, oldest first.
    """
    prefixes = [keys.reports_of(moment + timedelta(days=shift)) for shift in (-1, 0, 1)]
    listed = (other for prefix in prefixes for other in store.keys(prefix) if other != key)
    reports = (store.get_state(other, _report) for other in listed)
    return [report for report in reports if report and abs(clock.parse(report["at"]) - moment) < SPAN]


def _report(value: Any) -> WatchReport:
    """Return a stored report, with what `retrain_wanted` reads of it checked."""
    further = value.get("kinds", {})
    checked = {"at": clock.iso(clock.parse(value["at"])), **_kind_report(value)}
    kinds = {"kinds": {kind: _kind_report(part) for kind, part in further.items()}} if further else {}
    return cast("WatchReport", {**value, **checked, **kinds})


def _kind_report(value: Any) -> KindReport:
    distribution = {**value["distribution"], "violated": bool(value["distribution"]["violated"])}
    checked = {"model_id": str(value["model_id"]), "retrain": bool(value["retrain"]), "distribution": distribution}
    return cast("KindReport", {**value, **checked})

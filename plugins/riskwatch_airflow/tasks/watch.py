"""Tasks of watch_model: compaction of labelled rows, the report on drift and alert volume, the retrain request."""

from __future__ import annotations

import logging
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from riskwatch_airflow import clients, intervals
from riskwatch_airflow.assets import RETRAIN_REQUEST
from riskwatch_ml.core import clock, settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from riskwatch_ml.core.settings import Settings
    from riskwatch_ml.storage.bucket import Store

SPAN = timedelta(hours=24)
REPORTS = 3
VIOLATIONS = 2
_log = logging.getLogger(__name__)


def compact() -> dict[str, Any]:
    """Bring the labelled rows that arrived since the last run into `labelled/rows/`; return counts."""
    from riskwatch_ml.storage import labelled_rows

    done = asdict(labelled_rows.compact(clients.store(settings.load()), clock.now()))
    unreadable = done.pop("unreadable", ())
    for key in unreadable:
        _log.warning("%s cannot be read as labelled rows", key)
    return {**done, "unreadable": len(unreadable)}


def measure(context: Mapping[str, Any]) -> dict[str, Any]:
    """Compare the labels of the last 24 hours with the champion's training and count alerts; write `watch/`.

    The report belongs to the run: a retry, or a run that is cleared later, writes the same report about the same 24
    hours again. A retrain is asked for when the operator says so, or as `retrain_wanted` decides. Skips where no model
    is in service.
    """
    from riskwatch_ml.monitoring import drift
    from riskwatch_ml.storage import labelled_rows

    config = settings.load()
    store = clients.store(config)
    model = _champion(config, store)
    moment = intervals.due(context)
    key = f"watch/{clock.iso(moment)}.json"
    rows = labelled_rows.recent(store, moment - SPAN, moment, columns=("level", "unusual", "model_id"))
    # Rows that an earlier model labelled would be held against a reference that is not theirs.
    own = rows[rows["model_id"] == model["model_id"]]
    days = [f"{moment - timedelta(days=back):%Y-%m-%d}" for back in (1, 0)]
    alerts = labelled_rows.alert_volume(clients.client(config, "dynamodb"), config.table, days)
    by_hand = bool((context.get("params") or {}).get("retrain"))
    report = {
        "at": clock.iso(moment),
        "model_id": model["model_id"],
        "rows": len(own),
        "distribution": drift.report(own, model["reference"]),
        "alerts": {"days": days, **alerts},
    }
    report["retrain"] = by_hand or retrain_wanted(report, _others(store, key, moment))
    report["reason"] = "asked for by an operator" if by_hand else "label distribution"
    store.put_json(key, report)
    _log.info("%s: %s", key, report)
    return {"key": key, **{name: report[name] for name in ("model_id", "rows", "retrain", "reason")}}


def retrain_wanted(report: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether a report and enough of the two before it violate, and no other has asked for a retrain.

    `others` are the reports of other runs within a day of this one, oldest first. Only those of the same model can
    support it; a request for any model stands against it.
    """
    if any(item["retrain"] for item in others) or not report["distribution"]["violated"]:
        return False
    before = [item for item in others if item["model_id"] == report["model_id"] and item["at"] < report["at"]]
    return 1 + sum(item["distribution"]["violated"] for item in before[-(REPORTS - 1) :]) >= VIOLATIONS


def request(context: Mapping[str, Any], report: Mapping[str, Any]) -> dict[str, Any]:
    """Announce a retrain request where the report asks for one; skip otherwise."""
    if not report["retrain"]:
        raise AirflowSkipException("no retrain is asked for")
    told = {name: report[name] for name in ("key", "model_id", "reason")}
    context["outlet_events"][RETRAIN_REQUEST].extra.update(told)
    return told


def _others(store: Store, key: str, moment: datetime) -> list[dict[str, Any]]:
    """Give the reports of other runs within a day of the moment, oldest first."""
    days = [f"{moment + timedelta(days=shift):%Y-%m-%d}" for shift in (-1, 0, 1)]
    found = [store.get_json(other) for day in days for other in store.keys(f"watch/{day}") if other != key]
    return [item for item in found if item and abs(clock.parse(item["at"]) - moment) < SPAN]


def _champion(config: Settings, store: Store) -> dict[str, Any]:
    from riskwatch_ml.artifact import archive
    from riskwatch_ml.registry import mlflow_registry

    champion = mlflow_registry.champion(config)
    if champion is None:
        raise AirflowSkipException("no model is in service yet: there is nothing to watch")
    for key in (f"artifacts/{champion.digest}.zip", champion.s3_key):
        zip_bytes = store.get_bytes(key)
        if zip_bytes is not None:
            return dict(archive.unpack(zip_bytes)[0])
    raise AirflowFailException(
        f"the artifact of the champion, version {champion.version}, is neither under artifacts/ nor {champion.s3_key}: "
        "restore it from the bucket's versions, or promote another model"
    )

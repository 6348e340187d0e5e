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
from riskwatch_ml.storage import keys

if TYPE_CHECKING:
    from collections.abc import Mapping

    from riskwatch_ml.core.settings import Settings
    from riskwatch_ml.storage.bucket import Store

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
    from riskwatch_ml.monitoring import alert_volume, drift, retrain
    from riskwatch_ml.storage import labelled_rows

    config = settings.load()
    store = clients.store(config)
    model = _champion(config, store)
    moment = intervals.due(context)
    key = keys.report(moment)
    rows = labelled_rows.recent(store, moment - retrain.SPAN, moment, columns=("level", "unusual", "model_id"))
    # Rows that an earlier model labelled would be held against a reference that is not theirs.
    own = rows[rows["model_id"] == model["model_id"]]
    days = [f"{moment - timedelta(days=back):%Y-%m-%d}" for back in (1, 0)]
    alerts = alert_volume.count(clients.client(config, "dynamodb"), config.table, days)
    by_hand = bool((context.get("params") or {}).get("retrain"))
    report = {
        "at": clock.iso(moment),
        "model_id": model["model_id"],
        "rows": len(own),
        "distribution": drift.report(own, model["reference"]),
        "alerts": {"days": days, **alerts},
    }
    report["retrain"] = by_hand or retrain.retrain_wanted(report, retrain.other_reports(store, key, moment))
    report["reason"] = "asked for by an operator" if by_hand else "label distribution"
    store.put_json(key, report)
    _log.info("%s: %s", key, report)
    return {"key": key, **{name: report[name] for name in ("model_id", "rows", "retrain", "reason")}}


def request(context: Mapping[str, Any], report: Mapping[str, Any]) -> dict[str, Any]:
    """Announce a retrain request where the report asks for one; skip otherwise."""
    if not report["retrain"]:
        raise AirflowSkipException("no retrain is asked for")
    told = {name: report[name] for name in ("key", "model_id", "reason")}
    context["outlet_events"][RETRAIN_REQUEST].extra.update(told)
    return told


def _champion(config: Settings, store: Store) -> dict[str, Any]:
    from riskwatch_ml.artifact import archive
    from riskwatch_ml.registry import champion, mlflow_registry

    version = mlflow_registry.champion(config)
    if version is None:
        raise AirflowSkipException("no model is in service yet: there is nothing to watch")
    try:
        zip_bytes = champion.artifact(store, version=version.version, digest=version.digest, s3_key=version.s3_key)
    except champion.MissingArtifactError as error:
        raise AirflowFailException(str(error)) from error
    return dict(archive.unpack(zip_bytes)[0])

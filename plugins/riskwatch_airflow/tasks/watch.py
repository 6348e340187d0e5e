"""Tasks of watch_model: compaction of labelled rows, the report on drift and alert volume, the retrain request."""

from __future__ import annotations

import logging
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from ml import clock, settings
from riskwatch_airflow import clients
from riskwatch_airflow.assets import RETRAIN_REQUEST

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ml.settings import Settings
    from ml.store import Store

SPAN = timedelta(hours=24)
REPORTS = 3
VIOLATIONS = 2
_log = logging.getLogger(__name__)


def compact() -> dict[str, Any]:
    """Bring the labelled rows that arrived since the last run into `labelled/rows/`; return counts."""
    from ml import labelled

    done = asdict(labelled.compact(clients.store(settings.load()), clock.now()))
    unreadable = done.pop("unreadable", ())
    for key in unreadable:
        _log.warning("%s cannot be read as labelled rows", key)
    return {**done, "unreadable": len(unreadable)}


def measure(context: Mapping[str, Any]) -> dict[str, Any]:
    """Compare the labels of the last 24 hours with the champion's training and count alerts; write `watch/`.

    A retrain is asked for when the operator says so, or when the newest report and at least one of the two before it
    violate the limit and no request was made within a day. Skips where no model is in service.
    """
    from ml import drift, labelled

    config = settings.load()
    store = clients.store(config)
    model = _champion(config, store)
    now = clock.now()
    rows = labelled.recent(store, now - SPAN, now)
    # Rows that an earlier model labelled would be held against a reference that is not theirs.
    own = rows[rows["model_id"] == model["model_id"]]
    distribution = drift.report(own, model["reference"])
    days = [f"{now - timedelta(days=back):%Y-%m-%d}" for back in (1, 0)]
    alerts = labelled.alert_volume(clients.client(config, "dynamodb"), config.table, days)
    earlier = [store.get_json(key) for key in store.keys("watch/")[-int(SPAN / timedelta(hours=1)) :]]
    by_hand = bool((context.get("params") or {}).get("retrain"))
    report = {
        "at": clock.iso(now),
        "model_id": model["model_id"],
        "rows": len(own),
        "distribution": distribution,
        "alerts": {"days": days, **alerts},
        "retrain": by_hand or retrain_wanted(distribution, [item for item in earlier if item], model["model_id"]),
        "reason": "asked for by an operator" if by_hand else "label distribution",
    }
    key = f"watch/{report['at']}.json"
    store.put_json(key, report)
    _log.info("%s: %s", key, report)
    return {"key": key, **{name: report[name] for name in ("model_id", "rows", "retrain", "reason")}}


def retrain_wanted(newest: Mapping[str, Any], earlier: Sequence[Mapping[str, Any]], model_id: str) -> bool:
    """Return whether the newest report of a model and enough of the two before it violate, and none has asked yet.

    `earlier` are the reports of the last day, oldest first.
    """
    own = [item for item in earlier if item["model_id"] == model_id]
    if any(item["retrain"] for item in own) or not newest["violated"]:
        return False
    recent = [item["distribution"]["violated"] for item in own][-(REPORTS - 1) :]
    return 1 + sum(recent) >= VIOLATIONS


def request(context: Mapping[str, Any], report: Mapping[str, Any]) -> dict[str, Any]:
    """Announce a retrain request where the report asks for one; skip otherwise."""
    if not report["retrain"]:
        raise AirflowSkipException("no retrain is asked for")
    told = {name: report[name] for name in ("key", "model_id", "reason")}
    context["outlet_events"][RETRAIN_REQUEST].extra.update(told)
    return told


def _champion(config: Settings, store: Store) -> dict[str, Any]:
    from ml import artifact, tracking

    champion = tracking.champion(config)
    if champion is None:
        raise AirflowSkipException("no model is in service yet: there is nothing to watch")
    for key in (f"artifacts/{champion.digest}.zip", champion.s3_key):
        zip_bytes = store.get_bytes(key)
        if zip_bytes is not None:
            return dict(artifact.unpack(zip_bytes)[0])
    raise AirflowFailException(
        f"the artifact of the champion, version {champion.version}, is neither under artifacts/ nor {champion.s3_key}: "
        "restore it from the bucket's versions, or promote another model"
    )

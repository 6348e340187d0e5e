"""Tasks of watch_model: compaction of labelled rows, the report on drift and alert volume, the retrain request."""

from __future__ import annotations

import logging
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, cast

from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from riskwatch_airflow import agreement, clients, intervals, operations, past_episodes
from riskwatch_airflow.assets import RETRAIN_REQUEST, announce
from riskwatch_ml.core import clock, settings
from riskwatch_ml.core.listing import some
from riskwatch_ml.schema import catalogue
from riskwatch_ml.storage import keys

if TYPE_CHECKING:
    from datetime import datetime

    import pandas as pd
    from airflow.sdk import Context

    from riskwatch_airflow.handoff import CompactionCounts, RetrainRequest, WatchSummary
    from riskwatch_ml.core.settings import Settings
    from riskwatch_ml.model.document import ModelDocument
    from riskwatch_ml.monitoring.retrain import WatchReport
    from riskwatch_ml.registry.serving import Serving
    from riskwatch_ml.storage.bucket import Store

UNREADABLE = "Riskwatch: labelled rows cannot be read"
UNREADABLE_ADVICE = (
    "The rows of these objects are missing in the table until they are restored from their versions. Each hourly run "
    "of watch_model tries again for two days, and then gives the rows up."
)
NAMES = 5  # episodes that a request names

_log = logging.getLogger(__name__)


def compact() -> CompactionCounts:
    """Bring the labelled rows that arrived since the last run into `labelled/rows/`; return counts.

    Objects that cannot be read are reported to the operations topic once.
    """
    from riskwatch_ml.storage import labelled_rows

    config = settings.load()
    store = clients.store(config)
    compacted = labelled_rows.compact(store, clock.now())
    problems = {key: f"s3://{store.bucket}/{key} cannot be read" for key in compacted.unreadable}
    operations.report_changes(
        *(config, store, keys.REPORTED_UNREADABLE, UNREADABLE, problems, UNREADABLE_ADVICE),
        gone="restored, or given up after two days",
    )
    return cast("CompactionCounts", {**asdict(compacted), "unreadable": len(compacted.unreadable)})


def measure(context: Context) -> WatchSummary:
    """Compare the labels of the last 24 hours with the training of what serves, count alerts; write `watch/`.

    The model is the one behind the alias. Disagreements about what serves, and a model that labelled no row, are
    findings of the report.

    The report belongs to the run: a retry, or a run that is cleared later, writes the same report about the same 24
    hours again. It requests a retrain if an operator does, or as `retrain_wanted` decides, and a refresh if an episode
    has been open for `new_normal_hours`. Raises AirflowSkipException if no model is in service.
    """
    from riskwatch_ml.monitoring import alert_volume, drift, retrain
    from riskwatch_ml.storage import labelled_rows

    config = settings.load()
    store = clients.store(config)
    serving = agreement.checked(config, store)
    model = _model(store, serving)
    moment = intervals.due(context)
    key = keys.report(moment)
    rows = labelled_rows.recent(store, moment - retrain.SPAN, moment, columns=("level", "unusual", "model_id"))
    # Rows that an earlier model labelled have another reference.
    model_rows = rows[rows["model_id"] == model["model_id"]]
    days = [f"{moment - timedelta(days=back):%Y-%m-%d}" for back in (1, 0)]
    alerts = alert_volume.count(clients.client(config, "dynamodb"), config.table, days)
    by_hand = bool((context.get("params") or {}).get("retrain"))
    report: WatchReport = {
        "at": clock.iso(moment),
        "model_id": model["model_id"],
        "rows": len(model_rows),
        "distribution": drift.report(model_rows, model["reference"]),
        "alerts": {"days": days, **alerts},
        "retrain": by_hand,
        "reason": "asked for by an operator" if by_hand else "label distribution",
        "findings": [*serving.texts, *_without_rows(serving, model["model_id"], rows["model_id"])],
    }
    for finding in report["findings"]:
        _log.warning("%s", finding)
    others = retrain.other_reports(store, key, moment)
    if not by_hand:
        report["retrain"] = retrain.retrain_wanted(report, others)
    report["to_learn"] = _to_learn(config, store, moment)
    store.put_json(key, report)
    _log.info("%s: %s", key, report)
    summary = {name: report[name] for name in ("model_id", "rows", "retrain", "reason", "findings")}
    return cast("WatchSummary", {"key": key, **summary, "refresh": retrain.new_to_learn(report, others)})


def _to_learn(config: Settings, store: Store, moment: datetime) -> list[str]:
    """Return the open episodes that a training at a time would learn as normal, sorted.

    A training judges at the end of its rows, and trains the first kind.
    """
    from riskwatch_ml.features.left_out import is_learned

    end = store.end_of_rows(keys.VALIDATED, moment)
    if end is None:
        return []
    kinds, end_ms = catalogue.load_all(config.catalogue), clock.epoch_ms(end)
    return sorted(
        episode.episode_id
        for episode in past_episodes.read(config, moment, moment)
        if episode.is_open
        and is_learned(episode, end_ms, config.new_normal_hours)
        and catalogue.of_instance(episode.instance_id, kinds).is_first
    )


def request(context: Context, report: WatchSummary) -> RetrainRequest:
    """Announce a retrain request if the report requests a retrain or a refresh; skip otherwise."""
    from riskwatch_ml.selection.contest import REFRESH

    to_learn = report.get("refresh", [])
    if not report["retrain"] and not to_learn:
        raise AirflowSkipException("no retrain is requested")
    retrain_request: RetrainRequest = {"key": report["key"], "model_id": report["model_id"], "reason": report["reason"]}
    if not report["retrain"]:
        named = some(to_learn, NAMES)
        retrain_request |= {"kind": REFRESH, "reason": f"open for long enough to be learned as normal: {named}"}
    announce(context, RETRAIN_REQUEST, retrain_request)
    return retrain_request


def _model(store: Store, serving: Serving) -> ModelDocument:
    """Return the model that serves; skip if there is none, fail if its artifact is gone."""
    from riskwatch_ml.artifact import archive
    from riskwatch_ml.registry import champion

    checksum, registered = serving.target.checksum, serving.serving_champion
    if checksum is None:
        reason = "; ".join(serving.texts) or "no model is in service yet"
        raise AirflowSkipException(f"{reason}: there is nothing to watch")
    version = registered.version if registered else f"function version {serving.target.function_version}"
    s3_key = registered.s3_key if registered else keys.artifact(checksum)
    try:
        zip_bytes = champion.artifact(store, version=version, checksum=checksum, s3_key=s3_key)
    except champion.MissingArtifactError as error:
        raise AirflowFailException(str(error)) from error
    document, _ = archive.unpack(zip_bytes)
    return cast("ModelDocument", document)


def _without_rows(serving: Serving, model_id: str, labelled_by: pd.Series) -> list[str]:
    """Return the finding that the model that serves has labelled no row, if so."""
    if (labelled_by == model_id).any():
        return []
    others = labelled_by.value_counts()
    labelled = ", ".join(f"{count} by {other}" for other, count in others.items()) or "none by any other"
    return [
        f"nothing was measured: model {model_id}, which serves as function version {serving.target.function_version}, "
        f"has labelled no row of the last 24 hours ({labelled})"
    ]

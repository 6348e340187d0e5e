"""Tasks of watch_model: compaction of labelled rows, the report on drift and alert volume, the retrain request.

The report measures each part of the model that serves. In an installation with one kind of resource there is one.
"""

from __future__ import annotations

import logging
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple, cast

from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from riskwatch_airflow import agreement, clients, intervals, operations, past_episodes
from riskwatch_airflow.assets import RETRAIN_REQUEST, announce
from riskwatch_ml.core import clock, settings
from riskwatch_ml.core.listing import some
from riskwatch_ml.schema import catalogue
from riskwatch_ml.storage import keys

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    import pandas as pd
    from airflow.sdk import Context

    from riskwatch_airflow.handoff import CompactionCounts, RetrainRequest, WatchSummary
    from riskwatch_ml.core.settings import Settings
    from riskwatch_ml.model.document import ModelDocument
    from riskwatch_ml.monitoring.watch_report import DatedReport, KindReport, RecentAlerts, WatchReport
    from riskwatch_ml.registry.serving import Serving
    from riskwatch_ml.schema.catalogue import Catalogue
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


class _Wanted(NamedTuple):
    """The requests of a run: the kinds to retrain, and the episodes to learn as normal by the kind to refresh."""

    retrain: list[str]
    refresh: dict[str, list[str]]


def measure(context: Context) -> WatchSummary:
    """Compare the labels of the last 24 hours with the training of what serves, count alerts; write `watch/`.

    The model is the one behind the alias; each of its parts is measured by itself. Disagreements about what serves, and
    a part that labelled no row although its kind reports, are findings of the report.

    The report belongs to the run: a retry, or a run that is cleared later, writes the same report about the same 24
    hours again. It requests a retrain if an operator does, or as `retrain_wanted` decides, and a refresh if an episode
    has been open for `new_normal_hours`. Raises AirflowSkipException if no model is in service.
    """
    from riskwatch_ml.monitoring import watch_report

    config = settings.load()
    store, kinds = clients.store(config), catalogue.load_all(config.catalogue)
    serving = agreement.checked(config, store)
    models = _models(store, serving, kinds[0].kind)
    moment = intervals.due(context)
    key = keys.report(moment)
    rows = _rows_by_kind(store, moment, list(models))
    ends = {metrics.kind: store.end_of_rows(keys.of_kind(keys.VALIDATED, metrics), moment) for metrics in kinds}
    # Rows that an earlier model labelled have another reference.
    parts = {
        kind: watch_report.measure(rows[kind][rows[kind]["model_id"] == model["model_id"]], model)
        for kind, model in models.items()
    }
    findings = [*serving.texts, *_without_rows(serving, parts, rows, _reporting(ends, moment))]
    for finding in findings:
        _log.warning("%s", finding)
    to_learn = _to_learn(config, kinds, ends, moment)
    for kind, part in parts.items():
        part["to_learn"] = to_learn.get(kind, [])
    by_hand = bool((context.get("params") or {}).get("retrain"))
    reason = "asked for by an operator" if by_hand else "label distribution"
    wanted = _decide(clock.iso(moment), parts, watch_report.others(store, key, moment), list(ends), by_hand=by_hand)
    report = _report(moment, parts, _alerts(config, kinds, moment), reason, findings)
    store.put_json(key, report)
    _log.info("%s: %s", key, report)
    return _summary(key, report, wanted, names_kinds=len(kinds) > 1 and not by_hand)


def _rows_by_kind(store: Store, moment: datetime, kinds: Sequence[str]) -> dict[str, pd.DataFrame]:
    """Return the labelled rows of the last 24 hours by kind; a row without a kind is of the first one."""
    from riskwatch_ml.monitoring import watch_report
    from riskwatch_ml.storage import labelled_rows

    start = moment - watch_report.SPAN
    if len(kinds) == 1:
        return {kinds[0]: labelled_rows.recent(store, start, moment, columns=watch_report.COLUMNS)}
    rows = labelled_rows.recent(store, start, moment, columns=(*watch_report.COLUMNS, "resource_kind"))
    names = rows["resource_kind"].fillna(kinds[0])
    return {kind: rows[names == kind] for kind in kinds}


def _alerts(config: Settings, kinds: Sequence[Catalogue], moment: datetime) -> RecentAlerts:
    from riskwatch_ml.monitoring import alert_volume

    days = [f"{moment - timedelta(days=back):%Y-%m-%d}" for back in (1, 0)]
    dynamodb = clients.client(config, "dynamodb")
    volume = alert_volume.count(dynamodb, config.table, days, [metrics.kind for metrics in kinds])
    return cast("RecentAlerts", {"days": days, **volume})


def _reporting(ends: Mapping[str, datetime | None], moment: datetime) -> set[str]:
    """Return the kinds with validated rows of the last 24 hours."""
    from riskwatch_ml.monitoring import watch_report

    return {kind for kind, end in ends.items() if end is not None and end > moment - watch_report.SPAN}


def _to_learn(
    config: Settings, kinds: Sequence[Catalogue], ends: Mapping[str, datetime | None], moment: datetime
) -> dict[str, list[str]]:
    """Return the open episodes that a training at a time would learn as normal, by kind and sorted.

    A training of a kind judges at the end of the kind's rows, which `ends` has.
    """
    from riskwatch_ml.features.left_out import is_learned

    to_learn: dict[str, list[str]] = {}
    if not any(ends.values()):
        return to_learn
    for episode in past_episodes.read(config, moment, moment):
        kind = catalogue.of_instance(episode.instance_id, kinds).kind
        end = ends[kind]
        if episode.is_open and end and is_learned(episode, clock.epoch_ms(end), config.new_normal_hours):
            to_learn.setdefault(kind, []).append(episode.episode_id)
    return {kind: sorted(episodes) for kind, episodes in to_learn.items()}


def _decide(
    at: str,
    parts: Mapping[str, KindReport],
    earlier: Sequence[WatchReport],
    trained: Sequence[str],
    *,
    by_hand: bool,
) -> _Wanted:
    """Decide for each part whether a retrain is requested, note it there, and return what the run requests.

    `earlier` are the reports of other runs, `trained` the kinds of the installation: a part of no such kind cannot be
    trained, so nothing is requested for it.
    """
    from riskwatch_ml.monitoring import retrain, watch_report

    wanted = _Wanted([], {})
    for position, (kind, part) in enumerate(parts.items()):
        others = watch_report.of_kind(earlier, kind) if position else earlier
        dated: DatedReport = {**part, "at": at}
        part["retrain"] = by_hand or (kind in trained and retrain.retrain_wanted(dated, others))
        if part["retrain"]:
            wanted.retrain.append(kind)
        if episodes := retrain.new_to_learn(dated, others):
            wanted.refresh[kind] = episodes
    return wanted


def _report(
    moment: datetime, parts: Mapping[str, KindReport], alerts: RecentAlerts, reason: str, findings: list[str]
) -> WatchReport:
    first, *further = parts
    common = {"at": clock.iso(moment), "alerts": alerts, "reason": reason, "findings": findings}
    kinds = {"kinds": {kind: parts[kind] for kind in further}} if further else {}
    return cast("WatchReport", {**parts[first], **common, **kinds})


def _summary(key: str, report: WatchReport, wanted: _Wanted, *, names_kinds: bool) -> WatchSummary:
    """Return the outcome of a report, with the kinds that its request concerns if it names them."""
    summary: WatchSummary = {
        "key": key,
        "model_id": report["model_id"],
        "rows": report["rows"],
        "retrain": bool(wanted.retrain),
        "reason": report["reason"],
        "findings": report["findings"],
        "refresh": [name for names in wanted.refresh.values() for name in names],
    }
    if not names_kinds or not (wanted.retrain or wanted.refresh):
        return summary
    if not wanted.retrain:
        return {**summary, "resource_kinds": list(wanted.refresh)}
    summary |= {"reason": f"{report['reason']} of {', '.join(wanted.retrain)}", "resource_kinds": wanted.retrain}
    beside = [kind for kind in wanted.refresh if kind not in wanted.retrain]
    return {**summary, "refresh_kinds": beside} if beside else summary


def request(context: Context, report: WatchSummary) -> RetrainRequest:
    """Announce a retrain request if the report requests a retrain or a refresh; skip otherwise."""
    from riskwatch_ml.selection.contest import REFRESH

    to_learn = report.get("refresh", [])
    if not report["retrain"] and not to_learn:
        raise AirflowSkipException("no retrain is requested")
    retrain_request: RetrainRequest = {"key": report["key"], "model_id": report["model_id"], "reason": report["reason"]}
    if "resource_kinds" in report:
        retrain_request["resource_kinds"] = report["resource_kinds"]
    if "refresh_kinds" in report:
        retrain_request["refresh_kinds"] = report["refresh_kinds"]
    if not report["retrain"]:
        of_kinds = f" ({', '.join(report['resource_kinds'])})" if "resource_kinds" in report else ""
        reason = f"open for long enough to be learned as normal{of_kinds}: {some(to_learn, NAMES)}"
        retrain_request |= {"kind": REFRESH, "reason": reason}
    announce(context, RETRAIN_REQUEST, retrain_request)
    return retrain_request


def _models(store: Store, serving: Serving, first: str) -> dict[str, ModelDocument]:
    """Return the parts of the model that serves by kind; skip if there is none, fail if its artifact is gone.

    A model with one part is that of `first`, the first kind of the installation.
    """
    from riskwatch_ml.artifact import archive, parts
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
    documents = {kind: part.document for kind, part in parts.split(*archive.unpack(zip_bytes), first).items()}
    names = documents if len(documents) > 1 else (first,)
    return cast("dict[str, ModelDocument]", dict(zip(names, documents.values(), strict=True)))


def _without_rows(
    serving: Serving, parts: Mapping[str, KindReport], rows: Mapping[str, pd.DataFrame], reporting: set[str]
) -> list[str]:
    """Return a finding for each part of the model that has labelled no row, if rows are expected of it.

    A model with one part must have rows. Of several, a part must if another model labelled rows of its kind, or if the
    kind has validated rows: its instances report. Without any labelled row, the first part must.
    """
    is_only, nothing_labelled = len(parts) == 1, all(labelled.empty for labelled in rows.values())
    texts = []
    for position, (kind, part) in enumerate(parts.items()):
        others = rows[kind]["model_id"].value_counts()
        is_expected = is_only or len(others) or kind in reporting or (nothing_labelled and position == 0)
        if part["rows"] or not is_expected:
            continue
        labelled = ", ".join(f"{count} by {other}" for other, count in others.items()) or "none by any other"
        texts.append(
            f"nothing was measured{'' if is_only else f' of {kind}'}: model {part['model_id']}, which serves as "
            f"function version {serving.target.function_version}, has labelled no row of the last 24 hours ({labelled})"
        )
    return texts

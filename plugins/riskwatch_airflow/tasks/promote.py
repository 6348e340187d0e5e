"""Tasks of promote_model: what waits and what the mode allows, then the release of exactly what was approved."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from riskwatch_airflow import clients
from riskwatch_airflow.assets import LIVE_MODEL
from riskwatch_ml.core import settings
from riskwatch_ml.storage import keys

if TYPE_CHECKING:
    from collections.abc import Mapping

    from riskwatch_ml.registry.release import Release
    from riskwatch_ml.storage.bucket import Store

APPROVAL, RELEASE = "approval", "release"
CANDIDATE = "candidate"

_log = logging.getLogger(__name__)


def decide(context: Mapping[str, Any]) -> str:
    """Look up the challenger and return the task that comes next: the approval or the release.

    A change waits for an approval where the mode says so. A refresh of the model that serves does not, unless it would
    change more labels than a refresh may: then it waits in mode auto too, as does the refresh of a model that another
    one replaced meanwhile.
    What is decided on, the version with its digest, is handed on: a challenger that comes later waits for its own run.
    Skips where nothing waits, the challenger serves already, or the mode is off or dry_run (which is recorded).
    """
    from riskwatch_ml.registry import ledger, mlflow_registry

    config = settings.load()
    if config.promotion == "off":
        raise AirflowSkipException(
            "promotion is off: set promotion to dry_run, approval or auto to put models into service"
        )
    challenger = mlflow_registry.challenger(config)
    if challenger is None:
        raise AirflowSkipException("no challenger is registered: run train_models first")
    champion = mlflow_registry.champion(config)
    if champion is not None and champion.digest == challenger.digest:
        raise AirflowSkipException(f"version {challenger.version} is the champion already")
    store = clients.store(config)
    refresh = champion is not None and challenger.refreshes == champion.digest
    ask = challenger.ask
    if champion is not None and challenger.refreshes and not refresh:
        ask = f"it refreshes a model that no longer serves and would replace version {champion.version}, a newer choice"
    candidate = {
        "version": challenger.version,
        "digest": challenger.digest,
        "family": challenger.family,
        "training_id": challenger.training_id,
        "key": challenger.s3_key,
        "figures": _figures(store, challenger.s3_key),
        "replaces": None if champion is None else {"version": champion.version, "digest": champion.digest},
        "mode": config.promotion,
        "kind": challenger.kind,
        "why": challenger.why,
        "ask": ask,
        "link": mlflow_registry.version_url(config, challenger.version),
    }
    if config.promotion == "dry_run":
        ledger.write(store, {**_entry(candidate), "action": ledger.DRY_RUN, "by": "policy"})
        raise AirflowSkipException(f"dry run: version {challenger.version} would have been promoted")
    context["ti"].xcom_push(key=CANDIDATE, value=candidate)
    # An older version that an operator made the challenger refreshes nothing that serves now: that is a change.
    asked = bool(ask) or (config.promotion == "approval" and not refresh)
    return APPROVAL if asked else RELEASE


def put_live(context: Mapping[str, Any]) -> dict[str, Any]:
    """Release the decided version: publish, self-test, move the alias, keep the artifact, write the ledger, crown it.

    Where a step after the move of the alias fails, the alias goes back and the ledger says so: what serves and what the
    registry calls champion agree when the task is tried again. Where the version served before this call (the task was
    cleared, or its first try died after the move), the alias stays whatever fails: clear the task to try again.
    """
    from riskwatch_ml.artifact import archive
    from riskwatch_ml.registry import ledger, mlflow_registry, release

    config = settings.load()
    store = clients.store(config)
    candidate = context["ti"].xcom_pull(task_ids="decide", key=CANDIDATE)
    approver = _approver(context["ti"].xcom_pull(task_ids=APPROVAL), candidate["mode"])
    kept = keys.artifact(candidate["digest"])
    # Candidates are deleted after a while; what served once is kept, and can serve again.
    zip_bytes = store.get_bytes(candidate["key"]) or store.get_bytes(kept)
    if zip_bytes is None:
        raise AirflowFailException(f"s3://{config.bucket}/{candidate['key']} is gone: train again")
    if archive.digest(zip_bytes) != candidate["digest"]:
        raise AirflowFailException(
            f"s3://{config.bucket}/{candidate['key']} has digest {archive.digest(zip_bytes)}, approved was "
            f"{candidate['digest']}: the object was changed, train again"
        )
    functions = clients.client(config, "lambda")
    store.put_bytes(kept, zip_bytes, if_absent=True)
    released = release.promote(functions, config.function, config.alias, zip_bytes, approved_by=approver)
    try:
        key = ledger.write(store, _promotion(candidate, released, approver))
        mlflow_registry.crown(config, candidate["version"])
    except Exception as error:
        if not released.moved:
            raise
        release.restore(
            functions, config.function, config.alias, released.previous_version, only_from=released.function_version
        )
        undone = {"action": ledger.RESTORE, "by": "policy", "function_version": released.previous_version}
        ledger.write(store, {**_entry(candidate), **undone, "reason": f"{type(error).__name__}: {error}"})
        raise
    told = {
        "model_id": released.selftest.get("model_id"),
        "family": candidate["family"],
        "version": candidate["version"],
        "function_version": released.function_version,
        "digest": candidate["digest"],
        "by": approver,
        "ledger": key,
    }
    _log.info("live: %s", told)
    context["outlet_events"][LIVE_MODEL].extra.update(told)
    return told


def _figures(store: Store, key: str) -> dict[str, Any]:
    summary = store.get_json(keys.candidate_summary(key)) or {}
    return dict(summary.get("figures", {}))


def _promotion(candidate: Mapping[str, Any], released: Release, approver: str) -> dict[str, Any]:
    return {
        **_entry(candidate),
        "action": "promote",
        "by": approver,
        "function_version": released.function_version,
        "previous_version": released.previous_version,
        "code_sha256": released.code_sha256,
        "model_id": released.selftest["model_id"],
        "golden": released.selftest["golden"],
    }


def _entry(candidate: Mapping[str, Any]) -> dict[str, Any]:
    names = ("version", "digest", "family", "training_id", "figures", "replaces", "mode", "kind", "why")
    return {name: candidate[name] for name in names}


def _approver(answer: Mapping[str, Any] | None, mode: str) -> str:
    if not answer:
        # In mode approval only a refresh comes here without an answer.
        return "policy auto" if mode == "auto" else "policy refresh"
    user = answer.get("responded_by_user") or {}
    return str(user.get("name") or user.get("id") or "an operator")

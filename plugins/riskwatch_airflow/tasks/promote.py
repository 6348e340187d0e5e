"""Tasks of promote_model: the decision on the challenger, then the release of exactly the approved artifact."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from riskwatch_airflow import agreement, clients, coverage
from riskwatch_airflow.assets import LIVE_MODEL, announce
from riskwatch_ml.core import settings
from riskwatch_ml.core.errors import UserInputError
from riskwatch_ml.storage import keys

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.sdk import Context

    from riskwatch_airflow.handoff import LiveRelease, PromotionCandidate
    from riskwatch_ml.core.settings import Settings
    from riskwatch_ml.registry.ledger import LedgerEntry
    from riskwatch_ml.registry.mlflow_registry import Registered
    from riskwatch_ml.registry.release import Release
    from riskwatch_ml.registry.serving import Serving
    from riskwatch_ml.storage.bucket import Store

APPROVAL, RELEASE, SETTLE = "approval", "release", "settle"
PROMOTE, CONFIRM = "promote", "confirm"
CANDIDATE = "candidate"

_log = logging.getLogger(__name__)


def decide(context: Context) -> str:
    """Look up the challenger and return the id of the next task: the approval, the release or the settlement.

    A change waits for an approval if the mode says so. A refresh of the model in service does not, unless it would
    change more labels than a refresh may: then it waits in mode auto too, as does the refresh of a model that another
    one has replaced meanwhile. The version and digest of the challenger are handed on: a later challenger waits for its
    own run.

    Raises AirflowSkipException if there is no challenger, it serves already, or the mode is off or dry_run; a dry run
    is recorded. Raises AirflowFailException if the challenger lacks baselines of instances that report. Raises
    DisagreementError if alias, MLflow and ledger disagree, unless an operator asks to end that.
    """
    from riskwatch_ml.registry import ledger, mlflow_registry

    config = settings.load()
    if _action(context) != PROMOTE:
        return SETTLE
    if config.promotion == "off":
        raise AirflowSkipException(
            "promotion is off: set promotion to dry_run, approval or auto to put models into service"
        )
    store = clients.store(config)
    serving = agreement.checked(config, store)
    serving.require_agreement()
    challenger = mlflow_registry.challenger(config)
    if challenger is None:
        raise AirflowSkipException("no challenger is registered: run train_models first")
    champion = serving.serving_champion
    if champion is not None and champion.digest == challenger.digest:
        raise AirflowSkipException(f"version {challenger.version} is the champion already")
    candidate = _candidate(config, store, challenger, serving)
    lacking = coverage.require(config, store, candidate, _artifact(config, store, candidate))
    candidate["ask"] = "; ".join(filter(None, (candidate["ask"], lacking)))
    if config.promotion == "dry_run":
        ledger.write(store, {**_entry(candidate), "action": ledger.DRY_RUN, "by": "policy"})
        raise AirflowSkipException(f"dry run: version {challenger.version} would have been promoted")
    context["ti"].xcom_push(key=CANDIDATE, value=candidate)
    # An older version that an operator made the challenger refreshes nothing that serves now: that is a change.
    refresh = champion is not None and challenger.refreshes == champion.digest
    waits = bool(candidate["ask"]) or (config.promotion == "approval" and not refresh)
    return APPROVAL if waits else RELEASE


def put_live(context: Context) -> LiveRelease:
    """Release the decided version: publish, self-test, move the alias, write the ledger, make it the champion.

    If a step after the move of the alias fails, the alias goes back and the ledger records it: when the task is tried
    again, the version in service and the champion of the registry agree. If the version served before this call (the
    task was cleared, or its first try died after the move), the alias stays whatever fails: clear the task to try
    again.

    Raises AirflowFailException if the artifact is gone or is not the approved one, if it lacks baselines of instances
    that report, or if champion, alias or mode are not what was decided on.
    """
    from riskwatch_ml.registry import release, serving

    config = settings.load()
    store = clients.store(config)
    candidate: PromotionCandidate = context["ti"].xcom_pull(task_ids="decide", key=CANDIDATE)
    approver = _approver(context["ti"].xcom_pull(task_ids=APPROVAL), candidate["mode"])
    functions = clients.client(config, "lambda")
    now = serving.read(config, functions, store)
    changes = _changes(config, candidate, now)
    if changes:
        raise AirflowFailException(
            f"version {candidate['version']} was not released, because it was decided on before this change: "
            f"{'; '.join(changes)}. Trigger promote_model instead of clearing this task"
        )
    zip_bytes = _artifact(config, store, candidate)
    if now.target.checksum != candidate["digest"]:  # else an earlier try has released it
        coverage.require(config, store, candidate, zip_bytes)
    store.put_bytes(keys.artifact(candidate["digest"]), zip_bytes, if_absent=True)
    released = release.promote(
        *(functions, config.function, config.alias, zip_bytes),
        approved_by=approver,
        only_from=now.target.function_version,
    )
    live: LiveRelease = {
        "model_id": released.selftest.get("model_id"),
        "family": candidate["family"],
        "version": candidate["version"],
        "function_version": released.function_version,
        "digest": candidate["digest"],
        "by": approver,
        "ledger": _record(config, store, functions, candidate, released, approver),
    }
    _log.info("live: %s", live)
    announce(context, LIVE_MODEL, live)
    return live


def settle(context: Context) -> LiveRelease:
    """End a disagreement as the operator asks: `confirm` follows the alias, `restore` follows the ledger.

    Raises AirflowSkipException if alias, MLflow and ledger agree already, and AirflowFailException if what the operator
    asks for cannot be done; the message says what can.
    """
    from riskwatch_ml.registry import reconcile, serving

    config = settings.load()
    store, functions = clients.store(config), clients.client(config, "lambda")
    now = serving.read(config, functions, store)
    if not now.disagreements:
        raise AirflowSkipException("alias, MLflow and ledger agree: there is nothing to confirm or to restore")
    by = getattr(context["dag_run"], "triggering_user_name", None) or "an operator"
    end = reconcile.confirm if _action(context) == CONFIRM else reconcile.restore
    try:
        entry = end(config, functions, store, now, by=by)
    except UserInputError as error:
        raise AirflowFailException(str(error)) from error
    after = serving.read(config, functions, store)
    serving.keep(store, after)
    if after.disagreements:
        raise AirflowFailException(f"{entry['action']} did not end the disagreement: {'; '.join(after.texts)}")
    live: LiveRelease = {
        "model_id": entry["model_id"],
        "family": entry.get("family", ""),
        "version": entry.get("version", ""),
        "function_version": entry["function_version"],
        "digest": entry["digest"],
        "by": by,
        "ledger": entry["key"],
    }
    _log.info("%s: %s", entry["action"], live)
    announce(context, LIVE_MODEL, live)
    return live


def _action(context: Context) -> str:
    """Return what the operator who triggered the run asks for; `promote` if nobody did."""
    return str((context.get("params") or {}).get("action") or PROMOTE)


def _changes(config: Settings, candidate: PromotionCandidate, now: Serving) -> list[str]:
    """Return what is no longer as it was when the candidate was decided on, in words.

    A release moves the alias, writes the ledger and sets the champion, in this order. If an earlier try of this release
    died in between, the first of the three name the candidate and the others what it replaces. If the ledger has a
    newer entry for what it replaces, the release was done and undone.
    """
    new, old = candidate["digest"], candidate["replaces"]["digest"] if candidate["replaces"] else None
    recorded = now.recorded["digest"] if now.recorded else None
    champion = now.champion.digest if now.champion else None
    # If nothing served, MLflow may keep the champion of an earlier stack.
    facts = (now.target.checksum, recorded, recorded if old is None else champion)
    changes = []
    if facts not in ((old, old, old), (new, old, old), (new, new, old), (new, new, new)):
        changes += now.texts or [f"another model serves: {now.described}"]
    elif recorded == old and now.recorded is not None and now.recorded["key"] != candidate["ledger"]:
        changes.append(f"what serves was put into service again: {now.described}")
    if candidate["mode"] != config.promotion:
        changes.append(f"the setting promotion has changed from {candidate['mode']} to {config.promotion}")
    return changes


def _candidate(config: Settings, store: Store, challenger: Registered, serving: Serving) -> PromotionCandidate:
    """Return the challenger as the approval shows it and the release takes it."""
    from riskwatch_ml.registry import mlflow_registry

    champion = serving.serving_champion
    ask = challenger.ask
    if champion is not None and challenger.refreshes not in ("", champion.digest):
        ask = f"it refreshes a model that no longer serves and would replace version {champion.version}, a newer choice"
    return {
        "version": challenger.version,
        "digest": challenger.digest,
        "family": challenger.family,
        "training_id": challenger.training_id,
        "key": challenger.s3_key,
        "figures": _figures(store, challenger.s3_key),
        "replaces": None if champion is None else {"version": champion.version, "digest": champion.digest},
        "ledger": "" if serving.recorded is None else serving.recorded["key"],
        "mode": config.promotion,
        "kind": challenger.kind,
        "why": challenger.why,
        "ask": ask,
        "link": mlflow_registry.version_url(config, challenger.version),
    }


def _artifact(config: Settings, store: Store, candidate: PromotionCandidate) -> bytes:
    """Return the approved artifact; fail if it is gone or was changed."""
    from riskwatch_ml.artifact import archive

    # Candidates are deleted after a while; an artifact that served once is kept, and can serve again.
    zip_bytes = store.get_bytes(candidate["key"]) or store.get_bytes(keys.artifact(candidate["digest"]))
    if zip_bytes is None:
        raise AirflowFailException(f"s3://{config.bucket}/{candidate['key']} is gone: train again")
    if archive.checksum(zip_bytes) != candidate["digest"]:
        raise AirflowFailException(
            f"s3://{config.bucket}/{candidate['key']} has digest {archive.checksum(zip_bytes)}, approved was "
            f"{candidate['digest']}: the object was changed, train again"
        )
    return zip_bytes


def _record(
    config: Settings, store: Store, functions: Any, candidate: PromotionCandidate, released: Release, approver: str
) -> str:
    """Write the ledger, make the version the champion, and return the key of the entry.

    If that fails, move the alias back, unless the version held it before this release.
    """
    from riskwatch_ml.registry import ledger, mlflow_registry, release

    try:
        key = _recorded(store, candidate, released) or ledger.write(store, _promotion(candidate, released, approver))
        mlflow_registry.set_champion(config, candidate["version"])
    except Exception as error:
        if not released.moved:
            raise
        release.restore(
            functions, config.function, config.alias, released.previous_version, only_from=released.function_version
        )
        undone = {"action": ledger.RESTORE, "by": "policy", "function_version": released.previous_version}
        ledger.write(store, {**_entry(candidate), **undone, "reason": f"{type(error).__name__}: {error}"})
        raise
    return key


def _recorded(store: Store, candidate: PromotionCandidate, released: Release) -> str:
    """Return the key of the entry that an earlier try of this release has written, or an empty text."""
    from riskwatch_ml.registry import ledger

    entry = ledger.in_service(ledger.newest_first(store, ledger.SERVING))
    wrote = entry is not None and entry["key"] > candidate["ledger"] and entry["digest"] == candidate["digest"]
    return entry["key"] if entry is not None and wrote and not released.moved else ""


def _figures(store: Store, key: str) -> dict[str, float | None]:
    summary = store.get_json(keys.candidate_summary(key)) or {}
    return dict(summary.get("figures", {}))


def _promotion(candidate: PromotionCandidate, released: Release, approver: str) -> LedgerEntry:
    from riskwatch_ml.registry import ledger

    return {
        **_entry(candidate),
        "action": ledger.PROMOTE,
        "by": approver,
        "function_version": released.function_version,
        "previous_version": released.previous_version,
        "code_sha256": released.code_sha256,
        "model_id": released.selftest["model_id"],
        "golden": released.selftest["golden"],
    }


def _entry(candidate: PromotionCandidate) -> LedgerEntry:
    """Return what every entry of the ledger says of a candidate."""
    return {
        "version": candidate["version"],
        "digest": candidate["digest"],
        "family": candidate["family"],
        "training_id": candidate["training_id"],
        "figures": candidate["figures"],
        "replaces": candidate["replaces"],
        "mode": candidate["mode"],
        "kind": candidate["kind"],
        "why": candidate["why"],
    }


def _approver(answer: Mapping[str, Any] | None, mode: str) -> str:
    """Return the name of the operator who approved, or the policy that needed no approval."""
    if not answer:
        # In mode approval only a refresh is released without an answer.
        return "policy auto" if mode == "auto" else "policy refresh"
    user = answer.get("responded_by_user") or {}
    return str(user.get("name") or user.get("id") or "an operator")

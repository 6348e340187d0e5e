"""Tasks of promote_model: the decision on the challenger, then the release of exactly the approved artifact."""

from __future__ import annotations

import logging
from itertools import dropwhile, takewhile
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from riskwatch_airflow import agreement, bundles, challengers, clients, coverage, release_record
from riskwatch_airflow.assets import CANDIDATE_MODEL, LIVE_MODEL, announce
from riskwatch_ml.core import settings
from riskwatch_ml.core.errors import UserInputError
from riskwatch_ml.core.listing import some
from riskwatch_ml.schema import catalogue
from riskwatch_ml.storage import keys

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.sdk import Context

    from riskwatch_airflow.handoff import LiveRelease, PromotionCandidate
    from riskwatch_ml.core.settings import Settings
    from riskwatch_ml.registry.serving import Serving
    from riskwatch_ml.storage.bucket import Store

APPROVAL, RELEASE, SETTLE, COMPLETE = "approval", "release", "settle", "complete"
PROMOTE, CONFIRM = "promote", "confirm"
REFUSED = "refused"

_log = logging.getLogger(__name__)


def decide(context: Context) -> str | list[str]:
    """Look up the challengers and return the ids of the next tasks: approvals, the release or the settlement.

    A change waits for an approval if the mode says so. A refresh of the model in service does not, unless it would
    change more labels than a refresh may: then it waits in mode auto too, as does the refresh of a model that another
    one has replaced meanwhile. The challengers are handed on in bundles, see `riskwatch_airflow.bundles`, with their
    versions and digests: a later challenger waits for its own run.

    Raises AirflowSkipException if there is no challenger, each serves already, or the mode is off or dry_run; a dry run
    is recorded. Raises AirflowFailException if the challengers lack baselines of instances that report; if those of
    other kinds can be released, `complete` fails beside them. Raises DisagreementError if alias, MLflow and ledger
    disagree, unless an operator asks to end that.
    """
    from riskwatch_ml.registry import ledger

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
    found = challengers.find(config, store, serving, _announced(context))
    if config.promotion == "dry_run":
        for candidate in found.candidates:
            ledger.write(
                store,
                {**release_record.entry([candidate], candidate["digest"]), "action": ledger.DRY_RUN, "by": "policy"},
            )
        versions = some([candidate["version"] for candidate in found.candidates], len(found.candidates))
        raise AirflowSkipException(f"dry run: version {versions} would have been promoted")
    first = catalogue.load_all(config.catalogue)[0].kind
    decided = bundles.bundled(found.candidates, found.waits, first)
    for name, bundle in decided.items():
        context["ti"].xcom_push(key=bundles.key(name), value=bundle)
    following = [RELEASE if name == bundles.AT_ONCE else approval_of(name, first) for name in decided]
    if not found.refused:
        return following
    context["ti"].xcom_push(key=REFUSED, value=found.refused)
    return [*following, COMPLETE]


def approval_of(kind: str, first: str) -> str:
    """Return the id of the task that waits for the approval of a kind; `first` is the first kind."""
    return APPROVAL if kind == first else f"{kind}.{APPROVAL}"


def put_live(context: Context, name: str = bundles.AT_ONCE) -> LiveRelease:
    """Release a decided bundle: publish, self-test, move the alias, write the ledger, make it the champion.

    If a step after the move of the alias fails, the alias goes back and the ledger records it: when the task is tried
    again, the version in service and the champion of the registry agree. If the version served before this call (the
    task was cleared, or its first try died after the move), the alias stays whatever fails: clear the task to try
    again.

    Raises AirflowFailException if an artifact is gone or is not the approved one, if it lacks baselines of instances
    that report, or if champion, alias or mode are not what was decided on.
    """
    from riskwatch_ml.registry import mlflow_registry, release, serving

    config = settings.load()
    store, kinds = clients.store(config), catalogue.load_all(config.catalogue)
    bundle, approver = _decided(context, name, kinds[0].kind)
    functions = clients.client(config, "lambda")
    now = serving.read(config, functions, store)
    assembled = bundles.assemble(config, store, bundle, now)
    _require_unchanged(config, store, bundle, now, assembled)
    if now.target.checksum != assembled.digest:  # else an earlier try has released it
        for candidate in bundle:
            zip_bytes = bundles.artifact(config, store, candidate)
            coverage.require(config, store, candidate, zip_bytes, bundles.kinds_of(candidate, kinds))
    store.put_bytes(keys.artifact(assembled.digest), assembled.zip_bytes, if_absent=True)
    version = bundles.registered(config, bundle, assembled)
    released = release.promote(
        *(functions, config.function, config.alias, assembled.zip_bytes),
        approved_by=approver,
        only_from=now.target.function_version,
    )
    entry = release_record.entry(bundle, assembled.digest, version)
    live: LiveRelease = {
        "model_id": released.selftest.get("model_id"),
        "family": version.family,
        "version": version.version,
        "function_version": released.function_version,
        "digest": assembled.digest,
        "by": approver,
        "ledger": release_record.write(config, store, functions, entry, bundle[0]["ledger"], released, approver),
    }
    if version.kinds and not bundle[0]["resource_kind"]:
        # Else the next run by hand would take it for new once another kind is refreshed.
        mlflow_registry.drop_challenger(config, kinds[0])
    _log.info("live: %s", live)
    announce(context, LIVE_MODEL, live)
    return live


def _decided(context: Context, name: str, first: str) -> tuple[list[PromotionCandidate], str]:
    """Return a bundle as it was decided on, and who approved it; fail if an earlier release of Riskwatch decided."""
    bundle: list[PromotionCandidate] | None = context["ti"].xcom_pull(task_ids="decide", key=bundles.key(name))
    if bundle is None:
        raise AirflowFailException("this run was decided on by an earlier release: trigger promote_model again")
    is_at_once = name == bundles.AT_ONCE
    answer = None if is_at_once else context["ti"].xcom_pull(task_ids=approval_of(name, first))
    return bundle, _approver(answer, bundle[0]["mode"])


def complete(context: Context) -> None:
    """Fail with the reasons for which challengers of some kinds were refused, while those of others went on."""
    raise AirflowFailException("; ".join(context["ti"].xcom_pull(task_ids="decide", key=REFUSED)))


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


def _announced(context: Context) -> set[str] | None:
    """Return the versions of the challengers that started the run; None if a person or an earlier release did."""
    events = (context.get("triggering_asset_events") or {}).get(CANDIDATE_MODEL, [])
    extras = [event.extra or {} for event in events]
    if not extras or any("challengers" not in extra for extra in extras):
        return None
    return {str(challenger["version"]) for extra in extras for challenger in extra["challengers"]}


def _action(context: Context) -> str:
    """Return what the operator who triggered the run asks for, by default `promote`."""
    return str((context.get("params") or {}).get("action") or PROMOTE)


def _require_unchanged(
    config: Settings,
    store: Store,
    bundle: Sequence[PromotionCandidate],
    now: Serving,
    assembled: bundles.Assembled,
) -> None:
    """Fail if something is no longer as it was when a bundle was decided on.

    If alias, MLflow and ledger disagree, the error is one that Airflow tries again: another release may be under way.
    """
    from riskwatch_ml.registry import serving

    changes = _changes(config, store, bundle, now, assembled)
    if not changes:
        return
    message = (
        f"version {', '.join(candidate['version'] for candidate in bundle)} was not released, because it was decided "
        f"on before this change: {'; '.join(changes)}. Trigger promote_model instead of clearing this task"
    )
    if now.disagreements:
        raise serving.DisagreementError(message)
    raise AirflowFailException(message)


def _changes(
    config: Settings,
    store: Store,
    bundle: Sequence[PromotionCandidate],
    now: Serving,
    assembled: bundles.Assembled,
) -> list[str]:
    """Return what is no longer as it was when a bundle was decided on, in words.

    A release moves the alias, writes the ledger and sets the champion, in this order. If an earlier try of this release
    died in between, the first of the three name its artifact and the others what it replaces. Releases of other kinds
    in between change nothing for the bundle; any other newer entry in the ledger does.
    """
    new, old = assembled.digest, assembled.replaces
    recorded = now.recorded["digest"] if now.recorded else None
    champion = now.champion.digest if now.champion else None
    # If nothing served, MLflow may keep the champion of an earlier stack.
    facts = (now.target.checksum, recorded, recorded if old is None else champion)
    changes = []
    if facts not in ((old, old, old), (new, old, old), (new, new, old), (new, new, new)):
        changes += now.texts or [f"another model serves: {now.described}"]
    elif recorded == old and now.recorded is not None and not _is_unchanged(store, bundle):
        changes.append(f"what serves was put into service again: {now.described}")
    if bundle[0]["mode"] != config.promotion:
        changes.append(f"the setting promotion has changed from {bundle[0]['mode']} to {config.promotion}")
    return changes


def _is_unchanged(store: Store, bundle: Sequence[PromotionCandidate]) -> bool:
    """Return whether what a bundle was to replace still serves, or the bundle already does.

    Newer entries of the ledger may have released other kinds. An entry that changed a part of the bundle and was
    changed back, or that a person made, stops the release.
    """
    from riskwatch_ml.registry import ledger

    effective = ledger.put_into_service(ledger.newest_first(store, ledger.SERVING))
    newer = [*takewhile(lambda entry: entry["key"] > bundle[0]["ledger"], effective)][::-1]
    if any(entry["action"] != ledger.PROMOTE or "kinds" not in entry for entry in newer):
        return False
    return all(
        _is_kept(candidate, [entry["kinds"].get(candidate["resource_kind"], "") for entry in newer])
        for candidate in bundle
    )


def _is_kept(candidate: PromotionCandidate, model_ids: Sequence[str]) -> bool:
    """Return whether the models that served the kind of a candidate since its decision, oldest first, let it go on.

    They are the one that it replaces, and then its own. A whole artifact replaces all kinds: nothing may have changed.
    """
    if not candidate["resource_kind"]:
        return not model_ids
    since = dropwhile(lambda model_id: model_id == candidate["replaces_model"], model_ids)
    return all(model_id == candidate["model_id"] for model_id in since)


def _approver(answer: Mapping[str, Any] | None, mode: str) -> str:
    """Return the name of the operator who approved, or the policy that needed no approval."""
    if not answer:
        # In mode approval only a refresh is released without an answer.
        return "policy auto" if mode == "auto" else "policy refresh"
    user = answer.get("responded_by_user") or {}
    return str(user.get("name") or user.get("id") or "an operator")

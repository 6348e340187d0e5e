"""The end of a disagreement about what serves: `confirm` follows the alias, `restore` follows the ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from riskwatch_ml.artifact import archive
from riskwatch_ml.core.errors import UserInputError
from riskwatch_ml.registry import assembly, champion, ledger, mlflow_registry, release
from riskwatch_ml.registry.registered import Registered
from riskwatch_ml.schema import catalogue
from riskwatch_ml.storage import keys

if TYPE_CHECKING:
    from collections.abc import Mapping

    from riskwatch_ml.core.settings import Settings
    from riskwatch_ml.registry.ledger import LedgerEntry
    from riskwatch_ml.registry.release import SelfTest
    from riskwatch_ml.registry.serving import Serving
    from riskwatch_ml.selection.handoff import Winner
    from riskwatch_ml.storage.bucket import Store

# What a new entry takes over from the entry that put the same artifact into service.
_KEPT = ("digest", "version", "family", "training_id", "figures", "kind", "why", "code_sha256")


class ReconcileError(UserInputError):
    """A disagreement cannot be ended in this way; the message says what to do instead."""


def confirm(settings: Settings, lambda_client: Any, store: Store, serving: Serving, *, by: str) -> LedgerEntry:
    """Make what the alias serves the champion, with a ledger entry, and return the entry.

    The version behind the alias is tested before; the alias does not move.

    Raises ReconcileError if the alias is on the placeholder or nothing is known about its artifact, ReleaseError if the
    self-test failed.
    """
    checksum, version = serving.target.checksum, serving.target.function_version
    if checksum is None:
        raise ReconcileError(f"function version {version} is the placeholder of the stack: use action = restore")
    registered = mlflow_registry.by_checksum(settings, checksum)
    if registered is None and serving.entry is None:
        raise ReconcileError(
            f"neither MLflow nor the ledger knows the artifact {checksum[:12]} of function version {version}: use "
            "action = restore"
        )
    s3_key = keys.artifact(checksum) if registered is None else registered.s3_key
    zip_bytes = champion.artifact(store, version=version, checksum=checksum, s3_key=s3_key)
    selftest = release.selftest(lambda_client, settings.function, version, zip_bytes)
    store.put_bytes(keys.artifact(checksum), zip_bytes, if_absent=True)
    registered = _set_champion(settings, registered, serving.entry or {}, zip_bytes)
    known: LedgerEntry = {
        "digest": checksum,
        "version": registered.version,
        "family": registered.family,
        "training_id": registered.training_id,
    }
    previous = version if serving.recorded is None else serving.recorded["function_version"]
    versions: LedgerEntry = {"function_version": version, "previous_version": previous}
    versions |= _kinds(settings, zip_bytes)
    return _write(store, {**(serving.entry or {}), **known}, versions, ledger.CONFIRM, selftest, by, serving)


def restore(settings: Settings, lambda_client: Any, store: Store, serving: Serving, *, by: str) -> LedgerEntry:
    """Put what the ledger names back into service, with a ledger entry, and return the entry.

    The function version is tested before the alias moves to it. If the version does not exist any more, the artifact is
    published again, and the entry is a `rollback`. MLflow's champion follows last: rows are labelled again if MLflow is
    down, and the next comparison reports the champion.

    Raises ReconcileError if the ledger has no model in service, ReleaseError if the self-test failed, and
    ReleaseConflictError if the alias moved in the meantime.
    """
    recorded = serving.recorded
    if recorded is None:
        raise ReconcileError("the ledger has no model in service: use action = confirm, or promote a model")
    checksum = recorded["digest"]
    zip_bytes = champion.artifact(
        store, version=recorded.get("version", "?"), checksum=checksum, s3_key=keys.artifact(checksum)
    )
    entry = _restored(settings, lambda_client, store, serving, recorded, zip_bytes, by)
    if serving.champion is None or serving.champion.digest != checksum:
        _set_champion(settings, mlflow_registry.by_checksum(settings, checksum), recorded, zip_bytes)
    return entry


def _restored(
    settings: Settings,
    lambda_client: Any,
    store: Store,
    serving: Serving,
    recorded: LedgerEntry,
    zip_bytes: bytes,
    by: str,
) -> LedgerEntry:
    """Move the alias to the artifact of an entry, unless it is there, and return the new entry."""
    current, version = serving.target.function_version, recorded["function_version"]
    is_served = serving.target.checksum == recorded["digest"]
    try:
        selftest = release.selftest(lambda_client, settings.function, current if is_served else version, zip_bytes)
    except release.MissingVersionError:
        names = (settings.function, settings.alias)
        released = release.promote(lambda_client, *names, zip_bytes, approved_by=by, only_from=current)
        versions: LedgerEntry = {"function_version": released.function_version, "previous_version": current}
        versions |= _kinds(settings, zip_bytes)
        return _write(store, recorded, versions, ledger.ROLLBACK, released.selftest, by, serving)
    if not is_served:
        release.restore(lambda_client, settings.function, settings.alias, version, only_from=current)
    versions = {"function_version": version, "previous_version": current, **_kinds(settings, zip_bytes)}
    return _write(store, recorded, versions, ledger.RESTORE, selftest, by, serving)


def _kinds(settings: Settings, zip_bytes: bytes) -> LedgerEntry:
    """Return what an entry says of the parts of an artifact; nothing in an installation with one kind."""
    kinds = catalogue.load_all(settings.catalogue)
    if len(kinds) == 1:
        return {}
    parts = assembly.registered_parts(zip_bytes, kinds[0].kind)
    return {"kinds": {kind: part.model_id for kind, part in parts.items()}}


def _set_champion(
    settings: Settings, registered: Registered | None, entry: LedgerEntry, zip_bytes: bytes
) -> Registered:
    """Make a version the champion; one that MLflow has lost is registered again first."""
    if registered is None:
        registered = _register_again(settings, entry, zip_bytes)
    mlflow_registry.set_champion(settings, registered.version)
    return registered


def _register_again(settings: Settings, entry: LedgerEntry, zip_bytes: bytes) -> Registered:
    """Register an artifact that MLflow has lost, as its ledger entry describes it, and return the version.

    The version gets a training run of its own, with the figures of the entry.
    """
    checksum = archive.checksum(zip_bytes)
    training_id = entry.get("training_id", "")
    run_id = mlflow_registry.open_training(settings, training_id, {"registered again": checksum})
    metrics = catalogue.load_all(settings.catalogue)[0]
    kinds = assembly.registered_parts(zip_bytes, metrics.kind)
    if len(kinds) > 1:
        lost = Registered("", checksum, run_id, training_id, entry.get("family", ""), keys.artifact(checksum))
        return mlflow_registry.register_assembled(settings, lost, zip_bytes, lost.s3_key, kinds)
    winner: Winner = {
        "family": entry.get("family", ""),
        "training_id": training_id,
        "model_id": entry.get("model_id", ""),
        "run_id": run_id,
        "digest": checksum,
        "s3_key": keys.artifact(checksum),
        "bytes": len(zip_bytes),
        "params": {},
        "given_up": "",
        "figures": {name: value for name, value in entry.get("figures", {}).items() if value is not None},
        "vetoes": [],
        "kind": entry.get("kind", ""),
        "why": entry.get("why", ""),
        "refreshes": "",
        "ask": "",
    }
    version = mlflow_registry.register(settings, run_id, training_id, [winner], winner, zip_bytes, metrics)
    return Registered(version, checksum, run_id, training_id, winner["family"], winner["s3_key"])


def _write(
    store: Store,
    known: Mapping[str, object],
    versions: LedgerEntry,
    action: str,
    selftest: SelfTest,
    by: str,
    serving: Serving,
) -> LedgerEntry:
    entry = {
        **{name: known[name] for name in _KEPT if name in known},
        **versions,
        "action": action,
        "by": by,
        "model_id": selftest["model_id"],
        "golden": selftest["golden"],
        "reason": "; ".join(serving.texts),
    }
    return cast("LedgerEntry", {**entry, "key": ledger.write(store, entry)})

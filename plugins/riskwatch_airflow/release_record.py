"""The record of a release: its ledger entry and the champion in MLflow, with the alias moved back if either fails."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from riskwatch_airflow.handoff import PromotionCandidate
    from riskwatch_ml.core.settings import Settings
    from riskwatch_ml.registry.ledger import LedgerEntry
    from riskwatch_ml.registry.registered import Registered
    from riskwatch_ml.registry.release import Release
    from riskwatch_ml.storage.bucket import Store


def write(
    config: Settings,
    store: Store,
    functions: Any,
    entry: LedgerEntry,
    before: str,
    released: Release,
    approver: str,
) -> str:
    """Write the ledger, make the version the champion, and return the key of the entry.

    `before` is the key of the entry in service when the release was decided on. If a step fails, move the alias back,
    unless the version held it before this release.
    """
    from riskwatch_ml.registry import ledger, mlflow_registry, release

    try:
        key = _recorded(store, entry["digest"], before, released) or ledger.write(
            store, _promotion(entry, released, approver)
        )
        mlflow_registry.set_champion(config, entry["version"])
    except Exception as error:
        if not released.moved:
            raise
        release.restore(
            functions, config.function, config.alias, released.previous_version, only_from=released.function_version
        )
        undone = {"action": ledger.RESTORE, "by": "policy", "function_version": released.previous_version}
        ledger.write(store, {**entry, **undone, "reason": f"{type(error).__name__}: {error}"})
        raise
    return key


def _recorded(store: Store, digest: str, before: str, released: Release) -> str:
    """Return the key of the entry that an earlier try of this release has written, or an empty text."""
    from riskwatch_ml.registry import ledger

    entry = ledger.in_service(ledger.newest_first(store, ledger.SERVING))
    wrote = entry is not None and entry["key"] > before and entry["digest"] == digest
    return entry["key"] if entry is not None and wrote and not released.moved else ""


def _promotion(entry: LedgerEntry, released: Release, approver: str) -> LedgerEntry:
    from riskwatch_ml.registry import ledger

    return {
        **entry,
        "action": ledger.PROMOTE,
        "by": approver,
        "function_version": released.function_version,
        "previous_version": released.previous_version,
        "code_sha256": released.code_sha256,
        "model_id": released.selftest["model_id"],
        "golden": released.selftest["golden"],
    }


def entry(bundle: Sequence[PromotionCandidate], digest: str, version: Registered | None = None) -> LedgerEntry:
    """Return what every entry of the ledger says of a bundle; its first candidate gives what they share.

    `version` is that of the released artifact, None before a release. If there are several candidates, figures and
    reasons name their kinds.
    """
    first = bundle[0]
    is_one = len(bundle) == 1
    figures = {
        name if is_one else f"{candidate['resource_kind']}/{name}": value
        for candidate in bundle
        for name, value in candidate["figures"].items()
    }
    why = [candidate["why"] if is_one else f"{candidate['resource_kind']}: {candidate['why']}" for candidate in bundle]
    parts: LedgerEntry = {}
    if version is not None and version.kinds:
        parts = {
            "kinds": {kind: part.model_id for kind, part in version.kinds.items()},
            "resource_kinds": [candidate["resource_kind"] for candidate in bundle],
        }
    return {
        **parts,
        "version": first["version"] if version is None else version.version,
        "digest": digest,
        "family": first["family"] if version is None else version.family,
        "training_id": first["training_id"],
        "figures": figures,
        "replaces": first["replaces"],
        "mode": first["mode"],
        "kind": first["kind"] if is_one else "; ".join(sorted({candidate["kind"] for candidate in bundle})),
        "why": "; ".join(why),
    }

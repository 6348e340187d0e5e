"""The challengers that may go into service, one for each kind of resource."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from riskwatch_airflow import bundles, coverage
from riskwatch_ml.schema import catalogue
from riskwatch_ml.storage import keys

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from riskwatch_airflow.handoff import PromotionCandidate
    from riskwatch_ml.core.settings import Settings
    from riskwatch_ml.registry.registered import Registered
    from riskwatch_ml.registry.serving import Serving
    from riskwatch_ml.schema.catalogue import Catalogue
    from riskwatch_ml.storage.bucket import Store

_log = logging.getLogger(__name__)


class Challengers(NamedTuple):
    """The challengers that may go into service; whether each version waits for an approval; why others may not."""

    candidates: list[PromotionCandidate]
    waits: dict[str, bool]
    refused: list[str]


def find(config: Settings, store: Store, serving: Serving, announced: Collection[str] | None) -> Challengers:
    """Return the challengers of all kinds, or that of a whole artifact alone; skip or fail if there is none.

    `announced` are the versions that started the run, None if a person did: a run decides on what it was started for,
    so that it does not ask again for what was answered or rolled back. If nothing serves yet, all challengers count.
    """
    from riskwatch_ml.registry import mlflow_registry

    kinds = catalogue.load_all(config.catalogue)
    notes, result = [], Challengers([], {}, [])
    for metrics in kinds:
        challenger = mlflow_registry.challenger(config, metrics)
        if challenger is None:
            continue
        if _serves(challenger, serving, metrics, len(kinds) > 1):
            notes.append(f"version {challenger.version} is the champion already")
            continue
        if announced is not None and serving.serving_champion and challenger.version not in announced:
            notes.append(f"version {challenger.version} did not start this run: trigger promote_model to decide on it")
            continue
        try:
            candidate, waits = _judged(config, store, challenger, serving, metrics)
        except AirflowFailException as error:
            _log.error("%s", error)
            result.refused.append(str(error))
            continue
        result.candidates.append(candidate)
        result.waits[candidate["version"]] = waits
        if not candidate["resource_kind"]:
            break  # it replaces the parts of all kinds
    _require_any(result, notes, serving, kinds[0].kind)
    return result


def _judged(
    config: Settings, store: Store, challenger: Registered, serving: Serving, metrics: Catalogue
) -> tuple[PromotionCandidate, bool]:
    """Return a challenger as the release takes it, and whether it waits for an approval; fail if it is refused."""
    kinds = catalogue.load_all(config.catalogue)
    candidate, is_refresh = _candidate(config, store, challenger, serving, metrics)
    zip_bytes = bundles.artifact(config, store, candidate)
    lacking = coverage.require(config, store, candidate, zip_bytes, bundles.kinds_of(candidate, kinds))
    candidate["ask"] = "; ".join(filter(None, (candidate["ask"], lacking)))
    return candidate, bool(candidate["ask"]) or (config.promotion == "approval" and not is_refresh)


def _require_any(result: Challengers, notes: Sequence[str], serving: Serving, first: str) -> None:
    """Skip or fail if no challenger can be released."""
    named = {candidate["resource_kind"] for candidate in result.candidates}
    lacks_first = serving.serving_champion is None and bool(named) and not named & {"", first}
    if result.refused and (not result.candidates or lacks_first):
        raise AirflowFailException("; ".join(result.refused))
    if lacks_first:
        raise AirflowSkipException(
            f"no model serves yet, and the first one needs a part for {first}, which has no challenger"
        )
    if not result.candidates:
        raise AirflowSkipException("; ".join(notes) or "no challenger is registered: run train_models first")


def _serves(challenger: Registered, serving: Serving, metrics: Catalogue, has_several_kinds: bool) -> bool:
    """Return whether a challenger serves already, as a whole or as the part of its kind."""
    champion = serving.serving_champion
    if champion is None:
        return False
    if champion.digest == challenger.digest:
        return True
    part = champion.part(metrics) if has_several_kinds and challenger.model_id else None
    return part is not None and part.model_id == challenger.model_id


def _candidate(
    config: Settings, store: Store, challenger: Registered, serving: Serving, metrics: Catalogue
) -> tuple[PromotionCandidate, bool]:
    """Return a challenger as the approval shows it and the release takes it, and whether it refreshes what serves."""
    from riskwatch_ml.registry import mlflow_registry

    champion = serving.serving_champion
    resource_kind = _kind_of(challenger, metrics, len(catalogue.load_all(config.catalogue)) > 1)
    part = None if champion is None else champion.part(metrics)
    replaces_model = "" if part is None else part.model_id
    if part is not None and metrics.is_first:
        # A champion of an earlier release is named by the ledger alone.
        replaces_model = replaces_model or serving.model_id or ""
    ask, is_refresh = challenger.ask, False
    if champion is not None and challenger.refreshes:
        # A refresh of an earlier release names the digest of the artifact that it refreshes.
        is_refresh = challenger.refreshes in (champion.digest, replaces_model)
        if not is_refresh:
            ask = (
                f"it refreshes a model that no longer serves and would replace version {champion.version}, a newer "
                "choice"
            )
    candidate: PromotionCandidate = {
        "resource_kind": resource_kind,
        "model_id": challenger.model_id,
        "replaces_model": replaces_model,
        "version": challenger.version,
        "run_id": challenger.run_id,
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
    return candidate, is_refresh


def _kind_of(challenger: Registered, metrics: Catalogue, has_several_kinds: bool) -> str:
    """Return the kind of a challenger's part, empty for a whole artifact; fail if its alias is that of another kind.

    A version of an earlier release is whole in an installation with one kind, else the part of the first kind.
    """
    is_whole = metrics.is_first and (bool(challenger.kinds) or not has_several_kinds)
    if challenger.resource_kind == metrics.kind or (is_whole and not challenger.resource_kind):
        return challenger.resource_kind
    if metrics.is_first and not challenger.resource_kind:
        return metrics.kind
    raise AirflowFailException(
        f"version {challenger.version} is the challenger of {metrics.kind} in MLflow, but it has no part for this kind "
        "alone: move the alias to a candidate of the kind"
    )


def _figures(store: Store, key: str) -> dict[str, float | None]:
    summary = store.get_json(keys.candidate_summary(key)) or {}
    return dict(summary.get("figures", {}))

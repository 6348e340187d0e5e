"""The challengers that may go into service, one for each kind of resource."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from riskwatch_airflow import bundles, coverage
from riskwatch_ml.schema import catalogue
from riskwatch_ml.storage import keys

if TYPE_CHECKING:
    from riskwatch_airflow.handoff import PromotionCandidate
    from riskwatch_ml.core.settings import Settings
    from riskwatch_ml.registry.registered import Registered
    from riskwatch_ml.registry.serving import Serving
    from riskwatch_ml.schema.catalogue import Catalogue
    from riskwatch_ml.storage.bucket import Store


class Challengers(NamedTuple):
    """The challengers that may go into service; whether each version waits for an approval; why others may not."""

    candidates: list[PromotionCandidate]
    waits: dict[str, bool]
    refused: list[str]


def find(config: Settings, store: Store, serving: Serving) -> Challengers:
    """Return the challengers of all kinds, or that of a whole artifact alone; skip or fail if there is none."""
    from riskwatch_ml.registry import mlflow_registry

    kinds = catalogue.load_all(config.catalogue)
    notes, found = [], Challengers([], {}, [])
    for metrics in kinds:
        challenger = mlflow_registry.challenger(config, metrics)
        if challenger is None:
            continue
        if _serves(challenger, serving, metrics, len(kinds) > 1):
            notes.append(f"version {challenger.version} is the champion already")
            continue
        candidate, is_refresh = _candidate(config, store, challenger, serving, metrics)
        try:
            lacking = coverage.require(
                *(config, store, candidate, bundles.artifact(config, store, candidate)),
                bundles.kinds_of(candidate, kinds),
            )
        except AirflowFailException as error:
            found.refused.append(str(error))
            continue
        candidate["ask"] = "; ".join(filter(None, (candidate["ask"], lacking)))
        found.candidates.append(candidate)
        found.waits[candidate["version"]] = bool(candidate["ask"]) or (
            config.promotion == "approval" and not is_refresh
        )
        if not candidate["resource_kind"]:
            break  # it replaces the parts of all kinds
    named = {candidate["resource_kind"] for candidate in found.candidates}
    lacks_first = serving.serving_champion is None and bool(named) and not named & {"", kinds[0].kind}
    if found.refused and (not found.candidates or lacks_first):
        raise AirflowFailException("; ".join(found.refused))
    if lacks_first:
        raise AirflowSkipException(
            f"no model serves yet, and the first one needs a part for {kinds[0].kind}, which has no challenger"
        )
    if not found.candidates:
        raise AirflowSkipException("; ".join(notes) or "no challenger is registered: run train_models first")
    return found


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
    part = None if champion is None else champion.part(metrics)
    replaces_model = "" if part is None else part.model_id
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
        "resource_kind": challenger.resource_kind,
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


def _figures(store: Store, key: str) -> dict[str, float | None]:
    summary = store.get_json(keys.candidate_summary(key)) or {}
    return dict(summary.get("figures", {}))

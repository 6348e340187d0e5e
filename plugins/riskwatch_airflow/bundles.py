"""Bundles of challengers: those that go into service together, with one function version and one ledger entry.

A challenger of a training is the part of an artifact for one kind. A release puts the parts of a bundle on those of
what serves, so the challenger of one kind waits for no other: those that need no approval go together at once, each of
the others after its own approval. An artifact needs a part of the first kind, so the first release of an installation
takes all kinds together.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from airflow.sdk.exceptions import AirflowFailException

from riskwatch_ml.schema import catalogue
from riskwatch_ml.storage import keys

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from riskwatch_airflow.handoff import PromotionCandidate
    from riskwatch_ml.core.settings import Settings
    from riskwatch_ml.registry.registered import Registered
    from riskwatch_ml.registry.serving import Serving
    from riskwatch_ml.schema.catalogue import Catalogue
    from riskwatch_ml.storage.bucket import Store

AT_ONCE = "release"
"""Name of the bundle of the challengers that need no approval; the other bundles are named after their kind."""


def key(name: str) -> str:
    """Return the key of the XCom of a bundle."""
    return f"bundle:{name}"


class Assembled(NamedTuple):
    """The artifact of a release, and the digest of what it replaces, None if nothing serves.

    `version` is its version in MLflow if an earlier try of the release has written the ledger, else empty.
    """

    zip_bytes: bytes
    digest: str
    replaces: str | None
    version: str = ""


def bundled(
    candidates: Sequence[PromotionCandidate], waits: Mapping[str, bool], first: str
) -> dict[str, list[PromotionCandidate]]:
    """Return the candidates by bundle.

    `waits` says by the version of each candidate whether it needs an approval. If nothing serves yet, all candidates
    are one bundle, that of the `first` kind. Its approval is then for all of them.
    """
    if not candidates:
        return {}
    if candidates[0]["replaces"] is None:
        waiting = any(waits[candidate["version"]] for candidate in candidates)
        return {first if waiting else AT_ONCE: list(candidates)}
    bundles: dict[str, list[PromotionCandidate]] = {}
    for candidate in candidates:
        name = (candidate["resource_kind"] or first) if waits[candidate["version"]] else AT_ONCE
        bundles.setdefault(name, []).append(candidate)
    return bundles


def artifact(config: Settings, store: Store, candidate: PromotionCandidate) -> bytes:
    """Return the artifact of a candidate; fail if it is gone or was changed."""
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


def assemble(config: Settings, store: Store, bundle: Sequence[PromotionCandidate], serving: Serving) -> Assembled:
    """Return the artifact that puts a bundle on what serves.

    A whole artifact, and every artifact of an installation with one kind, is released as it is. What serves is what the
    ledger names: if an earlier try of this release has written its entry, the artifact is that of the entry.

    Raises AirflowFailException if an artifact is gone or was changed, or if there is no part of the first kind.
    """
    from riskwatch_ml.artifact import archive
    from riskwatch_ml.registry import assembly, champion

    kinds = catalogue.load_all(config.catalogue)
    recorded = serving.recorded
    if len(kinds) == 1 or not bundle[0]["resource_kind"]:
        (candidate,) = bundle
        replaces = candidate["replaces"]
        return Assembled(
            artifact(config, store, candidate), candidate["digest"], None if replaces is None else replaces["digest"]
        )
    if recorded is not None and released_by(bundle, recorded.get("kinds", {})):
        served, before = recorded["digest"], recorded.get("replaces")
        zip_bytes = champion.artifact(store, version="?", checksum=served, s3_key=keys.artifact(served))
        return Assembled(zip_bytes, served, None if before is None else before["digest"], recorded.get("version", ""))
    base = None
    if recorded is not None:
        version, digest = recorded.get("version", "?"), recorded["digest"]
        base = champion.artifact(store, version=version, checksum=digest, s3_key=keys.artifact(digest))
    parts = {candidate["resource_kind"]: artifact(config, store, candidate) for candidate in bundle}
    try:
        zip_bytes = assembly.assemble(base, parts, kinds[0].kind)
    except assembly.AssemblyError as error:
        raise AirflowFailException(str(error)) from error
    return Assembled(zip_bytes, archive.checksum(zip_bytes), None if recorded is None else recorded["digest"])


def released_by(bundle: Sequence[PromotionCandidate], kinds: Mapping[str, str]) -> bool:
    """Return whether an artifact with these model ids by kind has all parts of a bundle."""
    return all(kinds.get(candidate["resource_kind"]) == candidate["model_id"] for candidate in bundle)


def registered(config: Settings, bundle: Sequence[PromotionCandidate], assembled: Assembled) -> Registered:
    """Return the version of MLflow for the artifact of a release: the candidate's, or a new one if it is another.

    In an installation with several kinds it names its parts.
    """
    from riskwatch_ml.registry import assembly, mlflow_registry
    from riskwatch_ml.registry.registered import Registered, described_families

    candidate = bundle[0]
    challenger = Registered(
        *(candidate["version"], candidate["digest"], candidate["run_id"], candidate["training_id"]),
        *(candidate["family"], candidate["key"], candidate["kind"]),
    )
    catalogues = catalogue.load_all(config.catalogue)
    kinds = assembly.registered_parts(assembled.zip_bytes, catalogues[0].kind) if len(catalogues) > 1 else {}
    if assembled.digest == challenger.digest:
        return replace(challenger, kinds=kinds)
    if assembled.version:
        return replace(challenger, version=assembled.version, family=described_families(kinds), kinds=kinds)
    why = "; ".join(f"{each['resource_kind']}: {each['why']}" for each in bundle)
    return mlflow_registry.register_assembled(
        config, replace(challenger, why=why), assembled.zip_bytes, keys.artifact(assembled.digest), kinds
    )


def kinds_of(candidate: PromotionCandidate, catalogues: Sequence[Catalogue]) -> list[Catalogue]:
    """Return the catalogues of the parts of a candidate: that of its kind, or all of them for a whole artifact."""
    return [metrics for metrics in catalogues if candidate["resource_kind"] in ("", metrics.kind)]

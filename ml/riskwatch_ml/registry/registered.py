"""A version of the model in MLflow, as its tags describe it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from riskwatch_ml.registry.mlflow_client import TrackingError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from riskwatch_ml.core.settings import Settings
    from riskwatch_ml.schema.catalogue import Catalogue

# Tags of a version.
TRAINING, FAMILY, DIGEST, KEY = "training_id", "family", "digest", "s3_key"
KIND, MODEL_ID, KINDS = "resource_kind", "model_id", "kinds"
DECISION = ("kind", "why", "refreshes", "ask")


class RegisteredPart(NamedTuple):
    """The part of a version for one kind of resource."""

    model_id: str
    family: str


@dataclass(frozen=True)
class Registered:
    """A registered version.

    ``digest`` is the SHA-256 of its zip in hexadecimal, ``s3_key`` the key of the zip. ``kind`` is refresh or change,
    ``why`` the reason for the choice. ``refreshes`` is the id of the model that a refresh was made for (in earlier
    releases the digest of the champion), ``ask`` the reason why even a refresh waits for an approval; both may be
    empty.

    A candidate of a training is a part, for the kind ``resource_kind``, with the id ``model_id``. A version that was
    assembled for a release has its parts in ``kinds``, by kind. A version of an earlier release has neither.
    """

    version: str
    digest: str
    run_id: str
    training_id: str
    family: str
    s3_key: str
    kind: str = ""
    why: str = ""
    refreshes: str = ""
    ask: str = ""
    resource_kind: str = ""
    model_id: str = ""
    kinds: Mapping[str, RegisteredPart] = field(default_factory=dict, hash=False)

    def part(self, metrics: Catalogue) -> RegisteredPart | None:
        """Return the part for a kind, None if the version has none."""
        if self.kinds:
            return self.kinds.get(metrics.kind)
        is_of_kind = self.resource_kind == metrics.kind if self.resource_kind else metrics.is_first
        return RegisteredPart(self.model_id, self.family) if is_of_kind else None


def described_families(kinds: Mapping[str, RegisteredPart]) -> str:
    """Return the families of the parts of a version in words, for example `kmeans (ec2), dbscan (rds)`."""
    return ", ".join(f"{part.family} ({kind})" for kind, part in kinds.items())


def from_version(settings: Settings, version: Any, alias: str = "") -> Registered:
    """Return a version of MLflow, found by an alias if ``alias`` names one in words.

    Raises TrackingError if a tag is missing that every training writes.
    """
    tags = version.tags
    missing = [tag for tag in (DIGEST, TRAINING, FAMILY, KEY) if not tags.get(tag)]
    if missing:
        raise TrackingError(
            f"version {version.version} of {settings.model_name!r}{alias}, has no tag {', '.join(missing)}: "
            "it was not registered by a training; point the alias to a version that was"
        )
    texts = {name: tags.get(name, "") for name in (*DECISION, KIND, MODEL_ID)}
    kinds = {kind: RegisteredPart(**part) for kind, part in json.loads(tags.get(KINDS, "{}")).items()}
    return Registered(
        *(str(version.version), tags[DIGEST], str(version.run_id), tags[TRAINING], tags[FAMILY], tags[KEY]),
        **texts,
        kinds=kinds,
    )

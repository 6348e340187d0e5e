"""The parts of the model in service, one for each kind of resource, as its artifact describes them."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from riskwatch_ml.core import clock
from riskwatch_ml.core.errors import RiskwatchError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from riskwatch_ml.model.document import ModelDocument
    from riskwatch_ml.storage.bucket import Store

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServedPart:
    """The model of one kind: its id, family and the time of its training (UTC).

    With `relative_levels`, its levels are relative to the fleet. `instances` and `roles` are those of which it has a
    baseline.
    """

    model_id: str
    family: str
    trained: datetime
    relative_levels: bool
    instances: frozenset[str]
    roles: frozenset[str]


def read(store: Store, digest: str) -> Mapping[str, ServedPart] | None:
    """Return the parts of an artifact by kind, the first one first; an unnamed first part has an empty kind.

    None, with a warning in the log, if the artifact cannot be read.
    """
    return _cache.get(store, digest)


def of_kind(parts: Mapping[str, ServedPart], kind: str | None) -> ServedPart | None:
    """Return the part for rows of a kind, None for the first kind; None if the model has no such part."""
    if kind is None or len(parts) == 1:
        return next(iter(parts.values()))
    return parts.get(kind, parts.get(""))


class _Cache:
    """The parts of the artifact that was read last, by its checksum: reading one takes long, and it never changes."""

    def __init__(self) -> None:
        self._last: tuple[str, Mapping[str, ServedPart]] | None = None

    def get(self, store: Store, digest: str) -> Mapping[str, ServedPart] | None:
        from riskwatch_ml.storage import keys

        last = self._last
        if last is not None and last[0] == digest:
            return last[1]
        zip_bytes = store.get_bytes(keys.artifact(digest))
        try:
            parts = None if zip_bytes is None else _parts(zip_bytes)
        except (RiskwatchError, ValueError, KeyError, TypeError) as error:
            _log.warning("the view does not say which instances are new, nor describes the model: %s", error)
            return None
        if parts is not None:
            self._last = (digest, parts)
        return parts


_cache = _Cache()


def _parts(zip_bytes: bytes) -> dict[str, ServedPart]:
    from riskwatch_lambda.model.document import DOCUMENT_FILE
    from riskwatch_ml.artifact import archive, parts

    document = json.loads(archive.model_files(zip_bytes)[DOCUMENT_FILE])
    return {kind: _part(part.document) for kind, part in parts.split(document, {}).items()}


def _part(document: Mapping[str, object]) -> ServedPart:
    model = cast("ModelDocument", document)
    baselines = model["baselines"]
    return ServedPart(
        model_id=model["model_id"],
        family=model["family"],
        trained=clock.parse(model["trained_at"]),
        relative_levels=model["level"].get("relative", True),
        instances=frozenset(baselines["instances"]),
        roles=frozenset(baselines["roles"]),
    )

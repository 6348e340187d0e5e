"""The models of the kinds in service, if there are several: what the ledger and the artifact say of each."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, TypedDict, cast

from riskwatch_dashboard import served_parts
from riskwatch_ml.core import clock

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from riskwatch_ml.registry.ledger import LedgerEntry
    from riskwatch_ml.storage.bucket import Store

LONGEST_HISTORY = 200
"""Entries of the ledger that are searched for the promotion of a kind."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class KindModel:
    """The model of one kind; a text is empty and a time None if it is unknown.

    `trained` and `promoted` are times in UTC, `by` the user or setting that approved it. With `relative_levels`, its
    levels are relative to the fleet.
    """

    kind: str
    model_id: str
    family: str = ""
    trained: datetime | None = None
    promoted: datetime | None = None
    by: str = ""
    relative_levels: bool = False


class _Kinds(TypedDict, total=False):
    """The fields of a ledger entry about kinds: the model id of each, and the kinds that the entry promoted."""

    kinds: dict[str, str]
    resource_kinds: list[str]


def of_entry(store: Store, entry: LedgerEntry, first: str | None) -> tuple[KindModel, ...]:
    """Return the models that a ledger entry put into service, the first kind first; none if it names fewer than two.

    `first` is the first kind of the installation, None if it is unknown.
    """
    models = _models(entry, first)
    if len(models) < 2:
        return ()
    parts = served_parts.read(store, entry["digest"]) or {}
    promotions = _cache.get(store, entry["key"], models, first)
    return tuple(
        _kind_model(kind, models[kind], served_parts.of_kind(parts, kind) if parts else None, promotions.get(kind))
        for kind in sorted(models, key=lambda kind: (kind != first, kind))
    )


def promoted_kinds(entry: LedgerEntry) -> tuple[str, ...]:
    """Return the kinds that an entry promoted, of several; none if it does not name them."""
    fields = cast("_Kinds", entry)
    kinds = fields.get("resource_kinds")
    return tuple(map(str, kinds)) if isinstance(kinds, list) and len(_models(entry, None)) > 1 else ()


def _models(entry: LedgerEntry, first: str | None) -> dict[str, str]:
    """Return the model id of each kind; an entry of an earlier release has that of the first kind."""
    kinds = cast("_Kinds", entry).get("kinds")
    if isinstance(kinds, dict):
        return {str(kind): str(model_id) for kind, model_id in kinds.items()}
    return {} if first is None else {first: str(entry.get("model_id", ""))}


def _kind_model(
    kind: str, model_id: str, part: served_parts.ServedPart | None, promotion: LedgerEntry | None
) -> KindModel:
    described = part if part is not None and part.model_id == model_id else None
    return KindModel(
        kind,
        model_id,
        family="" if described is None else described.family,
        trained=None if described is None else described.trained,
        promoted=None if promotion is None else clock.parse(promotion["at"]),
        by="" if promotion is None else str(promotion.get("by", "")),
        relative_levels=described is not None and described.relative_levels,
    )


class _Cache:
    """The promotions of the kinds in service by the newest entry: entries never change, and many are searched."""

    def __init__(self) -> None:
        self._last: tuple[str, Mapping[str, LedgerEntry]] | None = None

    def get(self, store: Store, key: str, models: Mapping[str, str], first: str | None) -> Mapping[str, LedgerEntry]:
        if self._last is None or self._last[0] != key:
            self._last = (key, _promotions(store, models, first))
        return self._last[1]


_cache = _Cache()


def _promotions(store: Store, models: Mapping[str, str], first: str | None) -> dict[str, LedgerEntry]:
    """Return the newest entry that promoted the model of each kind; a kind without one is left out."""
    from riskwatch_ml.registry import ledger
    from riskwatch_ml.storage.parquet import DamagedObjectError

    promotions: dict[str, LedgerEntry] = {}
    try:
        for entry in islice(ledger.newest_first(store, ledger.INTO_SERVICE), LONGEST_HISTORY):
            there = _models(entry, first)
            promoted = cast("_Kinds", entry).get("resource_kinds") or list(there)
            for kind in promoted:
                if kind in models and there.get(kind) == models[kind]:
                    promotions.setdefault(kind, entry)
            if len(promotions) == len(models):
                break
    except DamagedObjectError as error:
        _log.warning("earlier promotions are not shown: %s", error)
    return promotions

"""The coverage of a challenger: no release of a model that lacks baselines of instances that report."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from airflow.sdk.exceptions import AirflowFailException

from riskwatch_airflow import past_episodes
from riskwatch_ml.core import clock

if TYPE_CHECKING:
    from collections.abc import Sequence

    from riskwatch_airflow.handoff import PromotionCandidate
    from riskwatch_ml.core.settings import Settings
    from riskwatch_ml.registry.ledger import LedgerEntry
    from riskwatch_ml.schema.catalogue import Catalogue
    from riskwatch_ml.storage.bucket import Store

_log = logging.getLogger(__name__)


def require(
    config: Settings, store: Store, candidate: PromotionCandidate, zip_bytes: bytes, kinds: Sequence[Catalogue]
) -> str:
    """Raise AirflowFailException, with their names, if the artifact lacks baselines of instances that report.

    `kinds` are those of its parts. A model that has served before is released again only if a person goes back to it,
    and an older model lacks the newer instances of an autoscaled fleet: then the reason is returned instead, for the
    approval. Otherwise, the text is empty.

    Instances that left, are too new for a baseline, or had an episode that the training may have left out go to the log
    only. Raises TableError if the episodes are needed and cannot be read.
    """
    from riskwatch_ml.registry import ledger
    from riskwatch_ml.selection import coverage

    now = clock.now()
    found = coverage.of_artifact(store, zip_bytes, candidate["training_id"], now, kinds)
    if found.missing:
        found = found.without_episodes(past_episodes.instances(config, now - coverage.EARLIER - coverage.RECENT, now))
    if found.note:
        _log.info("version %s: %s", candidate["version"], found.note)
    if found.refusal and any(_has(entry, candidate) for entry in ledger.newest_first(store, ledger.SERVING)):
        _log.warning("version %s, which has served before: %s", candidate["version"], found.refusal)
        return found.refusal
    if found.refusal:
        raise AirflowFailException(f"version {candidate['version']} is not released: {found.refusal}")
    return ""


def _has(entry: LedgerEntry, candidate: PromotionCandidate) -> bool:
    """Return whether what an entry put into service was the candidate, or had it as a part."""
    part = entry.get("kinds", {}).get(candidate["resource_kind"])
    return entry["digest"] == candidate["digest"] or (part is not None and part == candidate["model_id"])

"""What serves, as the tasks see it: repaired if the alias fell to the placeholder, reported if facts disagree."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from riskwatch_airflow import clients, operations
from riskwatch_ml.core.errors import RiskwatchError

if TYPE_CHECKING:
    from riskwatch_ml.core.settings import Settings
    from riskwatch_ml.registry.serving import Disagreement, Serving
    from riskwatch_ml.storage.bucket import Store

REPAIR = "policy repair"
RELEASE_S = 20.0  # a release takes seconds from the move of the alias to the champion
SUBJECT = "Riskwatch: alias, MLflow and ledger disagree about what serves"

_log = logging.getLogger(__name__)


def required(config: Settings, store: Store) -> Serving:
    """Return what serves; raise DisagreementError if alias, MLflow and ledger disagree.

    The error is one that Airflow tries again: a release that is under way moves the three one after another.
    """
    from riskwatch_ml.registry import serving

    now = serving.read(config, clients.client(config, "lambda"), store)
    now.require_agreement()
    return now


def checked(config: Settings, store: Store) -> Serving:
    """Return what serves, after repair, and report a new disagreement once to the operations topic.

    An alias on the placeholder, of which the ledger says that it serves a model, goes back to that model; the repair
    needs no MLflow. A disagreement is read twice, because a release that is under way moves the three one after
    another.
    """
    from riskwatch_ml.registry import serving

    functions = clients.client(config, "lambda")
    failure = _repair(config, store, functions)
    now = serving.read(config, functions, store)
    if now.disagreements and not serving.is_reported(store, now):
        time.sleep(RELEASE_S)
        now = serving.read(config, functions, store)
    now = replace(now, disagreements=(*now.disagreements, *failure))
    if not serving.is_reported(store, now) and _report(config, now):
        serving.keep(store, now)
    return now


def _repair(config: Settings, store: Store, functions: Any) -> list[Disagreement]:
    """Put a lost alias back; if that failed, return the reason."""
    from riskwatch_ml.registry import reconcile, serving

    lost = serving.read_without_mlflow(config, functions, store)
    if not lost.lost_to_placeholder:
        return []
    try:
        entry = reconcile.restore(config, functions, store, lost, by=REPAIR)
    except RiskwatchError as error:
        return [serving.Disagreement(serving.PLACEHOLDER, f"it could not be put back: {error}")]
    _log.warning("%s: put back, see %s", "; ".join(lost.texts), entry["key"])
    return []


def _report(config: Settings, now: Serving) -> bool:
    """Log the disagreements and send them to the operations topic, if the settings name it.

    Returns False if the topic did not take the message, so that the next comparison sends it.
    """
    if not now.disagreements:
        return True
    from riskwatch_ml.registry.serving import HOW_TO_END

    text = "\n".join(
        [*(f"- {line}" for line in now.texts), "", f"Refreshes and changes stop. To end this, {HOW_TO_END}."]
    )
    return operations.send(config, SUBJECT, text)

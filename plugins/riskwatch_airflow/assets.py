"""The assets that link the DAGs: one DAG announces them, another DAG runs on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from airflow.sdk import Asset

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.sdk import Context

VALIDATED_METRICS = Asset(name="validated_metrics", uri="riskwatch://validated_metrics/")
CANDIDATE_MODEL = Asset(name="candidate_model", uri="riskwatch://candidate_model/")
LIVE_MODEL = Asset(name="live_model", uri="riskwatch://live_model/")
RETRAIN_REQUEST = Asset(name="retrain_request", uri="riskwatch://retrain_request/")


def announce(context: Context, asset: Asset, extra: Mapping[str, object]) -> None:
    """Announce an outlet of the running task; `extra` holds JSON values that runs started by the event read."""
    context["outlet_events"][asset].extra.update(cast("Mapping[str, Any]", extra))

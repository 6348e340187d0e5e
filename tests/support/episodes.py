"""Episodes in a table of the tests, written as the function writes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from riskwatch_lambda.episode_rule import EpisodeState
from riskwatch_lambda.episodes.episode import Change, Episode
from riskwatch_lambda.episodes.repository import EpisodeRepository
from riskwatch_lambda.table import Table

if TYPE_CHECKING:
    from datetime import datetime

REASON = {"feature": "latency_ms", "value": 160.0, "low": 20.0, "high": 60.0, "share": 0.9, "direction": "up"}
SLIGHT = {**REASON, "feature": "cpu_utilization", "share": 0.01}


def write(dynamodb: Any, instance_id: str, since: datetime, closed: datetime | None = None, **more: Any) -> Episode:
    """Write an episode that opened at a time and is open, or closed at another; give it."""
    since_ms = round(since.timestamp() * 1000)
    closed_ms = None if closed is None else round(closed.timestamp() * 1000)
    state = EpisodeState(closed is None, since_ms, closed_ms or since_ms, closed_ms, 0, 2.0)
    more = {"reasons": (REASON, SLIGHT), **more}
    episode = Episode(instance_id, "shop", state=state, model_id="T0-kmeans", **more)
    EpisodeRepository(Table(dynamodb, "table")).write(Change(None, episode, listed=(episode,)))
    return episode

"""The episodes that matter to a training, from the table."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING

from riskwatch_airflow import clients
from riskwatch_lambda.episodes.episode import BEHAVIOUR
from riskwatch_ml.core import clock

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from riskwatch_lambda.episodes.episode import Episode
    from riskwatch_lambda.episodes.repository import EpisodeRepository
    from riskwatch_lambda.items import DamagedItem
    from riskwatch_ml.core.settings import Settings
    from riskwatch_ml.features.left_out import PastEpisode
    from riskwatch_ml.features.served import Served

SHARE_WORTH_LEARNING = 0.05  # a reason with a smaller share says little about what changed

_log = logging.getLogger(__name__)


def read(config: Settings, start: datetime, end: datetime) -> list[PastEpisode]:
    """Return the open episodes, and those that opened in [start, end) and ended as the new normal.

    An open episode whose newest rows are below the paging threshold is left out: its rows are unusual, and not so much
    that a training must not learn them. Raises TableError if the table cannot be read; a later try may succeed.
    """
    episodes = _read(config, start, end)
    return [_past(item) for item in episodes if (item.state.is_open and not item.state.is_calm) or item.new_normal]


def instances(config: Settings, start: datetime, end: datetime) -> set[str]:
    """Return the instances with an episode that is open or opened in [start, end): trainings may leave out their rows.

    Raises TableError if the table cannot be read; a later try may succeed.
    """
    return {episode.instance_id for episode in _read(config, start, end)}


def openings(config: Settings, names: Iterable[str]) -> Served | None:
    """Return the openings that some instances remember, None if none has one; raises TableError."""
    from riskwatch_ml.features.served import served

    episodes = _repository(config).read(names)
    return served({name: episode.openings or () for name, episode in episodes.items()})


def _read(config: Settings, start: datetime, end: datetime) -> list[Episode]:
    repository = _repository(config)
    episodes: dict[str, Episode] = {}
    day = clock.floor(start, clock.DAY_S)
    while day < end:
        episodes |= {episode.episode_id: episode for episode in repository.opened(f"{day:%Y-%m-%d}")}
        day += timedelta(days=1)
    unfinished = [episode for episode in repository.unfinished() if episode.kind == BEHAVIOUR]
    is_open = {episode.episode_id: episode for episode in unfinished if episode.state.is_open}
    # The list has an open episode as it was at the last message, the state as it is.
    states = repository.read(sorted({episode.instance_id for episode in is_open.values()}))
    newest = {state.episode_id: state for state in states.values() if state.episode_id in is_open}
    return list({**episodes, **is_open, **newest}.values())


def _repository(config: Settings) -> EpisodeRepository:
    from riskwatch_lambda.episodes.repository import EpisodeRepository
    from riskwatch_lambda.table import Table

    return EpisodeRepository(Table(clients.client(config, "dynamodb"), config.table), _warn)


def _warn(item: DamagedItem) -> None:
    _log.warning("an episode of the table cannot be read, its rows are learned as if it were none: %s", item)


def _past(episode: Episode) -> PastEpisode:
    from riskwatch_ml.features.left_out import PastEpisode

    metrics = [reason["feature"] for reason in episode.reasons if reason["share"] >= SHARE_WORTH_LEARNING]
    state = episode.state
    return PastEpisode(
        *(episode.instance_id, episode.since_ms, state.is_open, episode.episode_id),
        tuple(metrics) or state.opened_by,
        state.opened_by,
    )

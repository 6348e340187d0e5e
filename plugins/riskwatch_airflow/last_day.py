"""The comparison of a trained candidate with the champion on the newest 24 hours, for the task `choose`."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING

from riskwatch_airflow import past_episodes
from riskwatch_ml.core import clock
from riskwatch_ml.storage import keys, known_instances

if TYPE_CHECKING:
    from riskwatch_ml.core.settings import Settings
    from riskwatch_ml.model.fleet_model import FleetModel
    from riskwatch_ml.selection.handoff import ChampionVersion, TrainingPlan
    from riskwatch_ml.selection.last_day import LastDay
    from riskwatch_ml.storage.bucket import Store

_log = logging.getLogger(__name__)


def compared(config: Settings, store: Store, training: TrainingPlan, zip_bytes: bytes) -> tuple[str, LastDay | None]:
    """Return why the candidate of an artifact needs an approval, empty if it does not, and the comparison.

    There is no comparison without a champion, or if its artifact cannot be read: then a person must approve. Raises
    TableError if the open episodes cannot be read.
    """
    from riskwatch_ml.artifact import archive
    from riskwatch_ml.model.fleet_model import FleetModel
    from riskwatch_ml.selection import last_day

    if training["champion"] is None or "until" not in training:
        # A training that an earlier release began has no end of its rows.
        return "", None
    champion = _champion(store, training["champion"])
    if champion is None:
        return f"the model in service cannot be read, so the last {last_day.HOURS} hours are not compared", None
    challenger = FleetModel.load(*archive.unpack(zip_bytes))
    end = clock.parse(training["until"])
    context = timedelta(milliseconds=last_day.context_ms(champion, challenger, config.period_s))
    start = clock.floor(end - timedelta(hours=last_day.HOURS) - context, clock.HOUR_S)
    new_normals = {entry["episode_id"] for entry in training.get("new_normals", [])}
    episodes = past_episodes.read(config, start, end)
    rows = store.read_hours(keys.VALIDATED, start, end, damaged=[])
    comparison = last_day.compare(
        champion,
        challenger,
        rows,
        known_instances.load(config.inventory, store),
        {
            episode.instance_id: episode
            for episode in episodes
            if episode.is_open and episode.episode_id not in new_normals
        },
        clock.epoch_ms(end),
        {episode.instance_id for episode in episodes if episode.episode_id in new_normals},
    )
    _log.info("last %d hours: %s", last_day.HOURS, comparison)
    return comparison.ask, comparison


def _champion(store: Store, champion: ChampionVersion) -> FleetModel | None:
    """Return the model in service, None if its artifact is gone or of another version of Riskwatch."""
    from riskwatch_ml.artifact import archive
    from riskwatch_ml.model.fleet_model import FleetModel
    from riskwatch_ml.registry.champion import MissingArtifactError, artifact

    try:
        zip_bytes = artifact(store, version=champion["version"], checksum=champion["digest"], s3_key=champion["s3_key"])
        return FleetModel.load(*archive.unpack(zip_bytes))
    except (MissingArtifactError, archive.ArtifactError, KeyError) as error:
        _log.warning("the artifact of the champion cannot be read: %s", error)
        return None

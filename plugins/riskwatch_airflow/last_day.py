"""The comparison of a trained candidate with the champion on the newest 24 hours, for the task `choose`."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING

from riskwatch_airflow import past_episodes
from riskwatch_ml.core import clock
from riskwatch_ml.schema import catalogue
from riskwatch_ml.storage import keys, known_instances

if TYPE_CHECKING:
    from riskwatch_ml.core.settings import Settings
    from riskwatch_ml.model.fleet_model import FleetModel
    from riskwatch_ml.schema.catalogue import Catalogue
    from riskwatch_ml.selection.handoff import ChampionVersion, TrainingPlan
    from riskwatch_ml.selection.last_day import LastDay
    from riskwatch_ml.storage.bucket import Store

_log = logging.getLogger(__name__)


def compared(config: Settings, store: Store, training: TrainingPlan, zip_bytes: bytes) -> tuple[str, LastDay | None]:
    """Return why the candidate of an artifact needs an approval, empty if it does not, and the comparison.

    The artifact has one part, for the kind of the training, which is compared with the champion's part for it. There is
    no comparison without a champion, or if its artifact cannot be read: then a person must approve. Raises TableError
    if the open episodes cannot be read.
    """
    from riskwatch_ml.artifact import archive
    from riskwatch_ml.model.fleet_model import FleetModel
    from riskwatch_ml.selection import last_day

    if training["champion"] is None or "until" not in training:
        # A training that an earlier release began has no end of its rows.
        return "", None
    kinds = catalogue.load_all(config.catalogue)
    metrics = catalogue.of_kind(training.get("resource_kind", ""), kinds)
    champion = _champion(store, training["champion"], metrics, kinds[0].kind)
    if champion is None:
        return f"the model in service cannot be read, so the last {last_day.HOURS} hours are not compared", None
    challenger = FleetModel.load(*archive.unpack(zip_bytes))
    end = clock.parse(training["until"])
    context = timedelta(milliseconds=last_day.context_ms(champion, challenger, config.period_s))
    start = clock.floor(end - timedelta(hours=last_day.HOURS) - context, clock.HOUR_S)
    new_normals = {entry["episode_id"] for entry in training.get("new_normals", [])}
    episodes = past_episodes.read(config, start, end)
    if len(kinds) > 1:
        of_kind = catalogue.names_of_kind((episode.instance_id for episode in episodes), metrics, kinds)
        episodes = [episode for episode in episodes if episode.instance_id in of_kind]
    rows = store.read_hours(keys.of_kind(keys.VALIDATED, metrics), start, end, damaged=[])
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


def _champion(store: Store, champion: ChampionVersion, metrics: Catalogue, first: str) -> FleetModel | None:
    """Return the model of a kind in service, None if its artifact is gone or of another version of Riskwatch."""
    from riskwatch_ml.artifact.archive import ArtifactError
    from riskwatch_ml.model.fleet_model import FleetModel
    from riskwatch_ml.registry.champion import MissingArtifactError, part

    try:
        return FleetModel.load(*part(store, champion, metrics, first))
    except (MissingArtifactError, ArtifactError, KeyError) as error:
        _log.warning("the artifact of the champion cannot be read: %s", error)
        return None

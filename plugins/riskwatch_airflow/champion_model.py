"""The champion's part for a kind: which version it is, the settings that a refresh keeps, and the model."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from airflow.sdk.exceptions import AirflowFailException

if TYPE_CHECKING:
    from riskwatch_ml.families.base import Params
    from riskwatch_ml.model.fleet_model import FleetModel
    from riskwatch_ml.registry.registered import Registered
    from riskwatch_ml.schema.catalogue import Catalogue
    from riskwatch_ml.selection.handoff import ChampionVersion
    from riskwatch_ml.storage.bucket import Store

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ChampionModel:
    """The level settings that a refresh keeps, and the model in service; empty if there is none to use.

    `unusable_because` is the reason why the champion cannot be refreshed and a contest must follow, empty if it can.
    `model_id` is the id of the model.
    """

    settings: Params = field(default_factory=dict)
    model: FleetModel | None = None
    unusable_because: str = ""
    model_id: str = ""


def read(store: Store, champion: ChampionVersion | None, metrics: Catalogue, first: str) -> ChampionModel:
    """Return the champion's part for a kind as it serves, and whether it can be refreshed with the catalogue.

    Raises AirflowFailException if its artifact is gone.
    """
    from riskwatch_ml.artifact.archive import ArtifactError
    from riskwatch_ml.model.fleet_model import FleetModel
    from riskwatch_ml.registry.champion import MissingArtifactError, part

    if champion is None:
        return ChampionModel()
    try:
        document, arrays = part(store, champion, metrics, first)
        level, model = cast("Params", document["settings"]), FleetModel.load(document, arrays)
    except MissingArtifactError as error:
        raise AirflowFailException(str(error)) from error
    except (ArtifactError, KeyError) as error:
        _log.warning("the artifact of the champion cannot be read: %s", error)
        return ChampionModel(
            unusable_because=f"version {champion['version']} was packed by another version of Riskwatch"
        )
    if model.features != metrics.names:
        changed = ", ".join(sorted(set(model.features) ^ set(metrics.names))) or "their order"
        return ChampionModel(unusable_because=f"the champion and the catalogue differ in the metrics: {changed}")
    return ChampionModel(level, model, model_id=str(document["model_id"]))


def version(registered: Registered | None, metrics: Catalogue) -> ChampionVersion | None:
    """Return the champion with its part for a kind, None if it has none."""
    part = None if registered is None else registered.part(metrics)
    if registered is None or part is None:
        return None
    return {
        "version": registered.version,
        "digest": registered.digest,
        "s3_key": registered.s3_key,
        "family": part.family,
        "model_id": part.model_id,
    }

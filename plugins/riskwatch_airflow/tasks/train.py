"""Tasks prepare and train of train_models: refresh or contest, the training rows, one candidate for each family."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from riskwatch_airflow import agreement, clients, intervals, past_episodes
from riskwatch_airflow.assets import RETRAIN_REQUEST
from riskwatch_ml.core import clock, settings
from riskwatch_ml.schema import catalogue
from riskwatch_ml.storage import keys, known_instances

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from airflow.sdk import Context

    from riskwatch_ml.core.settings import Settings
    from riskwatch_ml.families.base import Params
    from riskwatch_ml.features.history import History
    from riskwatch_ml.model.document import NewNormal
    from riskwatch_ml.model.fleet_model import FleetModel
    from riskwatch_ml.registry.mlflow_registry import Registered
    from riskwatch_ml.selection.candidate import Candidate
    from riskwatch_ml.selection.handoff import (
        CandidateSummary,
        ChampionVersion,
        FitPlan,
        TrainedFamily,
        TrainingPlan,
    )
    from riskwatch_ml.storage.bucket import Store

_log = logging.getLogger(__name__)


def prepare(context: Context) -> TrainingPlan:
    """Decide between refresh and contest, collect the training rows, and open the training in MLflow.

    The rows are those of the newest `history_days`. If they do not fit into memory, days are left out, see
    `riskwatch_ml.features.history`; rows of open episodes are, see `riskwatch_ml.features.left_out`. Log and MLflow say
    so, and name hours that cannot be read. The training id is the moment at which the run started: a retry overwrites
    its own first attempt, and ids sort by age whatever the logical dates of their runs.

    Raises AirflowFailException if there are no rows or none can be read, but AirflowSkipException in a run on the
    schedule without rows. Raises DisagreementError if alias, MLflow and ledger disagree: which model to refresh is then
    not known.
    """
    from riskwatch_ml.registry import mlflow_registry

    config = settings.load()
    store = clients.store(config)
    champion = agreement.required(config, store).serving_champion
    end = _end_of_rows(context, store)
    history, held_bytes, unreadable = _history(store, config, end - timedelta(days=config.history_days), end)
    rows, left_out, new_normals = _without_episodes(config, history.rows, end)
    training_id = f"{intervals.started(context):%Y%m%dT%H%M%SZ}"
    key = keys.training_rows(training_id)
    store.put_frame(key, rows)
    plan = _plan(context, store, training_id, champion)
    instances = int(rows["instance_id"].nunique())
    params = {
        "kind": plan["kind"],
        "why": plan["why"],
        "rows": len(rows),
        "instances": instances,
        "left_out": "; ".join(filter(None, (history.note, unreadable, left_out))) or "nothing",
        "memory_gb": round(held_bytes / 1e9, 1),
        "first_row": clock.iso(rows["timestamp"].min().to_pydatetime()),
        "last_row": clock.iso(rows["timestamp"].max().to_pydatetime()),
        "history_days": config.history_days,
        "period_s": config.period_s,
        "budget": config.budget,
    }
    run_id = mlflow_registry.open_training(config, training_id, params)
    _log.info("training %s: %s", training_id, params)
    return {
        "training_id": training_id,
        "run_id": run_id,
        "key": key,
        "rows": len(rows),
        "instances": instances,
        "until": clock.iso(end),
        "new_normals": new_normals,
        **plan,
    }


def _end_of_rows(context: Context, store: Store) -> datetime:
    """Return the end of the newest hour that has rows, or now if that is earlier; rows ahead of now do not count.

    Fail, or skip on the schedule, if there is none.
    """
    end = store.end_of_rows(keys.VALIDATED, clock.now())
    if end is None:
        message = (
            f"s3://{store.bucket}/validated/ has no rows to train on: run export_metrics for the days to learn from"
        )
        # A new installation is no failure: the next run on the schedule tries again.
        raise AirflowSkipException(message) if intervals.is_scheduled(context) else AirflowFailException(message)
    return end


def _history(store: Store, config: Settings, start: datetime, end: datetime) -> tuple[History, int, str]:
    """Return the rows to learn from, the bytes that a train task holds for them, and a note on unreadable hours.

    Warn if the rows are too many. Fail if no hour can be read.
    """
    from functools import partial

    from riskwatch_ml.features import history

    metrics = len(catalogue.load_all(config.catalogue)[0].names)
    limit = history.most_rows(metrics, config.period_s)
    damaged: list[str] = []
    collected = history.collect(partial(store.read_hours, keys.VALIDATED, damaged=damaged), start, end, limit)
    if damaged and not len(collected.rows):
        raise AirflowFailException(f"no hour of validated/ can be read; the first: {damaged[0]}")
    held_bytes = history.held_bytes(len(collected.rows), metrics, config.period_s)
    if collected.note:
        _log.warning("%s", collected.note)
    if len(collected.rows) > limit:
        _log.warning(
            "the newest days alone are %d rows, for which a train task needs about %.1f GB: give the workers as much, "
            "export with a longer period_s, or split the fleet between two installations",
            len(collected.rows),
            held_bytes / 1e9,
        )
    unreadable = f"{len(damaged)} objects of validated/ that cannot be read" if damaged else ""
    return collected, held_bytes, unreadable


def _without_episodes(config: Settings, rows: pd.DataFrame, end: datetime) -> tuple[pd.DataFrame, str, list[NewNormal]]:
    """Return the rows to learn from, a note on those left out, and the episodes that are learned as normal.

    Fail if no row is left.
    """
    import pandas as pd

    from riskwatch_ml.features.left_out import metric_changes, rows_left_out

    episodes = past_episodes.read(config, end - timedelta(days=config.history_days), end)
    code, names = pd.factorize(rows["instance_id"])
    ms = rows["timestamp"].dt.as_unit("ms").astype("int64").to_numpy()
    left_out = rows_left_out(list(names), code, ms, episodes, clock.epoch_ms(end), config.new_normal_hours)
    if not left_out.kept.any():
        raise AirflowFailException(
            f"all {len(rows)} rows lie in open episodes: what serves stays. Training goes on once an episode is over, "
            f"or older than new_normal_hours ({config.new_normal_hours})"
        )
    if left_out.note:
        _log.warning("left out: %s", left_out.note)
    new_normals: list[NewNormal] = [
        {"episode_id": episode.episode_id, "changes": metric_changes(rows, episode)} for episode in left_out.new_normals
    ]
    for entry in new_normals:
        _log.warning("learned as normal: %s, %s", entry["episode_id"], entry["changes"])
    kept = rows[left_out.kept].reset_index(drop=True) if left_out.note else rows
    return kept, left_out.note, new_normals


def _plan(context: Context, store: Store, training_id: str, registered: Registered | None) -> FitPlan:
    """Return which families to fit and why: the champion's alone, or all of them."""
    from riskwatch_ml.families import FAMILIES
    from riskwatch_ml.selection import contest_log
    from riskwatch_ml.selection.contest import REFRESH, contest_due

    config = settings.load()
    champion = None if registered is None else cast("ChampionVersion", asdict(registered))
    family = None if champion is None else champion["family"]
    serving = _champion_model(store, champion, catalogue.load_all(config.catalogue)[0].names)
    run_id = str(context["dag_run"].run_id)
    before = contest_log.read(store, training_id, family, run_id)
    # Contests are weekly by the schedule, not by the seconds that runs waited for a slot.
    due = intervals.due(context)
    since_s = None if before.contested_at is None else (due - before.contested_at).total_seconds()
    why = contest_due(family, since_s, serving.unusable_because or _request(context))
    # Without a champion a contest is due.
    families = list(FAMILIES) if why is not None or family is None else [family]
    return {
        "kind": REFRESH if why is None else "contest",
        "why": why or f"{family} is refreshed: the last contest is less than a week ago",
        "families": families,
        "champion": champion,
        "given_up": serving.unusable_because,
        "in_vain": before.all_vetoed,
        "wins": dict(before.wins),
        "at": clock.iso(due),
        "dag_run": run_id,
    }


def _request(context: Context) -> str:
    """Return who requests a contest and why, or an empty text; a request for a refresh requests none."""
    from riskwatch_ml.selection.contest import REFRESH

    if (context.get("params") or {}).get("contest"):
        return "asked for by an operator"
    events = (context.get("triggering_asset_events") or {}).get(RETRAIN_REQUEST, [])
    extras = [event.extra or {} for event in events]
    reasons = [str(extra.get("reason", "")) for extra in extras if extra.get("kind") != REFRESH]
    return f"a retrain was requested: {', '.join(filter(None, reasons)) or 'no reason given'}" if reasons else ""


def train(training: TrainingPlan, family: str) -> TrainedFamily:
    """Fit one family, write its artifact and summary under `candidates/`, and log it in MLflow.

    The champion's family keeps the champion's settings; every family is compared with the champion's levels. In a
    contest a champion that the guards veto, or that cannot be refreshed, takes part with new settings. Raises
    AirflowFailException if the rows or the champion's artifact are gone.
    """
    from riskwatch_ml.artifact import archive
    from riskwatch_ml.registry import mlflow_registry

    config = settings.load()
    store = clients.store(config)
    candidate, unusable_because = _fit(config, store, training, family)
    zip_bytes = archive.pack(candidate.document, candidate.arrays)
    run_id = mlflow_registry.log_candidate(config, training["run_id"], candidate, zip_bytes)
    key = keys.candidate(training["training_id"], family)
    store.put_bytes(key, zip_bytes)
    summary: CandidateSummary = {
        "family": family,
        "training_id": training["training_id"],
        "model_id": candidate.document["model_id"],
        "run_id": run_id,
        "digest": archive.checksum(zip_bytes),
        "s3_key": key,
        "bytes": len(zip_bytes),
        "figures": {name: float(value) for name, value in candidate.figures.items()},
        "params": candidate.params,
        "given_up": unusable_because,
    }
    store.put_json(keys.candidate_summary(key), finite(summary))
    _log.info("%s: %s", family, summary["figures"])
    return {"family": family, "key": keys.candidate_summary(key), "run_id": run_id}


def _fit(config: Settings, store: Store, training: TrainingPlan, family: str) -> tuple[Candidate, str]:
    """Return the candidate, and why the champion cannot be refreshed if it is its family; else an empty text."""
    from functools import partial

    from riskwatch_ml.features.training_set import training_table
    from riskwatch_ml.model.fit import Recipe
    from riskwatch_ml.selection import guards
    from riskwatch_ml.selection.candidate import fit_table

    rows = store.get_frame(training["key"])
    if rows is None:
        raise AirflowFailException(
            f"s3://{config.bucket}/{training['key']} is gone: clear the task prepare to write it again"
        )
    metrics = catalogue.load_all(config.catalogue)[0]
    serving = _champion_model(store, training["champion"], metrics.names)
    is_champion = training["champion"] is not None and training["champion"]["family"] == family
    unusable_because = serving.unusable_because if is_champion else ""
    table = training_table(rows, metrics, config.period_s)
    del rows  # the table is a copy, and a large fleet's rows are most of what a training holds
    instances = known_instances.load(config.inventory, store)
    fit = partial(
        fit_table,
        *(table, metrics, instances),
        training_id=training["training_id"],
        champion=serving.model,
        new_normals=training.get("new_normals", []),
    )
    recipe = Recipe(family, config.budget, period_s=config.period_s)
    candidate = fit(replace(recipe, level=serving.settings) if is_champion else recipe)
    is_contest = training["kind"] == "contest"
    if is_champion and is_contest and not unusable_because and (reasons := guards.vetoes(candidate.figures)):
        return fit(recipe), "; ".join(reasons)
    return candidate, unusable_because


@dataclass(frozen=True)
class ChampionModel:
    """The level settings that a refresh keeps, and the model in service; empty if there is none to use.

    `unusable_because` is the reason why the champion cannot be refreshed and a contest must follow, empty if it can.
    """

    settings: Params = field(default_factory=dict)
    model: FleetModel | None = None
    unusable_because: str = ""


def _champion_model(store: Store, champion: ChampionVersion | None, features: Sequence[str]) -> ChampionModel:
    """Return the champion as it serves, and whether it can be refreshed with the metrics of the catalogue.

    Raises AirflowFailException if its artifact is gone.
    """
    from riskwatch_ml.artifact import archive
    from riskwatch_ml.model.fleet_model import FleetModel
    from riskwatch_ml.registry.champion import MissingArtifactError, artifact

    if champion is None:
        return ChampionModel()
    try:
        zip_bytes = artifact(store, version=champion["version"], checksum=champion["digest"], s3_key=champion["s3_key"])
    except MissingArtifactError as error:
        raise AirflowFailException(str(error)) from error
    try:
        document, arrays = archive.unpack(zip_bytes)
        level, model = dict(document["settings"]), FleetModel.load(document, arrays)
    except (archive.ArtifactError, KeyError) as error:
        _log.warning("the artifact of the champion cannot be read: %s", error)
        return ChampionModel(
            unusable_because=f"version {champion['version']} was packed by another version of Riskwatch"
        )
    if model.features != tuple(features):
        changed = ", ".join(sorted(set(model.features) ^ set(features))) or "their order"
        return ChampionModel(unusable_because=f"the champion and the catalogue differ in the metrics: {changed}")
    return ChampionModel(level, model)


def finite(value: Any) -> Any:
    """Return a JSON value with NaN and infinities, which JSON cannot hold, replaced by null."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, float) and not float("-inf") < value < float("inf"):
        return None
    return value

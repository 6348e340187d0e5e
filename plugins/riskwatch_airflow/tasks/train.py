"""Tasks prepare and train of train_models: refresh or contest, the training rows, one candidate per family."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from riskwatch_airflow import clients, intervals
from riskwatch_airflow.assets import RETRAIN_REQUEST
from riskwatch_ml.core import clock, settings
from riskwatch_ml.schema import catalogue
from riskwatch_ml.storage import keys, known_instances

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from riskwatch_ml.core.settings import Settings
    from riskwatch_ml.families.base import Params
    from riskwatch_ml.features.history import History
    from riskwatch_ml.model.fleet_model import FleetModel
    from riskwatch_ml.storage.bucket import Store

_log = logging.getLogger(__name__)


def prepare(context: Mapping[str, Any]) -> dict[str, Any]:
    """Decide between refresh and contest, collect the newest `history_days` of rows, open the training in MLflow.

    Of a history that would not fit into memory days are left out, see `riskwatch_ml.features.history`; log and MLflow
    say so. Returns ids, counts, the families to fit and why. The training id is the moment at which the run started: a
    retry writes over its own first attempt, and ids sort by age whatever the logical dates of their runs. Without rows
    a scheduled run skips, and any other fails for good.
    """
    from riskwatch_ml.registry import mlflow_registry

    config = settings.load()
    store = clients.store(config)
    newest = _newest_hour(store)
    if newest is None:
        message = (
            f"s3://{config.bucket}/validated/ has no rows to train on: run export_metrics for the days to learn from"
        )
        # A new installation is no failure: the schedule tries again.
        raise AirflowSkipException(message) if intervals.is_scheduled(context) else AirflowFailException(message)
    end = newest + timedelta(hours=1)
    start = end - timedelta(days=config.history_days)
    found, held = _history(store, config, start, end)
    rows = found.rows
    training_id = f"{intervals.started(context):%Y%m%dT%H%M%SZ}"
    key = keys.training_rows(training_id)
    store.put_frame(key, rows)
    plan = _plan(context, config, store, training_id)
    params = {
        "kind": plan["kind"],
        "why": plan["why"],
        "rows": len(rows),
        "instances": int(rows["instance_id"].nunique()),
        "left_out": found.told or "nothing",
        "memory_gb": round(held / 1e9, 1),
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
        "instances": params["instances"],
        **plan,
    }


def _history(store: Store, config: Settings, start: datetime, end: datetime) -> tuple[History, int]:
    """The rows to learn from, and the bytes that a train task holds for them; says so where that is a problem."""
    from functools import partial

    from riskwatch_ml.features import history

    metrics = len(catalogue.load(config.catalogue).names)
    most = history.most_rows(metrics, config.period_s)
    found = history.collect(partial(store.read_hours, keys.VALIDATED), start, end, most)
    held = history.held_bytes(len(found.rows), metrics, config.period_s)
    if found.told:
        _log.warning("%s", found.told)
    if len(found.rows) > most:
        _log.warning(
            "the newest days alone are %d rows, for which a train task needs about %.1f GB: give the workers as much, "
            "export with a longer period_s, or split the fleet between two installations",
            len(found.rows),
            held / 1e9,
        )
    return found, held


def _plan(context: Mapping[str, Any], config: Settings, store: Store, training_id: str) -> dict[str, Any]:
    """What to fit and why: the champion alone, or all families."""
    from riskwatch_ml.families import FAMILIES
    from riskwatch_ml.registry import mlflow_registry
    from riskwatch_ml.selection import contest_log
    from riskwatch_ml.selection.contest import REFRESH, contest_due

    champion = mlflow_registry.champion(config)
    family = None if champion is None else champion.family
    serving = _serving(store, None if champion is None else asdict(champion), catalogue.load(config.catalogue).names)
    run_id = str(context["dag_run"].run_id)
    before = contest_log.read(store, training_id, family, run_id)
    # Contests are weekly by the schedule, not by the seconds that runs waited for a slot.
    at = intervals.due(context)
    since_s = None if before.contested_at is None else (at - before.contested_at).total_seconds()
    why = contest_due(family, since_s, serving.given_up or _asked(context))
    kind = REFRESH if why is None else "contest"
    return {
        "kind": kind,
        "why": why or f"{family} is refreshed: the last contest is less than a week ago",
        "families": [family] if why is None else list(FAMILIES),
        "champion": None if champion is None else asdict(champion),
        "given_up": serving.given_up,
        "in_vain": before.in_vain,
        "wins": dict(before.wins),
        "at": clock.iso(at),
        "dag_run": run_id,
    }


def _asked(context: Mapping[str, Any]) -> str:
    """Who asks for a contest and why; empty where nobody does."""
    if (context.get("params") or {}).get("contest"):
        return "asked for by an operator"
    events = context.get("triggering_asset_events") or {}
    requests = events.get(RETRAIN_REQUEST, [])
    reasons = [str((event.extra or {}).get("reason", "")) for event in requests]
    return f"a retrain was requested: {', '.join(filter(None, reasons)) or 'no reason given'}" if reasons else ""


def train(training: Mapping[str, Any], family: str) -> dict[str, Any]:
    """Fit one family, write its artifact and figures under `candidates/` and log it; return keys.

    The champion's family keeps the champion's settings; every family is compared with the champion's levels. In a
    contest a champion that the guards veto, or that cannot be refreshed, chooses its settings anew.
    """
    from functools import partial

    from riskwatch_ml.artifact import archive
    from riskwatch_ml.features.training_set import training_table
    from riskwatch_ml.model.fit import Recipe
    from riskwatch_ml.registry import mlflow_registry
    from riskwatch_ml.selection import guards
    from riskwatch_ml.selection.candidate import fit_table

    config = settings.load()
    store = clients.store(config)
    rows = store.get_frame(training["key"])
    if rows is None:
        raise AirflowFailException(
            f"s3://{config.bucket}/{training['key']} is gone: clear the task prepare to write it again"
        )
    training_id = training["training_id"]
    watched = catalogue.load(config.catalogue)
    serving = _serving(store, training["champion"], watched.names)
    own = training["champion"] is not None and training["champion"]["family"] == family
    given_up = serving.given_up if own else ""
    table = training_table(rows, watched, config.period_s)
    del rows  # the table is a copy, and a large fleet's rows are most of what a training holds
    fleet = known_instances.load(config.inventory, store)
    fit = partial(fit_table, table, watched, fleet, training_id=training_id, champion=serving.model)
    anew = Recipe(family, config.budget, period_s=config.period_s)
    candidate = fit(replace(anew, level=serving.settings) if own else anew)
    if own and training["kind"] == "contest" and not given_up and (reasons := guards.vetoes(candidate.figures)):
        given_up = "; ".join(reasons)
        candidate = fit(anew)
    zip_bytes = archive.pack(candidate.document, candidate.arrays)
    run_id = mlflow_registry.log_candidate(config, training["run_id"], candidate, zip_bytes)
    key = keys.candidate(training_id, family)
    store.put_bytes(key, zip_bytes)
    summary = {
        "family": family,
        "training_id": training_id,
        "model_id": candidate.document["model_id"],
        "run_id": run_id,
        "digest": archive.digest(zip_bytes),
        "s3_key": key,
        "bytes": len(zip_bytes),
        "figures": {name: float(value) for name, value in candidate.figures.items()},
        "params": candidate.params,
        "given_up": given_up,
    }
    store.put_json(keys.candidate_summary(key), finite(summary))
    _log.info("%s: %s", family, summary["figures"])
    return {"family": family, "key": keys.candidate_summary(key), "run_id": run_id}


@dataclass(frozen=True)
class Serving:
    """The level settings that a refresh keeps and the model that serves, none where there is none to use.

    ``given_up`` says why the champion cannot be refreshed: a contest must find what follows it.
    """

    settings: Params = field(default_factory=dict)
    model: FleetModel | None = None
    given_up: str = ""


def _serving(store: Store, champion: Mapping[str, Any] | None, features: Sequence[str]) -> Serving:
    """The champion as it serves, and whether it can be refreshed with the metrics of the catalogue.

    Fails for good where its artifact is gone.
    """
    from riskwatch_ml.artifact import archive
    from riskwatch_ml.model.fleet_model import FleetModel
    from riskwatch_ml.registry.champion import MissingArtifactError, artifact

    if champion is None:
        return Serving()
    try:
        zip_bytes = artifact(store, version=champion["version"], digest=champion["digest"], s3_key=champion["s3_key"])
    except MissingArtifactError as error:
        raise AirflowFailException(str(error)) from error
    try:
        document, arrays = archive.unpack(zip_bytes)
        kept, model = dict(document["settings"]), FleetModel.load(document, arrays)
    except (archive.ArtifactError, KeyError) as error:
        _log.warning("the artifact of the champion cannot be read: %s", error)
        return Serving(given_up=f"version {champion['version']} was packed by another version of Riskwatch")
    if model.features != tuple(features):
        changed = ", ".join(sorted(set(model.features) ^ set(features))) or "their order"
        return Serving(given_up=f"the champion and the catalogue differ in the metrics: {changed}")
    return Serving(kept, model)


def _newest_hour(store: Store) -> datetime | None:
    hours = map(keys.parse_hour, reversed(store.keys(keys.hours(keys.VALIDATED))))
    return next((place.hour for place in hours if place is not None), None)


def finite(value: Any) -> Any:
    """Replace what JSON cannot hold, NaN and infinities, by null."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, float) and not float("-inf") < value < float("inf"):
        return None
    return value

"""Tasks prepare and train of train_models: refresh or contest, the training rows, one candidate for each family."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from riskwatch_airflow import agreement, champion_model, clients, intervals, paging, training_rows
from riskwatch_airflow.assets import RETRAIN_REQUEST
from riskwatch_ml.core import clock, settings
from riskwatch_ml.schema import catalogue
from riskwatch_ml.storage import keys, known_instances

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from airflow.sdk import Context

    from riskwatch_airflow.handoff import RetrainRequest
    from riskwatch_ml.core.settings import Settings
    from riskwatch_ml.registry.registered import Registered
    from riskwatch_ml.schema.catalogue import Catalogue
    from riskwatch_ml.selection.candidate import Candidate
    from riskwatch_ml.selection.handoff import (
        CandidateSummary,
        FitPlan,
        TrainedFamily,
        TrainingPlan,
    )
    from riskwatch_ml.storage.bucket import Store

FEW_ROWS = 5_000

_log = logging.getLogger(__name__)


def prepare(context: Context, kind: str = "") -> TrainingPlan:
    """Decide between refresh and contest for a kind, collect its training rows, and open the training in MLflow.

    An empty `kind` is the first one. Each kind is trained on its own, and a kind that cannot be trained stops no other.
    The rows are those of the newest `history_days`. If they do not fit into memory, days are left out, see
    `riskwatch_ml.features.history`; rows of open episodes are, see `riskwatch_ml.features.left_out`. Log and MLflow say
    so, and name hours that cannot be read. The training id is the moment at which the run started: a retry overwrites
    its own first attempt, and ids sort by age whatever the logical dates of their runs.

    Raises AirflowFailException if there are no rows or none can be read, but AirflowSkipException in a run on the
    schedule without rows, for a further kind with too few rows, and if a retrain was requested for other kinds only.
    Raises DisagreementError if alias, MLflow and ledger disagree: which model to refresh is then not known.
    """
    from riskwatch_ml.registry import mlflow_registry

    config = settings.load()
    store = clients.store(config)
    kinds = catalogue.load_all(config.catalogue)
    metrics = catalogue.of_kind(kind, kinds)
    requests = _requests(context, metrics)
    champion = agreement.required(config, store).serving_champion
    end = training_rows.end_of_rows(context, store, metrics)
    history, held_bytes, unreadable = training_rows.history(store, config, metrics, end)
    training_rows.require_enough(history.rows, metrics)
    rows, left_out, new_normals = training_rows.without_episodes(config, history.rows, end)
    training_id = keys.training_id(intervals.started(context), metrics)
    store.put_frame(keys.training_rows(training_id), rows)
    plan = _plan(context, store, training_id, champion, metrics, kinds[0].kind, _asked(context, requests, metrics))
    params = {
        **_facts(rows, metrics, config),
        "pages_per_day": paging.settle(config, store, training_id, rows, plan["champion"]),
        "kind": plan["kind"],
        "why": plan["why"],
        "left_out": "; ".join(filter(None, (history.note, unreadable, left_out))) or "nothing",
        "memory_gb": round(held_bytes / 1e9, 1),
    }
    run_id = mlflow_registry.open_training(config, training_id, params)
    _log.info("training %s: %s", training_id, params)
    return {
        "resource_kind": metrics.kind,
        "training_id": training_id,
        "run_id": run_id,
        "key": keys.training_rows(training_id),
        "groups": _groups(plan["families"], len(rows)),
        "rows": len(rows),
        "instances": rows["instance_id"].nunique(),
        "until": clock.iso(end),
        "new_normals": new_normals,
        **plan,
    }


def _facts(rows: pd.DataFrame, metrics: Catalogue, config: Settings) -> dict[str, object]:
    """Return what MLflow shows of the rows and the settings of a training."""
    return {
        "resource_kind": metrics.kind,
        "rows": len(rows),
        "instances": int(rows["instance_id"].nunique()),
        "first_row": clock.iso(rows["timestamp"].min().to_pydatetime()),
        "last_row": clock.iso(rows["timestamp"].max().to_pydatetime()),
        "history_days": config.history_days,
        "period_s": config.period_s,
    }


def _plan(
    context: Context,
    store: Store,
    training_id: str,
    registered: Registered | None,
    metrics: Catalogue,
    first: str,
    asked: str,
) -> FitPlan:
    """Return which families to fit and why: that of the champion's part alone, or all of them."""
    from riskwatch_ml.families import FAMILIES
    from riskwatch_ml.selection import contest_log
    from riskwatch_ml.selection.contest import REFRESH, contest_due

    champion = champion_model.version(registered, metrics)
    family = None if champion is None else champion["family"]
    serving = champion_model.read(store, champion, metrics, first)
    if champion is not None and serving.model_id:
        champion["model_id"] = serving.model_id  # a version of an earlier release does not name it
    run_id = str(context["dag_run"].run_id)
    before = contest_log.read(store, training_id, family, run_id)
    # Contests are weekly by the schedule, not by the seconds that runs waited for a slot.
    due = intervals.due(context)
    since_s = None if before.contested_at is None else (due - before.contested_at).total_seconds()
    why = contest_due(family, since_s, serving.unusable_because or asked)
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


def _groups(families: list[str], rows: int) -> list[list[str]]:
    """Return the families by the task that fits them: one task for all if the rows are few, else one for each.

    To start a task takes about as long as to fit a family to a few thousand rows.
    """
    return [families] if rows <= FEW_ROWS else [[family] for family in families]


def _requests(context: Context, metrics: Catalogue) -> list[RetrainRequest]:
    """Return the retrain requests that started the run and concern a kind; skip if all of them concern others."""
    events = (context.get("triggering_asset_events") or {}).get(RETRAIN_REQUEST, [])
    requests = [cast("RetrainRequest", event.extra or {}) for event in events]
    concerned = [
        each
        for each in requests
        if metrics.kind in {*each.get("resource_kinds", [metrics.kind]), *each.get("refresh_kinds", ())}
    ]
    if requests and not concerned:
        raise AirflowSkipException(f"the retrain was requested for other kinds than {metrics.kind}")
    return concerned


def _asked(context: Context, requests: Sequence[RetrainRequest], metrics: Catalogue) -> str:
    """Return who requests a contest of a kind and why, or an empty text; a request for a refresh requests none."""
    from riskwatch_ml.selection.contest import REFRESH

    if (context.get("params") or {}).get("contest"):
        return "asked for by an operator"
    reasons = [
        str(request.get("reason", ""))
        for request in requests
        if request.get("kind") != REFRESH and metrics.kind not in request.get("refresh_kinds", ())
    ]
    return f"a retrain was requested: {', '.join(filter(None, reasons)) or 'no reason given'}" if reasons else ""


def train(context: Context, training: TrainingPlan, families: Sequence[str]) -> list[TrainedFamily]:
    """Train some families, one after another; one that fails does not stop the others.

    The task is tried again if one fails; its last try goes on without it. Raises the error of the first one that fails
    before the last try, or if all fail.
    """
    trained: list[TrainedFamily] = []
    failure: Exception | None = None
    for family in families:
        try:
            trained.append(train_family(training, family))
        except Exception as error:
            _log.exception("%s failed to train", family)
            failure = failure or error
    ti = context["ti"]
    if failure is not None and (not trained or ti.try_number <= ti.max_tries):
        raise failure
    return trained


def train_family(training: TrainingPlan, family: str) -> TrainedFamily:
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

    from riskwatch_ml.features.served import read_served
    from riskwatch_ml.features.training_set import training_table
    from riskwatch_ml.model.fit import Recipe
    from riskwatch_ml.model.page_budget import budget_of
    from riskwatch_ml.selection import guards
    from riskwatch_ml.selection.candidate import fit_table

    rows = store.get_frame(training["key"])
    if rows is None:
        raise AirflowFailException(
            f"s3://{config.bucket}/{training['key']} is gone: clear the task prepare to write it again"
        )
    kinds = catalogue.load_all(config.catalogue)
    # A training that an earlier release began is of the first kind.
    metrics = catalogue.of_kind(training.get("resource_kind", ""), kinds)
    serving = champion_model.read(store, training["champion"], metrics, kinds[0].kind)
    is_champion = training["champion"] is not None and training["champion"]["family"] == family
    unusable_because = serving.unusable_because if is_champion else ""
    table = training_table(rows, metrics, config.period_s)
    del rows  # the table is a copy, and a large fleet's rows are most of what a training holds
    instances = known_instances.load(config.inventory, store)
    # A training that an earlier release began has no openings.
    openings = store.get_json(keys.training_openings(training["training_id"]))
    fit = partial(
        fit_table,
        *(table, metrics, instances),
        training_id=training["training_id"],
        champion=serving.model,
        new_normals=training.get("new_normals", []),
        served=read_served(openings),
    )
    budget = budget_of(config, max(len(instances), len(table.instances)))
    recipe = Recipe(family, budget, period_s=config.period_s, local_time=config.local_time)
    candidate = fit(replace(recipe, level=serving.settings) if is_champion else recipe)
    is_contest = training["kind"] == "contest"
    if is_champion and is_contest and not unusable_because and (reasons := guards.vetoes(candidate.figures)):
        return fit(recipe), "; ".join(reasons)
    return candidate, unusable_because


def finite(value: Any) -> Any:
    """Return a JSON value with NaN and infinities, which JSON cannot hold, replaced by null."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, float) and not float("-inf") < value < float("inf"):
        return None
    return value

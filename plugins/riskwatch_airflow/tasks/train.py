"""Tasks of train_models: the training rows, one candidate per family, and the choice between them."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException

from ml import catalogue, clock, inventory, settings
from riskwatch_airflow import clients
from riskwatch_airflow.assets import CANDIDATE_MODEL

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ml.store import Store

_log = logging.getLogger(__name__)


def prepare(context: Mapping[str, Any]) -> dict[str, Any]:
    """Collect the validated rows of the newest `history_days` and open the training in MLflow; return ids and counts.

    The training id comes from the run, so a retry writes over its own first attempt. Fails for good without rows.
    """
    from ml import tracking

    config = settings.load()
    store = clients.store(config)
    newest = _newest_hour(store)
    if newest is None:
        raise AirflowFailException(
            f"s3://{config.bucket}/validated/ has no rows to train on: run export_metrics for the days to learn from"
        )
    end = newest + timedelta(hours=1)
    start = end - timedelta(days=config.history_days)
    rows = store.read_hours("validated", start, end)
    training_id = context["dag_run"].run_after.strftime("%Y%m%dT%H%M%SZ")
    key = f"training/{training_id}/rows.parquet"
    store.put_frame(key, rows)
    params = {
        "rows": len(rows),
        "instances": int(rows["instance_id"].nunique()),
        "first_row": clock.iso(rows["timestamp"].min().to_pydatetime()),
        "last_row": clock.iso(rows["timestamp"].max().to_pydatetime()),
        "history_days": config.history_days,
        "period_s": config.period_s,
        "budget": config.budget,
    }
    run_id = tracking.open_training(config, training_id, params)
    _log.info("training %s: %s", training_id, params)
    return {
        "training_id": training_id,
        "run_id": run_id,
        "key": key,
        "rows": len(rows),
        "instances": params["instances"],
    }


def train(training: Mapping[str, Any], family: str) -> dict[str, Any]:
    """Fit one family, write its artifact and figures under `candidates/` and log it; return keys."""
    from ml import artifact, tracking
    from ml.train import fit_candidate

    config = settings.load()
    store = clients.store(config)
    rows = store.get_frame(training["key"])
    if rows is None:
        raise AirflowFailException(
            f"s3://{config.bucket}/{training['key']} is gone: clear the task prepare to write it again"
        )
    training_id = training["training_id"]
    candidate = fit_candidate(
        rows,
        catalogue.load(config.catalogue),
        inventory.load(config.inventory, store),
        family,
        training_id=training_id,
        budget=config.budget,
        period_s=config.period_s,
    )
    zip_bytes = artifact.pack(candidate.document, candidate.arrays)
    run_id = tracking.log_candidate(config, training["run_id"], candidate, zip_bytes)
    base = f"candidates/{training_id}/{family}"
    store.put_bytes(f"{base}.zip", zip_bytes)
    summary = {
        "family": family,
        "training_id": training_id,
        "model_id": candidate.document["model_id"],
        "run_id": run_id,
        "digest": artifact.digest(zip_bytes),
        "s3_key": f"{base}.zip",
        "bytes": len(zip_bytes),
        "figures": {name: float(value) for name, value in candidate.figures.items()},
        "params": candidate.params,
    }
    store.put_json(f"{base}.json", _finite(summary))
    _log.info("%s: %s", family, summary["figures"])
    return {"family": family, "key": f"{base}.json", "run_id": run_id}


def choose(
    context: Mapping[str, Any], training: Mapping[str, Any], trained: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Rank the candidates, register the winner as challenger and announce it.

    A family that failed to train does not take part. Fails for good where none may serve: the training in MLflow shows
    every veto.
    """
    from ml import select, tracking

    config = settings.load()
    store = clients.store(config)
    by_family = {item["family"]: store.get_json(item["key"]) for item in trained if item}
    figures = {family: _figures(summary) for family, summary in by_family.items()}
    try:
        choice = select.choose(figures)
    except select.SelectionError as error:
        vetoed = [_row(by_family[family], select.vetoes(figures[family])) for family in by_family]
        tracking.close_training(config, training["run_id"], vetoed)
        raise AirflowFailException(str(error)) from error
    ranking = [_row(by_family[family], []) for family in choice.ranking]
    ranking += [_row(by_family[family], why) for family, why in choice.vetoes.items()]
    for place, row in enumerate(ranking, 1):
        _log.info("%d. %s %s", place, row["family"], "; ".join(row["vetoes"]) or row["figures"])
    store.put_json(f"candidates/{training['training_id']}/ranking.json", _finite({"ranking": ranking}))
    winner = ranking[0]
    zip_bytes = store.get_bytes(winner["s3_key"])
    if zip_bytes is None:
        raise AirflowFailException(
            f"s3://{config.bucket}/{winner['s3_key']} is gone: clear the tasks train to write it again"
        )
    version = tracking.register(
        config, training["run_id"], training["training_id"], ranking=ranking, winner=winner, zip_bytes=zip_bytes
    )
    told = {
        "training_id": training["training_id"],
        "family": winner["family"],
        "version": version,
        "digest": winner["digest"],
        "key": winner["s3_key"],
    }
    context["outlet_events"][CANDIDATE_MODEL].extra.update(told)
    return told


def _newest_hour(store: Store) -> datetime | None:
    keys = store.keys("validated/dt=")
    if not keys:
        return None
    day, hour = keys[-1].split("/")[1:3]
    return datetime.fromisoformat(f"{day.removeprefix('dt=')}T{hour.removeprefix('hh=')}:00:00+00:00")


def _figures(summary: Mapping[str, Any]) -> dict[str, float]:
    return {name: float("nan") if value is None else value for name, value in summary["figures"].items()}


def _row(summary: Mapping[str, Any], vetoes: Sequence[str]) -> dict[str, Any]:
    figures = {name: value for name, value in summary["figures"].items() if value is not None}
    return {**summary, "figures": figures, "vetoes": list(vetoes)}


def _finite(value: Any) -> Any:
    """Replace what JSON cannot hold, NaN and infinities, by null."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, float) and not float("-inf") < value < float("inf"):
        return None
    return value

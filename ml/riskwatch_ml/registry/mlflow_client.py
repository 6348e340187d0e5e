"""The connection to MLflow, and the log of values to a run within its limits.

The import of MLflow takes seconds. Only functions import it, so that DAG files can import this module fast.
"""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING

from riskwatch_ml.core import clock
from riskwatch_ml.core.errors import OperationError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlflow import MlflowClient
    from mlflow.entities import Metric

    from riskwatch_ml.core.settings import Settings

ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_UV_AUTO_DETECT": "false",
    "MLFLOW_SKIP_PIP_REQUIREMENTS_CHECK": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # The default, seven retries with growing pauses, delays a task by minutes if the server is down.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "4",
    "GIT_PYTHON_REFRESH": "quiet",
}


class TrackingError(OperationError):
    """MLflow lacks something that it should have; the message says what."""


def set_environment() -> None:
    """Set the variables of ``ENVIRONMENT`` that the environment does not set, as the import of MLflow reads them."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def connect(settings: Settings) -> MlflowClient:
    """Return a client of the MLflow server in the settings."""
    set_environment()
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=settings.mlflow_uri, registry_uri=settings.mlflow_uri)


def experiment_id(client: MlflowClient, name: str) -> str:
    """Return the id of an experiment; create it if it does not exist.

    Raises TrackingError if it was deleted.
    """
    from mlflow.exceptions import MlflowException

    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        try:
            return str(client.create_experiment(name))
        except MlflowException as error:
            # Another task may have created it in the same moment.
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            experiment = client.get_experiment_by_name(name)
    if experiment is None or experiment.lifecycle_stage != "active":
        raise TrackingError(
            f"the MLflow experiment {name!r} was deleted: restore it in MLflow, or set another 'experiment'"
        )
    return str(experiment.experiment_id)


def as_metrics(figures: Mapping[str, float | None]) -> list[Metric]:
    """Return figures as metrics of the current time.

    None and non-finite numbers become NaN, so that all families have the same metric names. MLflow would store an
    infinity as the largest float, which reads like a measurement.
    """
    from mlflow.entities import Metric

    now_ms = clock.epoch_ms(clock.now())
    return [
        Metric(name, math.nan if value is None or not math.isfinite(value) else float(value), now_ms, 0)
        for name, value in figures.items()
    ]


def as_curves(curves: Mapping[str, Mapping[str, Sequence[float]]]) -> list[Metric]:
    """Return elbow curves as metrics with step = k, which MLflow plots."""
    from mlflow.entities import Metric

    now_ms = clock.epoch_ms(clock.now())
    return [
        Metric(f"elbow.{search}.{name}", float(value), now_ms, int(k))
        for search, curve in curves.items()
        for name, values in curve.items()
        if name != "k"
        for k, value in zip(curve["k"], values, strict=True)
        if math.isfinite(value)
    ]


def log(
    client: MlflowClient,
    run_id: str,
    *,
    params: Mapping[str, object] | None = None,
    metrics: Sequence[Metric] = (),
    tags: Mapping[str, str] | None = None,
) -> None:
    """Log params, metrics and tags to a run in requests that MLflow accepts.

    Values beyond its length limits are cut.
    """
    from mlflow.entities import Param, RunTag

    run_params = [Param(name, str(value)[:6000]) for name, value in (params or {}).items()]
    run_tags = [RunTag(name, value[:8000]) for name, value in (tags or {}).items()]
    # Limits of one request: 100 params, 100 tags, 1,000 metrics.
    for start in range(0, len(run_params), 100):
        client.log_batch(run_id, params=run_params[start : start + 100])
    for start in range(0, len(run_tags), 100):
        client.log_batch(run_id, tags=run_tags[start : start + 100])
    for start in range(0, len(metrics), 900):
        client.log_batch(run_id, metrics=metrics[start : start + 900])

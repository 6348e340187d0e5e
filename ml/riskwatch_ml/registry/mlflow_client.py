"""The connection to MLflow and the writing of values to a run, within the limits of MLflow's requests.

MLflow takes seconds to import: it is imported in the functions, so that a DAG file can import this module for nothing.
"""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any

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
    # Seven retries with growing pauses, the default, hold a task for minutes when the server is down.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "4",
    "GIT_PYTHON_REFRESH": "quiet",
}


class TrackingError(OperationError):
    """MLflow does not hold what it should; the text says what is missing."""


def connect(settings: Settings) -> MlflowClient:
    """A client of the server in the settings; sets what the environment does not set already."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=settings.mlflow_uri, registry_uri=settings.mlflow_uri)


def experiment_id(client: MlflowClient, name: str) -> str:
    """Id of the experiment, which is created if it does not exist; TrackingError if it was deleted."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name))
        except MlflowException as error:
            # Another task created it in the same moment.
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            found = client.get_experiment_by_name(name)
    if found is None or found.lifecycle_stage != "active":
        raise TrackingError(
            f"the MLflow experiment {name!r} was deleted: restore it in MLflow, or set another 'experiment'"
        )
    return str(found.experiment_id)


def as_metrics(figures: Mapping[str, float | None]) -> list[Metric]:
    """Figures as metrics of this moment; None and non-finite numbers become NaN.

    A figure that a family does not have is logged as such: the names stay the same for all. (MLflow would store an
    infinity as the largest float, which reads like a measurement.)
    """
    from mlflow.entities import Metric

    at = clock.epoch_ms(clock.now())
    return [
        Metric(name, math.nan if value is None or not math.isfinite(value) else float(value), at, 0)
        for name, value in figures.items()
    ]


def as_curves(curves: Mapping[str, Mapping[str, Sequence[float]]]) -> list[Metric]:
    """Elbow curves as metrics with step = k: MLflow draws them."""
    from mlflow.entities import Metric

    at = clock.epoch_ms(clock.now())
    return [
        Metric(f"elbow.{search}.{name}", float(value), at, int(k))
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
    params: Mapping[str, Any] | None = None,
    metrics: Sequence[Metric] = (),
    tags: Mapping[str, str] | None = None,
) -> None:
    """Write to a run in requests of the size that MLflow takes; values beyond its length limits are cut."""
    from mlflow.entities import Param, RunTag

    known = [Param(name, str(value)[:6000]) for name, value in (params or {}).items()]
    noted = [RunTag(name, value[:8000]) for name, value in (tags or {}).items()]
    # Limits of one request: 100 params, 100 tags, 1,000 metrics.
    for start in range(0, len(known), 100):
        client.log_batch(run_id, params=known[start : start + 100])
    for start in range(0, len(noted), 100):
        client.log_batch(run_id, tags=noted[start : start + 100])
    for start in range(0, len(metrics), 900):
        client.log_batch(run_id, metrics=metrics[start : start + 900])

"""Trainings, candidates and model versions in MLflow, champion and challenger.

A training is a run, each candidate a child run, its winner a registered version. ``MlflowClient`` writes to runs with
explicit ids; only the log of the model depends on the active run of the process. Every call can be repeated: a retried
task finds its training run, replaces its candidate run, and gets the version that it had registered before.

All candidates have the same metric names, so that MLflow can compare them. The training run has metrics of its own,
``best.<figure>`` and ``<figure>.<family>``, because the list of runs shows candidates only after a click. MLflow opens
in a mode for language models unless the link selects another: use `experiment_url` and `version_url`.
"""

from __future__ import annotations

import json
import tempfile
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING, Any

from riskwatch_ml.artifact import archive
from riskwatch_ml.core import clock
from riskwatch_ml.registry.mlflow_client import TrackingError, as_curves, as_metrics, connect, experiment_id, log
from riskwatch_ml.registry.registered import (
    DECISION,
    DIGEST,
    FAMILY,
    KEY,
    KIND,
    KINDS,
    MODEL_ID,
    TRAINING,
    described_families,
    from_version,
)
from riskwatch_ml.selection import comparison

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from mlflow import MlflowClient

    from riskwatch_ml.core.settings import Settings
    from riskwatch_ml.registry.registered import Registered, RegisteredPart
    from riskwatch_ml.schema.catalogue import Catalogue
    from riskwatch_ml.selection.candidate import Candidate
    from riskwatch_ml.selection.handoff import RankedCandidate, Winner

CHALLENGER, CHAMPION = "challenger", "champion"

_ROLE = "riskwatch.role"
_VETOES = "vetoes"
MAX_TEXT = 1_000  # characters of a reason: tags are limited, a list of vetoes can be long


def open_training(settings: Settings, training_id: str, params: Mapping[str, object]) -> str:
    """Create or find the run of a training and return its id."""
    client = connect(settings)
    experiment = experiment_id(client, settings.experiment)
    runs = client.search_runs(
        [experiment], f"tags.{TRAINING} = '{training_id}' and tags.`{_ROLE}` = 'training'", max_results=1
    )
    if runs:
        return str(runs[0].info.run_id)
    tags = {TRAINING: training_id, _ROLE: "training"}
    run = client.create_run(experiment, run_name=f"training {training_id}", tags=tags)
    log(client, run.info.run_id, params=params)
    return str(run.info.run_id)


def log_candidate(settings: Settings, parent_run_id: str, candidate: Candidate, zip_bytes: bytes) -> str:
    """Log one candidate as a child run and return the run's id.

    The run gets params, figures as metrics, plots and the artifact. That of an earlier try is deleted first.
    """
    from riskwatch_ml.plots import candidate as plots
    from riskwatch_ml.plots import style

    client = connect(settings)
    parent = client.get_run(parent_run_id)
    for old in _children(client, parent, f" and tags.{FAMILY} = '{candidate.family}'"):
        client.delete_run(old.info.run_id)
    tags = {
        "mlflow.parentRunId": parent_run_id,
        TRAINING: parent.data.tags.get(TRAINING, ""),
        _ROLE: "candidate",
        FAMILY: candidate.family,
        DIGEST: archive.checksum(zip_bytes),
    }
    # Without a start time MLflow would show the duration of the logging, not of the fit.
    start = clock.epoch_ms(clock.now()) - round(1000 * candidate.figures.get("fit_seconds", 0.0))
    run = client.create_run(parent.info.experiment_id, start_time=start, run_name=candidate.family, tags=tags)
    run_id = str(run.info.run_id)
    metrics = [*as_metrics(candidate.figures), *as_curves(candidate.plots.curves)]
    log(client, run_id, params={"family": candidate.family, **candidate.params}, metrics=metrics)
    drawn = {f"plots/{name}": style.png(figure) for name, figure in plots.figures(candidate.plots).items()}
    with _as_files({**drawn, "model/artifact.zip": zip_bytes}) as folder:
        client.log_artifacts(run_id, str(folder))
    client.set_terminated(run_id)
    return run_id


def register(
    settings: Settings,
    parent_run_id: str,
    training_id: str,
    ranking: Sequence[RankedCandidate],
    winner: Winner,
    zip_bytes: bytes,
    metrics: Catalogue,
) -> str:
    """Register the winner of a training as challenger of its kind and return the version.

    This ends the run of the training. ``ranking`` has all candidates, best first; ``winner`` is one of them, with the
    decision. ``zip_bytes`` is its artifact, ``metrics`` the catalogue of its kind.

    Raises TrackingError if the digest of the artifact is not that of ``winner``.
    """
    digest = archive.checksum(zip_bytes)
    if digest != winner["digest"]:
        raise TrackingError(
            f"the zip of {winner['family']!r} has digest {digest}, the comparison chose {winner['digest']}: "
            f"read {winner['s3_key']} again, or train again"
        )
    client = connect(settings)
    registered = _registered_before(client, settings.model_name, training_id, digest)
    if registered is None:
        # The version gets all tags at its creation, so that no reader sees it without its digest.
        uri = _log_model(settings, parent_run_id, zip_bytes)
        tags = {
            DIGEST: digest,
            KEY: str(winner["s3_key"]),
            TRAINING: training_id,
            FAMILY: str(winner["family"]),
            KIND: metrics.kind,
            MODEL_ID: str(winner.get("model_id", "")),
            "candidate_run_id": str(winner["run_id"]),
            **{name: text[:MAX_TEXT] for name, text in _decision(winner).items()},
        }
        described = comparison.describe(ranking, winner)
        registered = _create_version(client, settings.model_name, uri, parent_run_id, tags, described)
    client.set_registered_model_alias(settings.model_name, _challenger_alias(metrics), registered)
    close_training(settings, parent_run_id, ranking, winner)
    return registered


def register_assembled(
    settings: Settings, candidate: Registered, zip_bytes: bytes, s3_key: str, kinds: Mapping[str, RegisteredPart]
) -> Registered:
    """Register the artifact of a release with parts for several kinds and return the version.

    ``candidate`` gives run, training and decision, ``s3_key`` is the key of the artifact, ``kinds`` are its parts by
    kind. An artifact that this release has registered before keeps its version.
    """
    client = connect(settings)
    digest = archive.checksum(zip_bytes)
    version = _registered_before(client, settings.model_name, candidate.training_id, digest)
    family = described_families(kinds)
    if version is None:
        tags = {
            DIGEST: digest,
            KEY: s3_key,
            TRAINING: candidate.training_id,
            FAMILY: family,
            KINDS: json.dumps({kind: part._asdict() for kind, part in kinds.items()}),
            **{name: text for name in ("kind", "why") if (text := getattr(candidate, name)[:MAX_TEXT])},
        }
        uri = _log_model(settings, candidate.run_id, zip_bytes)
        described = f"Assembled for a release: {family}."
        version = _create_version(client, settings.model_name, uri, candidate.run_id, tags, described)
    return replace(
        candidate, version=version, digest=digest, family=family, s3_key=s3_key, resource_kind="", kinds=dict(kinds)
    )


def close_training(
    settings: Settings,
    parent_run_id: str,
    ranking: Sequence[RankedCandidate],
    winner: Winner | None = None,
    why: str = "",
) -> None:
    """End the run of a training and log the comparison to it.

    Without a ``winner``, ``why`` is the reason why there is none.
    """
    client = connect(settings)
    metrics = [
        metric
        for row in ranking
        for metric in as_metrics({f"{k}.{row['family']}": v for k, v in row["figures"].items()})
    ]
    tags = {f"{_VETOES}.{row['family']}": "; ".join(row["vetoes"]) for row in ranking if row["vetoes"]}
    tags["mlflow.note.content"] = comparison.describe(ranking, winner, why)
    tags["winner"] = str(winner["family"]) if winner else "none"
    decided = _decision(winner) if winner else {"why": why}
    tags |= {f"decision.{name}": text for name, text in decided.items() if text}
    if winner:
        metrics += as_metrics({f"best.{name}": value for name, value in winner["figures"].items()})
    log(client, parent_run_id, metrics=metrics, tags=tags)
    client.set_terminated(parent_run_id)


def _decision(winner: Winner) -> dict[str, str]:
    """Return the fields of the decision that are not empty."""
    fields = (winner.get("kind"), winner.get("why"), winner.get("refreshes"), winner.get("ask"))
    return {name: str(value) for name, value in zip(DECISION, fields, strict=True) if value}


def challenger(settings: Settings, metrics: Catalogue) -> Registered | None:
    """Return the version that waits for its promotion as the model of a kind, or None."""
    return _by_alias(settings, _challenger_alias(metrics))


def drop_challenger(settings: Settings, metrics: Catalogue) -> None:
    """Take the alias of the challenger of a kind away."""
    connect(settings).delete_registered_model_alias(settings.model_name, _challenger_alias(metrics))


def champion(settings: Settings) -> Registered | None:
    """Return the version in service, or None."""
    return _by_alias(settings, CHAMPION)


def by_checksum(settings: Settings, checksum: str) -> Registered | None:
    """Return the newest version with an artifact, by its SHA-256 in hexadecimal, or None."""
    condition = f"name = '{settings.model_name}' and tags.{DIGEST} = '{checksum}'"
    versions = connect(settings).search_model_versions(condition)
    return from_version(settings, max(versions, key=lambda version: int(version.version))) if versions else None


def set_champion(settings: Settings, version: str) -> None:
    """Make a registered version the champion and tag it with the time."""
    client = connect(settings)
    client.set_model_version_tag(settings.model_name, version, "promoted_at", clock.iso(clock.now()))
    client.set_registered_model_alias(settings.model_name, CHAMPION, version)


def experiment_url(settings: Settings) -> str:
    """Return the URL of the list of trainings."""
    experiment = experiment_id(connect(settings), settings.experiment)
    return f"{settings.mlflow_uri.rstrip('/')}/#/experiments/{experiment}/runs?workflowType=machine_learning"


def version_url(settings: Settings, version: str) -> str:
    """Return the URL of a registered version, which shows the comparison table.

    This sends no request to the server.
    """
    base = settings.mlflow_uri.rstrip("/")
    return f"{base}/#/models/{settings.model_name}/versions/{version}?workflowType=machine_learning"


def _challenger_alias(metrics: Catalogue) -> str:
    return CHALLENGER if metrics.is_first else f"{CHALLENGER}-{metrics.kind}"


def _children(client: MlflowClient, parent: Any, further: str = "") -> Iterable[Any]:
    condition = f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'{further}"
    return client.search_runs([parent.info.experiment_id], condition)  # type: ignore[no-any-return]


@contextmanager
def _as_files(contents: Mapping[str, bytes]) -> Iterator[Path]:
    """Yield a folder with files, given by their paths in it."""
    with tempfile.TemporaryDirectory(prefix="riskwatch-") as name:
        folder = Path(name)
        for path, content in contents.items():
            (folder / path).parent.mkdir(exist_ok=True)
            (folder / path).write_bytes(content)
        yield folder


def _log_model(settings: Settings, parent_run_id: str, zip_bytes: bytes) -> str:
    """Log the scoring model from code under the training run and return its URI."""
    import mlflow
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    signature = ModelSignature(
        inputs=Schema([ColSpec("string", "record")]),
        outputs=Schema([ColSpec("double", "score"), ColSpec("string", "level"), ColSpec("boolean", "unusual")]),
    )
    # log_model uses the process-wide address and the active run; both are restored afterwards.
    previous_uri = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(settings.mlflow_uri)
    try:
        with _as_files({"artifact.zip": zip_bytes}) as folder, mlflow.start_run(run_id=parent_run_id):
            logged = mlflow.pyfunc.log_model(
                name="riskwatch",
                python_model=str(Path(__file__).with_name("mlflow_model.py")),
                artifacts={"artifact": str(folder / "artifact.zip")},
                signature=signature,
                # Without explicit requirements MLflow imports everything in a new process, which takes 10 s.
                pip_requirements=[f"mlflow=={installed('mlflow')}", f"pandas=={installed('pandas')}"],
            )
    finally:
        mlflow.set_tracking_uri(previous_uri)
    return str(logged.model_uri)


def _create_version(
    client: MlflowClient,
    name: str,
    uri: str,
    parent_run_id: str,
    tags: dict[str, str],
    description: str,
) -> str:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(
            name, description="Scores CloudWatch rows; each version is one training's winner."
        )
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    model_id = uri.removeprefix("models:/")
    location = client.get_logged_model(model_id).artifact_location
    created = client.create_model_version(
        name,
        location,
        run_id=parent_run_id,
        tags=tags,
        description=description,
        model_id=model_id,
    )
    return str(created.version)


def _registered_before(client: MlflowClient, name: str, training_id: str, digest: str) -> str | None:
    condition = f"name = '{name}' and tags.{TRAINING} = '{training_id}'"
    versions = [v for v in client.search_model_versions(condition) if v.tags.get(DIGEST) == digest]
    return str(max(versions, key=lambda v: int(v.version)).version) if versions else None


def _by_alias(settings: Settings, alias: str) -> Registered | None:
    client = connect(settings)
    from mlflow.exceptions import MlflowException

    try:
        version = client.get_model_version_by_alias(settings.model_name, alias)
    except MlflowException as error:
        # The first code is the answer for a missing alias, the second for a missing model.
        if error.error_code in ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST"):
            return None
        raise
    return from_version(settings, version, f", alias {alias!r}")

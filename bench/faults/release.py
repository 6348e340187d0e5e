"""Kills during a release: of its task and of MLflow. Another artifact of the live model is the challenger."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, cast

from bench.faults.outcome import Healing, Outcome
from bench.faults.world import RUN_S, NotHealedError
from riskwatch_local.services import mlflow_server
from riskwatch_local.services.supervisor import answers
from riskwatch_ml.artifact import archive, parts
from riskwatch_ml.core import aws, clock, settings
from riskwatch_ml.registry import champion, ledger, mlflow_registry, serving
from riskwatch_ml.schema import catalogue
from riskwatch_ml.storage import keys

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.faults.world import World
    from riskwatch_ml.selection.handoff import Winner

PROMOTE, RELEASE = "promote_model", "release"
MLFLOW = "MLflow"
MLFLOW_S = 180.0


def challenger(world: World) -> str:
    """Register the live model of the first kind under another id as challenger and return the id.

    It labels as the live model does, so a release needs no training.
    """
    config, store = settings.load(), world.store
    _wait_for_mlflow(world)
    live = mlflow_registry.champion(config)
    if live is None:
        raise NotHealedError("MLflow has no champion")
    served = champion.artifact(store, version=live.version, checksum=live.digest, s3_key=live.s3_key)
    metrics = catalogue.load_all(config.catalogue)[0]
    document, arrays = parts.split(*archive.unpack(served), metrics.kind)[metrics.kind]
    family, trained = str(document["family"]), str(document["training_id"])
    training_id = keys.training_id(clock.now(), metrics)
    model_id = f"{training_id}-{family}"
    zip_bytes = archive.pack({**document, "training_id": training_id, "model_id": model_id}, arrays)
    key = keys.candidate(training_id, family)
    digest = archive.checksum(zip_bytes)
    summary = {
        **store.get_json(keys.candidate_summary(keys.candidate(trained, family))),
        **{"training_id": training_id, "model_id": model_id, "s3_key": key, "digest": digest},
    }
    store.put_bytes(key, zip_bytes)
    store.put_json(keys.candidate_summary(key), summary)
    run = mlflow_registry.open_training(config, training_id, {})
    decision = {"vetoes": [], "kind": "change", "why": "a campaign of faults", "refreshes": "", "ask": ""}
    winner = cast("Winner", {**summary, **decision})
    mlflow_registry.register(config, run, training_id, [winner], winner, zip_bytes, metrics)
    return model_id


def _wait_for_mlflow(world: World) -> None:
    url = mlflow_server.health_url(int(world.demo.system.mlflow_url.rsplit(":", 1)[1]))
    world.wait("MLflow answers", lambda: answers(url), MLFLOW_S, 0.5)


def live_version() -> str:
    """Return the function version behind the alias."""
    config = settings.load()
    answer = aws.client("lambda").get_alias(FunctionName=config.function, Name=config.alias)
    return str(answer["FunctionVersion"])


def disagreements(world: World, model_id: str) -> list[str]:
    """Return how alias, MLflow and ledger differ from each other and from the model that was to be released."""
    _wait_for_mlflow(world)
    now = serving.read(settings.load(), aws.client("lambda"), world.store)
    served = now.model_id
    return [*now.texts, *([] if served == model_id else [f"the alias serves {served}, not {model_id}"])]


def _release(world: World, fault: Callable[[int], None]) -> tuple[str, float, str]:
    """Promote a challenger and cause a fault right after the alias has moved; return model id, seconds and run."""
    model_id = challenger(world)
    before = live_version()
    run = world.airflow.trigger(PROMOTE)
    pid = world.running_pid(PROMOTE, run, RELEASE, RUN_S)
    world.wait("the alias moves", lambda: live_version() != before, 120.0, 0.01)
    began = time.monotonic()
    fault(pid)
    world.airflow.wait(PROMOTE, run, RUN_S)
    return model_id, time.monotonic() - began, run


def _entries(world: World, model_id: str) -> list[str]:
    return [entry["action"] for entry in reversed(ledger.read(world.store, 20)) if entry.get("model_id") == model_id]


def release_task(world: World) -> list[Outcome]:
    """F4: kill the release task right after the alias moved."""

    def kill(pid: int) -> None:
        os.kill(pid, signal.SIGKILL)

    model_id, seconds, run = _release(world, kill)
    differ, entries = disagreements(world, model_id), _entries(world, model_id)
    moment = f"right after the alias moved; ledger: {', '.join(entries)}"
    # One promotion, one entry: a second one would say that the model was put into service twice.
    healing = Healing.NOT if differ or entries.count("promote") != 1 else Healing.ITSELF
    message = "; ".join(differ) or world.logged(PROMOTE, run, RELEASE)
    return [Outcome("F4 release task kill -9", moment, healing, seconds, message, unit="models")]


def mlflow_in_release(world: World) -> list[Outcome]:
    """F5: kill MLflow between alias and registry."""
    said = ""

    def kill(_: int) -> None:
        nonlocal said
        said = world.wait_restarted(world.kill(MLFLOW))

    model_id, seconds, _ = _release(world, kill)
    differ = disagreements(world, model_id)
    moment = f"between alias and registry; ledger: {', '.join(_entries(world, model_id))}"
    healing = Healing.NOT if differ else Healing.RESTART
    return [Outcome("F5 MLflow kill -9", moment, healing, seconds, "; ".join(differ) or said, unit="models")]


def mlflow_before_release(world: World) -> list[Outcome]:
    """F6: kill MLflow when the promotion begins to decide."""
    model_id = challenger(world)
    dead = world.kill(MLFLOW)
    killed = time.monotonic()
    run = world.airflow.trigger(PROMOTE)
    said = world.wait_restarted(dead)
    world.airflow.wait(PROMOTE, run, RUN_S)
    seconds = time.monotonic() - killed
    differ = disagreements(world, model_id)
    healing = Healing.NOT if differ else Healing.RESTART
    moment = "the promotion decides"
    return [Outcome("F6 MLflow kill -9", moment, healing, seconds, "; ".join(differ) or said, unit="models")]

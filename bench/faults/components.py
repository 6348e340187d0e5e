"""Kills of the components of Airflow and of running tasks."""

from __future__ import annotations

import os
import signal
import time
from functools import partial
from typing import TYPE_CHECKING

from bench.faults.exporting import MissingHours
from bench.faults.outcome import Healing, Outcome
from bench.faults.world import RUN_S, beats_since, hours_before
from riskwatch_ml.core import clock

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.faults.world import World

# Airflow counts a task without a process as running until it has missed heartbeats for this time.
HEARTBEAT_S = 300.0
COMPONENTS = {"Airflow's triggerer": "triggerer", "Airflow's dag-processor": "dag_processor"}


def scheduler_and_tasks(world: World) -> Callable[[], list[Outcome]]:
    """F1, F3: kill the scheduler while an export fetches and a training fits; return the wait for both runs.

    The wait may take more than `HEARTBEAT_S` seconds; the campaign goes on meanwhile.
    """
    airflow = world.airflow
    # The schedules begin with a training: that of today. Its model must be in service before another is promoted.
    training = _active("train_models", world) or airflow.trigger("train_models")
    world.running_pid("train_models", training, "train", RUN_S)
    # The training has read its rows: now hours may be missing.
    missing = MissingHours.delete(world, *hours_before(world.demo.source.cut, 20, 12))
    export = missing.export()
    world.running_pid("export_metrics", export, "fetch")
    fits = world.airflow.pid("train_models", training, "train") is not None
    killed = time.monotonic()
    line = world.wait_restarted(world.kill("Airflow's scheduler"))

    def finish() -> list[Outcome]:
        limit_s = HEARTBEAT_S + RUN_S
        airflow.wait("export_metrics", export, limit_s)
        exported_s = time.monotonic() - killed
        different = missing.different()
        airflow.wait("train_models", training, limit_s)
        trained_s = time.monotonic() - killed
        world.wait("its model is in service", lambda: not _active("promote_model", world), RUN_S, 1.0)
        said = world.logged("train_models", training, "train") or line
        return [
            Outcome(
                "F1 scheduler kill -9", "export fetch running", Healing.RESTART, exported_s,
                line, len(different), len(missing.before), "objects",
            ),
            Outcome(
                "F3 scheduler and train task kill -9", "train running" if fits else "train just over",
                Healing.RESTART, trained_s, said, 0, 1, "trainings",
            ),
        ]  # fmt: skip

    return finish


def _active(dag: str, world: World) -> str | None:
    """Return a run of a DAG that waits or runs."""
    runs = [run["dag_run_id"] for run in world.airflow.runs(dag) if run["state"] in ("queued", "running")]
    return runs[0] if runs else None


def export_task(world: World) -> list[Outcome]:
    """F2: kill the task that fetches while it writes missing hours."""
    missing = MissingHours.delete(world, *hours_before(world.demo.source.cut, 36, 20))
    run = missing.export()
    pid = world.running_pid("export_metrics", run, "fetch")
    written = 0

    def is_writing() -> bool:
        nonlocal written
        written = missing.written()
        return written > 0

    world.wait("the first missing hour is written", is_writing, 60.0, 0.005)
    os.kill(pid, signal.SIGKILL)
    killed = time.monotonic()
    world.airflow.wait("export_metrics", run, RUN_S)
    seconds = time.monotonic() - killed
    tries = max(task["try_number"] for task in world.airflow.tasks("export_metrics", run) if task["task_id"] == "fetch")
    moment = f"{written} of {missing.hours} missing hours written, {tries} tries"
    different = missing.different()
    message = world.logged("export_metrics", run, "fetch")
    return [
        Outcome(
            "F2 export task kill -9", moment, Healing.ITSELF, seconds, message, len(different), len(missing.before),
            "objects",
        )
    ]  # fmt: skip


def api_server(world: World) -> list[Outcome]:
    """F7: kill the api-server while an export fetches missing hours."""
    missing = MissingHours.delete(world, *hours_before(world.demo.source.cut, 12, 0))
    run = missing.export()
    world.running_pid("export_metrics", run, "fetch")
    killed = time.monotonic()
    line = world.wait_restarted(world.kill("Airflow's api-server"))
    world.airflow.wait("export_metrics", run, RUN_S)
    seconds = time.monotonic() - killed
    different = missing.different()
    return [
        Outcome(
            "F7 api-server kill -9", "export fetch running", Healing.RESTART, seconds, line, len(different),
            len(missing.before), "objects",
        )
    ]  # fmt: skip


def idle_components(world: World) -> list[Outcome]:
    """F8, F9: kill triggerer and dag-processor at once; they are back when a new heartbeat says so."""
    dead = [world.kill(name) for name in COMPONENTS]
    killed = time.monotonic()
    outcomes = []
    for child in dead:
        name = COMPONENTS[child.name]
        line = world.wait_restarted(child)
        beats = partial(beats_since, world, name, clock.now())
        world.wait(f"a new heartbeat of the {name}", beats, 120.0, 0.5)
        number = "F8" if name == "triggerer" else "F9"
        outcomes.append(
            Outcome(f"{number} {name} kill -9", "idle", Healing.RESTART, time.monotonic() - killed, line, unit="runs")
        )
    return outcomes

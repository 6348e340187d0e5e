"""Starts and requests that must be refused, and two hundred triggers at once."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

import httpx

from bench.faults.outcome import Healing, Outcome
from bench.faults.streaming import ROOT
from bench.faults.world import beats_since, healthy
from riskwatch_local.services.airflow_client import AirflowClient, RunError
from riskwatch_ml.core import clock

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.faults.world import World

DEMO = [sys.executable, "-c", "from riskwatch_cli.main import app; app()", "demo", "--exit", "--state"]
START_S = 120.0
TRIGGERS, AT_ONCE, AWAITED = 200, 8, 5
TRIGGERS_S, RUN_S = 240.0, 240.0
DISK_MB = 14


def second_demo(world: World) -> list[Outcome]:
    """F35: start a second demo in the folder of the first."""
    return [
        _refused("F35 second demo, same folder", "the first one runs", [*DEMO, str(world.state)], "another run uses")
    ]


def small_disk(world: World) -> list[Outcome]:
    """F36: start a demo on a disk of 14 MB, which is mounted in a namespace of its own."""
    with tempfile.TemporaryDirectory() as folder:
        mount = f'mount -t tmpfs -o size={DISK_MB}m none "$0" && exec "$@"'
        command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, folder, *DEMO, folder]
        return [_refused("F36 disk too small", f"start on {DISK_MB} MB", command, "GB are needed")]


def _refused(fault: str, moment: str, command: Sequence[str], expected: str) -> Outcome:
    began = time.monotonic()
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        timeout=START_S,
        check=False,
        env={**os.environ, "NO_COLOR": "1", "COLUMNS": "300"},
    )
    is_refused = done.returncode == 1 and expected in done.stdout and "Traceback" not in done.stdout
    healed = Healing.REFUSED if is_refused else Healing.NOT
    return Outcome(fault, moment, healed, time.monotonic() - began, done.stdout, unit="rows")


def backfill(world: World) -> list[Outcome]:
    """F34: ask for a backfill of ten days beside the schedule, which Airflow refuses on SQLite."""
    began = time.monotonic()
    end = datetime.now(UTC)
    body = {
        "dag_id": "export_metrics",
        "from_date": (end - timedelta(days=10)).isoformat(),
        "to_date": end.isoformat(),
        "reprocess_behavior": "none",
        "max_active_runs": 1,
    }
    scheduler = world.child("Airflow's scheduler")
    answer = world.airflow.post("/backfills", body)
    world.wait("a new heartbeat of the scheduler", partial(beats_since, world, "scheduler", clock.now()), 180.0, 0.5)
    died = world.child(scheduler.name).pid != scheduler.pid
    healed = Healing.RESTART if died else Healing.REFUSED if answer.is_error else Healing.NOT
    message = f"{answer.status_code}: {answer.text} {world.said(scheduler.name) if died else ''}"
    return [Outcome("F34 backfill of ten days", "schedules on", healed, time.monotonic() - began, message, unit="runs")]


def many_triggers(world: World) -> list[Outcome]:
    """F32: trigger a DAG 200 times, 8 at a time; each trigger gets a run or a refusal, and the schedules go on."""
    system = world.demo.system
    client = AirflowClient(system.airflow_url, system.login.user, system.login.password, world.airflow.logs)
    names = [child.pid for child in system.supervisor.children]
    moments = [datetime.now(UTC) + timedelta(milliseconds=number) for number in range(TRIGGERS)]
    began = time.monotonic()

    def trigger(moment: datetime) -> tuple[str, str]:
        if time.monotonic() - began > TRIGGERS_S:
            return "", "not sent in time"
        try:
            return client.trigger("watch_model", logical_date=moment), ""
        except (RunError, httpx.HTTPError) as error:
            return "", f"{type(error).__name__}: {error}"

    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(trigger, moments))
    client.close()
    triggered_s = time.monotonic() - began
    made = [run for run, _ in answers if run]
    refused = [text for run, text in answers if not run]
    stream = world.airflow.trigger("stream_metrics")
    for run in made[:AWAITED]:
        world.airflow.wait("watch_model", run, RUN_S)
    world.airflow.wait("stream_metrics", stream, RUN_S)
    world.wait("all components are healthy", lambda: healthy(world), 120.0, 1.0)
    seconds = time.monotonic() - began
    unclear = [text for text in refused if "Airflow answered" not in text]
    died = names != [child.pid for child in system.supervisor.children]
    healed = Healing.NOT if unclear or not made else Healing.RESTART if died else Healing.ITSELF
    message = f"{len(made)} runs made in {triggered_s:.0f} s, {len(refused)} refused {(refused or [''])[0]}"
    moment = f"8 at a time; {AWAITED} of the runs and a stream run were awaited"
    return [Outcome("F32 200 triggers", moment, healed, seconds, message, len(unclear), TRIGGERS, "triggers")]

"""A stall of the embedded AWS while everything that uses it runs."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from bench.faults import release
from bench.faults.exporting import MissingHours
from bench.faults.objects import page_text
from bench.faults.outcome import Healing, Outcome
from bench.faults.world import AWS, RUN_S, hours_before

if TYPE_CHECKING:
    from bench.faults.world import World

STALL_S = 75.0  # longer than the read timeout of a boto3 client
VIEWED_AFTER_S = 20.0  # a view is cached for 15 s
AT_ONCE = 2  # of three tasks that the demo runs at a time


def stalled_aws(world: World) -> list[Outcome]:
    """F10: stop the embedded AWS by SIGSTOP while an export, a stream, a release and a compaction run."""
    model_id = release.challenger(world)
    missing = MissingHours.delete(world, *hours_before(world.demo.source.cut, 40, 36))
    airflow = world.airflow
    runs = {"export_metrics": missing.export()}
    runs |= {dag: airflow.trigger(dag) for dag in ("promote_model", "stream_metrics", "watch_model")}

    def running() -> list[str]:
        return [dag for dag, run in runs.items() if any(task["state"] == "running" for task in airflow.tasks(dag, run))]

    world.wait("the tasks run", lambda: len(running()) >= AT_ONCE, 60.0, 0.05)
    names = sorted(running())
    server = world.child(AWS).pid
    os.kill(server, signal.SIGSTOP)
    world.crashes += 1
    try:
        with ThreadPoolExecutor(1) as pool:
            stopped = time.monotonic()
            time.sleep(VIEWED_AFTER_S)
            view = pool.submit(page_text, world)
            time.sleep(STALL_S - VIEWED_AFTER_S)
            os.kill(server, signal.SIGCONT)
            resumed = time.monotonic()
            text = view.result()
    finally:
        os.kill(server, signal.SIGCONT)
    for dag, run in runs.items():
        airflow.wait(dag, run, RUN_S)
    seconds = time.monotonic() - resumed
    different, differ = missing.different(), release.disagreements(world, model_id)
    moment = f"{', '.join(names)} running, stopped for {resumed - stopped:.0f} s"
    healing = Healing.NOT if differ else Healing.ITSELF
    message = "; ".join(differ) or f"page: {text}"
    return [
        Outcome("F10 embedded AWS SIGSTOP", moment, healing, seconds, message, len(different), len(missing.before),
                "objects")
    ]  # fmt: skip

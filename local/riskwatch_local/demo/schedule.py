"""The demo's last act: the schedules go on, and the first scheduled run of each DAG is shown as it ends."""

from __future__ import annotations

import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx

from riskwatch_local.demo.live_fleet import LiveFleet
from riskwatch_local.services.airflow_client import RunError
from riskwatch_ml.core import clock, settings
from riskwatch_ml.storage import keys

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from riskwatch_local.demo.data import Source
    from riskwatch_local.services.airflow_client import AirflowClient
    from riskwatch_local.services.system import System

POLL_S = 2.0
# Which task's return value says how many rows a run was about.
_ROWS = {"export_metrics": "validate", "stream_metrics": "publish", "train_models": "prepare", "watch_model": "measure"}


@dataclass
class Schedule:
    """Watches for the first run of each DAG that the schedule, or an asset for a DAG without one, has made."""

    system: System
    airflow: AirflowClient
    console: Console
    ended: dict[str, dict[str, Any]] = field(default_factory=dict)
    _known: set[str] = field(default_factory=set)

    def switch_on(self) -> None:
        """Give every DAG its default schedule."""
        self._known = {run["dag_run_id"] for dag in settings.DEFAULT_SCHEDULES for run in self.airflow.runs(dag)}
        self.system.write_settings({dag: str(cron) for dag, cron in settings.DEFAULT_SCHEDULES.items()})
        for dag in settings.DEFAULT_SCHEDULES:
            self.airflow.parse_again(dag)

    def wait_for(self, dags: set[str], timeout_s: float) -> None:
        """Wait for the first scheduled run of each of `dags`. Raises RunError if one fails or does not end in time."""
        deadline = time.monotonic() + timeout_s
        while not dags <= set(self.ended):
            if time.monotonic() > deadline:
                missing = ", ".join(sorted(dags - set(self.ended)))
                raise RunError(f"no scheduled run of {missing} has ended after {timeout_s:.0f} s")
            time.sleep(POLL_S)
            self.poll()
        for dag in dags:
            if self.ended[dag]["state"] != "success":
                # Names the failed tasks with the ends of their logs.
                self.airflow.wait(dag, self.ended[dag]["dag_run_id"], timeout_s=0)

    def poll(self) -> None:
        """Print what has ended since the last call. Raises ProcessError, which names it, if a component has died."""
        self.system.supervisor.ensure_alive()
        # A component that is busy answers the next time.
        with suppress(httpx.TransportError):
            self.show_ended()

    def show_ended(self) -> None:
        """Print the first scheduled run of each DAG that has ended since the last call."""
        for run in self._ended():
            self.ended[run["dag_id"]] = run
            self.console.print(describe(self.airflow, run), highlight=False, soft_wrap=True)

    def _ended(self) -> Iterator[dict[str, Any]]:
        for dag in settings.DEFAULT_SCHEDULES:
            runs = [] if dag in self.ended else self.airflow.runs(dag)
            mine = [run for run in runs if run["dag_run_id"] not in self._known and run["run_type"] == "scheduled"]
            if mine and mine[0]["state"] in ("success", "failed"):
                yield mine[0]


@contextmanager
def on_schedule(source: Source, system: System, console: Console) -> Iterator[Schedule]:
    """Let the fleet keep sending, and the schedules go on where the runs by hand ended.

    Data that has an end sends nothing more: the schedules stay off.
    """
    airflow = system.airflow()
    schedule = Schedule(system, airflow, console)
    try:
        if source.ahead is None:
            console.print("\nThe schedules stay off: these metrics have an end.")
            yield schedule
            return
        system.store.put_json(keys.STREAM_MARK, {"end": clock.iso(source.end)})
        with LiveFleet(source.ahead, source.catalogue, source.period_s):
            console.print("\nThe fleet keeps sending and the schedules are on. First scheduled runs:")
            schedule.switch_on()
            yield schedule
    finally:
        airflow.close()


def describe(airflow: AirflowClient, run: dict[str, Any]) -> str:
    """Return one line about a run: DAG, type, interval (UTC) or moment, state, seconds, rows."""
    dag, start, end = run["dag_id"], run["data_interval_start"], run["data_interval_end"]
    moment = f"{clock.parse(run['run_after']):%H:%M}"
    if start and end and start != end:
        moment = f"{clock.parse(start):%H:%M} to {clock.parse(end):%H:%M}"
    value = airflow.returned(dag, run["dag_run_id"], _ROWS[dag]) if dag in _ROWS else None
    rows = f", {value['rows']:,} rows" if value else ""
    seconds = f"{run['duration']:.0f} s" if run["duration"] else ""
    return f"  {dag:15} {run['run_type']:15} {moment:14} {run['state']:8} {seconds}{rows}"

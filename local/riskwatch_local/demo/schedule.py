"""The last stage of the demo: the first scheduled run of each DAG."""

from __future__ import annotations

import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx

from riskwatch_local.demo.live_fleet import LiveFleet
from riskwatch_local.services.airflow_client import RunError
from riskwatch_local.services.restarts import Restarts
from riskwatch_ml.core import clock, settings
from riskwatch_ml.storage import keys

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from riskwatch_local.demo.data import DemoData
    from riskwatch_local.services.airflow_client import AirflowClient, DagRun
    from riskwatch_local.services.system import System

POLL_S = 2.0
# The task of each DAG whose return value has the number of rows of the run.
_ROWS = {"export_metrics": "validate", "stream_metrics": "publish", "train_models": "prepare", "watch_model": "measure"}


@dataclass
class Schedule:
    """Observer of the first scheduled run of each DAG.

    `ended` has the runs that have ended, by DAG id.
    """

    system: System
    airflow: AirflowClient
    console: Console
    ended: dict[str, DagRun] = field(default_factory=dict)
    _known: set[str] = field(default_factory=set)
    _restarts: Restarts = field(init=False)

    def __post_init__(self) -> None:
        self._restarts = Restarts(self.system.supervisor, self._report)

    def switch_on(self) -> None:
        """Give every DAG its default schedule."""
        self._known = {run["dag_run_id"] for dag in settings.DEFAULT_SCHEDULES for run in self.airflow.runs(dag)}
        self.system.write_settings({dag: str(cron) for dag, cron in settings.DEFAULT_SCHEDULES.items()})
        for dag in settings.DEFAULT_SCHEDULES:
            self.airflow.parse_again(dag)

    def wait_for(self, dags: set[str], timeout_s: float) -> None:
        """Wait for the first scheduled run of each of `dags`.

        Raises RunError if one fails, or after `timeout_s` seconds.
        """
        deadline = time.monotonic() + timeout_s
        while not dags <= set(self.ended):
            if time.monotonic() > deadline:
                missing = ", ".join(sorted(dags - set(self.ended)))
                raise RunError(f"no scheduled run of {missing} has ended after {timeout_s:.0f} s")
            time.sleep(POLL_S)
            self.poll()
        for dag in dags:
            if self.ended[dag]["state"] != "success":
                # This raises an error with the logs of the failed tasks.
                self.airflow.wait(dag, self.ended[dag]["dag_run_id"], timeout_s=0)

    def poll(self) -> None:
        """Print the scheduled runs that have ended since the last call; restart and name components that have died.

        Raises ProcessError if a component cannot be restarted.
        """
        self._restarts.check()
        # A busy component, or one that was just started again, answers at the next call.
        with suppress(httpx.HTTPError, RunError):
            self.show_ended()

    def _report(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def show_ended(self) -> None:
        """Print the first scheduled run of each DAG that has ended since the last call."""
        for run in self._ended():
            self.ended[run["dag_id"]] = run
            self.console.print(describe(self.airflow, run), highlight=False, soft_wrap=True)

    def _ended(self) -> Iterator[DagRun]:
        for dag in settings.DEFAULT_SCHEDULES:
            runs = [] if dag in self.ended else self.airflow.runs(dag)
            scheduled = [run for run in runs if run["dag_run_id"] not in self._known and run["run_type"] == "scheduled"]
            if scheduled and scheduled[0]["state"] in ("success", "failed"):
                yield scheduled[0]


@contextmanager
def on_schedule(source: DemoData, system: System, console: Console) -> Iterator[Schedule]:
    """Keep the fleet sending and run the DAGs on their schedules.

    The schedules continue at the end of the streamed rows. If the source has no further rows, the schedules stay off.
    """
    airflow = system.airflow()
    schedule = Schedule(system, airflow, console)
    try:
        ahead = source.ahead()
        if not ahead:
            console.print("\nThe schedules stay off: these metrics have no further rows.")
            yield schedule
            return
        system.store.put_json(keys.STREAM_MARK, {"end": clock.iso(source.end)})
        with LiveFleet(ahead, source.period_s):
            console.print("\nThe fleet keeps sending and the schedules are on. First scheduled runs:")
            schedule.switch_on()
            yield schedule
    finally:
        airflow.close()


def describe(airflow: AirflowClient, run: DagRun) -> str:
    """Return one line about a run.

    It has the DAG, run type, interval or time (UTC), state, seconds and rows.
    """
    dag, start, end = run["dag_id"], run["data_interval_start"], run["data_interval_end"]
    moment = f"{clock.parse(run['run_after']):%H:%M}"
    if start and end and start != end:
        moment = f"{clock.parse(start):%H:%M} to {clock.parse(end):%H:%M}"
    value = airflow.returned(dag, run["dag_run_id"], _ROWS[dag]) if dag in _ROWS else None
    rows = f", {value['rows']:,} rows" if value else ""
    seconds = f"{run['duration']:.0f} s" if run["duration"] else ""
    return f"  {dag:15} {run['run_type']:15} {moment:14} {run['state']:8} {seconds}{rows}"

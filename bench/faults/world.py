"""The live demo as the faults see it: its clients, its processes, its accounts, and waits with a limit."""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import httpx
import psutil
from rich.console import Console

from bench.faults.accounts import MessageAccount, Row, RowAccount
from riskwatch_local.services import airflow_components
from riskwatch_local.services.airflow_client import AirflowClient, RunError
from riskwatch_ml.core import aws

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from bench.live_demo import LiveDemo
    from riskwatch_local.services.supervisor import Child
    from riskwatch_ml.storage.bucket import Store

    T = TypeVar("T")

POLL_S = 0.2
HOLD_POLL_S = 2.0  # as often as `riskwatch demo` looks at its components
PATIENCE_S = 90.0
RUN_S = 600.0  # as long as the demo waits for a run
AWS = "the embedded AWS"
DEAF = ("botocore", "boto3", "urllib3", "httpx", "httpcore", "mlflow", "alembic")


class NotHealedError(Exception):
    """A state was not reached within its limit; the message names state and limit."""


class Terminal(Console):
    """A console that also keeps the lines of the demo."""

    lines: list[str]

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.lines = []

    def print(self, *objects: Any, **options: Any) -> None:
        """Print, and keep the text."""
        self.lines.append(" ".join(map(str, objects)))
        super().print(*objects, **options)


class PatientClient(AirflowClient):
    """A client that bears an api-server that is being restarted, for `PATIENCE_S` seconds."""

    def _call(self, method: str, path: str, **kwargs: Any) -> Any:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                return super()._call(method, path, **kwargs)
            except httpx.ConnectError:
                error: Exception = NotHealedError(f"Airflow did not answer {method} {path} in {PATIENCE_S:.0f} s")
            except httpx.TransportError as lost:
                error = lost
                if method != "GET":
                    raise
            except RunError as answered:
                error = answered
                if method != "GET" or "Airflow answered 5" not in str(answered):
                    raise
            if time.monotonic() > deadline:
                raise error
            time.sleep(POLL_S)

    def page(self, path: str = "/riskwatch/", timeout_s: float = 120.0) -> httpx.Response:
        """Return the answer of a view of Riskwatch."""
        return self._http.get(f"{self.url}{path}", timeout=timeout_s)

    def post(self, path: str, body: Mapping[str, object]) -> httpx.Response:
        """Return the answer to a POST, whatever its status."""
        return self._http.post(path, json=dict(body))

    def pid(self, dag_id: str, run_id: str, task_id: str) -> int | None:
        """Return the process of a task that runs now, None if none does."""
        for task in self.tasks(dag_id, run_id):
            pid = dict(task).get("pid")
            if task["task_id"] == task_id and task["state"] == "running" and isinstance(pid, int):
                return pid
        return None

    def health(self) -> Mapping[str, datetime]:
        """Return the newest heartbeat of each component that reports itself as healthy."""
        try:
            answer = httpx.get(f"{self.url}/api/v2/monitor/health", timeout=10).json()
        except (httpx.HTTPError, ValueError):
            return {}
        names = ("scheduler", "triggerer", "dag_processor")
        beats = {name: answer[name].get(f"latest_{name}_heartbeat") for name in names}
        return {
            name: datetime.fromisoformat(beat).astimezone(UTC)
            for name, beat in beats.items()
            if beat and answer[name]["status"] == "healthy"
        }


@dataclass
class World:
    """The demo and what the campaign knows about it.

    `sent` has the rows that faults have put into the stream, `records` the sequence numbers of records without readable
    rows, `crashes` the kills and stalls after which a message may come twice.
    """

    demo: LiveDemo
    terminal: Terminal
    airflow: PatientClient
    rows: RowAccount
    messages: MessageAccount
    sent: set[Row] = field(default_factory=set)
    records: set[str] = field(default_factory=set)
    crashes: int = 0
    died: list[Exception] = field(default_factory=list)

    @property
    def store(self) -> Store:
        """The bucket."""
        return self.demo.system.store

    @property
    def state(self) -> Path:
        """The state folder of the demo."""
        return self.demo.system.state

    def wait(self, what: str, reached: Callable[[], T | None], limit_s: float, poll_s: float = POLL_S) -> T:
        """Wait until `reached` returns something true and return it.

        Raises NotHealedError after `limit_s` seconds, and the error with which the demo itself has ended.
        """
        deadline = time.monotonic() + limit_s
        while True:
            if self.died:
                raise self.died[0]
            value = reached()
            if value:
                return value
            if time.monotonic() > deadline:
                raise NotHealedError(f"{what}: not seen in {limit_s:.0f} s")
            time.sleep(poll_s)

    def wait_labelled(self, wanted: set[Row], limit_s: float) -> set[Row]:
        """Wait until rows are labelled or quarantined; return those that are neither after the limit."""
        missing = wanted

        def is_complete() -> bool:
            nonlocal missing
            missing = self.rows.missing(missing)
            return not missing

        try:
            self.wait("all rows labelled or quarantined", is_complete, limit_s, 0.5)
        except NotHealedError:
            return missing
        return set()

    def child(self, name: str) -> Child:
        """Return the process of a component by its name."""
        return next(child for child in list(self.demo.system.supervisor.children) if child.name == name)

    def kill(self, name: str) -> Child:
        """End a component by SIGKILL and return it."""
        child = self.child(name)
        os.kill(child.pid, signal.SIGKILL)
        return child

    def wait_restarted(self, dead: Child, limit_s: float = 120.0) -> str:
        """Wait until the demo has named and restarted a component; return what the terminal says."""
        self.wait(f"{dead.name} is started again", lambda: self.child(dead.name).pid != dead.pid, limit_s)
        return self.wait(f"{dead.name} is named", lambda: self.said(dead.name), limit_s)

    def said(self, text: str) -> str:
        """Return the last line of the terminal that begins with a text, "" if there is none."""
        return next((line for line in reversed(self.terminal.lines) if line.startswith(text)), "")

    def running_pid(self, dag: str, run: str, task: str, limit_s: float = 120.0) -> int:
        """Wait until a task runs and return its process id."""
        return self.wait(f"{dag}.{task} runs", lambda: self.airflow.pid(dag, run, task), limit_s, 0.1)

    def logged(self, dag: str, run: str, task: str, attempt: int = 1) -> str:
        """Return the last error in the log of a try of a task, or else the last warning of Riskwatch."""
        folder = self.state / "airflow" / "logs" / f"dag_id={dag}" / f"run_id={run}" / f"task_id={task}"
        paths = sorted(folder.glob(f"**/attempt={attempt}.log"))
        lines = paths[-1].read_text(encoding="utf-8", errors="replace").splitlines() if paths else []
        entries = [entry for line in reversed(lines) if isinstance(entry := _entry(line), dict)]
        errors = [entry for entry in entries if entry.get("level") in ("error", "critical")]
        ours = [
            entry for entry in entries if entry.get("level") == "warning" and "riskwatch" in str(entry.get("logger"))
        ]
        for entry in [*errors, *ours][:1]:
            details = [f"{item.get('exc_type')}: {item.get('exc_value')}" for item in entry.get("error_detail", ())]
            return " ".join([str(entry.get("event")), *details])
        return ""

    def function_log(self, text: str) -> str:
        """Return the newest line of the log of the function that has a text, "" if none has."""
        group = f"/aws/lambda/{self.demo.system.outputs.function}"
        pages = aws.client("logs").get_paginator("filter_log_events").paginate(logGroupName=group)
        lines = [event["message"] for page in pages for event in page["events"] if text in event["message"]]
        return str(lines[-1]) if lines else ""

    def workers(self) -> list[int]:
        """Return the ids of the Lambda workers."""
        found = []
        for process in self.child(AWS).family():
            try:
                if any("_worker.py" in part for part in process.cmdline()):
                    found.append(process.pid)
            except psutil.Error:
                continue
        return found


@contextmanager
def hold(live: LiveDemo, terminal: Terminal) -> Iterator[World]:
    """Hold the demo up as `riskwatch demo` does, and give the world of the faults."""
    _silence()
    system = live.system
    login = system.login
    airflow = PatientClient(system.airflow_url, login.user, login.password, system.state / "airflow" / "logs")
    world = World(live, terminal, airflow, RowAccount(system.store), MessageAccount(system.outputs.alert_queue_url))
    left = threading.Event()

    def poll() -> None:
        while not left.wait(HOLD_POLL_S):
            try:
                live.schedule.poll()
            except Exception as error:  # the demo would end with it: so does the campaign
                world.died.append(error)
                return

    thread = threading.Thread(target=poll, name="hold", daemon=True)
    thread.start()
    try:
        yield world
    finally:
        left.set()
        thread.join()
        airflow.close()


def _entry(line: str) -> object:
    try:
        return json.loads(line)
    except ValueError:
        return None


def _silence() -> None:
    """Keep the log of the tasks that run in this process off the terminal; Airflow sets it up when it is imported."""
    os.environ["MLFLOW_LOGGING_LEVEL"] = "ERROR"
    import mlflow  # noqa: F401

    import riskwatch_airflow.tasks.watch  # noqa: F401

    root = logging.getLogger()
    root.handlers[:] = []
    root.setLevel(logging.WARNING)
    logging.lastResort = None
    for name in ("mlflow", "py.warnings"):
        logging.getLogger(name).setLevel(logging.ERROR)


@contextmanager
def warnings() -> Iterator[list[str]]:
    """Collect the warnings and errors that this process logs during a context."""
    texts: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if not record.name.startswith(DEAF):
                texts.append(record.getMessage())

    handler = Collector(logging.WARNING)
    logging.getLogger().addHandler(handler)
    try:
        yield texts
    finally:
        logging.getLogger().removeHandler(handler)


def healthy(world: World) -> bool:
    """Return whether all components of Airflow report themselves as healthy."""
    return airflow_components.healthy(f"{world.demo.system.airflow_url}/api/v2/monitor/health")


def beats_since(world: World, name: str, moment: datetime) -> bool:
    """Return whether a component of Airflow has sent a heartbeat after a moment."""
    beat = world.airflow.health().get(name)
    return beat is not None and beat > moment


def conf(start: datetime, end: datetime) -> dict[str, str]:
    """Return the params of a run on [start, end)."""
    return {"start": start.isoformat(), "end": end.isoformat()}


def hours_before(end: datetime, first: int, last: int) -> tuple[datetime, datetime]:
    """Return [start, end) from `first` to `last` whole hours before the hour of `end`."""
    hour = end.replace(minute=0, second=0, microsecond=0)
    return hour - timedelta(hours=first), hour - timedelta(hours=last)

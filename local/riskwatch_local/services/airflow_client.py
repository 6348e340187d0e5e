"""A client of Airflow's public REST API.

It triggers DAGs, waits for their runs and reads the return values of tasks. Every wait ends when the run ends, when a
component has died (the `alive` callback raises) or at its time limit.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypedDict

import httpx

from riskwatch_ml.core.errors import OperationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

POLL_S = 1.0
LOG_LINES = 25


class RunError(OperationError):
    """A DAG run failed, did not appear or did not end in time.

    The message names the run and its failed tasks, with the end of their logs.
    """


class DagRun(TypedDict):
    """The fields of a DAG run that Riskwatch reads.

    Times are ISO 8601 text in UTC, `duration` is in seconds.
    """

    dag_id: str
    dag_run_id: str
    run_type: str
    state: str
    run_after: str
    start_date: str | None
    end_date: str | None
    duration: float | None
    data_interval_start: str | None
    data_interval_end: str | None


class TaskInstance(TypedDict):
    """The fields of a task instance that Riskwatch reads.

    `map_index` is -1 for a task that is not mapped.
    """

    task_id: str
    state: str | None
    map_index: int
    try_number: int


@dataclass
class AirflowClient:
    """A logged-in client.

    `url` is the address of the api-server. `logs` is Airflow's log folder, from which errors quote the log of a failed
    task. Waits call `alive` before every poll; it raises if a component has died.
    """

    url: str
    user: str
    password: str
    logs: Path
    alive: Callable[[], None] = lambda: None
    _http: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        answer = httpx.post(
            f"{self.url}/auth/token", json={"username": self.user, "password": self.password}, timeout=60
        )
        answer.raise_for_status()
        token = answer.json()["access_token"]
        self._http = httpx.Client(
            base_url=f"{self.url}/api/v2", headers={"Authorization": f"Bearer {token}"}, timeout=60
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _call(self, method: str, path: str, **kwargs: Any) -> Any:
        answer = self._http.request(method, path, **kwargs)
        if answer.is_error:
            raise RunError(f"Airflow answered {answer.status_code} to {method} {path}: {answer.text[:500]}")
        return answer.json()

    def wait_for_dags(self, names: set[str], timeout_s: float) -> None:
        """Wait until the DAG processor has parsed all DAGs in `names`.

        Raises RunError with the import error of a DAG file, or after `timeout_s` seconds.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            parsed = {dag["dag_id"] for dag in self._call("GET", "/dags", params={"limit": 100})["dags"]}
            if names <= parsed:
                return
            errors = self._call("GET", "/importErrors")["import_errors"]
            if errors:
                raise RunError(f"{errors[0]['filename']} could not be parsed:\n{errors[0]['stack_trace']}")
            self._pause(deadline, f"the DAGs {sorted(names - parsed)} did not appear in {timeout_s:.0f} s")

    def unpause(self, dag_id: str) -> None:
        """Let the scheduler run `dag_id`."""
        self._call("PATCH", f"/dags/{dag_id}", json={"is_paused": False})

    def pause(self, dag_id: str) -> None:
        """Let the scheduler start no task of `dag_id`."""
        self._call("PATCH", f"/dags/{dag_id}", json={"is_paused": True})

    def parse_again(self, dag_id: str) -> None:
        """Ask the DAG processor to parse the file of `dag_id` again.

        Needed after a change of the settings, from which DAG files take their schedules.
        """
        token = self._call("GET", f"/dags/{dag_id}")["file_token"]
        answer = self._http.put(f"/parseDagFile/{token}")
        # Airflow answers with a conflict if the same request is already waiting.
        if answer.status_code != httpx.codes.CONFLICT:
            answer.raise_for_status()

    def trigger(
        self, dag_id: str, conf: Mapping[str, object] | None = None, logical_date: datetime | None = None
    ) -> str:
        """Start a manual run with the params `conf` and return its run id.

        Without `logical_date`, the logical date is now.
        """
        body = {"logical_date": (logical_date or datetime.now(UTC)).isoformat(), "conf": dict(conf or {})}
        return str(self._call("POST", f"/dags/{dag_id}/dagRuns", json=body)["dag_run_id"])

    def runs(self, dag_id: str) -> list[DagRun]:
        """Return the runs of `dag_id`, oldest first."""
        answer = self._call("GET", f"/dags/{dag_id}/dagRuns", params={"limit": 100, "order_by": "run_after"})
        return list(answer["dag_runs"])

    def wait_for_a_run(self, dag_id: str, known: set[str], timeout_s: float) -> str:
        """Wait for a run of `dag_id` that is not in `known` and return its id.

        Use it for a run that an asset starts. Raises RunError after `timeout_s` seconds.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            for run in self.runs(dag_id):
                if run["dag_run_id"] not in known:
                    return str(run["dag_run_id"])
            self._pause(deadline, f"no run of {dag_id} was started in {timeout_s:.0f} s")

    def wait(self, dag_id: str, run_id: str, timeout_s: float) -> DagRun:
        """Wait until the run has ended and return it.

        Raises RunError with the logs of the failed tasks if the run has failed, or after `timeout_s` seconds.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            run: DagRun = self._call("GET", f"/dags/{dag_id}/dagRuns/{run_id}")
            if run["state"] == "success":
                return run
            if run["state"] == "failed":
                raise RunError(f"{dag_id} failed (run {run_id}).{self._failures(dag_id, run_id)}")
            self._pause(deadline, f"{dag_id} (run {run_id}) is still {run['state']} after {timeout_s:.0f} s")

    def returned(self, dag_id: str, run_id: str, task_id: str) -> Any:
        """Return the return value (XCom) of a task of the run, None if there is none."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/return_value"
        answer = self._http.get(path, params={"deserialize": False})
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        answer.raise_for_status()
        return answer.json()["value"]

    def tasks(self, dag_id: str, run_id: str) -> list[TaskInstance]:
        """Return the run's task instances."""
        return list(self._call("GET", f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances")["task_instances"])

    def _failures(self, dag_id: str, run_id: str) -> str:
        failed = [task for task in self.tasks(dag_id, run_id) if task["state"] == "failed"]
        return "".join(f"\n  task {task['task_id']}: {self._log_end(dag_id, run_id, task)}" for task in failed)

    def _log_end(self, dag_id: str, run_id: str, task: TaskInstance) -> str:
        folder = self.logs / f"dag_id={dag_id}" / f"run_id={run_id}" / f"task_id={task['task_id']}"
        if task["map_index"] >= 0:
            folder /= f"map_index={task['map_index']}"
        path = folder / f"attempt={task['try_number']}.log"
        if not path.exists():
            return f"no log at {path}"
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:]
        return f"the end of {path}:\n    " + "\n    ".join(line[:400] for line in lines)

    def _pause(self, deadline: float, trouble: str) -> None:
        self.alive()
        if time.monotonic() > deadline:
            raise RunError(f"{trouble}; the logs are under {self.logs}")
        time.sleep(POLL_S)

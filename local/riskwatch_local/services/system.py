"""The whole system on one machine: embedded AWS with the stack deployed, MLflow, Airflow, and what joins them.

`System.start` brings up what the caller asks for and leaves every process to one supervisor; ending its context ends
them all. The demo starts everything, the end-to-end tests leave the Airflow components out and run DAGs in process.
"""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import shutil
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from riskwatch_infra.deploy import Outputs, deploy
from riskwatch_local.services import airflow_components, mlflow_server, ports
from riskwatch_local.services.airflow_client import AirflowClient
from riskwatch_local.services.airflow_components import Login
from riskwatch_local.services.embedded_aws import EmbeddedAws, client_settings
from riskwatch_local.services.supervisor import Child, ProcessError, Supervisor, answers, tail
from riskwatch_ml.core import aws, settings
from riskwatch_ml.core.errors import UserInputError
from riskwatch_ml.schema import catalogue, inventory
from riskwatch_ml.storage import keys
from riskwatch_ml.storage.bucket import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from riskwatch_ml.schema.catalogue import Catalogue
    from riskwatch_ml.schema.inventory import Instance

READY_S = 180.0


# A folder that holds this file is ours: only there is anything removed.
OWN = ".riskwatch-state"
ERROR_LOG = "error.log"  # written by the command line, also before a run has taken the folder


class StateFolderError(UserInputError):
    """The state folder cannot be used: another run holds it, or it holds somebody else's files."""


@contextmanager
def state_folder(path: Path) -> Iterator[Path]:
    """Hold `path` for this run alone and empty what the last run left there (the summary beside it stays).

    Raises StateFolderError while another run holds it, and for a folder with files that no run of ours has made.
    """
    path.mkdir(parents=True, exist_ok=True)
    if not (path / OWN).exists() and any(item.name != ERROR_LOG for item in path.iterdir()):
        raise StateFolderError(f"{path} holds files that are not Riskwatch's: name a new or empty folder by --state")
    (path / OWN).touch()
    with (path / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StateFolderError(
                f"another run uses {path}: end it first, or name another folder by --state"
            ) from error
        for old in ("airflow", "aws", "logs", "mlflow"):
            shutil.rmtree(path / old, ignore_errors=True)
        yield path


@dataclass
class System:
    """Running components and what a caller needs to reach them."""

    state: Path
    supervisor: Supervisor
    endpoint: str
    outputs: Outputs
    mlflow_url: str
    airflow_url: str
    environment: dict[str, str]
    login: Login
    settings: Mapping[str, str | int | float]

    @property
    def store(self) -> Store:
        """The stack's bucket."""
        return Store(aws.client("s3"), self.outputs.bucket)

    def airflow(self) -> AirflowClient:
        """Return a logged-in client of the api-server."""
        logs = self.state / "airflow" / "logs"
        return AirflowClient(self.airflow_url, self.login.user, self.login.password, logs, self.supervisor.ensure_alive)

    def write_settings(self, schedules: Mapping[str, str]) -> None:
        """Write the settings file with these schedules (DAG -> cron text); DAG files see them when they are parsed."""
        lines = [f"{key} = {json.dumps(value)}" for key, value in self.settings.items()]
        lines += ["", "[schedules]", *(f"{dag} = {json.dumps(cron)}" for dag, cron in schedules.items())]
        (self.state / "riskwatch.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")
        settings.load.cache_clear()

    def start_mlflow(self) -> Callable[[], float]:
        """Start the MLflow server; the returned function waits for it and returns the seconds that it took."""
        port = int(self.mlflow_url.rsplit(":", 1)[1])
        folder = self.state / "mlflow"
        folder.mkdir(parents=True, exist_ok=True)
        child = self.supervisor.start(
            "MLflow",
            mlflow_server.command(folder, port),
            env={**self.environment, **mlflow_server.environment()},
            log=self.state / "logs" / "mlflow.log",
            cwd=folder,
        )
        return lambda: child.wait_healthy(mlflow_server.health_url(port), READY_S)

    def migrate_airflow(self) -> None:
        """Make Airflow's database. Raises ProcessError with the end of its log."""
        log = self.state / "logs" / "airflow-migrate.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as output:
            done = subprocess.run(
                airflow_components.command("db", "migrate"),
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
            )
        if done.returncode:
            raise ProcessError(f"`airflow db migrate` failed. The last lines of {log}:\n{tail(log)}")

    def start_airflow(self) -> None:
        """Start the api-server, wait for it, start the other components and wait until all of them are healthy."""
        port = int(self.airflow_url.rsplit(":", 1)[1])
        health = airflow_components.health_url(port)
        first, *others = airflow_components.COMPONENTS
        self.start_component(first).wait_healthy(health, READY_S)
        children = [self.start_component(name) for name in others]
        for child in children:
            child.wait_healthy(lambda: airflow_components.healthy(health), READY_S)

    def start_component(self, name: str) -> Child:
        """Start one of Airflow's components without waiting for it."""
        return self.supervisor.start(
            f"Airflow's {name}",
            airflow_components.component(name),
            env=self.environment,
            log=self.state / "logs" / f"airflow-{name}.log",
            cwd=self.state,
        )

    def reachable(self) -> dict[str, bool]:
        """Return whether Airflow and MLflow answer at the addresses that the summary prints."""
        return {"airflow": answers(self.airflow_url), "mlflow": answers(self.mlflow_url)}


def start(
    supervisor: Supervisor,
    state: Path,
    metrics: Catalogue,
    instances: Mapping[str, Instance],
    *,
    period_s: int = 300,
    airflow_port: int | None = None,
    mlflow_port: int | None = None,
    database_url: str | None = None,
    overrides: Mapping[str, str | int | float] | None = None,
    schedules: Mapping[str, str] | None = None,
) -> System:
    """Start the embedded AWS, deploy the stack, write the settings, and set this process's environment to use them.

    MLflow and Airflow are given their ports and settings; the caller starts them. `database_url` is Airflow's database,
    None for SQLite in the state folder. `overrides` are further settings. Without `schedules` (DAG -> cron text)
    all DAGs run by hand only.
    """
    airflow_url = f"http://127.0.0.1:{ports.claim(airflow_port, 'Airflow')}"
    mlflow_url = f"http://127.0.0.1:{ports.claim(mlflow_port, 'MLflow')}"
    embedded = EmbeddedAws.start(supervisor, state, log=state / "logs" / "embedded-aws.log")
    home = state / "airflow"
    home.mkdir(parents=True, exist_ok=True)
    environment = {
        **embedded.environment(),
        **airflow_components.environment(home, int(airflow_url.rsplit(":", 1)[1]), database_url),
        "RISKWATCH_CONFIG": str(state / "riskwatch.toml"),
    }
    # This process reads and writes the same bucket, through the same factory, as the components do.
    for stale in [
        key for key in os.environ if key.startswith(("AWS_", "RISKWATCH_", "AIRFLOW_")) and key not in environment
    ]:
        del os.environ[stale]
    os.environ.update(environment)
    aws.forget()
    outputs = deploy(
        aws.client("cloudformation"),
        parameters={"EndpointUrl": embedded.endpoint, "Link": f"{airflow_url}/"},
        poll_s=0.2,
    )
    (state / "catalogue.toml").write_text(catalogue.dumps(metrics), encoding="utf-8")
    values: dict[str, str | int | float] = {
        "bucket": outputs.bucket,
        "stream": outputs.stream,
        "table": outputs.table,
        "function": outputs.function,
        "mlflow_uri": mlflow_url,
        "catalogue": str(state / "catalogue.toml"),
        "period_s": period_s,
        "promotion": "auto",
        **(overrides or {}),
    }
    _write_environment(state / "env", embedded.endpoint)
    system = System(
        state, supervisor, embedded.endpoint, outputs, mlflow_url, airflow_url, environment, Login.create(home), values
    )
    system.write_settings(schedules or dict.fromkeys(settings.DEFAULT_SCHEDULES, settings.MANUAL))
    system.store.put_bytes(keys.INVENTORY, inventory.dumps(instances).encode())
    return system


def _write_environment(path: Path, endpoint: str) -> None:
    """Write what another shell needs to reach the running system, to be read by `source`; only its owner may."""
    values = {**client_settings(endpoint), "RISKWATCH_CONFIG": str(path.with_name("riskwatch.toml"))}
    with open(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.writelines(f"export {name}={shlex.quote(value)}\n" for name, value in values.items())

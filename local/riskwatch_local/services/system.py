"""The whole system on one machine: embedded AWS, MLflow and Airflow.

`session` starts the embedded AWS and ends every process when its context ends. `System.start_services` adds MLflow and
Airflow. The demo starts all of them; some end-to-end tests leave Airflow out and run the DAGs in process.
"""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict, Unpack

from riskwatch_infra.deploy import Outputs, deploy
from riskwatch_local.services import airflow_components, mlflow_server, ports
from riskwatch_local.services.airflow_client import AirflowClient
from riskwatch_local.services.airflow_components import Login
from riskwatch_local.services.embedded_aws import EmbeddedAws
from riskwatch_local.services.process_tree import ProcessError
from riskwatch_local.services.supervisor import Child, Supervisor, answers, tail
from riskwatch_ml.core import aws, settings
from riskwatch_ml.core.errors import UserInputError
from riskwatch_ml.schema import catalogue, inventory
from riskwatch_ml.storage import keys
from riskwatch_ml.storage.bucket import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from riskwatch_ml.schema.catalogue import Catalogue
    from riskwatch_ml.schema.inventory import Instance

READY_S = 180.0
# Riskwatch removes files only from a folder that contains this file.
OWN = ".riskwatch-state"
ERROR_LOG = "error.log"  # the command line may write it before a run has taken the folder

Value = str | int | float | list[str]


class StateFolderError(UserInputError):
    """The state folder cannot be used.

    Another run uses it, or it contains files of another program.
    """


@contextmanager
def state_folder(path: Path) -> Iterator[Path]:
    """Reserve `path` for this run and remove the files of the last run.

    The summary of the last run stays. During the context this process and its children create files that only their
    owner can read. Raises StateFolderError if another run uses the folder, or if it contains files
    that Riskwatch has not written.
    """
    path.mkdir(parents=True, exist_ok=True)
    if not (path / OWN).exists() and any(item.name != ERROR_LOG for item in path.iterdir()):
        raise StateFolderError(f"{path} contains files that are not Riskwatch's: name a new or empty folder by --state")
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
        path.chmod(0o700)
        for kept in path.iterdir():
            kept.chmod(0o700 if kept.is_dir() else 0o600)
        before = os.umask(0o077)
        try:
            yield path
        finally:
            os.umask(before)


@dataclass
class System:
    """A running system: its components, their addresses and settings."""

    state: Path
    supervisor: Supervisor
    endpoint: str
    outputs: Outputs
    mlflow_url: str
    airflow_url: str
    environment: dict[str, str]
    login: Login
    settings: Mapping[str, Value]

    @property
    def store(self) -> Store:
        """The bucket of the stack."""
        return Store(aws.client("s3"), self.outputs.bucket)

    def airflow(self) -> AirflowClient:
        """Return a client of the api-server that is logged in."""
        logs = self.state / "airflow" / "logs"
        return AirflowClient(self.airflow_url, self.login.user, self.login.password, logs, self.supervisor.ensure_alive)

    def write_settings(self, schedules: Mapping[str, str]) -> None:
        """Write the settings file with these schedules (DAG id -> cron expression).

        A DAG takes its schedule from the file when Airflow parses the DAG.
        """
        lines = [f"{key} = {json.dumps(value)}" for key, value in self.settings.items()]
        lines += ["", "[schedules]", *(f"{dag} = {json.dumps(cron)}" for dag, cron in schedules.items())]
        (self.state / "riskwatch.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")
        settings.load.cache_clear()

    def start_mlflow(self) -> Callable[[], float]:
        """Start the MLflow server and return a function that waits for it.

        The function returns the seconds that the start took.
        """
        port = int(self.mlflow_url.rsplit(":", 1)[1])
        folder = self.state / "mlflow"
        folder.mkdir(parents=True, exist_ok=True)
        child = self.supervisor.start(
            "MLflow",
            mlflow_server.command(folder, port),
            env={**self.environment, **mlflow_server.environment()},
            log=self.state / "logs" / "mlflow.log",
            cwd=folder,
            restartable=True,
        )
        return lambda: child.wait_healthy(mlflow_server.health_url(port), READY_S)

    def migrate_airflow(self) -> None:
        """Create Airflow's database. Raises ProcessError with the end of the log."""
        log = self.state / "logs" / "airflow-migrate.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as output:
            migration = subprocess.run(
                airflow_components.command("db", "migrate"),
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
            )
        if migration.returncode:
            raise ProcessError(f"`airflow db migrate` failed. The last lines of {log}:\n{tail(log)}")

    def start_airflow(self) -> None:
        """Start all components of Airflow and wait until they are healthy.

        The api-server comes first; the others need it.
        """
        port = int(self.airflow_url.rsplit(":", 1)[1])
        health = airflow_components.health_url(port)
        api_server, *others = airflow_components.COMPONENTS
        self.start_component(api_server).wait_healthy(health, READY_S)
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
            restartable=True,
        )

    def reachable(self) -> dict[str, bool]:
        """Return whether Airflow and MLflow answer at the URLs that the summary prints."""
        return {"airflow": answers(self.airflow_url), "mlflow": answers(self.mlflow_url)}

    def start_services(self, publish: Callable[[], object], *, airflow_last: bool = False) -> None:
        """Start MLflow and Airflow while `publish` runs; return when all are ready.

        `publish` runs in the caller's thread. With `airflow_last`, the components of Airflow start after `publish` has
        returned: use it if DAGs run as soon as Airflow parses them, so that their first runs find the published
        metrics.
        """
        with ThreadPoolExecutor(1) as pool:
            services = pool.submit(self._start_services, airflow=not airflow_last)
            publish()
            services.result()
        if airflow_last:
            self.start_airflow()

    def _start_services(self, *, airflow: bool) -> None:
        self.migrate_airflow()
        wait_for_mlflow = self.start_mlflow()
        if airflow:
            self.start_airflow()
        wait_for_mlflow()


class Options(TypedDict, total=False):
    """The optional arguments of `start`."""

    period_s: int
    airflow_port: int | None
    mlflow_port: int | None
    database_url: str | None
    overrides: Mapping[str, Value] | None
    schedules: Mapping[str, str] | None


@contextmanager
def session(
    state: Path, kinds: Sequence[Catalogue], instances: Mapping[str, Instance], **options: Unpack[Options]
) -> Iterator[System]:
    """Start a system in the folder `state` for the duration of a context.

    The folder is reserved for it, and all processes end with the context. Takes the arguments of `start`; raises its
    errors and those of `state_folder`.
    """
    with state_folder(state) as folder, Supervisor() as supervisor:
        yield start(supervisor, folder, kinds, instances, **options)


def start(
    supervisor: Supervisor,
    state: Path,
    kinds: Sequence[Catalogue],
    instances: Mapping[str, Instance],
    *,
    period_s: int = 300,
    airflow_port: int | None = None,
    mlflow_port: int | None = None,
    database_url: str | None = None,
    overrides: Mapping[str, Value] | None = None,
    schedules: Mapping[str, str] | None = None,
) -> System:
    """Start the embedded AWS and deploy the stack; return the system.

    The settings are written, and this process's environment is set to use them. MLflow and Airflow get their ports and
    settings here; `System.start_services` starts them. `kinds` are the catalogues, the first kind first, and
    `instances` the expected instances of all kinds. `period_s` is the length of a period in seconds. `database_url`
    is Airflow's database, None for SQLite in the state folder. `overrides` are further settings. Without `schedules`
    (DAG id -> cron expression) all DAGs run by hand only. Raises PortTakenError, EmbeddedAwsError, ProcessError and
    DeployError.
    """
    airflow_url = f"http://127.0.0.1:{ports.claim(airflow_port, 'Airflow')}"
    mlflow_url = f"http://127.0.0.1:{ports.claim(mlflow_port, 'MLflow')}"
    embedded = EmbeddedAws.start(supervisor, state, log=state / "logs" / "embedded-aws.log")
    home = state / "airflow"
    home.mkdir(parents=True, exist_ok=True)
    airflow = airflow_components.environment(home, int(airflow_url.rsplit(":", 1)[1]), database_url)
    environment = {**embedded.environment(), **airflow, "RISKWATCH_CONFIG": str(state / "riskwatch.toml")}
    _adopt(environment)
    parameters = {"EndpointUrl": embedded.endpoint, "Link": f"{airflow_url}/"}
    outputs = deploy(aws.client("cloudformation"), aws.client("lambda"), parameters=parameters, poll_s=0.2)
    catalogues = write_catalogues(state, kinds)
    _write_environment(state / "env", embedded.client_settings)
    system = System(
        state=state,
        supervisor=supervisor,
        endpoint=embedded.endpoint,
        outputs=outputs,
        mlflow_url=mlflow_url,
        airflow_url=airflow_url,
        environment=environment,
        login=Login.create(home),
        settings={**_settings(catalogues, outputs, mlflow_url, period_s), **(overrides or {})},
    )
    system.write_settings(schedules or dict.fromkeys(settings.DEFAULT_SCHEDULES, settings.MANUAL))
    system.store.put_bytes(keys.INVENTORY, inventory.dumps(instances).encode())
    return system


def write_catalogues(state: Path, kinds: Sequence[Catalogue]) -> list[str]:
    """Write a file for each kind and return the paths."""
    paths = []
    for metrics in kinds:
        path = state / ("catalogue.toml" if metrics.is_first else f"catalogue-{metrics.kind}.toml")
        path.write_text(catalogue.dumps(metrics), encoding="utf-8")
        paths.append(str(path))
    return paths


def _adopt(environment: Mapping[str, str]) -> None:
    """Replace this process's settings by those of the components.

    These are the variables of AWS, Riskwatch and Airflow. This process then reads and writes the same bucket, through
    the same client factory, as the components do.
    """
    prefixes = ("AWS_", "RISKWATCH_", "AIRFLOW_")
    for stale in [key for key in os.environ if key.startswith(prefixes) and key not in environment]:
        del os.environ[stale]
    os.environ.update(environment)
    aws.clear_clients()


def _settings(catalogues: list[str], outputs: Outputs, mlflow_url: str, period_s: int) -> dict[str, Value]:
    return {
        "bucket": outputs.bucket,
        "stream": outputs.stream,
        "table": outputs.table,
        "function": outputs.function,
        "operations_topic_arn": outputs.operations_topic_arn,
        "mlflow_uri": mlflow_url,
        "catalogue": catalogues,
        "period_s": period_s,
        "promotion": "auto",
    }


def _write_environment(path: Path, client_settings: Mapping[str, str]) -> None:
    """Write the variables with which another shell reaches the system.

    The file is for `source`; only its owner can read it.
    """
    values = {**client_settings, "RISKWATCH_CONFIG": str(path.with_name("riskwatch.toml"))}
    with open(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.writelines(f"export {name}={shlex.quote(value)}\n" for name, value in values.items())

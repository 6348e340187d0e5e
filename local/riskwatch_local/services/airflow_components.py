"""Commands and environment of the Airflow components on loopback.

The demo and the end-to-end tests use them. This module starts no process; `riskwatch_local.services.supervisor` does.
SQLite and LocalExecutor suffice for one machine, except for backfills: Airflow refuses them on SQLite. A production
installation has its own Airflow and needs only the folders `dags/` and `plugins/`.
"""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parents[3]
USER = "riskwatch"
# The api-server must answer before any other component starts: otherwise their first tasks fail to connect.
COMPONENTS = ("api-server", "scheduler", "dag-processor", "triggerer")
# How long a write waits for others on SQLite. A component whose write fails ends with "database is locked". Writes of
# the api-server take turns: riskwatch_airflow.one_writer.
BUSY_S = 30
REPEATING = (
    "http.access",
    "airflow.jobs.scheduler_job_runner",
    "airflow.dag_processing.manager",
    "airflow.models.dag",
    "airflow.serialization.definitions.dag",
    "supervisor",
)


@dataclass(frozen=True)
class Login:
    """The only user of a local Airflow.

    Every run has a new password, which only the owner of its file can read.
    """

    user: str
    password: str

    @classmethod
    def create(cls, home: Path) -> Login:
        """Write a new login to Airflow's passwords file and return it.

        The simple auth manager reads the file, which is under `home` (mode 0600).
        """
        login = cls(USER, secrets.token_urlsafe(12))
        path = passwords_file(home)
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            json.dump({login.user: login.password}, file)
        return login


def passwords_file(home: Path) -> Path:
    """Return the path of the passwords file that Airflow's simple auth manager reads."""
    return home / "passwords.json"


def base_environment(home: Path, database_url: str | None = None) -> dict[str, str]:
    """Return the Airflow settings that do not depend on a port.

    They name folders, database and executor, and switch the examples off. Without `database_url`, the database is
    SQLite in `home`. A Postgres URL names its driver: postgresql+psycopg2://.
    """
    return {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": "3",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "True",
        "AIRFLOW__CORE__HOSTNAME_CALLABLE": "airflow.utils.net.get_host_ip_address",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database_url or f"sqlite:///{home / 'airflow.db'}?timeout={BUSY_S}",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
        # These loggers repeat a line for every request, loop of the scheduler, parse, run and task.
        "AIRFLOW__LOGGING__NAMESPACE_LEVELS": " ".join(f"{logger}=WARNING" for logger in REPEATING),
        # Airflow sets these modes itself, whatever the umask is.
        "AIRFLOW__LOGGING__FILE_TASK_HANDLER_NEW_FOLDER_PERMISSIONS": "0o700",
        "AIRFLOW__LOGGING__FILE_TASK_HANDLER_NEW_FILE_PERMISSIONS": "0o600",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "AIRFLOW_CONN_AWS_DEFAULT": "aws://",
    }


def environment(home: Path, port: int, database_url: str | None = None) -> dict[str, str]:
    """Return the settings of components that use loopback `port`.

    These are `base_environment`, the addresses, and new secrets.
    """
    url = f"http://127.0.0.1:{port}"
    return base_environment(home, database_url) | {
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__API__SECRET_KEY": secrets.token_hex(32),
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(64),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords_file(home)),
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "600",
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "600",
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.5",
        "AIRFLOW__SCHEDULER__MP_START_METHOD": "forkserver",
        "AIRFLOW__SCHEDULER__MP_FORKSERVER_PRELOAD": "riskwatch_airflow.task_imports",
    }


def command(*words: str) -> list[str]:
    """Return the command line of an `airflow` subcommand in this environment."""
    return [str(ROOT / ".venv" / "bin" / "airflow"), *words]


def component(name: str) -> list[str]:
    """Return the command line of one of `COMPONENTS`.

    Log servers stay off: they would listen on every address.
    """
    if name in ("scheduler", "triggerer"):
        return command(name, "--skip-serve-logs")
    return command(name)


def health_url(port: int) -> str:
    """Return the URL that answers 200 once the api-server on `port` is up."""
    return f"http://127.0.0.1:{port}/api/v2/monitor/health"


def healthy(url: str) -> bool:
    """Return whether the health endpoint at `url` reports every component as healthy."""
    try:
        answer = httpx.get(url, timeout=10).json()
    except (httpx.HTTPError, ValueError):
        return False
    return all(
        answer[part]["status"] == "healthy" for part in ("metadatabase", "scheduler", "dag_processor", "triggerer")
    )

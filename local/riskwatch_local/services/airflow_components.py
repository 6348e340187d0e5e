"""Airflow as the demo and the end-to-end tests run it: commands and environment of its components, on loopback.

Nothing here starts a process; `riskwatch_local.services.supervisor` does. SQLite and LocalExecutor are enough for one
machine, except for backfills, which Airflow refuses on SQLite. A real installation brings its own Airflow and needs
only the folders `dags/` and `plugins/`.
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
# The api-server must answer before any other component starts: tasks of components that race it fail to connect.
COMPONENTS = ("api-server", "scheduler", "dag-processor", "triggerer")


@dataclass(frozen=True)
class Login:
    """The one user of a local Airflow; the password is new in every run and readable by its owner only."""

    user: str
    password: str

    @classmethod
    def create(cls, home: Path) -> Login:
        """Write the passwords file of Airflow's simple auth manager under `home` (mode 0600) and return the login."""
        login = cls(USER, secrets.token_urlsafe(12))
        path = passwords_file(home)
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            json.dump({login.user: login.password}, file)
        return login


def passwords_file(home: Path) -> Path:
    """Where the simple auth manager of the Airflow in `home` reads its passwords."""
    return home / "passwords.json"


def base_environment(home: Path, database_url: str | None = None) -> dict[str, str]:
    """Return the Airflow settings that name no port: folders, database, no examples, bytecode-friendly parsing.

    `database_url` None is SQLite in `home`. A Postgres URL must name its driver, postgresql+psycopg2://.
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
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database_url or f"sqlite:///{home / 'airflow.db'}",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "AIRFLOW_CONN_AWS_DEFAULT": "aws://",
    }


def environment(home: Path, port: int, database_url: str | None = None) -> dict[str, str]:
    """Return `base_environment` plus what the components on loopback `port` need; secrets are made anew."""
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
    }


def command(*words: str) -> list[str]:
    """Return the command line of an `airflow` subcommand in this environment."""
    return [str(ROOT / ".venv" / "bin" / "airflow"), *words]


def component(name: str) -> list[str]:
    """Return the command line of one of `COMPONENTS`; log servers, which would listen on every address, stay off."""
    if name in ("scheduler", "triggerer"):
        return command(name, "--skip-serve-logs")
    return command(name)


def health_url(port: int) -> str:
    """Return the address that answers 200 once the api-server on `port` is up."""
    return f"http://127.0.0.1:{port}/api/v2/monitor/health"


def healthy(url: str) -> bool:
    """Whether the health answer at `url` calls every component healthy."""
    try:
        answer = httpx.get(url, timeout=10).json()
    except (httpx.HTTPError, ValueError):
        return False
    return all(
        answer[part]["status"] == "healthy" for part in ("metadatabase", "scheduler", "dag_processor", "triggerer")
    )

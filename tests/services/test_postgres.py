"""The container form's Airflow and MLflow on Postgres: its commands and environment, started without containers.

Needs a Postgres server, see conftest.py. Each test makes databases of its own.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import yaml

from riskwatch_local import compose
from riskwatch_local.services import airflow_components, ports
from riskwatch_local.services.supervisor import Supervisor

pytestmark = [pytest.mark.services, pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parents[2]
FILE = yaml.safe_load((ROOT / "docker-compose.yaml").read_text(encoding="utf-8"))
SERVICES = FILE["services"]


def here(text, folder, values):
    """Return a value of the compose file as this machine needs it: variables filled in, folders moved."""

    def fill(match):
        name, operator, default = match.groups()
        return values.get(name) or (default if operator == ":-" else values[name])

    text = re.sub(r"\$\{([A-Z_]+)(:[-?])([^}]*)\}", fill, text)
    return text.replace("/var/lib/riskwatch", str(folder)).replace("/opt/riskwatch", str(ROOT))


def on_database(text, database):
    """Return a database URL of the compose file with this server and database in place of the container's."""
    return re.sub(r"riskwatch@postgres:5432/\w+", database, text)


def environment_of(service, folder, values, **further):
    """Return the whole environment of a service, with programs from this environment first."""
    ours = {key: here(value, folder, values) for key, value in SERVICES[service]["environment"].items()}
    kept = {key: os.environ[key] for key in ("HOME", "PYTHONPATH", "LANG") if key in os.environ}
    # The test's own server decides about a password.
    ours |= {"PGPASSWORD": os.environ.get("PGPASSWORD", "")}
    return {**kept, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", **ours, **further}


def start(supervisor, name, environment, folder):
    """Start a component by the command of its service."""
    log = folder / f"{name}.log"
    return supervisor.start(f"Airflow's {name}", SERVICES[name]["command"], env=environment, log=log, cwd=folder)


def test_airflow_migrates_answers_and_lets_the_user_in(database, tmp_path):
    # GIVEN a new database, the values of a new `.env`, and the login that the one-shot writes
    values = dict(line.split("=", 1) for line in compose.dotenv().splitlines())
    port = ports.free_port()
    text = SERVICES["api-server"]["environment"]["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]
    environment = environment_of(
        "api-server",
        tmp_path,
        values,
        AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=on_database(text, database("airflow")),
        AIRFLOW__API__HOST="127.0.0.1",
        AIRFLOW__API__PORT=str(port),
    )
    passwords = Path(environment["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"])
    passwords.parent.mkdir(parents=True)
    compose.write_login(passwords, values)
    # WHEN the migration runs and the api-server starts
    done = subprocess.run(SERVICES["airflow-migrate"]["command"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    url = f"http://127.0.0.1:{port}"
    health = f"{url}/api/v2/monitor/health"
    environment["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] = f"{url}/execution/"
    with Supervisor() as supervisor:
        first, *others = airflow_components.COMPONENTS
        start(supervisor, first, environment, tmp_path).wait_healthy(health, 240)
        # THEN it finds its database, ...
        assert compose.main(["health", health, "metadatabase"]) == 0
        # ... the password of `.env` opens it, no other does, ...
        login = {"username": compose.USER, "password": values["AIRFLOW_PASSWORD"]}
        assert httpx.post(f"{url}/auth/token", json=login, timeout=60).status_code == 201
        assert httpx.post(f"{url}/auth/token", json={**login, "password": "x"}, timeout=60).status_code == 401
        assert httpx.get(f"{url}/api/v2/dags", timeout=60).status_code == 401
        # ... and the health check of each other component fails before it is started and succeeds after
        for name in others:
            check = [*SERVICES[name]["healthcheck"]["test"][4:-2], health, SERVICES[name]["healthcheck"]["test"][-1]]
            assert compose.main(check) == 1
            child = start(supervisor, name, environment, tmp_path)
            child.wait_healthy(lambda check=check: compose.main(check) == 0, 180)


def test_mlflow_becomes_healthy_and_knows_its_name(database, tmp_path):
    # GIVEN the service's command, on this machine's address, port and database
    port = ports.free_port()
    values = {**dict(line.split("=", 1) for line in compose.dotenv().splitlines()), "MLFLOW_PORT": str(port)}
    made = database("mlflow")
    command = [on_database(here(word, tmp_path, values), made) for word in SERVICES["mlflow"]["command"]]
    for option, value in (("--host", "127.0.0.1"), ("--port", str(port))):
        command[command.index(option) + 1] = value
    url = f"http://127.0.0.1:{port}"
    with Supervisor() as supervisor:
        child = supervisor.start(
            "MLflow",
            command,
            env=environment_of("mlflow", tmp_path, values),
            log=tmp_path / "mlflow.log",
            cwd=tmp_path,
        )
        # WHEN it starts THEN it is healthy within the time that the file gives it
        child.wait_healthy(f"{url}/health", 240)
        # ... other containers may call it by its name and the host by the published port, a foreign name is refused
        create = f"{url}/api/2.0/mlflow/experiments/create"
        named = httpx.post(create, json={"name": "riskwatch"}, headers={"Host": "mlflow:5000"}, timeout=60)
        assert named.status_code == 200
        foreign = httpx.post(create, json={"name": "other"}, headers={"Host": "evil.example"}, timeout=60)
        assert foreign.status_code == 403
        number = named.json()["experiment_id"]
        found = httpx.get(f"{url}/api/2.0/mlflow/experiments/get", params={"experiment_id": number}, timeout=60)
        assert found.json()["experiment"]["artifact_location"].startswith("mlflow-artifacts:")

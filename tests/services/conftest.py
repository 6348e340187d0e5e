"""The Postgres server of the tests that need one.

RISKWATCH_TEST_POSTGRES_URL names it (postgresql://user@host:port/database, a user who may create databases; a password
in PGPASSWORD). Without it, or without the drivers, these tests are skipped.
"""

import importlib.util
import os
import uuid
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

URL = os.environ.get("RISKWATCH_TEST_POSTGRES_URL")
ABSENT = [name for name in ("psycopg2", "asyncpg") if importlib.util.find_spec(name) is None]
COMPOSE = Path(__file__).resolve().parents[2] / "docker-compose.yaml"


@pytest.fixture(scope="module")
def database():
    """Return a function that makes a database named after a purpose and returns its part of a URL after the scheme.

    The databases are dropped after the module's last test.
    """
    if not URL:
        pytest.skip("RISKWATCH_TEST_POSTGRES_URL names no Postgres server")
    if ABSENT:
        pytest.skip(f"{' and '.join(ABSENT)} not installed: uv sync --locked --group postgres")
    import psycopg2

    # The statement with which the container form makes MLflow's database.
    statement = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["configs"]["mlflow-database"]["content"]
    made = []
    server = psycopg2.connect(URL)
    server.autocommit = True
    place = urlsplit(URL)

    def make(purpose):
        name = f"riskwatch_{purpose}_{uuid.uuid4().hex[:12]}"
        with server.cursor() as cursor:
            cursor.execute(statement.replace("mlflow", name))
        made.append(name)
        return f"{place.netloc}/{name}"

    yield make
    with server.cursor() as cursor:
        for name in made:
            cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")
    server.close()

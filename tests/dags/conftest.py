"""The DAG files as Airflow parses them: in an own home, without Riskwatch settings."""

import os
import tempfile
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "dags"

# Airflow reads these at its first import, which is before any fixture.
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="riskwatch-airflow-")
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
# Keep the URLs of test servers: other tests of this process read them.
for name in [name for name in os.environ if name.startswith("RISKWATCH_") and "_TEST_" not in name]:
    del os.environ[name]


@pytest.fixture(scope="session")
def dagbag():
    """Return all DAGs."""
    from airflow.dag_processing.dagbag import DagBag

    return DagBag(dag_folder=str(FOLDER))

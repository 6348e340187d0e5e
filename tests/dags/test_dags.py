"""All DAGs: they parse fast and without settings, serialize, and document themselves."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "dags"
NAMES = ["export_metrics", "promote_model", "stream_metrics", "train_models", "watch_model"]
HEAVY = ["great_expectations", "matplotlib", "mlflow", "numpy", "pandas", "pyarrow", "scipy", "sklearn"]
PROBE = """
import importlib.util, json, sys
import airflow.sdk
{extra}
print(json.dumps(sorted(name for name in {heavy} if name in sys.modules)))
"""


def loaded(extra):
    """Return the heavy modules that a fresh interpreter holds after `extra`."""
    code = PROBE.format(extra=extra, heavy=HEAVY)
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    return json.loads(answer.stdout.splitlines()[-1])


def test_every_file_parses(dagbag):
    # GIVEN / WHEN / THEN
    assert dagbag.import_errors == {}
    assert sorted(dagbag.dags) == NAMES
    assert {path.stem for path in FOLDER.glob("*.py")} == set(NAMES)


def test_parsing_imports_nothing_heavy():
    # GIVEN what Airflow itself loads, with the operator that a DAG takes from the standard provider
    baseline = loaded("import airflow.providers.standard.operators.hitl")

    # WHEN the DAG files are run
    parsed = loaded(
        "\n".join(
            f"spec = importlib.util.spec_from_file_location('dag_{name}', {str(FOLDER / name)!r} + '.py')\n"
            "spec.loader.exec_module(importlib.util.module_from_spec(spec))"
            for name in NAMES
        )
    )

    # THEN
    assert set(parsed) <= set(baseline)


@pytest.mark.parametrize("name", NAMES)
def test_serialization_keeps_the_dag(dagbag, name):
    from airflow.serialization.serialized_objects import DagSerialization

    # GIVEN
    dag = dagbag.dags[name]

    # WHEN
    restored = DagSerialization.from_dict(json.loads(json.dumps(DagSerialization.to_dict(dag))))

    # THEN
    assert sorted(restored.task_dict) == sorted(dag.task_dict)
    assert restored.doc_md == dag.doc_md
    assert restored.max_active_runs == dag.max_active_runs
    assert restored.dagrun_timeout == dag.dagrun_timeout


@pytest.mark.parametrize("name", NAMES)
def test_every_dag_documents_its_owner_and_failures(dagbag, name):
    # GIVEN
    dag = dagbag.dags[name]

    # WHEN / THEN
    assert "**Owner**" in dag.doc_md
    assert "**Reads**" in dag.doc_md
    assert "**Writes**" in dag.doc_md
    assert "**When it fails**" in dag.doc_md
    assert "riskwatch" in dag.tags
    assert dag.catchup is False
    for item in dag.tasks:
        assert item.owner == "riskwatch"
        assert item.retries >= 1

"""Airflow's loader on the plugins folder: it runs only the plugin file.

The packages stay importable. Every component of Airflow and every task does this at its start.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "plugins"
HEAVY = ["great_expectations", "matplotlib", "mlflow", "numpy", "pandas", "pyarrow", "scipy", "sklearn"]
PROBE = """
import json, sys
import airflow.plugins_manager as manager
before = set(sys.modules)
plugins, errors = manager._get_plugins()
after = set(sys.modules) - before
import riskwatch_airflow.wiring, riskwatch_airflow.assets, riskwatch_dashboard
print(json.dumps({
    "plugins": [plugin.name for plugin in plugins],
    "errors": errors,
    "loaded": sorted(after),
    "with_packages": sorted(set(sys.modules) - before),
}))
"""


def modules_in(folder):
    """Return the names under which Airflow would load the files of a folder: their stems."""
    return {path.stem for path in folder.rglob("*.py") if path.parent != FOLDER}


@pytest.mark.parametrize("syntax", ["glob", "regexp"])
def test_only_the_plugin_file_is_run(tmp_path, syntax):
    # GIVEN an Airflow whose plugins folder is ours
    environment = {
        **os.environ,
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(FOLDER),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAG_IGNORE_FILE_SYNTAX": syntax,
    }

    # WHEN it loads its plugins
    answer = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, env=environment, check=True)
    result = json.loads(answer.stdout.splitlines()[-1])

    # THEN our plugin is there, no file of a package became a module of its own, and nothing heavy came along
    assert "riskwatch" in result["plugins"]
    assert result["errors"] == {}
    assert "riskwatch_plugin" in result["loaded"]
    assert {"train", "export", "stream"} <= modules_in(FOLDER)
    assert modules_in(FOLDER) & set(result["loaded"]) == set()
    assert {*HEAVY, "boto3"} & set(result["loaded"]) == set()
    # AND the packages are importable, and light as well; boto3 comes with any asset, by Airflow's Amazon provider
    assert {"riskwatch_airflow.wiring", "riskwatch_dashboard"} <= set(result["with_packages"])
    assert set(HEAVY) & set(result["with_packages"]) == set()

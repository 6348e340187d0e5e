"""The plugin module as Airflow loads it."""

import os
import subprocess
import sys
from pathlib import Path

PLUGINS = Path(__file__).parents[3] / "plugins"


def test_the_plugin_is_one_module_and_loads_nothing_heavy():
    # GIVEN a fresh interpreter that loads the plugin folder as every component of Airflow does
    script = f"""
import sys
from airflow.plugins_manager import AirflowPlugin
from airflow._shared.plugins_manager.plugins_manager import _load_plugins_from_plugin_directory
before = set(sys.modules)
plugins, errors = _load_plugins_from_plugin_directory({str(PLUGINS)!r})
assert not errors, errors
assert [plugin.name for plugin in plugins] == ["riskwatch"], plugins
added = {{name.partition(".")[0] for name in set(sys.modules) - before}}
heavy = added & {{"pandas", "numpy", "pyarrow", "mlflow", "sklearn", "boto3", "fastapi", "jinja2"}}
assert not heavy, heavy
assert added <= {{"riskwatch_plugin", "riskwatch_dashboard", "riskwatch_airflow"}}, added
"""
    # THEN it finds the one plugin, and files of its packages are no modules of their own
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_an_airflow_on_sqlite_lets_one_writing_request_in_at_a_time(tmp_path):
    script = f"""
import sys
sys.path.insert(0, {str(PLUGINS)!r})
from riskwatch_plugin import RiskwatchPlugin
print("NAMES", [item["middleware"].__name__ for item in RiskwatchPlugin.fastapi_root_middlewares])
"""
    for url, names in ((f"sqlite:///{tmp_path}/a.db", "['OneWriter']"), ("postgresql+psycopg2://a@127.0.0.1/a", "[]")):
        environment = {**os.environ, "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": url, "AIRFLOW_HOME": str(tmp_path)}
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True, env=environment
        )
        assert f"NAMES {names}" in done.stdout


def test_the_entry_in_the_navigation_carries_the_path_of_airflows_address():
    script = f"""
import sys
sys.path.insert(0, {str(PLUGINS)!r})
from riskwatch_plugin import RiskwatchPlugin
print("HREF", RiskwatchPlugin.external_views[0]["href"], RiskwatchPlugin.fastapi_apps[0]["url_prefix"])
"""
    environment = {**os.environ, "AIRFLOW__API__BASE_URL": "https://host.example/team/airflow/"}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True, env=environment
    )
    assert "HREF /team/airflow/riskwatch/ /riskwatch" in done.stdout

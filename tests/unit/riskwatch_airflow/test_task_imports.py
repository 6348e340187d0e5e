"""What a process loads before the processes of the tasks are forked from it."""

import json
import subprocess
import sys

from riskwatch_local.services import airflow_components

SLOW = ["great_expectations", "matplotlib", "mlflow.pyfunc", "pyarrow.parquet", "sklearn.cluster", "boto3"]


def test_the_process_that_forks_the_tasks_has_loaded_what_they_import(tmp_path):
    # GIVEN the modules that Airflow's settings name
    names = airflow_components.environment(tmp_path, 8080)["AIRFLOW__SCHEDULER__MP_FORKSERVER_PRELOAD"].split(",")
    code = f"import gc, json, sys\nfor name in {names}: __import__(name)\n" + (
        f"print(json.dumps([[name in sys.modules for name in {SLOW}], gc.get_freeze_count()]))"
    )

    # WHEN a fresh process loads them, as the server process of multiprocessing does: it hides an ImportError
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    # THEN the slow modules are there, and the garbage collector leaves all of it alone
    loaded, frozen = json.loads(answer.stdout.splitlines()[-1])
    assert all(loaded)
    assert frozen > 100_000

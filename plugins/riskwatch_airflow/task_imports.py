"""Everything heavy that the tasks import, loaded once for all tasks of a scheduler with LocalExecutor.

Each task is a new process, which imports Great Expectations, MLflow, Matplotlib and scikit-learn in seconds. With
`scheduler.mp_start_method = forkserver` and this module in `scheduler.mp_forkserver_preload`, one server process
imports them and the processes of the tasks are forked from it. The scheduler itself never loads them. Nothing imports
this module.
"""

from __future__ import annotations

import gc
import importlib

from riskwatch_expectations import engine
from riskwatch_ml.registry import mlflow_client

MODULES = (
    "airflow.executors.local_executor",
    "airflow.sdk.execution_time.task_runner",
    "boto3",
    "matplotlib.backends.backend_agg",
    "mlflow.pyfunc",
    "pyarrow.parquet",
    "riskwatch_expectations.pipeline",
    "riskwatch_ml.selection.candidate",
    "scipy.cluster.hierarchy",
    "sklearn.cluster",
)

mlflow_client.set_environment()
engine.load_library()
for name in MODULES:
    importlib.import_module(name)
# The processes share what is loaded until one writes to it. A collection of garbage would write to all of it.
gc.collect()
gc.freeze()

"""One thread in a process that has not loaded any library yet, as a task or a command begins."""

import json
import os
import subprocess
import sys

PROGRAM = """
import json
from riskwatch_ml.core.threads import one_thread
from threadpoolctl import threadpool_info

def threads():
    return {entry["user_api"]: entry["num_threads"] for entry in threadpool_info()}

with one_thread():
    from sklearn.cluster import KMeans
    KMeans(2, n_init=1).fit([[0.0], [1.0], [2.0]])
    within = threads()
print(json.dumps([within, threads()]))
"""


def test_libraries_that_are_loaded_late_keep_to_one_thread_too():
    # GIVEN a fresh process that may use two threads
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2", "PYTHONPATH": ":".join(sys.path)}

    # WHEN it fits something on one thread
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True)

    # THEN each library keeps to one until the context ends
    within, after = json.loads(done.stdout)
    assert within == {"blas": 1, "openmp": 1}
    assert after == {"blas": 2, "openmp": 2}

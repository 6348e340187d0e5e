"""Airflow and MLflow as the demo starts them, under many triggers at once and with each component killed."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from riskwatch_local.services import airflow_components, system
from riskwatch_local.services.airflow_client import RunError
from riskwatch_local.services.process_tree import ProcessError
from riskwatch_local.services.restarts import Restarts
from riskwatch_ml.schema import catalogue

pytestmark = [pytest.mark.e2e, pytest.mark.story, pytest.mark.timeout(1500)]

RUNS = 200
WAITED_FOR = 50  # all of them take two cores five minutes
AT_ONCE = 8
END_S = 1200.0
DAG = """
from airflow.sdk import DAG, task

with DAG("many", schedule=None, max_active_runs=16):

    @task
    def work():
        return 1

    work()
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory, restored_environment):
    """Airflow as the demo starts it, with a DAG of one short task."""
    folder = tmp_path_factory.mktemp("dags")
    (folder / "many.py").write_text(DAG)
    with system.session(tmp_path_factory.mktemp("triggers"), [catalogue.load()], {}) as started:
        started.environment["AIRFLOW__CORE__DAGS_FOLDER"] = str(folder)
        started.migrate_airflow()
        wait_for_mlflow = started.start_mlflow()
        started.start_airflow()
        wait_for_mlflow()
        yield started


def test_two_hundred_triggers_end_as_runs_or_clear_refusals(running):
    # GIVEN a live Airflow with a DAG that is switched on
    airflow = running.airflow()
    airflow.wait_for_dags({"many"}, 120)
    airflow.unpause("many")

    # WHEN eight clients trigger it 200 times
    def trigger(_number):
        try:
            return airflow.trigger("many"), ""
        except RunError as error:
            return None, str(error)

    started = time.monotonic()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(trigger, range(RUNS)))
    triggered = time.monotonic() - started
    # THEN each got a run, or the answer why not
    made = {run for run, _ in answers if run}
    refused = [text for run, text in answers if run is None]
    assert len(made) + len(refused) == RUNS
    assert all("Airflow answered" in text for text in refused)
    assert len(made) >= RUNS // 2
    # AND runs end green, one after another, while all components live
    for run in sorted(made)[:WAITED_FOR]:
        assert airflow.wait("many", run, END_S)["state"] == "success"
    running.supervisor.ensure_alive()
    ended = time.monotonic() - started
    print(
        f"\n{len(made)} runs made in {triggered:.0f} s, {len(refused)} refused; {WAITED_FOR} ended after {ended:.0f} s"
    )
    airflow.close()


def test_each_component_that_is_killed_is_named_and_works_again(running):
    # GIVEN a live system, and the check that the demo makes while it stays up
    lines = []
    restarts = Restarts(running.supervisor, lines.append)
    names = [child.name for child in running.supervisor.children if child.restartable]
    assert len(names) == 5
    for name in names:
        # WHEN one component is killed
        [child] = [child for child in running.supervisor.children if child.name == name]
        os.kill(child.pid, signal.SIGKILL)
        child.process.wait()
        restarts.check()
        # THEN it is named and started again
        assert lines[-1].startswith(f"{name} was ended by SIGKILL and was started again. ")
    # AND all are healthy, and a run ends green
    health = airflow_components.health_url(int(running.airflow_url.rsplit(":", 1)[1]))
    for child in running.supervisor.children:
        if child.name.startswith("Airflow"):
            child.wait_healthy(lambda: airflow_components.healthy(health), system.READY_S)
    airflow = running.airflow()
    assert airflow.wait("many", airflow.trigger("many"), END_S)["state"] == "success"
    airflow.close()
    deadline = time.monotonic() + system.READY_S
    while not all(running.reachable().values()) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert running.reachable() == {"airflow": True, "mlflow": True}
    # AND the embedded AWS, whose state was in memory, ends the demo with its name
    [server] = [child for child in running.supervisor.children if not child.restartable]
    os.kill(server.pid, signal.SIGKILL)
    server.process.wait()
    with pytest.raises(ProcessError, match="the embedded AWS was ended by SIGKILL"):
        restarts.check()

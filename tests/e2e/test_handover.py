"""What Airflow really hands to tasks, in a run on a database: `tests/support/runs.py` imitates it."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.support import runs

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

FOLDER = Path(__file__).parent / "handover"
# A person's answer as Airflow's API takes it, given by a thread because `dag.test` waits for it.
SCRIPT = """
import sys, threading, time
from airflow.utils.db import initdb
initdb()
sys.path.insert(0, sys.argv[1])
from handed_over import found

def answer():
    from airflow._shared.timezones.timezone import utcnow
    from airflow.models.hitl import HITLDetail
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.trigger import handle_event_submit
    from airflow.triggers.base import TriggerEvent
    from airflow.utils.session import create_session
    from sqlalchemy import select
    while True:
        time.sleep(0.5)
        with create_session() as session:
            ti = session.scalar(select(TaskInstance).where(TaskInstance.state == "awaiting_input"))
            if ti is not None:
                detail = session.scalar(select(HITLDetail).where(HITLDetail.ti_id == ti.id))
                detail.responded_by, detail.responded_at = {"id": "1", "name": "ada"}, utcnow()
                detail.chosen_options, detail.params_input = ["Approve"], {}
                handle_event_submit(TriggerEvent(detail.as_resume_event_payload()), task_instance=ti, session=session)
                return

threading.Thread(target=answer, daemon=True).start()
found.test()
"""


@pytest.fixture(scope="module")
def handed(tmp_path_factory):
    """What the tasks of one run wrote down, by task."""
    home = tmp_path_factory.mktemp("airflow")
    environment = {
        **os.environ,
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(FOLDER),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(FOLDER)], capture_output=True, text=True, env=environment, timeout=170
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return {path.stem: json.loads(path.read_text()) for path in home.glob("*.json")}


def test_a_mapped_task_hands_on_what_did_not_fail(handed):
    assert handed["join"] == {"type": "LazyXComSequence", "shards": ["x", "y"], "length": 2}


def test_the_context_is_the_one_that_the_tests_build(handed, monkeypatch):
    # GIVEN the context of unit tests, whose task was handed an XCom
    from airflow.sdk.execution_time import task_runner

    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", runs.Supervisor(), raising=False)
    made = runs.context(runs.run(datetime(2026, 11, 22, tzinfo=UTC), "manual"), "choose")
    made["ti"].xcom_push(key="again", value="why")

    # WHEN / THEN it answers as the real one, which has the params of its DAG
    run, events, pull = made["dag_run"], made["triggering_asset_events"], made["ti"].xcom_pull
    assert handed["request"] == {
        "again": pull(task_ids="choose", key="again"),
        "nothing": pull(task_ids="choose"),
        "params": [type(made["params"]).__name__, {"start": None}],
        "events": [type(events).__name__, len(events), []],
        "run": [type(run).__name__, run.run_type.value, repr(run.start_date.tzinfo)],
        "interval": type(made["data_interval_start"]).__name__,
    }


def test_an_answer_names_who_gave_it(handed):
    assert handed["release"]["answer"] == {
        "chosen_options": ["Approve"],
        "params_input": {},
        "responded_at": "datetime",
        "responded_by_user": {"id": "1", "name": "ada"},
    }

"""The DAGs of an installation with several kinds: a group for each further kind, and one event for all."""

from pathlib import Path

import pytest
from airflow.dag_processing.dagbag import DagBag

DAGS = Path(__file__).parents[2] / "dags"


@pytest.fixture
def tasks(monkeypatch):
    """The tasks of a DAG file, by id, if the installation has EC2 and RDS."""
    monkeypatch.setenv("RISKWATCH_CATALOGUE", "ec2,rds")

    def of(name):
        bag = DagBag(dag_folder=str(DAGS / f"{name}.py"))
        assert bag.import_errors == {}
        return bag.dags[name]

    return of


def test_a_further_kind_is_trained_in_a_group_of_its_own(tasks):
    # GIVEN / WHEN
    dag = tasks("train_models")
    found = dag.task_dict

    # THEN the tasks of the first kind have plain names, and no task of one kind waits for another kind
    steps = ("prepare", "contestants", "train", "choose", "request_contest")
    assert set(found) == {*steps, *(f"rds.{step}" for step in steps), "announce", "heartbeat"}
    assert found["rds.train"].upstream_task_ids == {"rds.prepare", "rds.contestants"}
    # AND what was chosen is announced once, also if a kind is skipped or fails
    assert found["announce"].upstream_task_ids == {"choose", "rds.choose"}
    assert found["announce"].trigger_rule == "all_done"
    # AND a run of two kinds may take twice as long
    assert dag.dagrun_timeout.total_seconds() == 12 * 3600


def test_each_kind_waits_for_its_own_approval(tasks):
    # GIVEN / WHEN
    found = tasks("promote_model").task_dict

    # THEN
    assert found["decide"].downstream_task_ids == {"approval", "rds.approval", "release", "settle", "complete"}
    assert found["rds.approval"].downstream_task_ids == {"rds.release_approved"}
    assert "key='bundle:rds'" in found["rds.approval"].subject
    assert found["release"].upstream_task_ids == {"decide"}

"""The text of the approval."""

import importlib.util
from pathlib import Path

import pytest
from jinja2 import Environment

CANDIDATE = {
    "resource_kind": "ec2",
    "version": "7",
    "digest": "ab" * 32,
    "family": "kmeans",
    "training_id": "T1",
    "figures": {"injected_vus_pr": 0.5, "alerts_per_instance_day": 0.75},
    "replaces": None,
    "kind": "refresh",
    "why": "kmeans stays",
    "ask": "",
    "link": "http://mlflow/7",
}


class Pulled:
    """A task instance with the decision on a bundle."""

    def __init__(self, *bundle):
        self.bundle = list(bundle)

    def xcom_pull(self, task_ids, key):
        assert (task_ids, key) == ("decide", "bundle:ec2")
        return self.bundle


@pytest.mark.parametrize(
    ("replaces", "words"), [(None, "replaces nothing"), ({"version": "6", "digest": "cd"}, "replaces model version 6")]
)
def test_the_approval_shows_the_figures_and_what_is_replaced(dagbag, replaces, words):
    # GIVEN the operator as it is in the DAG
    dag = dagbag.dags["promote_model"]
    approval = dag.task_dict["approval"]
    environment = dag.get_template_env()

    # WHEN its texts are rendered
    ti = Pulled({**CANDIDATE, "replaces": replaces})
    subject, body = (environment.from_string(text).render(ti=ti) for text in (approval.subject, approval.body))

    # THEN
    assert subject == "Promote kmeans to live?"
    assert "Model version [7](http://mlflow/7), family **kmeans**" in body
    assert words in body
    assert "Refresh: kmeans stays.\n" in body
    assert "| alerts_per_instance_day | 0.75 |\n| injected_vus_pr | 0.5 |" in body


def test_the_approval_says_why_a_refresh_needs_one(dagbag):
    # GIVEN
    dag = dagbag.dags["promote_model"]
    ti = Pulled({**CANDIDATE, "ask": "20.0% of the rows would change their level"})

    # WHEN
    body = dag.get_template_env().from_string(dag.task_dict["approval"].body).render(ti=ti)

    # THEN
    assert "kmeans stays. It needs an approval because 20.0% of the rows would change their level." in body


def test_an_approval_of_several_kinds_names_each():
    # GIVEN the texts of one kind of several, whose first release takes all of them
    path = Path(__file__).parents[2] / "dags" / "promote_model.py"
    spec = importlib.util.spec_from_file_location("promote_model_file", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    subject, body = (text.replace("KIND", "ec2").replace("SEVERAL", "True") for text in (module.SUBJECT, module.BODY))
    ti = Pulled(CANDIDATE, {**CANDIDATE, "resource_kind": "rds", "family": "dbscan", "version": "8"})

    # WHEN
    subject, body = (Environment().from_string(text).render(ti=ti) for text in (subject, body))

    # THEN
    assert subject == "Promote kmeans (ec2), dbscan (rds) to live?"
    assert "Model version [7]" in body
    assert "Model version [8]" in body

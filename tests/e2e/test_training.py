"""The training in a live Airflow: one run of the demo on two days of the simulated fleet, then a refresh by hand."""

from datetime import timedelta

import pytest

from riskwatch_local.demo.run import DAGS, Demo
from riskwatch_ml.core import clock, settings
from riskwatch_ml.registry import mlflow_registry
from tests.support import live

pytestmark = [pytest.mark.e2e, pytest.mark.story, pytest.mark.timeout(540)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The demo's system after a contest of the five families: (demo, its summary)."""
    with live.running(Demo, tmp_path_factory.mktemp("trained"), days=2) as (demo, summary), live.within(demo):
        yield demo, summary


def test_every_check_of_the_demo_holds(trained):
    _, summary = trained
    assert summary["checks"] == dict.fromkeys(summary["checks"], True)
    assert summary["ok"]


def test_mlflow_shows_five_candidates_under_one_training(trained):
    # GIVEN the MLflow server that the training wrote to
    demo, summary = trained
    from mlflow.tracking import MlflowClient

    client = MlflowClient(demo.system.mlflow_url)
    config = settings.load()
    champion = mlflow_registry.champion(config)
    experiment = client.get_experiment_by_name(config.experiment)

    # WHEN its runs are listed
    runs = client.search_runs([experiment.experiment_id])
    children = [run for run in runs if "mlflow.parentRunId" in run.data.tags]

    # THEN one training holds the five candidates, with the same figures and pictures; one is champion
    assert len({run.data.tags["mlflow.parentRunId"] for run in children}) == 1
    assert len(children) == 5
    figures = [{name for name in run.data.metrics if not name.startswith("elbow.")} for run in children]
    assert all(names == figures[0] for names in figures)
    assert "injected_vus_pr" in figures[0]
    pictures = {run.info.run_id: _files(client, run.info.run_id) for run in children}
    together = {path.rsplit("/", 1)[-1].split(".")[0] for paths in pictures.values() for path in paths}
    assert {"elbow", "dendrogram", "heatmap"} <= together
    assert any("pca" in name for name in together)
    assert champion.digest == summary["promoted"]["digest"]
    assert champion.run_id == children[0].data.tags["mlflow.parentRunId"]


def test_a_training_with_an_older_logical_date_is_the_newest_all_the_same(trained):
    # GIVEN the training of the demo
    demo, summary = trained
    airflow = demo.system.airflow()

    # WHEN one is made by hand for yesterday, and the refresh that it is gets promoted
    known = {run["dag_run_id"] for run in airflow.runs("promote_model")}
    run = airflow.trigger("train_models", logical_date=clock.now() - timedelta(days=1))
    airflow.wait("train_models", run, 300)
    airflow.wait("promote_model", airflow.wait_for_a_run("promote_model", known, 60), 300)

    # THEN its id comes after that of the first
    trained = airflow.returned("train_models", run, "prepare")
    assert trained["training_id"] > summary["training"]["id"]

    # AND every run of the system was green
    assert {run["state"] for dag in DAGS for run in airflow.runs(dag)} == {"success"}
    airflow.close()


def _files(client, run_id, path=None):
    found = []
    for item in client.list_artifacts(run_id, path):
        found += _files(client, run_id, item.path) if item.is_dir else [item.path]
    return found

"""What a demo has left in MLflow: `.ci/run` runs these tests after `make demo EXIT=1`."""

import json
import os
from pathlib import Path

import pytest

STATE = Path(__file__).parents[2] / ".riskwatch"

pytestmark = [
    pytest.mark.demo,
    pytest.mark.skipif(not (STATE / "demo.json").exists(), reason="no demo has run here: make demo EXIT=1"),
]


@pytest.fixture(scope="module")
def summary():
    return json.loads((STATE / "demo.json").read_text())


@pytest.fixture(scope="module")
def client():
    """A client of the database of MLflow, without a server."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    from mlflow.tracking import MlflowClient

    address = f"sqlite:///{STATE / 'mlflow' / 'mlflow.db'}"
    return MlflowClient(address, registry_uri=address)


@pytest.fixture(scope="module")
def trainings(client):
    """The candidates of each training that ended with five of them, by its run."""
    (experiment,) = client.search_experiments(filter_string="name = 'riskwatch'")
    runs = client.search_runs([experiment.experiment_id], max_results=1_000)
    by_parent = {}
    for run in runs:
        if parent := run.data.tags.get("mlflow.parentRunId"):
            by_parent.setdefault(parent, []).append(run)
    return {parent: children for parent, children in by_parent.items() if len(children) == 5}


def test_each_training_has_five_candidates_with_the_same_figures_and_pictures(client, trainings):
    assert trainings
    for parent, children in trainings.items():
        figures = [{name for name in run.data.metrics if not name.startswith("elbow.")} for run in children]
        assert all(names == figures[0] for names in figures)
        assert "injected_vus_pr" in figures[0]
        pictures = {path.name.split(".")[0] for run in children for path in plots(run)}
        assert {"elbow", "dendrogram", "heatmap"} <= pictures
        assert any("pca" in name for name in pictures)
        assert client.get_run(parent).data.tags["riskwatch.role"] == "training"


def plots(run):
    """Return the files of the plots of a run."""
    return list(
        (STATE / "mlflow" / "artifacts" / run.info.experiment_id / run.info.run_id / "artifacts").rglob("plots/*")
    )


def test_the_champion_is_what_the_summary_says(client, trainings, summary):
    champion = client.get_model_version_by_alias("riskwatch", "champion")
    assert champion.tags["digest"] == summary["promoted"]["digest"]
    assert champion.run_id in trainings

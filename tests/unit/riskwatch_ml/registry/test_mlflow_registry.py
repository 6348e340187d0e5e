"""MLflow on a temporary SQLite file: what a training leaves there, what a retry does, and what the model scores."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from riskwatch_ml.artifact import archive
from riskwatch_ml.core.settings import Settings
from riskwatch_ml.registry import mlflow_registry
from riskwatch_ml.registry.registered import Registered, RegisteredPart
from riskwatch_ml.schema import catalogue
from riskwatch_ml.schema.catalogue import Catalogue

EC2 = catalogue.load()
ROOT = Path(__file__).resolve().parents[4]


@pytest.fixture(scope="module")
def settings(tmp_path_factory) -> Settings:
    """One database for all tests: creating it is the slow part. Each has an experiment and a model of its own."""
    folder = tmp_path_factory.mktemp("mlflow")
    return Settings(
        bucket="b",
        stream="s",
        table="t",
        function="f",
        mlflow_uri=f"sqlite:///{folder / 'mlflow.db'}",
    )


@pytest.fixture
def mine(settings, request, tmp_path, monkeypatch) -> Settings:
    # MLflow puts the artifacts of a SQLite store beside the working directory.
    monkeypatch.chdir(tmp_path)
    name = request.node.name.replace("[", "-").replace("]", "")
    return Settings(**{**settings.__dict__, "experiment": name, "model_name": name})


@pytest.fixture
def client(mine):
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=mine.mlflow_uri, registry_uri=mine.mlflow_uri)


def scoring_zip(model_id: str = "m-1") -> bytes:
    """A real artifact, as small as can be: one feature, center 10, scale 1, one prototype at 0, boundary log 2."""
    arrays = {
        "boundary": [np.log(2)],
        "center": np.full((1, 24, 1), 10.0),
        "level_center": [10.0],
        "level_prototypes": [[0.0], [np.log(3)]],
        "level_scale": [1.0],
        "prototypes": [[0.0]],
        "scale": np.ones((1, 24, 1)),
    }
    stage = {"labels": [0], "radius": None, "outside": None}
    document = {
        "schema": "maps/1",
        "model_id": model_id,
        "family": "kmeans",
        "period_s": 300,
        "features": ["cpu_utilization"],
        "bounds": [[0.0, 100.0]],
        "directions": ["up"],
        "exhaustion": [None],
        "baselines": {"instances": {"web-1": 0}, "roles": {}, "fleet": 0},
        "level": {
            "map": {"stages": [{**stage, "prototypes": "level_prototypes", "labels": [0, 1]}], "table": None},
            "names": ["Normal", "High Load"],
        },
        "members": [
            {
                "window": 1,
                "weight": 1.0,
                "map": {"stages": [{**stage, "prototypes": "prototypes"}], "table": None},
                "boundary": "boundary",
            }
        ],
        "context_rows": 1,
        "max_gap_s": 1800,
        "rule": {"m": 1, "n": 1, "close_rows": 2, "paging_threshold": 1.0, "cooldown_s": 3600, "group_s": 900},
        "golden": {"records": [], "expected": []},
    }
    return archive.pack(document, {name: np.array(values, np.float32) for name, values in arrays.items()})


def candidate(family: str = "kmeans", **figures) -> SimpleNamespace:
    plots = SimpleNamespace(
        curves={family: {"k": [2.0, 3.0], "inertia": [9.0, 4.0], "silhouette": [0.4, float("nan")]}},
        linkage=None,
        profile=pd.DataFrame([[0.1]], index=["0 (Idle, n=3)"], columns=["cpu_utilization"]),
        points=np.zeros((0, 1)),
        point_levels=[],
        point_scores=np.zeros(0),
        cluster_sizes={"0": 3},
        timeline=pd.DataFrame(),
        paging_threshold=1.0,
    )
    known = {"injected_vus_pr": 0.8, "silhouette": 0.5, "fit_seconds": 2.0}
    return SimpleNamespace(family=family, figures={**known, **figures}, params={"level.clusters": 3}, plots=plots)


def ranked(family: str, run_id: str, score: float, *vetoes: str) -> dict:
    return {"family": family, "run_id": run_id, "figures": {"injected_vus_pr": score}, "vetoes": list(vetoes)}


def train(settings: Settings, training_id: str, zip_bytes: bytes, metrics: Catalogue = EC2) -> tuple[str, str]:
    """One training with two candidates; returns the run of the training and the registered version."""
    parent = mlflow_registry.open_training(settings, training_id, {"rows": 100})
    best = mlflow_registry.log_candidate(settings, parent, candidate("kmeans"), zip_bytes)
    other = mlflow_registry.log_candidate(settings, parent, candidate("dbscan"), b"another zip")
    ranking = [ranked("kmeans", best, 0.8), ranked("dbscan", other, 0.7, "noise share 0.6 is above 0.3")]
    ranking[1]["figures"]["silhouette"] = None  # what NaN becomes on its way through JSON
    decision = {"kind": "refresh", "why": "kmeans stays", "refreshes": "ab" * 32, "ask": ""}
    key = f"candidates/{training_id}/kmeans.zip"
    winner = {**ranking[0], **decision, "s3_key": key, "digest": digest_of(zip_bytes)}
    return parent, mlflow_registry.register(settings, parent, training_id, ranking, winner, zip_bytes, metrics)


def digest_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_a_retried_task_finds_its_training(mine, client):
    # GIVEN a training that was opened
    first = mlflow_registry.open_training(mine, "t-1", {"rows": 100})
    # WHEN its task runs again THEN it gets the same run; another training gets another
    assert mlflow_registry.open_training(mine, "t-1", {"rows": 100}) == first
    assert mlflow_registry.open_training(mine, "t-2", {"rows": 100}) != first
    run = client.get_run(first)
    assert (run.info.run_name, run.data.params, run.info.status) == ("training t-1", {"rows": "100"}, "RUNNING")


def test_a_candidate_is_a_child_with_figures_pictures_and_artifact(mine, client):
    # GIVEN a candidate with a figure that its family does not have, and one that ran out of range
    parent = mlflow_registry.open_training(mine, "t-1", {})
    made = candidate(davies_bouldin=float("nan"), calinski_harabasz=float("inf"))
    # WHEN it is logged
    run_id = mlflow_registry.log_candidate(mine, parent, made, b"zip")
    # THEN the child carries it all; figures without a value are there as such
    run = client.get_run(run_id)
    assert run.data.tags["mlflow.parentRunId"] == parent
    assert run.data.tags["digest"] == digest_of(b"zip")
    assert run.data.params == {"family": "kmeans", "level.clusters": "3"}
    assert run.data.metrics["injected_vus_pr"] == 0.8
    assert np.isnan(run.data.metrics["davies_bouldin"])
    assert np.isnan(run.data.metrics["calinski_harabasz"])
    assert run.info.status == "FINISHED"
    assert run.info.end_time - run.info.start_time >= 2000
    assert {item.path for item in client.list_artifacts(run_id, "plots")} == {
        "plots/heatmap.png",
        "plots/cluster_sizes.png",
        "plots/elbow.png",
    }
    stored = Path(client.download_artifacts(run_id, "model/artifact.zip"))
    assert stored.read_bytes() == b"zip"
    # THEN the elbow is a curve over k
    steps = [(point.step, point.value) for point in client.get_metric_history(run_id, "elbow.kmeans.inertia")]
    assert steps == [(2, 9.0), (3, 4.0)]


def test_a_retried_candidate_replaces_the_first_attempt(mine, client):
    parent = mlflow_registry.open_training(mine, "t-1", {})
    mlflow_registry.log_candidate(mine, parent, candidate("kmeans"), b"zip")
    mlflow_registry.log_candidate(mine, parent, candidate("dbscan"), b"zip")
    second = mlflow_registry.log_candidate(mine, parent, candidate("kmeans", silhouette=0.9), b"zip")
    experiment = client.get_experiment_by_name(mine.experiment).experiment_id
    children = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{parent}' and tags.family = 'kmeans'")
    assert [run.info.run_id for run in children] == [second]


def test_registered_becomes_challenger_and_crowned_becomes_champion(mine, client):
    # GIVEN nothing registered
    assert mlflow_registry.challenger(mine, catalogue.load()) is None
    assert mlflow_registry.champion(mine) is None
    # WHEN a training registers its winner
    data = scoring_zip()
    parent, version = train(mine, "t-1", data)
    # THEN it is the challenger, with all that promotion needs; there is no champion yet
    found = mlflow_registry.challenger(mine, catalogue.load())
    assert found == Registered(
        version=version,
        digest=digest_of(data),
        run_id=parent,
        training_id="t-1",
        family="kmeans",
        s3_key="candidates/t-1/kmeans.zip",
        kind="refresh",
        why="kmeans stays",
        refreshes="ab" * 32,
        resource_kind="ec2",
    )
    assert mlflow_registry.champion(mine) is None
    # THEN the training run is closed and can be read without opening its children
    run = client.get_run(parent)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["best.injected_vus_pr"] == 0.8
    assert run.data.metrics["injected_vus_pr.dbscan"] == 0.7
    assert run.data.tags["winner"] == "kmeans"
    assert (run.data.tags["decision.kind"], run.data.tags["decision.why"]) == ("refresh", "kmeans stays")
    assert run.data.tags["vetoes.dbscan"].startswith("noise share")
    # WHEN it is crowned THEN it is the champion, and remembers when
    mlflow_registry.set_champion(mine, version)
    assert mlflow_registry.champion(mine) == found
    held = client.get_model_version(mine.model_name, version)
    assert held.tags["promoted_at"].endswith("Z")
    assert "**kmeans**" in held.description
    # WHEN the registration is retried THEN there is still one version
    assert train(mine, "t-1", data)[1] == version
    assert len(client.search_model_versions(f"name = '{mine.model_name}'")) == 1
    # WHEN the next training registers THEN the champion stays
    assert train(mine, "t-2", scoring_zip("m-2"))[1] != version
    assert mlflow_registry.challenger(mine, catalogue.load()).training_id == "t-2"
    assert mlflow_registry.champion(mine) == found


def test_the_registered_model_scores_as_the_scorer_does(mine, tmp_path):
    # GIVEN a registered model
    train(mine, "t-1", scoring_zip())

    # WHEN another process, which has no riskwatch package on its path, loads it and scores two records
    def record(value: float) -> str:
        stamped = {"ts": [1_795_341_900_000], "rows": [[value]]}
        return json.dumps({"v": 1, "service": "shop", "role": "web", "instance_id": "web-1", **stamped})

    script = f"""
import json, sys
sys.path = [entry for entry in sys.path if not entry.startswith({str(ROOT)!r}) or "site-packages" in entry]
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in repr(finder)]
import mlflow, pandas as pd
mlflow.set_tracking_uri({mine.mlflow_uri!r})
model = mlflow.pyfunc.load_model("models:/{mine.model_name}@challenger")
scored = model.predict(pd.DataFrame({{"record": [{record(10.0)!r}, {record(13.0)!r}]}}))
print(json.dumps(scored.to_dict("list")))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=240, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr[-3000:]
    scored = json.loads(done.stdout.splitlines()[-1])
    # THEN z = 0 gives 0; z = 3 gives log 4 over the boundary log 2, which is 2, and the load nearer to log 3
    assert scored["score"] == pytest.approx([0.0, 2.0], abs=1e-6)
    assert scored["unusual"] == [False, True]
    assert scored["level"] == ["Normal", "High Load"]


def test_a_zip_that_is_not_the_chosen_one_is_not_registered(mine):
    parent = mlflow_registry.open_training(mine, "t-1", {})
    row = ranked("kmeans", "r", 0.8)
    with pytest.raises(mlflow_registry.TrackingError, match="digest"):
        mlflow_registry.register(
            mine, parent, "t-1", [row], {**row, "s3_key": "k", "digest": "0" * 64}, b"zip", catalogue.load()
        )
    assert mlflow_registry.challenger(mine, catalogue.load()) is None


def test_a_training_without_a_winner_says_so(mine, client):
    parent = mlflow_registry.open_training(mine, "t-1", {})
    vetoed = [ranked("kmeans", "r", 0.8, "fidelity 0.9 is below 0.98")]
    mlflow_registry.close_training(mine, parent, vetoed, why="no family may serve")
    run = client.get_run(parent)
    assert run.info.status == "FINISHED"
    assert run.data.tags["winner"] == "none"
    assert "vetoed all 1" in run.data.tags["mlflow.note.content"]
    assert run.data.tags["decision.why"] == "no family may serve"


def test_an_alias_on_a_foreign_version_is_an_error_not_a_champion(mine, client):
    # GIVEN a version that somebody registered by hand and made champion
    client.create_registered_model(mine.model_name)
    client.create_model_version(mine.model_name, "file:///tmp/somewhere")
    client.set_registered_model_alias(mine.model_name, "champion", "1")
    with pytest.raises(mlflow_registry.TrackingError, match="no tag digest"):
        mlflow_registry.champion(mine)


def test_links_open_the_view_for_models(mine, client):
    mlflow_registry.open_training(mine, "t-1", {})
    experiment = client.get_experiment_by_name(mine.experiment).experiment_id
    assert mlflow_registry.experiment_url(mine).endswith(
        f"/#/experiments/{experiment}/runs?workflowType=machine_learning"
    )
    assert mlflow_registry.version_url(mine, "3").endswith(
        f"/models/{mine.model_name}/versions/3?workflowType=machine_learning"
    )


def test_an_artifact_of_several_kinds_is_registered_once_and_names_its_parts(mine, client):
    # GIVEN a challenger of each kind
    ec2, rds = catalogue.load_all(("ec2", "rds"))
    parent, version = train(mine, "t-1", scoring_zip())
    _, other = train(mine, "t-1-rds", scoring_zip("m-2"), rds)
    assert [mlflow_registry.challenger(mine, metrics).version for metrics in (ec2, rds)] == [version, other]
    candidate_of_ec2 = mlflow_registry.challenger(mine, ec2)

    # WHEN an artifact with parts for both is registered twice
    kinds = {"ec2": RegisteredPart("m-1", "kmeans"), "rds": RegisteredPart("m-2", "dbscan")}
    whole = scoring_zip("m-3")
    made = [
        mlflow_registry.register_assembled(mine, candidate_of_ec2, whole, "artifacts/x.zip", kinds) for _ in range(2)
    ]

    # THEN it is one version, which tells its parts, and no challenger has moved
    assert made[0] == made[1]
    mlflow_registry.set_champion(mine, made[0].version)
    champion = mlflow_registry.champion(mine)
    assert (champion.family, champion.kinds) == ("kmeans (ec2), dbscan (rds)", kinds)
    assert (champion.part(ec2), champion.part(rds)) == (kinds["ec2"], kinds["rds"])
    assert champion.part(catalogue.load("alb")) is None
    assert (champion.training_id, champion.run_id, champion.digest) == ("t-1", parent, digest_of(whole))
    assert mlflow_registry.challenger(mine, rds).version == other

    # AND a challenger that was gone back to is none any more
    mlflow_registry.drop_challenger(mine, ec2)
    assert mlflow_registry.challenger(mine, ec2) is None

"""train_models with several kinds: each has its own rows, its own part of the champion and its own challenger."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from riskwatch_airflow.assets import RETRAIN_REQUEST
from riskwatch_airflow.tasks import choose, train
from riskwatch_lambda.model.document import from_files
from riskwatch_ml.artifact import archive
from riskwatch_ml.registry import assembly, mlflow_registry
from riskwatch_ml.registry.registered import RegisteredPart
from riskwatch_ml.schema import catalogue
from riskwatch_ml.selection import contest, contest_log
from riskwatch_ml.storage import keys
from tests.support import runs
from tests.support.kind_promotion import packed
from tests.support.trainings import CHAMPION, FIVE, TEN
from tests.unit.riskwatch_airflow.conftest import stand_in

KINDS = ("ec2", "rds")
EC2, RDS = catalogue.load_all(KINDS)
ORDERS = "rds/orders"


def database_rows(periods, step="5min"):
    """Rows of one database whose metrics follow the day."""
    random = np.random.default_rng(3)
    moments = pd.date_range(end=TEN, periods=periods, freq=step, tz="UTC", inclusive="both").as_unit("ms")
    load = 0.4 + 0.3 * np.sin(np.arange(periods) * 2 * np.pi / 288) + random.normal(0, 0.02, periods)
    columns = {
        metric.name: np.clip(50 * np.clip(load, 0.01, 1) + random.normal(0, 0.5, periods), 0.01, metric.upper or 100)
        for metric in RDS.metrics
    }
    return pd.DataFrame({"instance_id": ORDERS, "timestamp": moments, **columns})


def store_rows(aws, rows):
    first, last = (moment.to_pydatetime() for moment in (rows["timestamp"].min(), rows["timestamp"].max()))
    start = first.replace(minute=0)
    aws.store.write_hours(keys.of_kind(keys.VALIDATED, RDS), rows, start, last + timedelta(hours=1))


@pytest.fixture
def databases(aws):
    """An installation with EC2 and RDS, and three days of a database."""
    aws.use(catalogue=KINDS)
    store_rows(aws, database_rows(864))
    aws.store.put_json("config/inventory.json", {"instances": {ORDERS: {"role": "db", "service": "shop"}}})
    return aws


@pytest.fixture
def champion(databases):
    """A champion with a part for EC2 and one of RDS."""
    zip_bytes = assembly.assemble(None, {"ec2": packed("ec2", "ec2-1"), "rds": packed("rds", "rds-1")}, "ec2")
    databases.store.put_bytes(keys.artifact(CHAMPION.digest), zip_bytes)
    kinds = {"ec2": RegisteredPart("ec2-1", "dbscan"), "rds": RegisteredPart("rds-1", "kmeans")}
    return replace(CHAMPION, family="dbscan (ec2), kmeans (rds)", kinds=kinds)


def test_a_kind_is_trained_on_its_own_rows_and_registered_as_its_own_challenger(
    databases, training_run, recorded, monkeypatch
):
    # GIVEN a champion without a part for RDS
    recorded["champion"] = replace(CHAMPION, resource_kind="ec2", model_id="ec2-1")
    monkeypatch.setattr(mlflow_registry, "log_candidate", lambda *given: "run of kmeans")

    # WHEN
    training = runs.handed_on(train.prepare(training_run, "rds"))
    trained = train.train(training_run, training, ["kmeans"])
    chosen = choose.choose(training_run, training, [trained, None])

    # THEN few rows make one task for all families, the ids name the kind, and what is registered is the part of RDS
    assert (training["training_id"], training["key"]) == (
        "20261122T033000Z-rds",
        "training/20261122T033000Z-rds/rows.parquet",
    )
    assert (training["resource_kind"], training["champion"], sorted(training["families"])) == (
        "rds",
        None,
        sorted(FIVE),
    )
    assert recorded["resource_kind"] == "rds"
    assert (chosen["resource_kind"], chosen["family"], recorded["metrics"].kind) == ("rds", "kmeans", "rds")
    model = from_files(archive.model_files(recorded["zip_bytes"]))
    assert (model.resource_kind, model.model_id) == ("rds", "20261122T033000Z-rds-kmeans")
    assert model.row_schema.features == RDS.names
    # AND the contest is that of RDS
    assert databases.store.keys("contests/") == ["contests/20261122T033000Z-rds.json"]


def test_a_refresh_keeps_the_family_of_the_part(champion, databases, training_run, recorded):
    # GIVEN a contest of RDS yesterday, and none of EC2
    recorded["champion"] = champion
    at = training_run["dag_run"].run_after - timedelta(days=1)
    wins = {"dbscan": 1}
    contest_log.write(
        *(databases.store, "20261121T033000Z-rds"), dag_run="x", at=at, champion="kmeans", wins=wins, decision={}
    )

    # WHEN a contest is due, because the tiny part of the champion cannot be refreshed
    found = train.prepare(training_run, "rds")

    # THEN
    assert "packed by another version of Riskwatch" in found["why"]
    assert (found["champion"]["family"], found["champion"]["model_id"]) == ("kmeans", "rds-1")
    assert found["wins"] == wins
    # AND wins of another kind do not count
    assert contest_log.read(databases.store, "20261122T033000Z", "kmeans", "y").wins == {}


def test_a_kind_with_too_few_rows_is_skipped_and_told(databases, training_run, recorded):
    # GIVEN an hour of rows
    for key in databases.store.keys("validated/"):
        databases.s3.delete_object(Bucket=databases.config.bucket, Key=key)
    store_rows(databases, database_rows(12))

    # WHEN / THEN
    with pytest.raises(AirflowSkipException, match="rds has too few rows to learn from \\(12 rows of 1 instances"):
        train.prepare(training_run, "rds")


def test_a_kind_without_rows_is_no_failure_even_by_hand(databases, recorded, context):
    # GIVEN no rows of EC2 WHEN / THEN the first kind fails by hand
    with pytest.raises(AirflowFailException, match="validated/ has no rows"):
        train.prepare(context)
    databases.use(catalogue=("ec2", "rds", "alb"))
    with pytest.raises(AirflowSkipException, match="validated/kind=alb/ has no rows"):
        train.prepare(context, "alb")


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, "a retrain was requested: label distribution"),
        ({"resource_kinds": ["rds"]}, "a retrain was requested: label distribution"),
        ({"resource_kinds": ["ec2"], "refresh_kinds": ["rds"]}, "there is no champion"),
        ({"resource_kinds": ["ec2"]}, None),
        ({"resource_kinds": ["ec2"], "kind": "refresh"}, None),
    ],
)
def test_a_request_trains_the_kinds_that_it_names(databases, training_run, recorded, monkeypatch, asked, expected):
    # GIVEN a request as watch_model announces it
    extra = {"reason": "label distribution", **asked}
    requested = runs.run(TEN, "asset_triggered", requests=[(RETRAIN_REQUEST, extra)])
    run = {**training_run, "triggering_asset_events": runs.context(requested)["triggering_asset_events"]}
    stand_in(monkeypatch, contest, "contest_due", lambda champion, since_s, asked: asked or "there is no champion")

    # WHEN / THEN
    if expected is not None:
        assert train.prepare(run, "rds")["why"] == expected
    else:
        with pytest.raises(AirflowSkipException, match="for other kinds than rds"):
            train.prepare(run, "rds")


def test_a_kind_that_the_installation_lacks_is_named(databases, training_run):
    with pytest.raises(catalogue.CatalogueError, match="use one of ec2, rds"):
        train.prepare(training_run, "alb")


def test_a_vetoed_refresh_of_a_kind_is_followed_by_a_contest_of_this_kind(supervisor, training_run):
    # GIVEN the reason that choose of RDS left
    supervisor.xcoms["rds.choose", choose.AGAIN] = "the guards vetoed the refresh"

    # WHEN / THEN
    asked = choose.request(training_run, "rds", "ec2")
    assert asked == {"reason": "the guards vetoed the refresh", "resource_kinds": ["rds"]}
    with pytest.raises(AirflowSkipException, match="no contest"):
        choose.request(training_run, "ec2", "ec2")


def test_without_a_challenger_nothing_is_announced(training_run):
    with pytest.raises(AirflowSkipException, match="no kind has a new challenger"):
        choose.tell(training_run, [None, None])


@pytest.mark.parametrize("tries_left", [True, False])
def test_a_family_that_fails_beside_others_is_tried_again_and_then_left_out(training_run, monkeypatch, tries_left):
    # GIVEN three families in one task, one of which fails
    def trained(training, family):
        if family == "dbscan":
            raise ValueError("no space left")
        return {"family": family, "key": f"{family}.json", "run_id": family}

    stand_in(monkeypatch, train, "train_family", trained)
    ti = training_run["ti"]
    monkeypatch.setattr(ti, "max_tries", ti.try_number if tries_left else ti.try_number - 1)

    # WHEN / THEN
    if tries_left:
        with pytest.raises(ValueError, match="no space left"):
            train.train(training_run, {}, ["kmeans", "dbscan", "ensemble"])
    else:
        done = train.train(training_run, {}, ["kmeans", "dbscan", "ensemble"])
        assert [item["family"] for item in done] == ["kmeans", "ensemble"]
        with pytest.raises(ValueError, match="no space left"):
            train.train(training_run, {}, ["dbscan"])


def test_many_rows_make_a_task_for_each_family():
    assert train._groups(["kmeans", "dbscan"], train.FEW_ROWS + 1) == [["kmeans"], ["dbscan"]]

"""Tasks of promote_model: what each mode does, and that what was decided is what goes live."""

import hashlib
from dataclasses import replace

import pytest
from airflow.models.hitl import HITLDetail
from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from riskwatch_airflow.assets import LIVE_MODEL
from riskwatch_airflow.tasks import promote
from riskwatch_ml.registry import ledger as ledger_module
from riskwatch_ml.registry import mlflow_registry, release, serving
from riskwatch_ml.registry.registered import Registered
from riskwatch_ml.registry.release import Release
from tests.support import runs
from tests.support.serving import agreeing
from tests.support.trainings import TEN
from tests.unit.riskwatch_airflow.conftest import stand_in

ZIP = b"an artifact"
DIGEST = hashlib.sha256(ZIP).hexdigest()
CHALLENGER = Registered("7", DIGEST, "run", "T1", "kmeans", "candidates/T1/kmeans.zip")
BUNDLES = {"approval": "bundle:ec2", "release": "bundle:release"}
CHAMPION = Registered("6", "ab" * 32, "old", "T0", "dbscan", "candidates/T0/dbscan.zip")


@pytest.fixture
def registry(aws, monkeypatch):
    """A challenger in the registry, a champion before it, and a release that records what it is asked."""
    aws.store.put_bytes(CHALLENGER.s3_key, ZIP)
    aws.store.put_json("candidates/T1/kmeans.json", {"figures": {"injected_vus_pr": 0.5}})
    aws.released, aws.restored, aws.crowned, aws.moved = [], [], [], True
    stand_in(monkeypatch, mlflow_registry, "challenger", lambda config, metrics: CHALLENGER)
    aws.serving = agreeing(CHAMPION)
    for name in ("read", "read_without_mlflow"):
        stand_in(monkeypatch, serving, name, lambda *given: aws.serving)
    stand_in(monkeypatch, mlflow_registry, "version_url", lambda config, version: f"http://mlflow/{version}")
    stand_in(monkeypatch, mlflow_registry, "set_champion", lambda config, version: aws.crowned.append(version))

    def promoted(client, function, alias, zip_bytes, *, approved_by, only_from):
        assert only_from == aws.serving.target.function_version
        aws.released.append((function, alias, zip_bytes, approved_by))
        return Release("4", DIGEST, "code", "3", {"model_id": "m", "golden": {"rows": 24, "differences": 0}}, aws.moved)

    stand_in(monkeypatch, release, "promote", promoted)
    stand_in(monkeypatch, release, "restore", lambda *given, **more: aws.restored.append((given[1:], more)))
    return aws


def ledger(aws):
    return [aws.store.get_json(key) for key in aws.store.keys("ledger/")]


@pytest.mark.parametrize(("mode", "next_task"), [("approval", "approval"), ("auto", "release")])
def test_the_mode_names_the_next_task(registry, context, mode, next_task):
    # GIVEN
    registry.use(promotion=mode)

    # WHEN / THEN
    assert promote.decide(context) == [next_task]
    (handed,) = context["ti"].xcom_pull("decide", key=BUNDLES[next_task])
    assert (handed["version"], handed["digest"], handed["figures"]) == ("7", DIGEST, {"injected_vus_pr": 0.5})
    assert handed["replaces"] == {"version": "6", "digest": "ab" * 32}


@pytest.mark.parametrize(
    ("mode", "refreshes", "ask", "next_task"),
    [
        pytest.param("approval", CHAMPION.digest, "", "release", id="a refresh needs no approval"),
        pytest.param("approval", CHAMPION.digest, "20% change", "approval", id="labels would churn"),
        pytest.param("auto", CHAMPION.digest, "20% change", "approval", id="labels would churn in mode auto"),
        pytest.param("auto", "", "", "release", id="a change in mode auto"),
    ],
)
def test_a_refresh_goes_live_without_an_approval_unless_labels_churn(
    registry, context, monkeypatch, mode, refreshes, ask, next_task
):
    # GIVEN
    registry.use(promotion=mode)
    stand_in(
        monkeypatch,
        mlflow_registry,
        "challenger",
        lambda config, metrics: replace(CHALLENGER, refreshes=refreshes, ask=ask),
    )

    # WHEN / THEN
    assert promote.decide(context) == [next_task]
    assert context["ti"].xcom_pull("decide", key=BUNDLES[next_task])[0]["ask"] == ask


@pytest.mark.parametrize("mode", ["approval", "auto"])
def test_a_refresh_of_a_model_that_was_replaced_meanwhile_asks(registry, context, monkeypatch, mode):
    # GIVEN a refresh that waited behind a change
    registry.use(promotion=mode)
    stand_in(
        monkeypatch, mlflow_registry, "challenger", lambda config, metrics: replace(CHALLENGER, refreshes="cd" * 32)
    )

    # WHEN / THEN who approves reads that it goes back
    assert promote.decide(context) == ["approval"]
    assert "would replace version 6" in context["ti"].xcom_pull("decide", key="bundle:ec2")[0]["ask"]


def test_the_ledger_names_the_policy_that_let_a_refresh_through(registry, context, monkeypatch):
    # GIVEN a refresh in mode approval
    registry.use(promotion="approval")
    refresh = replace(CHALLENGER, kind="refresh", why="kmeans stays", refreshes=CHAMPION.digest)
    stand_in(monkeypatch, mlflow_registry, "challenger", lambda config, metrics: refresh)
    promote.decide(context)

    # WHEN
    promote.put_live(context)

    # THEN
    (entry,) = ledger(registry)
    assert (entry["by"], entry["kind"], entry["why"]) == ("policy refresh", "refresh", "kmeans stays")


def test_off_does_nothing_and_dry_run_records(registry, context):
    # GIVEN / WHEN / THEN
    registry.use(promotion="off")
    with pytest.raises(AirflowSkipException, match="promotion is off"):
        promote.decide(context)
    assert ledger(registry) == []

    registry.use(promotion="dry_run")
    with pytest.raises(AirflowSkipException, match="would have been promoted"):
        promote.decide(context)
    (entry,) = ledger(registry)
    assert (entry["action"], entry["digest"], entry["version"]) == ("dry_run", DIGEST, "7")


def test_nothing_waits_or_it_serves_already(registry, context, monkeypatch):
    # GIVEN / WHEN / THEN
    registry.serving = agreeing(CHALLENGER)
    with pytest.raises(AirflowSkipException, match="version 7 is the champion already"):
        promote.decide(context)
    stand_in(monkeypatch, mlflow_registry, "challenger", lambda config, metrics: None)
    with pytest.raises(AirflowSkipException, match="no challenger"):
        promote.decide(context)


def test_an_approved_version_goes_live_under_the_name_of_who_approved(registry, context):
    # GIVEN a decision, and an answer as Airflow resumes the operator with it
    promote.decide(context)
    event = HITLDetail(chosen_options=["Approve"], responded_at=TEN, responded_by={"id": "1", "name": "ada"})
    approval = runs.context(context["dag_run"], promote.APPROVAL)
    operator = ApprovalOperator(task_id=promote.APPROVAL, subject="go?")
    approval["ti"].xcom_push("return_value", operator.execute_complete(approval, event.as_resume_event_payload()))

    # WHEN
    recorded = promote.put_live(context, "ec2")

    # THEN release, artifact, registry, ledger and asset agree
    assert registry.released == [("risk", "live", ZIP, "ada")]
    assert registry.store.get_bytes(f"artifacts/{DIGEST}.zip") == ZIP
    assert registry.crowned == ["7"]
    (entry,) = ledger(registry)
    assert (entry["action"], entry["by"], entry["function_version"], entry["previous_version"]) == (
        "promote",
        "ada",
        "4",
        "3",
    )
    assert entry["golden"] == {"rows": 24, "differences": 0}
    assert context["outlet_events"][LIVE_MODEL].extra == recorded
    assert registry.restored == []


def test_a_challenger_that_comes_later_does_not_slip_in(registry, context, monkeypatch):
    # GIVEN a decision on version 7, and version 8 afterwards
    registry.use(promotion="auto")
    promote.decide(context)
    stand_in(monkeypatch, mlflow_registry, "challenger", lambda config, metrics: pytest.fail("looked up again"))

    # WHEN / THEN
    assert promote.put_live(context)["version"] == "7"
    assert registry.released[0][3] == "policy auto"


def test_a_changed_object_is_refused(registry, context):
    # GIVEN
    promote.decide(context)
    registry.store.put_bytes(CHALLENGER.s3_key, b"something else")

    # WHEN / THEN
    with pytest.raises(AirflowFailException, match="the object was changed"):
        promote.put_live(context, "ec2")
    assert registry.released == []


def test_the_alias_goes_back_when_the_registry_cannot_be_told(registry, context, monkeypatch):
    # GIVEN a registry that is down after the alias has moved
    promote.decide(context)

    def down(config, version):
        raise ConnectionError("mlflow is down")

    stand_in(monkeypatch, mlflow_registry, "set_champion", down)

    # WHEN / THEN
    with pytest.raises(ConnectionError):
        promote.put_live(context, "ec2")
    assert registry.restored == [(("risk", "live", "3"), {"only_from": "4"})]
    # AND the ledger has both steps, with the reason for the second
    promoted, restored = sorted(ledger(registry), key=lambda entry: entry["action"])
    assert (promoted["action"], promoted["function_version"]) == ("promote", "4")
    assert (restored["action"], restored["function_version"]) == ("restore", "3")
    assert restored["reason"] == "ConnectionError: mlflow is down"


@pytest.mark.parametrize("step", ["set_champion", "write"])
def test_a_champion_stays_when_its_release_is_cleared_and_a_record_fails(registry, context, monkeypatch, step):
    # GIVEN a version that serves already, and a registry or a ledger that is down
    promote.decide(context)
    registry.moved = False

    def down(*given):
        raise ConnectionError("it is down")

    stand_in(monkeypatch, mlflow_registry if step == "set_champion" else ledger_module, step, down)

    # WHEN the task is tried again, THEN it fails and the alias is left where it is
    with pytest.raises(ConnectionError):
        promote.put_live(context, "ec2")
    assert registry.restored == []
    assert [entry["action"] for entry in ledger(registry)] == ["promote"] * (step == "set_champion")


def test_a_release_that_died_after_its_entry_writes_no_second_one(registry, context, monkeypatch):
    # GIVEN a release that wrote the ledger and died before MLflow knew
    promote.decide(context)
    with monkeypatch.context() as dying:
        stand_in(dying, mlflow_registry, "set_champion", _dies)
        with pytest.raises(SystemExit):
            promote.put_live(context, "ec2")
    assert [entry["action"] for entry in ledger(registry)] == ["promote"]

    # WHEN the task is tried again, and finds the alias moved
    registry.moved = False
    recorded = promote.put_live(context, "ec2")

    # THEN the entry of the first try is the one
    (entry,) = ledger(registry)
    assert (entry["action"], recorded["ledger"]) == ("promote", registry.store.keys("ledger/")[0])
    assert registry.crowned == ["7"]


def _dies(*given):
    raise SystemExit(9)


def test_an_artifact_that_served_before_can_serve_again_when_its_candidate_is_deleted(registry, context):
    # GIVEN a challenger whose candidate has expired, and the artifact that was kept when it served
    promote.decide(context)
    registry.s3.delete_object(Bucket=registry.config.bucket, Key=CHALLENGER.s3_key)
    with pytest.raises(AirflowFailException, match="is gone"):
        promote.put_live(context, "ec2")

    # WHEN / THEN
    registry.store.put_bytes(f"artifacts/{DIGEST}.zip", ZIP)
    assert promote.put_live(context, "ec2")["digest"] == DIGEST

"""promote_model releases no model that lacks baselines of the instances that report."""

from dataclasses import replace
from datetime import timedelta

import pandas as pd
import pytest
from airflow.sdk.exceptions import AirflowFailException

from riskwatch_airflow import past_episodes
from riskwatch_airflow.tasks import promote
from riskwatch_ml.artifact import archive
from riskwatch_ml.core.threads import one_thread
from riskwatch_ml.model.fit import Recipe
from riskwatch_ml.registry import ledger, mlflow_registry, release, serving
from riskwatch_ml.registry.registered import Registered
from riskwatch_ml.registry.release import Release
from riskwatch_ml.selection.candidate import fit_candidate
from riskwatch_ml.selection.guards import vetoes
from tests.support.fleets import CATALOGUE, rows
from tests.support.serving import agreeing
from tests.support.trainings import TEN
from tests.unit.riskwatch_airflow.conftest import stand_in

FLEET = tuple(f"web-{number}" for number in range(1, 13))
CHAMPION = Registered("6", "ab" * 32, "old", "T0", "kmeans", "candidates/T0/kmeans.zip")
TRAINED = "20261122T033000Z"


@pytest.fixture(scope="module")
def lab():
    """A candidate of three days of two laboratory machines."""
    with one_thread():
        return fit_candidate(rows(("web-lab-1", "web-lab-2")), CATALOGUE, {}, Recipe("kmeans"), TRAINED)


@pytest.fixture
def taken_over(aws, lab, monkeypatch):
    """An installation of twelve instances whose challenger is the laboratory's, as a refresh of the champion."""
    zip_bytes = archive.pack(lab.document, lab.arrays)
    digest = archive.checksum(zip_bytes)
    made = Registered("7", digest, "run", TRAINED, "kmeans", "candidates/x.zip", refreshes=CHAMPION.digest)
    aws.store.put_bytes(made.s3_key, zip_bytes)
    aws.released, aws.challenger, aws.serving = [], made, agreeing(CHAMPION)
    report(aws.store, FLEET, days=3)
    stand_in(monkeypatch, mlflow_registry, "challenger", lambda config, metrics: aws.challenger)
    stand_in(monkeypatch, mlflow_registry, "set_champion", lambda config, version: None)
    stand_in(monkeypatch, mlflow_registry, "version_url", lambda config, version: "http://mlflow")
    for name in ("read", "read_without_mlflow"):
        stand_in(monkeypatch, serving, name, lambda *given: aws.serving)

    def promoted(*given, **more):
        aws.released.append(digest)
        return Release("4", digest, "code", "3", {"model_id": "m", "golden": {"rows": 1, "differences": 0}}, True)

    stand_in(monkeypatch, release, "promote", promoted)
    aws.in_episode = set()
    stand_in(monkeypatch, past_episodes, "instances", lambda config, start, end: aws.in_episode)
    aws.use(promotion="auto")
    return aws


def report(store, names, days):
    """Validated rows of some instances for so many days, until ten."""
    start = TEN - timedelta(days=days)
    times = pd.date_range(start, TEN, freq="15min", inclusive="left").as_unit("ms")
    parts = [pd.DataFrame({"instance_id": name, "timestamp": times, "cpu_utilization": 1.0}) for name in names]
    store.write_hours("validated", pd.concat(parts, ignore_index=True), start, TEN)


def test_a_takeover_by_two_lab_machines_is_refused_with_the_names_of_the_fleet(taken_over, lab, context):
    # GIVEN a refresh of lab rows that the guards let pass
    assert vetoes(lab.figures) == []

    # WHEN promote_model decides on it, THEN it names the instances that it would no longer know
    with pytest.raises(AirflowFailException, match=r"version 7 is not released.*12 instances \(web-1, web-10, web-11"):
        promote.decide(context)
    assert taken_over.released == []


@pytest.mark.parametrize("promotion", ["dry_run", "approval"])
def test_no_mode_lets_it_pass(taken_over, context, promotion):
    # GIVEN another mode, WHEN it decides, THEN it neither records a dry run nor asks a person
    taken_over.use(promotion=promotion)
    with pytest.raises(AirflowFailException, match="is not released"):
        promote.decide(context)
    assert taken_over.store.keys("ledger/") == []


def test_the_release_compares_again_with_the_instances_that_report_by_then(taken_over, context):
    # GIVEN a challenger that was decided on while no instance reported
    for key in taken_over.store.keys("validated/"):
        taken_over.store.delete(key)
    promote.decide(context)
    report(taken_over.store, FLEET, days=3)

    # WHEN it is released, THEN it is refused, and the alias does not move
    with pytest.raises(AirflowFailException, match="12 instances"):
        promote.put_live(context)
    assert taken_over.released == []


def test_a_release_that_moved_the_alias_before_it_died_is_completed(taken_over, context):
    # GIVEN a first try that died after the move
    for key in taken_over.store.keys("validated/"):
        taken_over.store.delete(key)
    promote.decide(context)
    report(taken_over.store, FLEET, days=3)
    target = replace(taken_over.serving.target, checksum=taken_over.challenger.digest)
    taken_over.serving = replace(taken_over.serving, target=target)

    # WHEN the task is tried again, THEN it writes the records
    promote.put_live(context)
    assert len(taken_over.store.keys("ledger/")) == 1


def test_a_fleet_that_grew_by_a_new_instance_and_lost_one_is_released(taken_over, context, caplog):
    # GIVEN the laboratory alone: one machine has left, and one came an hour ago
    for key in taken_over.store.keys("validated/"):
        taken_over.store.delete(key)
    report(taken_over.store, ["web-lab-1", "web-new"], days=1 / 24)

    # WHEN
    assert promote.decide(context) == ["release"]
    promote.put_live(context)

    # THEN the log names both
    assert len(taken_over.released) == 1
    assert "1 instance (web-new) too new for a baseline; 1 instance (web-lab-2) without rows" in caplog.text


def test_an_instance_with_an_episode_does_not_block_the_refresh_that_left_out_its_rows(taken_over, context, caplog):
    # GIVEN a fleet of which the training left out one instance, because its incident went on
    for key in taken_over.store.keys("validated/"):
        taken_over.store.delete(key)
    report(taken_over.store, ["web-lab-1", "web-lab-2", "web-slow"], days=3)
    with pytest.raises(AirflowFailException, match=r"1 instance \(web-slow\)"):
        promote.decide(context)

    # WHEN its episode is in the table, THEN it is released, and the log names the instance
    taken_over.in_episode = {"web-slow"}
    assert promote.decide(context) == ["release"]
    assert "1 instance (web-slow) without a baseline after an episode" in caplog.text


def test_a_model_that_has_served_before_asks_instead(taken_over, context):
    # GIVEN a challenger that an operator went back to: the ledger says that it has served
    entry = {"action": ledger.PROMOTE, "digest": taken_over.challenger.digest, "function_version": "2", "by": "ada"}
    ledger.write(taken_over.store, entry)

    # WHEN promote_model decides in mode auto, THEN a person is asked, with the reason
    assert promote.decide(context) == [promote.APPROVAL]
    (candidate,) = context["ti"].xcom_pull(task_ids="decide", key="bundle:ec2")
    assert "it has no baseline of 12 instances" in candidate["ask"]


def test_an_hour_that_cannot_be_read_does_not_stop_a_release(taken_over, context, caplog):
    # GIVEN a challenger that served before, and a damaged hour of today
    entry = {"action": ledger.PROMOTE, "digest": taken_over.challenger.digest, "function_version": "2", "by": "ada"}
    ledger.write(taken_over.store, entry)
    key = taken_over.store.keys("validated/")[-2]
    taken_over.store.put_bytes(key, b"PAR1")

    # WHEN / THEN
    assert promote.decide(context) == [promote.APPROVAL]
    assert key in caplog.text

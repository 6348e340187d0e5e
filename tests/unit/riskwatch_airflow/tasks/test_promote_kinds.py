"""promote_model with several kinds: parts that go into service together or after an approval, and undo no other."""

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from riskwatch_airflow import coverage
from riskwatch_airflow.tasks import promote
from riskwatch_ml.registry import ledger
from tests.support.kind_promotion import KindsWorld


@pytest.fixture
def world(monkeypatch):
    """An installation without a model, of which no instance reports."""
    return KindsWorld(monkeypatch)


@pytest.fixture
def serving(world):
    """The same with a model of EC2 and RDS in service."""
    world.candidate("ec2", "ec2-1")
    world.candidate("rds", "rds-1")
    world.promote()
    return world


def decided(world, mode=None):
    """Decide in a new run; return the run and the ids of the next tasks."""
    if mode:
        world.use(mode)
    run = world.run()
    return run, world.task(run, "decide")


def test_the_first_release_takes_all_kinds_together(world):
    # GIVEN challengers of two kinds, and nothing in service
    world.candidate("rds", "rds-1")
    world.candidate("ec2", "ec2-1")

    # WHEN
    world.promote()

    # THEN one version of the function serves both, and alias, ledger and MLflow agree
    assert world.served() == {"ec2": "ec2-1", "rds": "rds-1"}
    entry = next(ledger.newest_first(world.installed.store))
    assert (entry["kinds"], entry["resource_kinds"]) == (world.served(), ["ec2", "rds"])
    assert entry["family"] == "kmeans (ec2), kmeans (rds)"
    assert entry["why"] == "ec2: ec2-1 is better; rds: rds-1 is better"
    assert (world.read().texts, world.installed.actions()) == ([], ["promote"])


def test_a_first_release_that_waits_waits_for_one_approval_of_all_kinds(world):
    # GIVEN
    world.candidate("ec2", "ec2-1")
    world.candidate("alb", "alb-1")

    # WHEN
    run, following = decided(world, "approval")

    # THEN
    assert following == ["approval"]
    world.task(run, "release_approved")
    assert world.served() == {"ec2": "ec2-1", "alb": "alb-1"}


def test_a_further_kind_waits_for_a_model_of_the_first_one(world):
    world.candidate("rds", "rds-1")
    with pytest.raises(AirflowSkipException, match="needs a part for ec2, which has no challenger"):
        decided(world)


def test_a_refresh_of_a_kind_keeps_the_parts_of_the_others(serving):
    # GIVEN a refresh of RDS, and a new kind
    serving.candidate("rds", "rds-2", refreshes="rds-1")
    serving.candidate("alb", "alb-1")

    # WHEN
    _, following = decided(serving, "auto")
    serving.promote()

    # THEN the version that serves EC2 already is not released again
    assert following == ["release"]
    assert serving.served() == {"ec2": "ec2-1", "rds": "rds-2", "alb": "alb-1"}
    assert next(ledger.newest_first(serving.installed.store))["resource_kinds"] == ["rds", "alb"]


def test_a_kind_that_waits_for_an_approval_delays_no_other_and_is_not_undone(serving):
    # GIVEN a change of RDS, which waits, and a refresh of EC2, which does not
    serving.candidate("rds", "rds-2")
    serving.candidate("ec2", "ec2-2", refreshes="ec2-1")
    run, following = decided(serving, "approval")
    assert sorted(following) == ["rds.approval", "release"]
    serving.task(run, "release")
    assert serving.served() == {"ec2": "ec2-2", "rds": "rds-1"}

    # WHEN another refresh of EC2 goes into service before somebody approves RDS
    serving.candidate("ec2", "ec2-3", refreshes="ec2-2")
    later, following = decided(serving)
    assert "release" in following
    serving.task(later, "release")
    serving.task(run, "rds.release_approved")

    # THEN both serve
    assert serving.served() == {"ec2": "ec2-3", "rds": "rds-2"}
    assert serving.read().texts == []


def test_an_approval_of_a_model_that_was_replaced_meanwhile_is_refused(serving):
    # GIVEN a change of RDS that waits, and another one that went into service
    serving.candidate("rds", "rds-2")
    run, _ = decided(serving, "approval")
    serving.candidate("rds", "rds-3", refreshes="rds-1")
    later, _ = decided(serving)
    serving.task(later, "release")

    # WHEN / THEN
    with pytest.raises(AirflowFailException, match="put into service again"):
        serving.task(run, "rds.release_approved")
    assert serving.served()["rds"] == "rds-3"


def test_two_runs_that_decided_on_the_same_challengers_release_them_once_each(world):
    # GIVEN two runs that have decided while nothing served
    world.candidate("ec2", "ec2-1")
    first, _ = decided(world)
    world.candidate("rds", "rds-1")
    second, _ = decided(world)

    # WHEN
    for run in (first, second):
        world.task(run, "release")

    # THEN
    assert world.served() == {"ec2": "ec2-1", "rds": "rds-1"}


@pytest.mark.parametrize("dies", ["write", "set_champion"])
def test_a_release_that_died_is_finished_by_a_retry(serving, monkeypatch, dies):
    # GIVEN a release of RDS that dies after the move of the alias, or after the ledger
    serving.candidate("rds", "rds-2", refreshes="rds-1")
    run, _ = decided(serving)
    from riskwatch_ml.registry import mlflow_registry

    module = ledger if dies == "write" else mlflow_registry
    with monkeypatch.context() as dying:
        dying.setattr(module, dies, lambda *given: (_ for _ in ()).throw(SystemExit))
        with pytest.raises(SystemExit):
            serving.task(run, "release")
    assert serving.read().texts

    # WHEN
    serving.task(run, "release")

    # THEN
    assert serving.served() == {"ec2": "ec2-1", "rds": "rds-2"}
    assert (serving.read().texts, serving.installed.actions()) == ([], ["promote", "promote"])


def test_a_rollback_takes_the_whole(serving):
    # GIVEN a release of RDS, and an operator who makes the version before it the challenger
    before = serving.read().champion.version
    serving.candidate("rds", "rds-2", refreshes="rds-1")
    serving.candidate("ec2", "ec2-2", refreshes="ec2-1")
    serving.promote()
    serving.installed.aliases["challenger"] = before

    # WHEN
    serving.promote()

    # THEN
    assert serving.served() == {"ec2": "ec2-1", "rds": "rds-1"}
    assert serving.read().champion.version == before


def test_a_refused_kind_stops_no_other_and_is_named(serving, monkeypatch):
    # GIVEN a challenger of RDS that lacks instances, and one of EC2 that does not
    def required(config, store, candidate, zip_bytes, kinds):
        assert [metrics.kind for metrics in kinds] == [candidate["resource_kind"]]
        if candidate["resource_kind"] == "rds":
            raise AirflowFailException("version 9 is not released: it has no baseline of orders")
        return ""

    monkeypatch.setattr(coverage, "require", required)
    serving.candidate("rds", "rds-2", refreshes="rds-1")
    serving.candidate("ec2", "ec2-2", refreshes="ec2-1")

    # WHEN
    run, following = decided(serving)

    # THEN
    assert following == ["release", "complete"]
    serving.task(run, "release")
    assert serving.served() == {"ec2": "ec2-2", "rds": "rds-1"}
    with pytest.raises(AirflowFailException, match="no baseline of orders"):
        serving.task(run, "complete")


def test_without_another_kind_a_refused_one_fails_the_decision(serving, monkeypatch):
    def required(*given):
        raise AirflowFailException("version 9 is not released")

    monkeypatch.setattr(coverage, "require", required)
    serving.candidate("rds", "rds-2", refreshes="rds-1")
    with pytest.raises(AirflowFailException, match="version 9"):
        decided(serving)


def test_a_dry_run_records_the_challenger_of_each_kind(serving):
    serving.candidate("rds", "rds-2", refreshes="rds-1")
    serving.candidate("alb", "alb-1")
    with pytest.raises(AirflowSkipException, match="dry run"):
        decided(serving, "dry_run")
    assert serving.installed.actions()[-2:] == ["dry_run", "dry_run"]
    assert promote.approval_of("alb", "ec2") == "alb.approval"

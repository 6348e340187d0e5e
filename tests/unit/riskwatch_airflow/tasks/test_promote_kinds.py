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


def test_what_was_released_and_rolled_back_is_not_released_again(serving):
    # GIVEN two changes of RDS that wait; the later one is released, and all kinds go back
    before = serving.read().champion.version
    serving.candidate("rds", "rds-2")
    run, _ = decided(serving, "approval")
    same, _ = decided(serving)
    serving.task(run, "rds.release_approved")
    serving.installed.aliases["challenger"] = before
    back, following = decided(serving)
    assert following == ["approval"]
    serving.task(back, "release_approved")
    assert serving.served() == {"ec2": "ec2-1", "rds": "rds-1"}

    # WHEN the second approval comes, or the task of the first is cleared THEN nothing is undone
    for late in (same, run):
        with pytest.raises(AirflowFailException, match="put into service again"):
            serving.task(late, "rds.release_approved")
    assert serving.served()["rds"] == "rds-1"
    # AND the version that was gone back to is no challenger any more, but the part that was left is
    assert "challenger" not in serving.installed.aliases


@pytest.mark.parametrize("dies", ["write", "set_champion"])
def test_a_first_release_of_the_first_kind_alone_is_finished_by_a_retry(world, monkeypatch, dies):
    # GIVEN
    from riskwatch_ml.registry import mlflow_registry

    world.candidate("ec2", "ec2-1")
    run, _ = decided(world)
    with monkeypatch.context() as dying:
        module = ledger if dies == "write" else mlflow_registry
        dying.setattr(module, dies, lambda *given: (_ for _ in ()).throw(SystemExit))
        with pytest.raises(SystemExit):
            world.task(run, "release")

    # WHEN
    world.task(run, "release")

    # THEN the entry names its only part
    (entry,) = ledger.newest_first(world.installed.store)
    assert (entry["kinds"], entry["resource_kinds"]) == ({"ec2": "ec2-1"}, ["ec2"])
    assert world.read().texts == []


def test_a_second_approval_of_a_release_registers_no_other_version(serving):
    # GIVEN two runs that wait for an approval of the same change
    serving.candidate("rds", "rds-2")
    first, _ = decided(serving, "approval")
    second, _ = decided(serving)
    serving.task(first, "rds.release_approved")
    versions = len(serving.installed.versions)

    # WHEN
    serving.task(second, "rds.release_approved")

    # THEN
    assert len(serving.installed.versions) == versions
    assert serving.read().champion.version == next(ledger.newest_first(serving.installed.store))["version"]


def test_a_run_decides_on_the_challengers_that_started_it(serving):
    # GIVEN a challenger of RDS that somebody rejected, and a new one of EC2 that starts a run
    serving.candidate("rds", "rds-2")
    announced = serving.candidate("ec2", "ec2-2", refreshes="ec2-1")
    run = serving.run(announced=[announced])

    # WHEN / THEN
    serving.use("approval")
    assert serving.task(run, "decide") == ["release"]
    with pytest.raises(AirflowSkipException, match="did not start this run"):
        serving.task(serving.run(announced=[]), "decide")
    # AND a person decides on all of them
    assert serving.task(serving.run(), "decide") == ["release", "rds.approval"]


def test_an_alias_of_another_kind_is_refused(serving):
    # GIVEN the challenger of EC2 under the alias of RDS
    made = serving.candidate("ec2", "ec2-2")
    del serving.installed.aliases["challenger"]
    serving.installed.aliases["challenger-rds"] = made.version

    # WHEN / THEN
    with pytest.raises(AirflowFailException, match="is the challenger of rds in MLflow, but it has no part"):
        decided(serving)


def test_a_confirmed_artifact_is_recorded_with_its_parts(serving):
    # GIVEN a rollback by hand from a release of RDS
    serving.candidate("rds", "rds-2", refreshes="rds-1")
    serving.promote()
    serving.installed.functions.move(str(int(serving.installed.alias) - 1))

    # WHEN
    serving.task(serving.run("confirm"), "settle")

    # THEN
    entry = next(ledger.newest_first(serving.installed.store))
    assert (entry["action"], entry["kinds"]) == ("confirm", {"ec2": "ec2-1", "rds": "rds-1"})
    assert serving.read().texts == []

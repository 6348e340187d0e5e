"""`decide`, `release` and `settle` over a function, a registry and a ledger in memory: what serves is one fact."""

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from riskwatch_airflow import agreement
from riskwatch_airflow.tasks import promote
from riskwatch_ml.registry import ledger, serving
from tests.support.promotion import World


@pytest.fixture
def world(monkeypatch):
    """Two models, the second in service as function version 3."""
    made = World(monkeypatch)
    for name in ("m-1", "m-2"):
        made.installed.register(name)
        made.promote()
    return made


def test_a_refresh_does_not_undo_a_rollback_by_hand(world):
    # GIVEN a rollback by hand, and a refresh of the model that it took out of service, in mode approval
    world.use("approval")
    bad = world.installed.versions[-1]
    world.installed.functions.move("2")
    world.installed.register("m-3", refreshes=bad.digest)

    # WHEN / THEN nothing is released, and one message says why
    for _ in range(2):
        with pytest.raises(serving.DisagreementError, match="moved by hand"):
            world.task(world.run(), "decide")
    assert world.installed.alias == "2"
    (message,) = world.topic.messages
    assert message["TopicArn"] == "topic"
    assert "action = confirm" in message["Message"]

    # WHEN it is confirmed THEN it serves by all three facts, and the refresh is a change that asks
    world.task(world.run("confirm"), "settle")
    assert (world.read().texts, world.read().serving_champion.version) == ([], "1")
    assert world.task(world.run(), "decide") == [promote.APPROVAL]


def test_restore_undoes_a_move_by_hand(world):
    # GIVEN
    world.installed.functions.move("2")
    run = world.run("restore")

    # WHEN
    assert world.task(run, "decide") == promote.SETTLE
    live = world.task(run, "settle")

    # THEN
    assert (world.installed.alias, live["function_version"], world.read().texts) == ("3", "3", [])
    with pytest.raises(AirflowSkipException, match="agree"):
        world.task(run, "settle")


def test_a_stale_decision_is_not_released(world):
    # GIVEN a decision whose release did not run, a later release, and promotion off
    world.installed.register("m-3")
    stale = world.run()
    world.task(stale, "decide")
    world.installed.register("m-4")
    world.promote()
    world.use("off")

    # WHEN the old release is cleared THEN it fails and says what changed
    with pytest.raises(AirflowFailException, match=r"another model serves.*model version 4.*from auto to off"):
        world.task(stale, "release")
    assert (world.installed.alias, world.read().serving_champion.version) == ("4", "4")


def test_a_cleared_release_does_not_undo_a_move_by_hand(world):
    # GIVEN the release of the model in service, and a rollback by hand
    world.installed.register("m-3")
    done = world.promote()
    world.installed.functions.move("3")

    # WHEN / THEN
    with pytest.raises(serving.DisagreementError, match="moved by hand"):
        world.task(done, "release")
    assert world.installed.alias == "3"


def test_a_release_that_died_after_the_move_is_finished_by_a_retry(world):
    # GIVEN a release that dies between the move of the alias and the ledger
    world.installed.register("m-3")
    run = world.run()
    world.task(run, "decide")
    write = ledger.write
    world.monkeypatch.setattr(ledger, "write", lambda store, entry: (_ for _ in ()).throw(SystemExit))
    with pytest.raises(SystemExit):
        world.task(run, "release")
    world.monkeypatch.setattr(ledger, "write", write)
    assert world.read().disagreements

    # WHEN / THEN
    world.task(run, "release")
    assert (world.installed.alias, world.read().texts) == ("4", [])


def test_the_champion_is_said_to_serve_only_if_the_alias_serves_it(monkeypatch):
    # GIVEN a new stack beside an MLflow that has the model as champion already
    world = World(monkeypatch)
    world.installed.aliases["champion"] = world.installed.register("m-1").version

    # WHEN / THEN it is released
    world.promote()
    assert world.installed.alias == "2"
    with pytest.raises(AirflowSkipException, match="version 1 is the champion already"):
        world.task(world.run(), "decide")


def test_an_alias_on_the_placeholder_is_put_back(world):
    # GIVEN
    world.installed.functions.move("1")

    # WHEN any check runs, as that of the watch does
    now = agreement.checked(world.config, world.installed.store)

    # THEN
    assert (world.installed.alias, now.texts, world.topic.messages) == ("3", [], [])
    entry = next(ledger.newest_first(world.installed.store))
    assert (entry["action"], entry["by"], entry["function_version"]) == ("restore", "policy repair", "3")


def test_a_repair_that_fails_is_reported(world):
    # GIVEN a version that fails its self-test
    world.installed.functions.move("1")
    world.installed.functions.fails.add("3")

    # WHEN
    now = agreement.checked(world.config, world.installed.store)

    # THEN
    assert world.installed.alias == "1"
    assert "could not be put back" in world.topic.messages[0]["Message"]
    assert now.lost_to_placeholder


def test_a_message_that_the_topic_refused_is_sent_again(world):
    # GIVEN
    world.installed.functions.move("2")
    world.topic.refuses = 1

    # WHEN two checks come THEN the second sends it, and a third nothing
    for sent in (0, 1, 1):
        agreement.checked(world.config, world.installed.store)
        assert len(world.topic.messages) == sent


def test_a_release_that_was_undone_is_not_done_again_by_clearing_it(world):
    # GIVEN a release of m-3, undone by hand to the model before and confirmed
    world.use("auto")
    world.installed.register("m-3")
    run = world.run()
    assert world.task(run, "decide") == [promote.RELEASE]
    world.task(run, "release")
    world.installed.functions.move("3", "by hand")
    world.task(world.run("confirm"), "settle")

    # WHEN the release is cleared THEN it fails: the approval was for what served then
    with pytest.raises(AirflowFailException, match="put into service again"):
        world.task(run, "release")
    assert world.installed.alias == "3"

"""Promotion against a Lambda that keeps revisions and refuses stale ones: the alias moves last, or not at all."""

import hashlib
from dataclasses import replace

import pytest

from riskwatch_ml.registry import release
from tests.support.functions import ALIAS, FUNCTION, Lambda, artifact, sha


@pytest.fixture
def aws() -> Lambda:
    return Lambda()


def promote(aws: Lambda, data: bytes) -> release.Release:
    return release.promote(aws, FUNCTION, ALIAS, data, approved_by="ops@example.com")


def test_a_good_artifact_goes_live(aws):
    # GIVEN the placeholder behind the alias
    data = artifact("m-1")
    # WHEN the artifact is promoted
    result = promote(aws, data)
    # THEN a new version holds exactly its bytes and the alias, with the handler of the artifact
    assert result.function_version == aws.alias["FunctionVersion"] == "2"
    assert result.previous_version == "1"
    assert result.code_sha256 == sha(aws.versions["2"]["code"]) == sha(data)
    assert result.checksum == hashlib.sha256(data).hexdigest()
    assert result.selftest["golden"] == {"rows": 24, "differences": 0}
    assert aws.versions["2"]["Handler"] == release.HANDLER
    assert "approved by ops@example.com" in aws.alias["Description"]
    assert aws.calls[-2:] == ["invoke", "update_alias"]


def test_a_retry_after_success_changes_nothing_and_still_knows_the_version_before(aws):
    first = promote(aws, artifact("m-1"))
    aws.calls.clear()
    # It says that it moved nothing, so that its caller has nothing to undo.
    assert first.moved is True
    assert promote(aws, artifact("m-1")) == replace(first, moved=False)
    assert aws.calls == ["invoke"]


def test_a_retry_after_a_crash_before_the_move_publishes_no_second_version(aws):
    # GIVEN a promotion that died just before the alias moved
    def die():
        raise ConnectionError("the worker went away")

    aws.before["update_alias"] = die
    with pytest.raises(ConnectionError):
        promote(aws, artifact("m-1"))
    assert aws.alias["FunctionVersion"] == "1"
    # WHEN it runs again THEN it uses the version that is there
    assert promote(aws, artifact("m-1")).function_version == "2"
    assert list(aws.versions) == ["1", "2"]


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        ({"answer": {"golden": {"rows": 24, "differences": 1}}}, "1 of 24 golden rows"),
        ({"answer": {"golden": {"rows": 0, "differences": 0}}}, "scored 0 golden rows"),
        ({"answer": {"golden": {"rows": 24, "differences": None}}}, "golden rows"),
        ({"answer": {"golden": None}}, "answered"),
        ({"answer": {"model_id": "m-0"}}, "runs model m-0, not m-1"),
        ({"answer": {"model_id": None}}, "runs model None"),
        ({"error": {"errorMessage": "no module"}}, "it raised.*no module"),
    ],
)
def test_a_failed_self_test_leaves_the_alias(aws, behaviour, words):
    # GIVEN a model in service
    promote(aws, artifact("m-live"))
    # WHEN one that fails its self-test is promoted
    with pytest.raises(release.ReleaseError, match=words):
        promote(aws, artifact("m-1", **behaviour))
    # THEN the old one serves on, and the next good one can be promoted
    assert aws.alias["FunctionVersion"] == "2"
    assert promote(aws, artifact("m-2")).previous_version == "2"


def test_somebody_else_moving_the_alias_meanwhile_wins(aws):
    # GIVEN a promotion during which somebody moves the alias
    aws.versions["7"] = {"code": artifact("m-7"), "Handler": release.HANDLER}
    aws.before["invoke"] = lambda: aws.move("7")
    # WHEN it wants to move the alias THEN it is refused
    with pytest.raises(release.ReleaseConflictError, match="another user"):
        promote(aws, artifact("m-1"))
    assert aws.alias["FunctionVersion"] == "7"


def test_somebody_else_deploying_code_meanwhile_is_noticed(aws):
    # GIVEN other code uploaded between our upload and the publication
    def deploy():
        aws.latest["code"] = artifact("m-other")

    aws.before["publish_version"] = deploy
    # THEN nothing of it gets the alias
    with pytest.raises(release.ReleaseConflictError, match="InvalidParameterValue"):
        promote(aws, artifact("m-1"))
    assert aws.alias["FunctionVersion"] == "1"


def test_a_stale_revision_of_the_code_is_refused(aws):
    def deploy():
        aws.latest_revision = aws._next()

    aws.before["update_function_code"] = deploy
    with pytest.raises(release.ReleaseConflictError):
        promote(aws, artifact("m-1"))
    assert list(aws.versions) == ["1"]


def test_what_is_no_artifact_is_refused_before_anything_is_called(aws):
    with pytest.raises(release.ReleaseError, match="not an artifact"):
        promote(aws, b"PK but no zip")
    assert aws.calls == []


def test_a_missing_alias_says_what_to_do(aws):
    with pytest.raises(release.ReleaseError, match="deploy it"):
        release.promote(aws, FUNCTION, "green", artifact("m-1"), approved_by="ops")


def test_restore_undoes_only_its_own_promotion(aws):
    # GIVEN m-1 in service and m-2 promoted after it
    promote(aws, artifact("m-1"))
    second = promote(aws, artifact("m-2"))
    # WHEN it is undone THEN m-1 serves again; undoing it twice is harmless
    undo = {"version": second.previous_version, "only_from": second.function_version}
    assert release.restore(aws, FUNCTION, ALIAS, **undo) == "3"
    assert release.restore(aws, FUNCTION, ALIAS, **undo) == "2"
    # WHEN somebody else promoted since THEN theirs stays
    promote(aws, artifact("m-3"))
    with pytest.raises(release.ReleaseConflictError, match="was not moved"):
        release.restore(aws, FUNCTION, ALIAS, **undo)
    assert aws.alias["FunctionVersion"] == "4"


def test_restore_to_a_version_that_does_not_exist_is_refused(aws):
    with pytest.raises(release.ReleaseError, match="does not exist"):
        release.restore(aws, FUNCTION, ALIAS, "9")
    assert aws.alias["FunctionVersion"] == "1"

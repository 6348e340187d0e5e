"""Promotion against a Lambda that keeps revisions and refuses stale ones: the alias moves last, or not at all."""

# The fake takes the arguments under AWS's names.
# ruff: noqa: N803

import base64
import hashlib
import io
import json
import zipfile
from dataclasses import replace
from types import SimpleNamespace

import pytest
from botocore.exceptions import ClientError

from riskwatch_ml.registry import release
from tests.support.bucket import body
from tests.support.contract import imitates

FUNCTION, ALIAS = "riskwatch-inference", "live"


def artifact(model_id: str, **behaviour) -> bytes:
    """A zip whose model document says how the fake function answers a self-test."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name, text in {
            "model/model.json": json.dumps({"model_id": model_id, "behaviour": behaviour}),
            "riskwatch_lambda/handler.py": "",
        }.items():
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), text)
    return target.getvalue()


def sha(data: bytes) -> str:
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


@imitates("lambda")
class Lambda:
    """One function as Lambda keeps it: $LATEST, immutable versions, an alias, a revision id that every change renews.

    An update stays "in progress" until somebody waits for it; completing it renews the revision id too, as on AWS.
    """

    def __init__(self) -> None:
        self.revision = 0
        self.latest = {"code": b"placeholder", "Handler": "index.handle"}
        self.latest_revision = self._next()
        self.in_progress = False
        self.versions: dict[str, dict] = {"1": dict(self.latest)}
        self.alias = {"FunctionVersion": "1", "Description": "", "RevisionId": self._next()}
        self.calls: list[str] = []
        self.before: dict[str, object] = {}

    def _next(self) -> str:
        self.revision += 1
        return f"revision-{self.revision}"

    def _called(self, name: str) -> None:
        self.calls.append(name)
        action = self.before.pop(name, None)
        if action:
            action()

    @staticmethod
    def _error(code: str, operation: str) -> ClientError:
        return ClientError({"Error": {"Code": code, "Message": code}}, operation)

    def _change(self, operation: str, revision: str | None, **changes) -> dict:
        self._called(operation)
        if self.in_progress:
            raise self._error("ResourceConflictException", operation)
        if revision is not None and revision != self.latest_revision:
            raise self._error("PreconditionFailedException", operation)
        self.latest = {**self.latest, **changes}
        self.latest_revision, self.in_progress = self._next(), True
        return {"CodeSha256": sha(self.latest["code"]), "RevisionId": self.latest_revision}

    def get_waiter(self, name):
        def wait(FunctionName, Qualifier=None):
            if name == "function_updated_v2" and self.in_progress:
                self.in_progress, self.latest_revision = False, self._next()

        return SimpleNamespace(wait=wait)

    def get_alias(self, FunctionName, Name):
        if (FunctionName, Name) != (FUNCTION, ALIAS):
            raise self._error("ResourceNotFoundException", "GetAlias")
        return dict(self.alias)

    def get_function_configuration(self, FunctionName, Qualifier="$LATEST"):
        if Qualifier == "$LATEST":
            held = {**self.latest, "RevisionId": self.latest_revision}
        elif Qualifier in self.versions:
            held = self.versions[Qualifier]
        else:
            raise self._error("ResourceNotFoundException", "GetFunctionConfiguration")
        return {"CodeSha256": sha(held["code"]), "Handler": held["Handler"], "RevisionId": held.get("RevisionId", "")}

    def update_function_code(self, FunctionName, ZipFile, RevisionId):
        return self._change("update_function_code", RevisionId, code=ZipFile)

    def update_function_configuration(self, FunctionName, Handler, RevisionId):
        return self._change("update_function_configuration", RevisionId, Handler=Handler)

    def publish_version(self, FunctionName, CodeSha256, Description):
        self._called("publish_version")
        assert len(Description) <= 256
        if CodeSha256 != sha(self.latest["code"]):
            raise self._error("InvalidParameterValueException", "PublishVersion")
        newest = max(self.versions, key=int)
        if self.versions[newest] != self.latest:
            newest = str(int(newest) + 1)
            self.versions[newest] = dict(self.latest)
        return {"Version": newest, "CodeSha256": sha(self.latest["code"])}

    def invoke(self, FunctionName, Qualifier, Payload):
        self._called("invoke")
        assert json.loads(Payload) == {"selftest": {}}
        with zipfile.ZipFile(io.BytesIO(self.versions[Qualifier]["code"])) as archive:
            model = json.loads(archive.read("model/model.json"))
        answer = {"model_id": model["model_id"], "golden": {"rows": 24, "differences": 0}, "labels": []}
        answer |= model["behaviour"].get("answer", {})
        error = {"FunctionError": "Unhandled"} if "error" in model["behaviour"] else {}
        said = model["behaviour"].get("error", answer)
        return {**error, "Payload": body(json.dumps(said).encode())}

    def update_alias(self, FunctionName, Name, FunctionVersion, RevisionId, RoutingConfig, Description):
        self._called("update_alias")
        assert len(Description) <= 256
        if RevisionId != self.alias["RevisionId"]:
            raise self._error("PreconditionFailedException", "UpdateAlias")
        self.move(FunctionVersion, Description)

    def move(self, version: str, description: str = "") -> None:
        self.alias = {"FunctionVersion": version, "Description": description, "RevisionId": self._next()}


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
    assert result.digest == hashlib.sha256(data).hexdigest()
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
        ({"answer": {"model_id": "m-0"}}, "runs model 'm-0', not 'm-1'"),
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
    with pytest.raises(release.ReleaseConflictError, match="somebody else"):
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
    with pytest.raises(release.ReleaseConflictError, match="left alone"):
        release.restore(aws, FUNCTION, ALIAS, **undo)
    assert aws.alias["FunctionVersion"] == "4"


def test_restore_to_a_version_that_does_not_exist_is_refused(aws):
    with pytest.raises(release.ReleaseError, match="does not exist"):
        release.restore(aws, FUNCTION, ALIAS, "9")
    assert aws.alias["FunctionVersion"] == "1"

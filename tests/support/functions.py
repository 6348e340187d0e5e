"""A function as Lambda keeps it, with revisions, versions and an alias, for tests of releases."""

# The fake takes the arguments under AWS's names.
# ruff: noqa: N803

import base64
import hashlib
import io
import json
import zipfile
from types import SimpleNamespace

from botocore.exceptions import ClientError

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
        # Versions that answer a self-test with another model.
        self.fails: set[str] = set()

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
        answer["kinds"] = {kind: {"model_id": part["model_id"]} for kind, part in model.get("kinds", {}).items()}
        model.setdefault("behaviour", {})
        answer |= model["behaviour"].get("answer", {}) | ({"model_id": "another"} if Qualifier in self.fails else {})
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

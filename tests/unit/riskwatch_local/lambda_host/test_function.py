"""Fetching a version of a function: the description as Lambda gives it, and only the code that it names."""

import base64
import hashlib

import pytest
from botocore.exceptions import ClientError

from riskwatch_local.lambda_host.function import Function, FunctionError, fetch
from tests.support.contract import imitates


@imitates("lambda")
class FakeLambda:
    """One function with its code in a file."""

    def __init__(self, code, path):
        path.write_bytes(code)
        self.answer = {
            "Configuration": {
                "FunctionName": "inference",
                "FunctionArn": "arn:inference:live",
                "Version": "7",
                "Handler": "app.handle",
                "Timeout": 60,
                "MemorySize": 512,
                "Environment": {"Variables": {"A": "b"}},
                "CodeSha256": base64.b64encode(hashlib.sha256(code).digest()).decode(),
            },
            "Code": {"Location": path.as_uri()},
        }

    def get_function(self, *, FunctionName, Qualifier):  # noqa: N803
        if (FunctionName, Qualifier) != ("inference", "live"):
            raise ClientError({"Error": {"Code": "ResourceNotFoundException", "Message": "no"}}, "GetFunction")
        return self.answer


def test_a_version_comes_with_its_code(tmp_path):
    client = FakeLambda(b"zip", tmp_path / "code.zip")
    assert fetch(client, "inference", "live") == Function(
        "inference", "arn:inference:live", "7", "app.handle", 60.0, 512, {"A": "b"}, b"zip"
    )


def test_code_with_another_digest_is_refused(tmp_path):
    client = FakeLambda(b"zip", tmp_path / "code.zip")
    (tmp_path / "code.zip").write_bytes(b"zap")
    with pytest.raises(FunctionError, match="has the digest"):
        fetch(client, "inference", "live")


def test_a_function_or_code_that_is_not_there_is_named(tmp_path):
    client = FakeLambda(b"zip", tmp_path / "code.zip")
    with pytest.raises(FunctionError, match="inference:gone cannot be read"):
        fetch(client, "inference", "gone")
    (tmp_path / "code.zip").unlink()
    with pytest.raises(FunctionError, match="cannot be downloaded"):
        fetch(client, "inference", "live")

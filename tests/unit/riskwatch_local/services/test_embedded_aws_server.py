"""The gate of the embedded AWS: which requests reach ministack, and which are refused."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest

from riskwatch_local.services.embedded_aws_server import HEALTH, Gate
from riskwatch_ml.storage import keys

KEY = "0f5a7c"
SIGNED = ("authorization", f"AWS4-HMAC-SHA256 Credential={KEY}/20261130/us-east-1/s3/aws4_request, SignedHeaders=host")

TEN = datetime(2026, 11, 22, 10, tzinfo=UTC)
DOCS = f"/bucket/{keys.data_docs(TEN, TEN + timedelta(hours=1), 'default')}"


def ask(method="PUT", path="/bucket/key", query="", headers=(SIGNED,), host="127.0.0.1:4566", kind="http"):
    """Send one request through a gate; return the messages of its answer. The application behind answers 200."""
    sent = []

    async def application(_scope, _receive, send):
        await send({"type": "http.response.start", "status": 200})

    async def send(message):
        sent.append(message)

    pairs = [*headers, *([("host", host)] if host else [])]
    scope = {
        "type": kind,
        "method": method,
        "path": path,
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in pairs],
    }
    asyncio.run(Gate(application, KEY, ("127.0.0.1", "localhost", "embedded-aws"))(scope, None, send))
    return sent


def presigned(*keys):
    return "&".join(f"X-Amz-Credential={key}%2F20261130%2Fus-east-1%2Fs3%2Faws4_request" for key in keys)


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"host": "localhost:4566"},
        {"host": "LOCALHOST"},
        {"host": "embedded-aws:4566"},
        {"method": "GET", "headers": (), "query": presigned(KEY)},
        {"method": "GET", "headers": (), "query": f"AWSAccessKeyId={KEY}&Signature=s&Expires=1"},
        {"method": "GET", "path": HEALTH, "headers": ()},
        {"method": "GET", "path": DOCS, "headers": ()},
    ],
)
def test_clients_of_this_run_reach_the_server(request_):
    assert ask(**request_)[0]["status"] == 200


OTHER = ("authorization", SIGNED[1].replace(KEY, "test"))
REFUSED = {
    "no signature": ({"headers": ()}, "not signed"),
    "another key": ({"headers": (OTHER,)}, "not signed"),
    "both keys": ({"headers": (SIGNED, OTHER)}, "not signed"),
    "a key in the header, another in the query": ({"query": presigned("test")}, "not signed"),
    "a presigned URL of another key": ({"headers": (), "query": presigned("test")}, "not signed"),
    "an older signature": ({"headers": (("authorization", f"AWS {KEY}:signature"),)}, "not signed"),
    "the reset": ({"method": "POST", "path": "/_ministack/reset", "headers": ()}, "not signed"),
    "a POST to the health address": ({"method": "POST", "path": HEALTH, "headers": ()}, "not signed"),
    "a foreign host": ({"host": "evil.example:4566"}, "another host"),
    "a host below a name of ours": ({"host": "localhost.evil.example"}, "another host"),
    "user information before the host": ({"host": "localhost@evil.example"}, "another host"),
    "no host": ({"host": None}, "another host"),
    "two hosts": ({"headers": (SIGNED, ("host", "evil.example"))}, "another host"),
    "an origin": ({"headers": (SIGNED, ("origin", "https://evil.example"))}, "web pages"),
    "an opaque origin": ({"headers": (SIGNED, ("origin", "null"))}, "web pages"),
    "an origin on loopback": ({"headers": (SIGNED, ("origin", "http://127.0.0.1:8080"))}, "web pages"),
    "Data Docs for a page": ({"headers": (("origin", "null"),), "method": "GET", "path": DOCS}, "web pages"),
    "a change of Data Docs": ({"headers": (), "path": DOCS}, "not signed"),
    "an object below Data Docs": ({"headers": (), "method": "GET", "path": f"{DOCS}/../../ledger/a"}, "not signed"),
    "another document": ({"headers": (), "method": "GET", "path": "/bucket/raw/docs/a.html"}, "not signed"),
    "a preflight": ({"method": "OPTIONS", "headers": ()}, "web pages"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_foreign_requests_are_refused_with_the_reason_and_no_cors_header(name):
    request_, reason = REFUSED[name]
    start, body = ask(**request_)
    assert start["status"] == 403
    assert not any(header.startswith(b"access-control") for header, _ in start["headers"])
    assert reason in json.loads(body["body"])["message"]


def test_web_sockets_are_refused():
    assert ask(kind="websocket") == [{"type": "websocket.close", "code": 1008}]


@pytest.mark.parametrize("path", [HEALTH, DOCS])
@pytest.mark.parametrize(
    "more",
    [
        {"query": "Action=CreateStack&TemplateBody=x"},
        {"query": "Action=Publish"},
        {"headers": (("x-amz-target", "DynamoDB_20120810.ListTables"),)},
        {"headers": (("X-Amz-Date", "20261130T000000Z"),)},
    ],
)
def test_a_link_with_more_than_its_path_is_no_link(path, more):
    # The server would take the request for one of another service.
    assert ask(**{"method": "GET", "path": path, "headers": (), **more})[0]["status"] == 403


def test_the_key_of_an_assumed_role_is_one_of_this_run():
    def answered(key):
        signed = (
            f"AWS4-HMAC-SHA256 Credential={key}/20261130/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=s"
        )
        scope = {
            "method": "POST",
            "path": "/",
            "query_string": b"",
            "headers": [(b"host", b"localhost"), (b"authorization", signed.encode())],
        }
        return Gate(None, KEY, ("localhost",), {"ASIAROLE"}.__contains__).refusal(scope)

    assert (answered("ASIAROLE"), answered(KEY)) == (None, None)
    assert answered("ASIAOTHER") == "the request is not signed with the access key of this run"

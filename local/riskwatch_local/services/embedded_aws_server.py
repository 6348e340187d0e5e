"""The server of the embedded AWS: ministack behind a gate.

The interpreter of `.venv-aws` runs this file as a script; that environment has ministack and no package of Riskwatch.
Ministack by itself answers any web page, and a Lambda function runs code on this machine. The gate therefore answers
403 to a request with a foreign Host or any Origin (a CORS preflight included), and to a request that is not signed with
the access key of this server. The key is new in each run; the server and its clients get it as AWS_ACCESS_KEY_ID.
Workers of function versions that no alias names end, as Lambda ends idle environments.
"""

from __future__ import annotations

import hmac
import json
import os
import re
import threading
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    Message = dict[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    App = Callable[[Message, Receive, Send], Awaitable[None]]

HEALTH = "/_ministack/health"
# People open Data Docs in a browser, which signs nothing. Without CORS headers no web page can read them.
DATA_DOCS = re.compile(r"/[^/]+/docs/validation/[^/]+\.html")
LOOPBACK = ("127.0.0.1", "localhost")
CREDENTIAL = re.compile(r"AWS4-HMAC-SHA256 Credential=([^/,\s]+)/")
# A promotion publishes a version and tests it seconds before the alias names it: that worker must not end in between.
IDLE_S = 10.0
REAP_EVERY_S = 5.0


class Gate:
    """An ASGI application that refuses foreign requests and passes all others to `app`.

    `access_key` is the key that requests must be signed with; the signature itself is not computed again. `hosts` are
    the names, without port, under which clients reach the server. `issued` returns whether a key belongs to a role that
    a client of this run has assumed.
    """

    def __init__(
        self, app: App, access_key: str, hosts: tuple[str, ...], issued: Callable[[str], bool] = lambda key: False
    ) -> None:
        self._app = app
        self._access_key = access_key.encode()
        self._issued = issued
        self._hosts = {host.lower() for host in hosts}

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
        elif reason := self.refusal(scope):
            await _refuse(reason, send)
        else:
            await self._app(scope, receive, send)

    def refusal(self, scope: Mapping[str, Any]) -> str | None:
        """Return why the request of an ASGI scope is refused, None if it is not."""
        headers = [(name.lower(), value.decode("latin-1")) for name, value in scope["headers"]]
        hosts = [value for name, value in headers if name == b"host"]
        if len(hosts) != 1 or urlsplit(f"//{hosts[0]}").hostname not in self._hosts:
            return "the Host header names another host"
        if any(name == b"origin" for name, _ in headers) or scope["method"] == "OPTIONS":
            return "web pages have no access"
        # The server routes by headers and query before it looks at the path: a request with either is no plain link.
        is_plain = not scope.get("query_string") and not any(
            name == b"authorization" or name.startswith(b"x-amz-") for name, _ in headers
        )
        if scope["method"] == "GET" and is_plain and (scope["path"] == HEALTH or DATA_DOCS.fullmatch(scope["path"])):
            return None
        keys = _access_keys(headers, scope.get("query_string", b""))
        if keys and all(hmac.compare_digest(key.encode(), self._access_key) or self._issued(key) for key in keys):
            return None
        return "the request is not signed with the access key of this run"


def _access_keys(headers: list[tuple[bytes, str]], query: bytes) -> list[str]:
    """Return the access keys that a request names in its header and in a presigned URL."""
    keys = []
    for value in (value for name, value in headers if name == b"authorization"):
        signed = CREDENTIAL.match(value)
        keys.append(signed[1] if signed else "")
    parameters = parse_qs(query.decode("latin-1"), keep_blank_values=True)
    keys += [value.split("/")[0] for value in parameters.get("X-Amz-Credential", [])]
    # boto3 presigns URLs of S3 in the older way unless it is configured otherwise.
    return keys + parameters.get("AWSAccessKeyId", [])


async def _refuse(reason: str, send: Send) -> None:
    body = json.dumps({"__type": "AccessDeniedException", "message": f"The embedded AWS refuses this: {reason}."})
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": body.encode()})


def _give_workers(access_key: str) -> None:
    """Let Lambda workers, and the URLs from which functions are downloaded, carry the access key."""
    from ministack.core import lambda_runtime
    from ministack.services import lambda_svc

    credentials, code_url = lambda_runtime.execution_credentials, lambda_svc._presigned_code_url

    def execution_credentials(config: Mapping[str, Any]) -> dict[str, str]:
        return {**credentials(config), "AWS_ACCESS_KEY_ID": access_key}

    lambda_runtime.execution_credentials = execution_credentials
    lambda_svc._presigned_code_url = lambda name: f"{code_url(name)}&X-Amz-Credential={access_key}"


def end_workers_without_alias(now: float) -> None:
    """End the workers of function versions that no alias names, once they are idle for `IDLE_S` seconds.

    `now` is in seconds since the epoch.
    """
    from ministack.core import lambda_runtime
    from ministack.services import lambda_svc

    ended = []
    with lambda_runtime._lock:
        for key, workers in list(lambda_runtime._workers.items()):
            account, region, name, version = key.split(":")
            function = lambda_svc._functions.get_scoped(account, region, name) or {"aliases": {}}
            named = {alias["FunctionVersion"] for alias in function["aliases"].values()}
            if version == "$LATEST" or version in named:
                continue
            idle = [worker for worker in workers if not worker.in_use and now - worker.last_used >= IDLE_S]
            lambda_runtime._workers[key] = [worker for worker in workers if worker not in idle]
            ended += idle
    lambda_runtime.kill_workers(ended)


def _reap() -> None:
    while True:
        time.sleep(REAP_EVERY_S)
        end_workers_without_alias(time.time())


def _is_issued(key: str) -> bool:
    from ministack.services import sts

    session = sts._sessions.get(key)
    return session is not None and not sts._session_expired(session)


def main() -> None:
    """Serve until a signal ends the process."""
    os.umask(0o077)
    from ministack import app

    access_key = os.environ["AWS_ACCESS_KEY_ID"]
    _give_workers(access_key)
    app.app = Gate(app.app, access_key, (*LOOPBACK, os.environ.get("MINISTACK_HOST", LOOPBACK[0])), _is_issued)
    threading.Thread(target=_reap, name="workers without alias", daemon=True).start()
    app.main()


if __name__ == "__main__":
    main()

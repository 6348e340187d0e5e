"""The Runtime API, from which AWS's runtime client takes its invocations.

One server serves one environment and hands out one invocation at a time. `events` has the reactions of the client in
order.
"""

from __future__ import annotations

import json
import queue
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from riskwatch_local.services.ports import LOOPBACK

PREFIX = "/2018-06-01/runtime/"
# An invocation was handed over, answered or failed, or the environment could not start.
DISPATCHED, ANSWERED, FAILED, INIT_FAILED = "taken", "answered", "failed", "init failed"


class Invocation(NamedTuple):
    """An invocation of a function: request id, event as JSON, time limit."""

    request_id: str
    body: bytes
    timeout_s: float


class RuntimeEvent(NamedTuple):
    """A reaction of an environment.

    `kind` is one of the constants above; `payload` is the decoded JSON that came with it.
    """

    kind: str
    payload: Any = None


class RuntimeApi:
    """A Runtime API server on a free loopback port.

    `arn` is that of the function which it invokes.
    """

    def __init__(self, arn: str) -> None:
        self.arn = arn
        self.events: queue.SimpleQueue[RuntimeEvent] = queue.SimpleQueue()
        self._waiting: queue.SimpleQueue[Invocation | None] = queue.SimpleQueue()
        self._server = _Server(self)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def address(self) -> str:
        """Host and port in the form of AWS_LAMBDA_RUNTIME_API."""
        return f"{LOOPBACK}:{self._server.server_address[1]}"

    def submit(self, invocation: Invocation) -> None:
        """Queue an invocation for the next request."""
        self._waiting.put(invocation)

    def take(self) -> Invocation | None:
        """Wait for an invocation; return None when the server closes."""
        return self._waiting.get()

    def close(self) -> None:
        """Stop the server and release a client that waits."""
        self._waiting.put(None)
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, api: RuntimeApi) -> None:
        self.api = api
        super().__init__((LOOPBACK, 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    """A handler of the paths that a managed runtime uses."""

    server: _Server
    protocol_version = "HTTP/1.1"
    # With Nagle's algorithm, an answer in several small packets waits 40 ms for an acknowledgement.
    disable_nagle_algorithm = True
    wbufsize = 65_536

    def do_GET(self) -> None:
        if self.path != f"{PREFIX}invocation/next":
            self._reply(404)
            return
        api = self.server.api
        invocation = api.take()
        if invocation is None:
            self.close_connection = True
            return
        headers = {
            "Lambda-Runtime-Aws-Request-Id": invocation.request_id,
            "Lambda-Runtime-Deadline-Ms": str(int((time.time() + invocation.timeout_s) * 1000)),
            "Lambda-Runtime-Invoked-Function-Arn": api.arn,
        }
        api.events.put(RuntimeEvent(DISPATCHED))
        self._reply(200, invocation.body, headers)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        name = self.path.removeprefix(PREFIX)
        kinds = {"init/error": INIT_FAILED}
        if name.startswith("invocation/"):
            kinds |= {name: {"response": ANSWERED, "error": FAILED}.get(name.rpartition("/")[2], "")}
        kind = kinds.get(name)
        if not kind:
            self._reply(404)
            return
        # Reply first: once the event is queued, the server may be closed before the client has its reply.
        self._reply(202)
        self.wfile.flush()
        self.server.api.events.put(RuntimeEvent(kind, json.loads(body) if body else None))

    def _reply(self, status: int, body: bytes = b"{}", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing: the function's own log has the invocations."""

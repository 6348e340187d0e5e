"""The HTTP side of a Lambda environment: the Runtime API, from which AWS's runtime client takes its invocations.

One server serves one environment and hands out one invocation at a time. What happens comes out of `events` in order.
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
# What is asked for, beside the invocation itself: it was handed over, answered, or the environment could not start.
TAKEN, ANSWERED, FAILED, INIT_FAILED = "taken", "answered", "failed", "init failed"


class Invocation(NamedTuple):
    """What a function is asked: a request id, the event as JSON, and the seconds that it may take."""

    request_id: str
    body: bytes
    timeout_s: float


class Happening(NamedTuple):
    """What an environment did: one of the kinds above, and the decoded JSON that came with it."""

    kind: str
    payload: Any = None


class RuntimeApi:
    """A Runtime API server on a free loopback port; `arn` is that of the function it invokes."""

    def __init__(self, arn: str) -> None:
        self.arn = arn
        self.events: queue.SimpleQueue[Happening] = queue.SimpleQueue()
        self._waiting: queue.SimpleQueue[Invocation | None] = queue.SimpleQueue()
        self._server = _Server(self)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def address(self) -> str:
        """Host and port, as AWS_LAMBDA_RUNTIME_API has them."""
        return f"{LOOPBACK}:{self._server.server_address[1]}"

    def submit(self, invocation: Invocation) -> None:
        """Give an invocation to whoever asks next."""
        self._waiting.put(invocation)

    def take(self) -> Invocation | None:
        """Wait for an invocation; None when the server is being closed."""
        return self._waiting.get()

    def close(self) -> None:
        """End the server and let go of a client that waits."""
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
    """Answers the paths that a managed runtime uses."""

    server: _Server
    protocol_version = "HTTP/1.1"
    # An answer in several small packets waits 40 ms for the other side's acknowledgement.
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
        api.events.put(Happening(TAKEN))
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
        # The reply goes first: the client may end as soon as it has it, and must not find the server gone.
        self._reply(202)
        self.wfile.flush()
        self.server.api.events.put(Happening(kind, json.loads(body) if body else None))

    def _reply(self, status: int, body: bytes = b"{}", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing: the function's own log has what matters."""

"""A local endpoint that answers an export within the limits of CloudWatch.

It answers as fast as it can: GetMetricData and ListMetrics in the protocol that botocore chooses for CloudWatch (JSON
1.0), the tagging API without resources, and the object calls of S3. Values depend on the names of metric and instance
only, so that equal requests have equal answers. It refuses more than 500 queries in a call, pages after 100,800
datapoints, and throttles requests above the quotas of a region.
"""

from __future__ import annotations

import hashlib
import json
import socket
import threading
import time
import zlib
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

MAX_QUERIES, MAX_POINTS, LIST_PAGE = 500, 100_800, 500
POINTS_PER_S, CALLS_PER_S = 90_000.0, 50.0
# A call may have more points than a second allows, and the clocks of both sides differ: allow two calls in succession.
BUCKET_POINTS, BUCKET_CALLS = 2 * MAX_POINTS, 10.0
JSON = "application/x-amz-json-1.0"


def values(namespace: str, metric: str, instance: str, stamps: np.ndarray) -> np.ndarray:
    """Return the values (n,) of a metric at times (n,) in epoch seconds.

    They are a daily wave and noise; both depend on the names.
    """
    seed = zlib.crc32(f"{namespace}/{metric}/{instance}".encode())
    wave = 20.0 * np.sin((stamps % 86_400) / 86_400 * 2 * np.pi + seed % 7)
    return np.random.default_rng(seed).normal(50.0, 4.0, len(stamps)) + wave


def metric_data(asked: dict[str, Any], first: int = 0) -> tuple[bytes, int, int]:
    """Return a page of GetMetricData: body, number of datapoints, next query or 0.

    The page begins at query `first`. `asked` is the request as JSON; its times are in epoch seconds.
    """
    results: list[dict[str, Any]] = []
    queries, points, index = asked["MetricDataQueries"], 0, first
    while index < len(queries):
        query = queries[index]
        stat, metric = query["MetricStat"], query["MetricStat"]["Metric"]
        stamps = np.arange(float(asked["StartTime"]), float(asked["EndTime"]), stat["Period"])
        if points and points + len(stamps) > MAX_POINTS:
            break
        series = values(metric["Namespace"], metric["MetricName"], metric["Dimensions"][0]["Value"], stamps)
        results.append(
            {
                "Id": query["Id"],
                "Label": metric["MetricName"],
                "Timestamps": stamps.tolist(),
                "Values": series.tolist(),
                "StatusCode": "Complete",
            }
        )
        points, index = points + len(stamps), index + 1
    following = index if index < len(queries) else 0
    page = {"MetricDataResults": results, "Messages": [], **({"NextToken": str(following)} if following else {})}
    return json.dumps(page).encode(), points, following


def serve(instances: int, ready: Any) -> None:
    """Serve a fleet of `instances` until the process ends.

    The port is sent to the pipe `ready`.
    """
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    server.state = _State(instances)  # type: ignore[attr-defined]
    ready.send(server.server_address[1])
    server.serve_forever()


class _State:
    def __init__(self, instances: int) -> None:
        self.instances = [f"i-{number:017x}" for number in range(instances)]
        self.objects: dict[str, bytes] = {}
        self.counts: Counter[str] = Counter()
        self.lock = threading.Lock()
        self.points, self.calls, self.seen = float(BUCKET_POINTS), BUCKET_CALLS, time.monotonic()

    def allow(self, points: int) -> bool:
        """Take a call with `points` datapoints from the quotas if they allow it."""
        with self.lock:
            now = time.monotonic()
            passed, self.seen = now - self.seen, now
            self.points = min(BUCKET_POINTS, self.points + passed * POINTS_PER_S)
            self.calls = min(BUCKET_CALLS, self.calls + passed * CALLS_PER_S)
            if self.points < points or self.calls < 1:
                self.counts["throttled"] += 1
                return False
            self.points, self.calls = self.points - points, self.calls - 1
            self.counts["points"] += points
            return True


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @property
    def state(self) -> _State:
        return self.server.state  # type: ignore[attr-defined, no-any-return]

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        operation = self.headers.get("X-Amz-Target", "").rpartition(".")[2]
        self.state.counts[operation] += 1
        if operation == "GetMetricData":
            self._metric_data(asked)
        elif operation == "ListMetrics":
            self._list(asked)
        elif operation == "GetResources":
            self._json(200, {"ResourceTagMappingList": [], "PaginationToken": ""})
        else:
            self._refuse("UnknownOperationException", f"{operation or self.path} is not answered here")

    def _metric_data(self, asked: dict[str, Any]) -> None:
        if len(asked["MetricDataQueries"]) > MAX_QUERIES:
            self._refuse("ValidationError", f"more than {MAX_QUERIES} queries")
            return
        page, points, _ = metric_data(asked, int(asked.get("NextToken", 0)))
        if self.state.allow(points):
            self._answer(200, page, JSON)
        else:
            self._refuse("Throttling", "Rate exceeded")

    def _list(self, asked: dict[str, Any]) -> None:
        first = int(asked.get("NextToken", 0))
        last = first + LIST_PAGE
        metrics = [
            {
                "Namespace": asked["Namespace"],
                "MetricName": asked["MetricName"],
                "Dimensions": [{"Name": "InstanceId", "Value": instance}],
            }
            for instance in self.state.instances[first:last]
        ]
        self._json(200, {"Metrics": metrics, **({"NextToken": str(last)} if last < len(self.state.instances) else {})})

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with self.state.lock:
            self.state.objects[unquote(urlsplit(self.path).path)] = body
        self.state.counts["PutObject"] += 1
        self._answer(200, b"", "application/xml", ETag=_tag(body))

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        if parts.path == "/counts":
            self._answer(200, json.dumps(self.state.counts).encode(), "application/json")
        elif "list-type" in parse_qs(parts.query):
            self._answer(
                200, b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>", "application/xml"
            )
        elif (body := self.state.objects.get(unquote(parts.path))) is not None:
            self._answer(200, body, "application/octet-stream", ETag=_tag(body))
        else:
            self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>", "application/xml")

    def _refuse(self, code: str, text: str) -> None:
        self._json(400, {"__type": code, "message": text})

    def _json(self, status: int, value: dict[str, Any]) -> None:
        self._answer(status, json.dumps(value).encode(), JSON)

    def _answer(self, status: int, body: bytes, kind: str, **headers: str) -> None:
        self.send_response(status)
        for name, value in (("Content-Type", kind), ("Content-Length", str(len(body))), *headers.items()):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()


def _tag(body: bytes) -> str:
    return f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'

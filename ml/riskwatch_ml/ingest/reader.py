"""Reading GetMetricData to the end: tokens followed, incomplete results asked for again, refusals named.

A result is complete once its status says so. PartialData and InternalError go on with the token; what is still
incomplete without one is asked for again as a whole, alone.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from botocore.exceptions import (
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
    TokenRetrievalError,
)
from numpy.typing import NDArray

from riskwatch_ml.core import clock
from riskwatch_ml.core.errors import OperationError
from riskwatch_ml.ingest.call_plan import MAX_POINTS, Call, Query, Usage
from riskwatch_ml.ingest.rate_limit import Rate
from riskwatch_ml.schema.metric_rows import Series

ATTEMPTS = 4
THREADS = 8
# So many datapoints are under way at a time, or two calls: a parsed response takes some 500 bytes for each.
POINTS_UNDER_WAY = 200_000
# Longer than this no throttling is waited out: the run fails, and its retry begins anew.
PATIENCE_S = 600.0
PAUSE_S = 15.0
_THROTTLED = frozenset(
    {"Throttling", "ThrottlingException", "ThrottledException", "RequestLimitExceeded", "TooManyRequestsException"}
)
_EXPIRED = frozenset(
    {"ExpiredToken", "ExpiredTokenException", "RequestExpired", "InvalidClientTokenId", "UnrecognizedClientException"}
)
_DENIED = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"})
_NO_CREDENTIALS = (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError, TokenRetrievalError)

_log = logging.getLogger(__name__)


class CloudWatchError(OperationError):
    """CloudWatch refused or kept failing; the message names what was asked for and what to do."""


class ForbiddenError(CloudWatchError):
    """The role may not do this: trying again does not help."""


class CredentialsError(CloudWatchError):
    """There are no credentials, or they have expired."""


class ThrottledError(CloudWatchError):
    """CloudWatch throttled for longer than is waited."""


@contextmanager
def named(action: str) -> Iterator[None]:
    """Turn AWS's refusal of `action`, e.g. "cloudwatch:ListMetrics", into an error that says what to do."""
    try:
        yield
    except _NO_CREDENTIALS as error:
        raise CredentialsError(f"{action}: {error}: give the connection credentials or a role") from error
    except ClientError as error:
        code, text = error.response["Error"]["Code"], error.response["Error"].get("Message", "")
        if code in _EXPIRED:
            raise CredentialsError(
                f"{action}: the credentials are not valid any more ({code}: {text}): renew those of the connection, "
                "then clear the task"
            ) from error
        if code in _DENIED:
            raise ForbiddenError(f"{action} is not allowed ({text or code}): allow it to the role in use") from error
        if code in _THROTTLED:
            raise ThrottledError(
                f"{action} was throttled to the end ({text or code}): ask for a higher quota, or see what else calls it"
            ) from error
        raise


@dataclass
class _Answer:
    """What one query has received so far."""

    stamps: list[NDArray[np.int64]] = field(default_factory=list)
    values: list[NDArray[np.float64]] = field(default_factory=list)
    status: str = "missing"
    messages: list[str] = field(default_factory=list)

    def add(self, result: Mapping[str, Any]) -> None:
        seconds = np.array([moment.timestamp() for moment in result["Timestamps"]], dtype=np.float64)
        self.stamps.append(np.rint(seconds * 1000).astype(np.int64))
        self.values.append(np.asarray(result["Values"], dtype=np.float64))
        self.status = result["StatusCode"]
        self.messages += [message.get("Value", "") for message in result.get("Messages", ())]

    def series(self, query: Query) -> Series:
        stamps = np.concatenate([*self.stamps, np.empty(0, np.int64)])
        return Series(query.instance_id, query.metric.name, stamps, np.concatenate([*self.values, np.empty(0)]))


@dataclass(frozen=True)
class Reader:
    """Reads calls with one client and one region's allowance; throttling is waited out for `patience_s` seconds."""

    client: Any
    rate: Rate
    patience_s: float = PATIENCE_S

    def read(self, calls: Sequence[Call]) -> Iterator[tuple[Call, list[Series], Usage]]:
        """Yield each call, in order, with a series for each of its queries and what reading it took.

        A series' values are CloudWatch's own, not scaled; its moments are in ms since 1970. Several calls are under way
        at a time.

        Raises
        ------
        CloudWatchError
            A metric is forbidden, a result stayed incomplete, credentials or patience ran out.
        """
        most = max((call.points for call in calls), default=1)
        threads = min(THREADS, max(2, POINTS_UNDER_WAY // most))
        with ThreadPoolExecutor(threads, thread_name_prefix="cloudwatch") as pool:
            for call, (answers, usage) in zip(calls, pool.map(self._read, calls), strict=True):
                yield call, [a.series(q) for q, a in zip(call.queries, answers, strict=True)], usage

    def _read(self, call: Call) -> tuple[list[_Answer], Usage]:
        answers = [_Answer() for _ in call.queries]
        waiting = list(range(len(answers)))
        usage = Usage()
        for attempt in range(ATTEMPTS):
            if attempt:
                _log.warning("GetMetricData left %d of %d results incomplete: asking again", len(waiting), len(answers))
                self.rate.sleep(2.0**attempt)
            for place in waiting:
                # An incomplete result is asked for as a whole again: what it delivered is dropped, not doubled.
                answers[place] = _Answer()
            usage += self._pages(call, {f"m{place}": (call.queries[place], answers[place]) for place in waiting})
            waiting = [place for place in waiting if answers[place].status != "Complete"]
            if not waiting:
                return answers, usage
        first = answers[waiting[0]]
        raise CloudWatchError(
            f"{len(waiting)} results of GetMetricData stayed incomplete after {ATTEMPTS} attempts, the first is "
            f"{_name(call.queries[waiting[0]])}: {first.status} {'; '.join(first.messages)}. Run the task again."
        )

    def _pages(self, call: Call, asked: Mapping[str, tuple[Query, _Answer]]) -> Usage:
        arguments: dict[str, Any] = {
            "MetricDataQueries": [_query(name, query) for name, (query, _) in asked.items()],
            "StartTime": call.start,
            "EndTime": call.end,
            "ScanBy": "TimestampAscending",
            "MaxDatapoints": MAX_POINTS,
        }
        tokens: set[str] = set()
        requests = results = 0
        points = call.points * len(asked) // len(call.queries)
        while True:
            page = self._ask(arguments, points)
            requests, results = requests + 1, results + len(page["MetricDataResults"])
            _take(page, asked)
            token = page.get("NextToken")
            if not token:
                return Usage(calls=requests, metrics=max(results, len(asked)))
            if token in tokens:
                raise CloudWatchError(f"GetMetricData gave the same token twice after {requests} pages: run it again")
            tokens.add(token)
            arguments["NextToken"] = token

    def _ask(self, arguments: Mapping[str, Any], points: int) -> Mapping[str, Any]:
        throttled: float | None = None
        while True:
            self.rate.wait(points, (clock.now() - arguments["StartTime"]).total_seconds())
            try:
                with named("cloudwatch:GetMetricData"):
                    page: Mapping[str, Any] = self.client.get_metric_data(**arguments)
                    return page
            except ThrottledError as error:
                now = self.rate.now()
                throttled = now if throttled is None else throttled
                if now - throttled >= self.patience_s:
                    raise ThrottledError(
                        f"GetMetricData has been throttled for {self.patience_s / 60:.0f} minutes: ask for a higher "
                        "quota of GetMetricData in this region, or see what else calls it. Nothing was written."
                    ) from error
                _log.warning("GetMetricData is throttled (for %.0f s by now): waiting", now - throttled)
                self.rate.sleep(PAUSE_S)


def _take(page: Mapping[str, Any], asked: Mapping[str, tuple[Query, _Answer]]) -> None:
    for message in page.get("Messages", ()):
        _log.warning("GetMetricData: %s %s", message.get("Code"), message.get("Value"))
    for result in page["MetricDataResults"]:
        query, answer = asked[result["Id"]]
        answer.add(result)
        for message in result.get("Messages", ()):
            _log.warning("%s: %s %s", _name(query), message.get("Code"), message.get("Value"))
        if answer.status == "Forbidden":
            raise ForbiddenError(
                f"{_name(query)} may not be read: allow cloudwatch:GetMetricData to the role of this connection"
            )


def _query(name: str, query: Query) -> dict[str, Any]:
    metric = query.metric
    return {
        "Id": name,
        "MetricStat": {
            "Metric": {
                "Namespace": metric.namespace,
                "MetricName": metric.metric,
                "Dimensions": metric.dimensions_of(query.instance_id),
            },
            "Period": query.period_s,
            "Stat": metric.stat,
            **({"Unit": metric.cloudwatch_unit} if metric.cloudwatch_unit else {}),
        },
        "ReturnData": True,
    }


def _name(query: Query) -> str:
    return f"{query.metric.namespace} {query.metric.metric} of {query.instance_id}"

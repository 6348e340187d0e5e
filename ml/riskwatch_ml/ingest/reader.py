"""Read GetMetricData completely: follow tokens, retry, translate errors.

A result is complete if its status is Complete. PartialData and InternalError continue with the token of the page.
Without a token, an incomplete result is requested again as a whole, in a call of its own.
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

from riskwatch_ml.core import aws_errors, clock
from riskwatch_ml.core.errors import OperationError
from riskwatch_ml.ingest.call_plan import MAX_POINTS, Call, Query, Usage
from riskwatch_ml.ingest.rate_limit import TokenBucket
from riskwatch_ml.schema.metric_rows import Series

ATTEMPTS = 4
THREADS = 8
# Datapoints in flight, unless two calls have more. A parsed response takes about 500 bytes per datapoint.
POINTS_UNDER_WAY = 200_000
# After this time of throttling the run fails, and its retry starts from the beginning.
PATIENCE_S = 600.0
PAUSE_S = 15.0
_NO_CREDENTIALS = (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError, TokenRetrievalError)

_log = logging.getLogger(__name__)


class CloudWatchError(OperationError):
    """CloudWatch refused or kept failing; the message names the request and the fix."""


class ForbiddenError(CloudWatchError):
    """The role has no permission; a retry does not help."""


class CredentialsError(CloudWatchError):
    """There are no credentials, or they have expired."""


class ThrottledError(CloudWatchError):
    """CloudWatch throttled for longer than the reader waits."""


@contextmanager
def translate_aws_errors(action: str) -> Iterator[None]:
    """Translate AWS errors of `action` into errors that name the fix.

    `action` is a permission such as "cloudwatch:ListMetrics".
    """
    try:
        yield
    except _NO_CREDENTIALS as error:
        raise CredentialsError(f"{action}: {error}: give the connection credentials or a role") from error
    except ClientError as error:
        code, text = aws_errors.code(error), aws_errors.message(error)
        if code in aws_errors.EXPIRED_CREDENTIALS:
            raise CredentialsError(
                f"{action}: the credentials are not valid any more ({code}: {text}): renew those of the connection, "
                "then clear the task"
            ) from error
        if code in aws_errors.ACCESS_DENIED:
            raise ForbiddenError(f"{action} is not allowed ({text or code}): allow it to the role in use") from error
        if code in aws_errors.THROTTLED:
            raise ThrottledError(
                f"{action} was throttled until the end ({text or code}): ask for a higher quota, or find other callers"
            ) from error
        raise


@dataclass
class _Answer:
    """The results of one query so far."""

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
    """Reads calls with one client, within the quota of one region.

    It waits up to `patience_s` seconds while CloudWatch throttles.
    """

    client: Any
    rate: TokenBucket
    patience_s: float = PATIENCE_S

    def read(self, calls: Sequence[Call]) -> Iterator[tuple[Call, list[Series], Usage]]:
        """Yield each call, in order, with one series per query and the usage.

        The values of a series are CloudWatch's, not scaled; its times are milliseconds since 1970-01-01T00:00Z. Several
        calls run at a time.

        Raises
        ------
        CloudWatchError
            A metric is forbidden, a result stayed incomplete, or credentials or patience ran out.
        """
        max_points = max((call.points for call in calls), default=1)
        threads = min(THREADS, max(2, POINTS_UNDER_WAY // max_points))
        with ThreadPoolExecutor(threads, thread_name_prefix="cloudwatch") as pool:
            for call, (answers, usage) in zip(calls, pool.map(self._read, calls), strict=True):
                series = [answer.series(query) for query, answer in zip(call.queries, answers, strict=True)]
                yield call, series, usage

    def _read(self, call: Call) -> tuple[list[_Answer], Usage]:
        answers = [_Answer() for _ in call.queries]
        incomplete = list(range(len(answers)))
        usage = Usage()
        for attempt in range(ATTEMPTS):
            if attempt:
                _log.warning(
                    "%d of %d results of GetMetricData are incomplete: retrying", len(incomplete), len(answers)
                )
                self.rate.sleep(2.0**attempt)
            for index in incomplete:
                # The whole result is requested again, so its values so far are dropped.
                answers[index] = _Answer()
            usage += self._pages(call, {f"m{index}": (call.queries[index], answers[index]) for index in incomplete})
            incomplete = [index for index in incomplete if answers[index].status != "Complete"]
            if not incomplete:
                return answers, usage
        first = answers[incomplete[0]]
        raise CloudWatchError(
            f"{len(incomplete)} results of GetMetricData stayed incomplete after {ATTEMPTS} attempts, the first is "
            f"{_name(call.queries[incomplete[0]])}: {first.status} {'; '.join(first.messages)}. Run the task again."
        )

    def _pages(self, call: Call, asked: Mapping[str, tuple[Query, _Answer]]) -> Usage:
        arguments: dict[str, Any] = {
            "MetricDataQueries": [_query(result_id, query) for result_id, (query, _) in asked.items()],
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
                raise CloudWatchError(
                    f"GetMetricData returned the same token twice after {requests} pages: run the task again"
                )
            tokens.add(token)
            arguments["NextToken"] = token

    def _ask(self, arguments: Mapping[str, Any], points: int) -> Mapping[str, Any]:
        throttled_since: float | None = None
        while True:
            self.rate.wait(points, (clock.now() - arguments["StartTime"]).total_seconds())
            try:
                with translate_aws_errors("cloudwatch:GetMetricData"):
                    page: Mapping[str, Any] = self.client.get_metric_data(**arguments)
                    return page
            except ThrottledError as error:
                now = self.rate.now()
                throttled_since = now if throttled_since is None else throttled_since
                if now - throttled_since >= self.patience_s:
                    raise ThrottledError(
                        f"GetMetricData has been throttled for {self.patience_s / 60:.0f} minutes: ask for a higher "
                        "quota of GetMetricData in this region, or find other callers. Nothing was written."
                    ) from error
                _log.warning("GetMetricData has been throttled for %.0f s: waiting", now - throttled_since)
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


def _query(result_id: str, query: Query) -> dict[str, Any]:
    metric = query.metric
    return {
        "Id": result_id,
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

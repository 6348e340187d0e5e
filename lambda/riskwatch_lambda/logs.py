"""One-line JSON logs and metrics; counts and names only, never a payload."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

NAMESPACE = "Riskwatch"


def log(level: str, event: str, **fields: object) -> None:
    """Print one log line."""
    print(json.dumps({"level": level, "event": event, **fields}), flush=True)


def metrics(
    now_ms: int, model_version: str, counts: Mapping[str, int], times_ms: Mapping[str, int], **about: object
) -> None:
    """Print one line in CloudWatch's embedded metric format: each metric in total and by version of the function.

    ``about`` says what the line is about when it is read as a log; it becomes no metric.
    """
    definitions = [{"Name": name, "Unit": "Count"} for name in counts]
    definitions += [{"Name": name, "Unit": "Milliseconds"} for name in times_ms]
    directive = {"Namespace": NAMESPACE, "Dimensions": [[], ["ModelVersion"]], "Metrics": definitions}
    line = {"_aws": {"Timestamp": now_ms, "CloudWatchMetrics": [directive]}, "ModelVersion": model_version}
    print(json.dumps({**line, **about, **counts, **times_ms}), flush=True)


def sign_of_life(now_ms: int, name: str) -> None:
    """Print one line in the same format: a metric that is 1, by the name of the function.

    For an alarm on its absence: other stacks of the account, which share the namespace, must not hold it back.
    """
    directive = {
        "Namespace": NAMESPACE,
        "Dimensions": [["FunctionName"]],
        "Metrics": [{"Name": name, "Unit": "Count"}],
    }
    function = os.environ.get("AWS_LAMBDA_FUNCTION_NAME", "unknown")
    line = {"_aws": {"Timestamp": now_ms, "CloudWatchMetrics": [directive]}, "FunctionName": function}
    print(json.dumps({**line, name: 1}), flush=True)

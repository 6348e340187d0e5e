"""One-line JSON logs and metrics. They hold counts and names, never a payload."""

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
    """Print one line in CloudWatch's embedded metric format.

    CloudWatch stores each metric in total and by function version. ``about`` adds log fields that become no metric.
    """
    definitions = [{"Name": name, "Unit": "Count"} for name in counts]
    definitions += [{"Name": name, "Unit": "Milliseconds"} for name in times_ms]
    directive = {"Namespace": NAMESPACE, "Dimensions": [[], ["ModelVersion"]], "Metrics": definitions}
    line = {"_aws": {"Timestamp": now_ms, "CloudWatchMetrics": [directive]}, "ModelVersion": model_version}
    print(json.dumps({**line, **about, **counts, **times_ms}), flush=True)


def count_one(now_ms: int, name: str, level: str, event: str, **fields: object) -> None:
    """Print one log line that also counts 1 in a metric. ``now_ms`` is the wall clock in epoch milliseconds."""
    directive = {"Namespace": NAMESPACE, "Dimensions": [[]], "Metrics": [{"Name": name, "Unit": "Count"}]}
    embedded = {"Timestamp": now_ms, "CloudWatchMetrics": [directive]}
    log(level, event, **fields, **{name: 1}, _aws=embedded)


def heartbeat(now_ms: int, name: str) -> None:
    """Print a metric of value 1 with the function name as its dimension.

    An alarm watches for its absence. The dimension separates stacks of one account, which share the namespace.
    """
    directive = {
        "Namespace": NAMESPACE,
        "Dimensions": [["FunctionName"]],
        "Metrics": [{"Name": name, "Unit": "Count"}],
    }
    function = os.environ.get("AWS_LAMBDA_FUNCTION_NAME", "unknown")
    line = {"_aws": {"Timestamp": now_ms, "CloudWatchMetrics": [directive]}, "FunctionName": function}
    print(json.dumps({**line, name: 1}), flush=True)

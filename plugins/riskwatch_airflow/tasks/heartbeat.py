"""The heartbeat of a DAG: a metric that says that a run of it has succeeded.

The template has an alarm for each DAG that reports one. It goes off if the metric stays away, whatever the reason:
Airflow is down, the DAG is paused, or its runs fail.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from riskwatch_airflow import clients
from riskwatch_ml.core import settings

if TYPE_CHECKING:
    from collections.abc import Mapping

NAMESPACE = "Riskwatch"
METRIC = "RunsSucceeded"
_REFUSED = ("AccessDenied", "AccessDeniedException")

_log = logging.getLogger(__name__)


def report(context: Mapping[str, Any]) -> None:
    """Put one datapoint of `RunsSucceeded` with the function and the DAG as dimensions.

    A backfill reports nothing: it says nothing of the schedule. Without the permission the run stays green and a
    warning names the permission; the alarm, which then has no datapoint, goes off.
    """
    run = context["dag_run"]
    if run.run_type == "backfill":
        return
    config = settings.load()
    dimensions = [{"Name": "FunctionName", "Value": config.function}, {"Name": "DagId", "Value": run.dag_id}]
    datum = {"MetricName": METRIC, "Dimensions": dimensions, "Value": 1.0, "Unit": "Count"}
    try:
        clients.client(config, "cloudwatch").put_metric_data(Namespace=NAMESPACE, MetricData=[datum])
    except ClientError as error:
        if error.response["Error"]["Code"] not in _REFUSED:
            raise
        _log.warning(
            "the heartbeat of %s was not reported: allow cloudwatch:PutMetricData for the namespace %s, as "
            "AirflowPolicy in infra/riskwatch_infra/stack.yaml does (%s)",
            *(run.dag_id, NAMESPACE, error),
        )

"""The heartbeat of a DAG: a metric that reports each successful run.

The CloudFormation template has an alarm for each DAG that reports one. It goes off if the metric is missing, whatever
the reason: Airflow is down, the DAG is paused, or its runs fail.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from riskwatch_airflow import clients
from riskwatch_ml.core import aws_errors, settings

if TYPE_CHECKING:
    from airflow.sdk import Context

NAMESPACE = "Riskwatch"
METRIC = "RunsSucceeded"

_log = logging.getLogger(__name__)


def report(context: Context) -> None:
    """Put one datapoint of `RunsSucceeded` with the function and the DAG as dimensions.

    A backfill reports nothing: it is no sign that the schedule works. Without the permission the run stays green and a
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
        if aws_errors.code(error) not in aws_errors.ACCESS_DENIED:
            raise
        _log.warning(
            "the heartbeat of %s was not reported: allow cloudwatch:PutMetricData for the namespace %s, as "
            "AirflowPolicy in infra/riskwatch_infra/stack.yaml does (%s)",
            *(run.dag_id, NAMESPACE, error),
        )

"""Runs as Airflow describes them to a task: the SDK's own model of a run, and times as pendulum values."""

from airflow.sdk.api.datamodels._generated import DagRun, DagRunState
from airflow.sdk.timezone import coerce_datetime


def run(run_after, run_type="scheduled", *, started=None, start=None, end=None, dag_id="dag"):
    """Return the run as `context["dag_run"]` has it; it started when it was due if `started` is not given."""
    return DagRun(
        dag_id=dag_id,
        run_id=f"{run_type}__{run_after.isoformat()}",
        logical_date=start or run_after,
        data_interval_start=start or run_after,
        data_interval_end=end or run_after,
        run_after=run_after,
        start_date=started or run_after,
        end_date=None,
        run_type=run_type,
        state=DagRunState.RUNNING,
        consumed_asset_events=[],
        partition_key=None,
    )


def times(start, end):
    """Return the data interval as the context has it: the SDK coerces both ends to pendulum values."""
    return {"data_interval_start": coerce_datetime(start), "data_interval_end": coerce_datetime(end)}

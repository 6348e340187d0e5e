"""Runs of export_metrics: the hour that most tests export, and a run of its tasks."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

from riskwatch_airflow.tasks import export

NINE = datetime(2026, 11, 22, 9, tzinfo=UTC)
TEN = NINE + timedelta(hours=1)


def exported(context, *shards):
    """Run the DAG's tasks: fetch for every shard, validate."""
    return export.validate(context, export.joined([export.fetch(context, shard) for shard in shards or ("default",)]))


def of_run(context, start, end, kind="manual", params=None):
    """Return the context of another run."""
    return {
        **context,
        "data_interval_start": start,
        "data_interval_end": end,
        "dag_run": SimpleNamespace(run_type=kind),
        "params": params or {},
    }

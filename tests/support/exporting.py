"""Runs of export_metrics: the hour that most tests export, and a run of its tasks."""

from datetime import UTC, datetime, timedelta

from riskwatch_airflow.tasks import export
from tests.support import runs

NINE = datetime(2026, 11, 22, 9, tzinfo=UTC)
TEN = NINE + timedelta(hours=1)


def exported(context, *account_regions):
    """Run the DAG's tasks: fetch for every shard, validate."""
    fetched = [
        runs.handed_on(export.fetch(context, account_region)) for account_region in account_regions or ("default",)
    ]
    return runs.handed_on(export.validate(context, export.joined(fetched)))


def from_run(context, start, end, kind="manual", params=None):
    """Return the context of another run."""
    return {
        **context,
        **runs.times(start, end),
        "dag_run": runs.run(end or TEN, kind, start=start, end=end),
        "params": params or {},
    }

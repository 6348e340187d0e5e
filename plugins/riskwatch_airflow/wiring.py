"""What all DAG files share: owner, retries, time limits, the first date, the schedules of the settings, the heartbeat.

Nothing here is heavier than `airflow.sdk`: DAG files are parsed every few seconds.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import (
    Asset,
    AssetOrTimeSchedule,
    CronDataIntervalTimetable,
    CronTriggerTimetable,
    Param,
    TriggerRule,
    get_current_context,
    task,
)

from riskwatch_ml.core import settings

START_DATE = datetime(2025, 1, 1, tzinfo=UTC)
# No task runs for longer, unless its DAG file says so.
LONGEST_TASK = timedelta(hours=1)
DEFAULT_ARGS = {
    "owner": "riskwatch",
    "retries": 2,
    "retry_delay": timedelta(seconds=20),
    "execution_timeout": LONGEST_TASK,
}


def common(longest_run: timedelta, *, runs: int = 2) -> dict[str, Any]:
    """Return the arguments that all DAGs share; a run fails after `longest_run`.

    Two runs may be active at a time. Airflow measures a run from its own clock: a run that was started while that clock
    was ahead can neither go on nor time out before the right time has caught up. Meanwhile the other slot serves the
    schedule. Tasks that must not overlap say so themselves (`ALONE`).
    """
    return {
        "start_date": START_DATE,
        "catchup": False,
        "max_active_runs": runs,
        "dagrun_timeout": longest_run,
        "default_args": DEFAULT_ARGS,
    }


# For a task of which only one may run at a time, whichever run it belongs to.
ALONE: dict[str, Any] = {"max_active_tis_per_dag": 1}


def intervals(dag: str) -> CronDataIntervalTimetable | None:
    """Return a schedule whose runs have a data interval, which a cron text alone does not give."""
    cron = settings.schedules()[dag]
    return None if cron is None else CronDataIntervalTimetable(cron, "UTC")


def moments(dag: str) -> CronTriggerTimetable | None:
    """Return a schedule whose runs are moments, without data interval."""
    cron = settings.schedules()[dag]
    return None if cron is None else CronTriggerTimetable(cron, timezone="UTC")


def moments_or(dag: str, asset: Asset) -> AssetOrTimeSchedule | list[Asset]:
    """Return a schedule of moments and of events of the asset; of the asset alone where the DAG is manual."""
    timetable = moments(dag)
    return [asset] if timetable is None else AssetOrTimeSchedule(timetable=timetable, assets=[asset])


def heartbeat() -> Any:
    """Return the last task of a DAG: it reports that the run has done its work, see `tasks.heartbeat`.

    It follows the tasks of which one at least must have succeeded, and none may have failed.
    """

    @task(trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS)
    def heartbeat() -> None:
        from riskwatch_airflow.tasks import heartbeat as body

        body.report(get_current_context())

    return heartbeat()


def interval_params(purpose: str) -> dict[str, Param]:
    """Return the params start and end, both optional."""
    return {
        name: Param(
            None, type=["null", "string"], format="date-time", title=name, description=f"{purpose}, e.g. {example}"
        )
        for name, example in (("start", "2026-11-22T10:00:00Z"), ("end", "2026-11-22T12:00:00Z"))
    }

"""What all DAG files share: owner, retries, time limits, start date, schedules, params and the heartbeat.

Nothing here is heavier than `airflow.sdk`: DAG files are parsed every few seconds.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypedDict

from airflow.sdk import (
    Asset,
    AssetOrTimeSchedule,
    CronDataIntervalTimetable,
    CronTriggerTimetable,
    Param,
    TaskGroup,
    TriggerRule,
    get_current_context,
    task,
)

from riskwatch_ml.core import disk, settings
from riskwatch_ml.schema import catalogue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow.sdk import Context

_log = logging.getLogger(__name__)
START_DATE = datetime(2025, 1, 1, tzinfo=UTC)
# The time limit of a task, unless its DAG file sets another.
LONGEST_TASK = timedelta(hours=1)


class DefaultArguments(TypedDict):
    """The arguments of every task, unless it sets others."""

    owner: str
    retries: int
    retry_delay: timedelta
    execution_timeout: timedelta
    on_failure_callback: Callable[[Context], None]
    on_retry_callback: Callable[[Context], None]


class DagArguments(TypedDict):
    """The arguments that all DAGs share."""

    start_date: datetime
    catchup: bool
    max_active_runs: int
    dagrun_timeout: timedelta
    default_args: DefaultArguments


class TaskLimits(TypedDict):
    """The arguments of a task that limit how often it runs at the same time."""

    max_active_tis_per_dag: int


def name_full_disk(context: Context) -> None:
    """Log that the disk is full, if that is why the task of `context` failed: the last line of its log says so."""
    error = context.get("exception")
    if isinstance(error, BaseException) and (full := disk.explanation(error)):
        _log.error("%s", full)


DEFAULT_ARGS: DefaultArguments = {
    "owner": "riskwatch",
    "retries": 2,
    "retry_delay": timedelta(seconds=20),
    "execution_timeout": LONGEST_TASK,
    "on_failure_callback": name_full_disk,
    "on_retry_callback": name_full_disk,
}


def common(longest_run: timedelta, *, runs: int = 2) -> DagArguments:
    """Return the arguments that all DAGs share; a run fails after `longest_run`, and `runs` may be active at a time.

    Two is the default because Airflow measures a run by its own clock: a run that was started while that clock was
    ahead can neither continue nor time out until real time has caught up. Meanwhile the other slot serves the schedule.
    Tasks that must not overlap are marked with `ALONE`.
    """
    return {
        "start_date": START_DATE,
        "catchup": False,
        "max_active_runs": runs,
        "dagrun_timeout": longest_run,
        "default_args": DEFAULT_ARGS,
    }


# For a task that may run only once at a time, across all runs of its DAG.
ALONE: TaskLimits = {"max_active_tis_per_dag": 1}


def intervals(dag: str) -> CronDataIntervalTimetable | None:
    """Return a schedule that gives each run a data interval, or None if the DAG is manual.

    A cron text alone would give runs without data interval.
    """
    cron = settings.schedules()[dag]
    return None if cron is None else CronDataIntervalTimetable(cron, "UTC")


def moments(dag: str) -> CronTriggerTimetable | None:
    """Return a schedule that gives runs no data interval, or None if the DAG is manual."""
    cron = settings.schedules()[dag]
    return None if cron is None else CronTriggerTimetable(cron, timezone="UTC")


def moments_or(dag: str, asset: Asset) -> AssetOrTimeSchedule | list[Asset]:
    """Return a schedule by time and by events of the asset, or by the asset alone if the DAG is manual."""
    timetable = moments(dag)
    return [asset] if timetable is None else AssetOrTimeSchedule(timetable=timetable, assets=[asset])


def kinds() -> list[str]:
    """Return the kinds of resources of the installation, the first one first."""
    return [metrics.kind for metrics in catalogue.load_all(settings.catalogues())]


@contextmanager
def tasks_of(kind: str, first: str) -> Iterator[None]:
    """Put the tasks that are defined inside into a group with the name of their kind; those of the first are in none.

    So the task ids of an installation with one kind are the names of the tasks alone.
    """
    if kind == first:
        yield
    else:
        with TaskGroup(kind):
            yield


def heartbeat() -> Any:
    """Return the last task of a DAG, which reports that the run has succeeded; see `tasks.heartbeat`.

    It runs if none of the tasks before it failed and at least one succeeded.
    """

    @task(trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS)
    def heartbeat() -> None:
        from riskwatch_airflow.tasks import heartbeat as body

        body.report(get_current_context())

    return heartbeat()


def interval_params(purpose: str) -> dict[str, Param]:
    """Return the params start and end of a run by hand, both optional; `purpose` describes them."""
    return {
        name: Param(
            None, type=["null", "string"], format="date-time", title=name, description=f"{purpose}, e.g. {example}"
        )
        for name, example in (("start", "2026-11-22T10:00:00Z"), ("end", "2026-11-22T12:00:00Z"))
    }

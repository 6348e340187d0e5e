"""What all DAG files share: owner, retries, the first date and the schedules that the settings name.

Nothing here is heavier than `airflow.sdk`: DAG files are parsed every few seconds.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import Asset, AssetOrTimeSchedule, CronDataIntervalTimetable, CronTriggerTimetable, Param

from riskwatch_ml.core import settings

START_DATE = datetime(2025, 1, 1, tzinfo=UTC)
DEFAULT_ARGS = {"owner": "riskwatch", "retries": 2, "retry_delay": timedelta(seconds=20)}
COMMON: dict[str, Any] = {
    "start_date": START_DATE,
    "catchup": False,
    "max_active_runs": 1,
    "default_args": DEFAULT_ARGS,
}


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


def interval_params(purpose: str) -> dict[str, Param]:
    """Return the params start and end, both optional."""
    return {
        name: Param(
            None, type=["null", "string"], format="date-time", title=name, description=f"{purpose}, e.g. {example}"
        )
        for name, example in (("start", "2026-11-22T10:00:00Z"), ("end", "2026-11-22T12:00:00Z"))
    }

"""The times of a run as plain values: when it was due, when it started, and the interval that it works on.

Airflow passes times as pendulum values or as datetimes of any zone. Tasks read them through this module only.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, cast

from riskwatch_ml.core import clock
from riskwatch_ml.core.errors import UserInputError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from airflow.sdk import Context

    from riskwatch_ml.core.settings import Settings

_DAY_S = 86_400


class IntervalError(UserInputError):
    """A run has no usable interval; the message says what was given and what to give."""


def due(context: Context) -> datetime:
    """Return the moment (UTC) at which the run was due."""
    return clock.utc(context["dag_run"].run_after)


def started(context: Context) -> datetime:
    """Return the moment (UTC) at which the run started.

    A task that is tried again sees the same moment; a run that is cleared after its end starts again. Runs that catch
    up, and runs with an older logical date, are therefore in the order in which they really ran.
    """
    # Airflow starts a run before it starts one of its tasks.
    return clock.utc(cast("datetime", context["dag_run"].start_date))


def given(params: Mapping[str, object], period_s: int, now: datetime) -> tuple[datetime, datetime] | None:
    """Return [start, end) from the params of a run, or None if they have neither.

    Both are UTC and lie on the grid of `period_s` seconds. Raises IntervalError if only one is given, or as `from_run`
    does, and ClockError if one is not a time.
    """
    start, end = params.get("start"), params.get("end")
    if not start and not end:
        return None
    if not start or not end:
        raise IntervalError(f"only {'start' if start else 'end'} is given: give both start and end, or neither")
    return _checked(clock.parse(str(start)), clock.parse(str(end)), period_s, now)


def from_run(context: Context, period_s: int, now: datetime) -> tuple[datetime, datetime]:
    """Return [start, end) of a run: its params, else its data interval, else the last whole hour before `now`.

    A run by hand or by an asset has no data interval if the DAG has no schedule. Raises IntervalError if the interval
    is empty, inverted or not over yet.
    """
    by_params = given(context.get("params") or {}, period_s, now)
    if by_params:
        return by_params
    start: datetime | None = context.get("data_interval_start")
    end: datetime | None = context.get("data_interval_end")
    # A run by hand of a DAG without schedule has an interval of no length.
    if start is None or end is None or start == end:
        end = clock.floor(now, 3600)
        start = end - timedelta(hours=1)
    return _checked(start, end, period_s, now)


def with_reread(context: Context, start: datetime, end: datetime, config: Settings) -> tuple[datetime, datetime]:
    """Return [start, end) extended by the hours that a run reads again, because late values may have changed them.

    A run on its schedule reads `reread_hours` again: agents that were cut off catch up, and GetMetricData is paid by
    the metric, not by the hour. Values that arrive a day or more late may take CloudWatch 48 hours and more to show, so
    the first run of a day (UTC) reads `reread_days` again. Runs by hand and backfills read exactly [start, end).
    """
    if not is_scheduled(context):
        return start, end
    first = clock.floor(start, _DAY_S) > start - (end - start)
    hours = max(config.reread_hours, 24 * config.reread_days) if first else config.reread_hours
    return clock.floor(start - timedelta(hours=hours), 3600), end


def is_scheduled(context: Context) -> bool:
    """Return whether the schedule made the run, and neither a person, an asset nor a backfill."""
    run = context.get("dag_run")
    return run is not None and run.run_type == "scheduled"


def _checked(start: datetime, end: datetime, period_s: int, now: datetime) -> tuple[datetime, datetime]:
    start, end = clock.utc(start), clock.utc(end)
    low, high = clock.floor(start, period_s), clock.floor(end, period_s)
    if low >= high:
        shown = f"from {clock.iso(start)} to {clock.iso(end)}"
        raise IntervalError(f"the interval {shown} holds no full period of {period_s} s: end must lie after start")
    if high > now:
        raise IntervalError(
            f"the interval ends at {clock.iso(high)}, which is not over yet: it is {clock.iso(now)} now"
        )
    return low, high

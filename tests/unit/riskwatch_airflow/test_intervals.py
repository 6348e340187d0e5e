"""Which interval a run works on."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from riskwatch_airflow import intervals
from riskwatch_airflow.intervals import IntervalError
from tests.support import runs

TEN = datetime(2026, 11, 22, 10, tzinfo=UTC)
NOW = TEN + timedelta(hours=2)


def test_params_come_before_the_data_interval():
    # GIVEN a run with both
    context = {
        "params": {"start": "2026-11-22T10:02:00Z", "end": "2026-11-22T11:00:00+00:00"},
        **runs.times(TEN - timedelta(days=1), TEN),
    }

    # WHEN / THEN the params count, cut to the grid
    assert intervals.from_run(context, 300, NOW) == (TEN, TEN + timedelta(hours=1))


def test_the_data_interval_without_params():
    # GIVEN / WHEN / THEN
    context = {"params": {"start": None, "end": None}, **runs.times(TEN, NOW)}
    assert intervals.from_run(context, 300, NOW) == (TEN, NOW)


@pytest.mark.parametrize("context", [{"params": {}}, runs.times(TEN, TEN)])
def test_a_run_without_params_and_without_interval_takes_the_last_whole_hour(context):
    # GIVEN / WHEN / THEN at 12:03 that is the hour from eleven
    assert intervals.from_run(context, 300, NOW + timedelta(minutes=3)) == (NOW - timedelta(hours=1), NOW)


def test_no_pendulum_value_gets_past_the_first_line():
    # GIVEN a run as Airflow describes it to a task
    context = {**runs.times(TEN, NOW), "dag_run": runs.run(NOW, started=NOW + timedelta(minutes=1))}
    assert type(context["data_interval_start"]) is not datetime

    # WHEN
    times = (*intervals.from_run(context, 300, NOW), intervals.due(context), intervals.started(context))

    # THEN
    assert [type(moment) for moment in times] == [datetime] * 4
    assert times == (TEN, NOW, NOW, NOW + timedelta(minutes=1))


@pytest.mark.parametrize(
    ("context", "words"),
    [
        ({"params": {"start": "2026-11-22T10:00:00Z"}}, "only start is given"),
        ({"params": {"start": "2026-11-22T11:00:00Z", "end": "2026-11-22T10:00:00Z"}}, "end must lie after start"),
        ({"params": {"start": "2026-11-22T10:00:00Z", "end": "2026-11-22T10:04:59Z"}}, "holds no full period of 300 s"),
        ({"params": {"start": "2026-11-22T10:00:00Z", "end": "2026-11-22T12:05:00Z"}}, "is not over yet"),
    ],
)
def test_intervals_that_cannot_be_used(context, words):
    # GIVEN / WHEN / THEN
    with pytest.raises(IntervalError, match=words):
        intervals.from_run(context, 300, NOW)


@pytest.mark.parametrize(
    ("kind", "start", "hours", "since"),
    [
        ("scheduled", TEN, 1, TEN - timedelta(hours=3)),
        ("scheduled", TEN + timedelta(minutes=15), 0.25, TEN - timedelta(hours=3)),
        ("scheduled", datetime(2026, 11, 22, tzinfo=UTC), 1, datetime(2026, 11, 19, tzinfo=UTC)),
        ("scheduled", datetime(2026, 11, 22, tzinfo=UTC), 24, datetime(2026, 11, 19, tzinfo=UTC)),
        ("backfill", TEN, 1, TEN),
        ("manual", TEN, 1, TEN),
    ],
)
def test_a_run_on_its_schedule_reads_the_hours_before_again(kind, start, hours, since):
    # GIVEN
    config = SimpleNamespace(reread_hours=3, reread_days=3)
    end = start + timedelta(hours=hours)

    # WHEN / THEN whole hours before the interval, three days for the first run of a day
    found = intervals.with_reread({"dag_run": runs.run(end, kind)}, start, end, config)
    assert found == (since, end)

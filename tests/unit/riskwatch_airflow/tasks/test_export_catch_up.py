"""Hours that no run has exported, because Airflow was down: the next scheduled run reads them, or names them."""

from datetime import timedelta

import pytest

from riskwatch_airflow.tasks import export
from riskwatch_ml.core import clock
from tests.support.exporting import NINE, TEN, from_run

HOUR = timedelta(hours=1)


def scheduled(context, end=TEN):
    return from_run(context, end - HOUR, end, "scheduled")


@pytest.fixture
def week(aws):
    """Two weeks of an instance in CloudWatch."""
    aws.cloudwatch.fill("CPUUtilization", "a", TEN - timedelta(days=14), 14 * 288, 50.0)
    return aws


def exported_hours(aws):
    return {key.split("part-")[0] for key in aws.s3.objects if key.startswith("raw/dt=")}


@pytest.mark.parametrize("hours_down", [2, 5, 24 * 4])
def test_the_run_after_an_outage_leaves_no_hole(week, context, hours_down):
    # GIVEN an export, and then none for some hours
    before = TEN - HOUR * hours_down
    export.fetch(from_run(context, before - HOUR, before))

    # WHEN the schedule goes on, which makes one run for the newest hour
    fetched = export.fetch(scheduled(context))

    # THEN every hour since is there, and nothing is left out
    since = before - HOUR
    hours = {
        f"raw/dt={moment:%Y-%m-%d}/hh={moment:%H}/" for step in range(hours_down) if (moment := since + HOUR * step)
    }
    assert hours <= exported_hours(week)
    assert fetched["left_out"] == []


def test_what_lies_too_long_ago_is_named(week, context, caplog):
    # GIVEN an export of two weeks ago, and then none
    old = clock.floor(TEN - timedelta(days=13, hours=20), 3600)
    export.fetch(from_run(context, old, old + HOUR))

    # WHEN
    fetched = export.fetch(scheduled(context))

    # THEN thirteen days are read, and the log says which hours are not and how they are
    first = clock.floor(clock.now() - timedelta(days=13), 3600)
    assert fetched["left_out"] == [clock.iso(old + HOUR), clock.iso(first)]
    dates = f"--from-date {clock.iso(old + HOUR)} --to-date {clock.iso(first - HOUR)}"
    assert f"airflow backfill create --dag-id export_metrics {dates} --reprocess-behavior failed`" in caplog.text
    assert (
        min(exported_hours(week) - {f"raw/dt={old:%Y-%m-%d}/hh={old:%H}/"}) == f"raw/dt={first:%Y-%m-%d}/hh={first:%H}/"
    )


def test_an_hour_that_an_outage_cut_short_is_completed(week, context):
    # GIVEN runs of a quarter of an hour, the last one at 05:15
    six = TEN - 4 * HOUR
    export.fetch(from_run(context, six - HOUR, six - HOUR + HOUR / 4))

    # WHEN the schedule goes on at 10:00, so that the hours from 06:00 on are read again in any case
    export.fetch(from_run(context, TEN - HOUR / 4, TEN, "scheduled"))

    # THEN the hour from five is whole
    assert len(week.store.read_hours("raw", six - HOUR, six)) == 12


@pytest.mark.parametrize("kind", ["manual", "backfill"])
def test_a_run_by_hand_and_a_backfill_read_what_they_were_asked_for(week, context, kind):
    # GIVEN an export five hours ago
    export.fetch(from_run(context, TEN - 6 * HOUR, TEN - 5 * HOUR))
    before = exported_hours(week)

    # WHEN / THEN
    export.fetch(from_run(context, NINE, TEN, kind))
    assert exported_hours(week) - before == {f"raw/dt={NINE:%Y-%m-%d}/hh={NINE:%H}/"}


def test_a_new_account_has_nothing_to_catch_up(week, context):
    # GIVEN nothing exported WHEN / THEN the hour and the three that are read again
    fetched = export.fetch(scheduled(context))
    assert len(exported_hours(week)) == 4
    assert fetched["left_out"] == []

"""The start of a scheduled export after runs that read nothing."""

from datetime import UTC, datetime, timedelta

import pytest

from riskwatch_ml.ingest.catch_up import LONGEST, resume
from riskwatch_ml.schema import catalogue
from riskwatch_ml.storage import keys
from riskwatch_ml.storage.bucket import Store
from tests.support.bucket import Bucket

TEN = datetime(2026, 11, 22, 10, tzinfo=UTC)
NOW = TEN + timedelta(hours=1)
HOUR = timedelta(hours=1)
KINDS = catalogue.load_all(("ec2", "rds"))


@pytest.fixture
def store():
    return Store(Bucket(), "bucket")


def export(store, hour, part="default", kind=0):
    store.put_bytes(keys.hour_key(keys.of_kind(keys.RAW, KINDS[kind]), hour, part), b"rows")


def test_an_hour_of_any_kind_was_exported(store):
    # GIVEN databases, and no instance of the first kind
    export(store, TEN - 3 * HOUR, kind=1)

    # WHEN / THEN
    assert resume(store, KINDS, "default", TEN, HOUR, NOW) == (TEN - 3 * HOUR, ())


def test_a_new_account_starts_at_the_interval(store):
    # GIVEN hours of another account only
    export(store, TEN - 5 * HOUR, "other")

    # WHEN / THEN
    assert resume(store, KINDS, "default", TEN, HOUR, NOW) == (TEN, ())


def test_without_a_gap_the_start_stays(store):
    # GIVEN
    export(store, TEN - HOUR)

    # WHEN / THEN
    assert resume(store, KINDS, "default", TEN, HOUR, NOW) == (TEN, ())


def test_runs_within_an_hour_read_the_newest_hour_again(store):
    # GIVEN
    export(store, TEN - HOUR)

    # WHEN / THEN
    assert resume(store, KINDS, "default", TEN, HOUR / 2, NOW) == (TEN - HOUR, ())


def test_the_start_moves_back_to_the_newest_hour(store, caplog):
    # GIVEN an outage of two days
    export(store, TEN - 48 * HOUR)

    # WHEN / THEN the log says so
    assert resume(store, KINDS, "default", TEN, HOUR, NOW) == (TEN - 48 * HOUR, ())
    assert "[2026-11-20T10:00:00.000Z, 2026-11-22T10:00:00.000Z) was not exported by earlier runs" in caplog.text


def test_hours_that_are_too_old_are_a_gap_to_report(store, caplog):
    # GIVEN an outage of 20 days
    newest = TEN - timedelta(days=20)
    export(store, newest)

    # WHEN
    start, gap = resume(store, KINDS, "default", TEN, HOUR, NOW)

    # THEN the run starts at the oldest hour that CloudWatch lists, and the log has the command for the rest
    assert start == NOW - LONGEST
    assert gap == (newest + HOUR, NOW - LONGEST)
    assert "airflow backfill create --dag-id export_metrics --from-date 2026-11-02T11:00:00.000Z" in caplog.text


def test_an_interval_that_is_too_old_itself_stays(store):
    # GIVEN
    export(store, TEN - timedelta(days=40))

    # WHEN / THEN a run by hand for an old interval reads that interval only
    old = NOW - LONGEST - HOUR
    assert resume(store, KINDS, "default", old, HOUR, NOW) == (old, ())

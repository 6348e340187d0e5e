"""Coverage: which instances a model must know, and which may differ."""

from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from riskwatch_ml.artifact import archive
from riskwatch_ml.artifact.archive import KnownNames
from riskwatch_ml.schema import catalogue
from riskwatch_ml.selection import coverage
from riskwatch_ml.selection.coverage import Coverage, Seen
from riskwatch_ml.storage.bucket import Store
from tests.support.bucket import Bucket

TEN = datetime(2026, 11, 22, 10, tzinfo=UTC)
NOW = TEN + timedelta(minutes=7)
HOUR_MS = 3_600_000
ENOUGH = Seen(24, 0, 23 * HOUR_MS)


@pytest.fixture
def store():
    return Store(Bucket(), "bucket")


def report(store, names, start, end):
    """Validated rows of some instances, five minutes apart, in [start, end)."""
    times = pd.date_range(start, end, freq="5min", inclusive="left").as_unit("ms")
    rows = pd.concat(
        [pd.DataFrame({"instance_id": name, "timestamp": times, "cpu_utilization": 1.0}) for name in names],
        ignore_index=True,
    )
    store.write_hours("validated", rows, start, end, "part-" + names[0])


def artifact_of(monkeypatch, *known):
    monkeypatch.setattr(archive, "known_names", lambda zip_bytes: KnownNames(frozenset(known), frozenset()))
    return b"zip"


def test_a_model_of_two_lab_machines_misses_the_fleet():
    # GIVEN twelve instances that report and have rows for a baseline, and a model of two others
    fleet = {f"web-{number:02}": ENOUGH for number in range(12)}

    # WHEN they are compared
    found = coverage.compare({"lab-1", "lab-2"}, fleet, fleet)

    # THEN the refusal counts all, names ten and says what to do; the lab's machines have left
    assert len(found.missing) == 12
    assert found.left == ("lab-1", "lab-2")
    assert "12 instances (web-00, web-01" in found.refusal
    assert "web-09 and 2 more" in found.refusal
    assert "web-10" not in found.refusal
    assert "run train_models" in found.refusal


@pytest.mark.parametrize(
    ("seen", "is_missing"),
    [
        pytest.param(ENOUGH, True, id="24 rows in 23 hours"),
        pytest.param(Seen(23, 0, 23 * HOUR_MS), False, id="a row less"),
        pytest.param(Seen(276, 0, 23 * HOUR_MS - 1), False, id="a shorter span"),
        pytest.param(None, False, id="no row before the training"),
    ],
)
def test_an_instance_is_missing_from_the_rows_of_a_baseline_on(seen, is_missing):
    # GIVEN a new instance with so many rows, WHEN a model without it is compared
    found = coverage.compare({"web-1"}, {"web-1", "web-2"}, {"web-2": seen} if seen else {})

    # THEN it blocks from enough rows on, and is listed as too new before
    assert found == Coverage(missing=("web-2",)) if is_missing else found == Coverage(too_new=("web-2",))
    assert bool(found.refusal) is is_missing


def test_instances_that_left_or_are_too_new_do_not_block_and_are_named():
    # GIVEN an autoscaled fleet: web-1 is gone, web-2 stays, web-3 has come
    found = coverage.compare({"web-1", "web-2"}, {"web-2", "web-3"}, {"web-2": ENOUGH})

    # WHEN / THEN
    assert found.refusal == ""
    assert found.note == ("1 instance (web-3) too new for a baseline; 1 instance (web-1) without rows for 24 hours")


def test_rows_that_came_after_the_training_do_not_block_its_release(store, monkeypatch):
    # GIVEN web-1, and web-2 for 25 hours: it was too new for the training of three hours ago
    report(store, ["web-1"], TEN - timedelta(days=3), TEN)
    report(store, ["web-2"], TEN - timedelta(hours=25), TEN)

    # WHEN the model is released, THEN web-2 does not block
    found = coverage.of_artifact(store, artifact_of(monkeypatch, "web-1"), "20261122T070000Z", NOW, [catalogue.load()])
    assert found == Coverage(too_new=("web-2",))


def test_a_model_that_waited_is_compared_with_what_a_training_of_the_day_before_knew(store, monkeypatch):
    # GIVEN web-2, which reports since 50 hours; the model was trained before that
    report(store, ["web-2"], TEN - timedelta(hours=50), TEN)

    # WHEN it is released now, THEN web-2 is missing
    found = coverage.of_artifact(store, artifact_of(monkeypatch, "web-1"), "20261119T080730Z", NOW, [catalogue.load()])
    assert found == Coverage(missing=("web-2",), left=("web-1",))


def test_rows_of_all_sources_count_together_and_only_the_last_day_reports(store, monkeypatch):
    # GIVEN web-1 until 25 hours ago and, from another source, web-2 for three days
    report(store, ["web-1"], TEN - timedelta(days=3), TEN - timedelta(hours=25))
    report(store, ["web-2"], TEN - timedelta(days=3), TEN)

    # WHEN a model of neither is compared, THEN only web-2 is missing
    found = coverage.of_artifact(store, artifact_of(monkeypatch), "20261122T100000Z", NOW, [catalogue.load()])
    assert found == Coverage(missing=("web-2",))


def test_without_a_row_in_the_last_day_nothing_is_compared(store):
    # GIVEN an empty bucket, WHEN / THEN even bytes that are no artifact are not read
    assert coverage.of_artifact(store, b"no zip", "T1", NOW, [catalogue.load()]) == Coverage()

from datetime import UTC, datetime

from riskwatch_ml.selection import contest_log
from riskwatch_ml.selection.contest_log import ContestState
from riskwatch_ml.storage.bucket import Store
from tests.support.bucket import Bucket

SUNDAY = datetime(2026, 11, 22, 3, 30, tzinfo=UTC)


def test_nothing_is_known_before_the_first_contest():
    assert contest_log.read(Store(Bucket(), "b"), "T1", "kmeans", "run") == ContestState()


def test_wins_survive_until_somebody_else_serves():
    # GIVEN a contest that left dbscan with two wins against kmeans
    store = Store(Bucket(), "b")
    contest_log.write(store, "T1", dag_run="first", at=SUNDAY, champion="kmeans", wins={"dbscan": 1}, decision={})
    key = contest_log.write(
        store, "T2", dag_run="second", at=SUNDAY, champion="kmeans", wins={"dbscan": 2}, decision={"kind": "refresh"}
    )
    assert key == "contests/T2.json"
    # WHEN / THEN they count against kmeans, and not against another champion
    assert contest_log.read(store, "T3", "kmeans", "third") == ContestState({"dbscan": 2}, SUNDAY)
    assert contest_log.read(store, "T3", "ensemble", "third") == ContestState({}, SUNDAY)


def test_a_training_that_is_tried_again_does_not_count_its_own_win():
    store = Store(Bucket(), "b")
    contest_log.write(store, "T1", dag_run="first", at=SUNDAY, champion="kmeans", wins={"dbscan": 1}, decision={})
    contest_log.write(store, "T2", dag_run="second", at=SUNDAY, champion="kmeans", wins={"dbscan": 2}, decision={})
    assert contest_log.read(store, "T2", "kmeans", "second").wins == {"dbscan": 1}


def test_a_run_that_was_cleared_and_trains_again_does_not_count_its_earlier_win():
    # GIVEN the contests of two runs
    store = Store(Bucket(), "b")
    contest_log.write(store, "T1", dag_run="first", at=SUNDAY, champion="kmeans", wins={"dbscan": 1}, decision={})
    contest_log.write(store, "T2", dag_run="second", at=SUNDAY, champion="kmeans", wins={"dbscan": 2}, decision={})
    # WHEN the second run is cleared and starts a training of its own THEN only the first win stands
    assert contest_log.read(store, "T3", "kmeans", "second").wins == {"dbscan": 1}

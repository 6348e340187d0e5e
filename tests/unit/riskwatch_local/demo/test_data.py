"""How labels become incidents, and how a source is cut."""

from datetime import UTC, datetime, timedelta

import pandas as pd

from riskwatch_local.demo import data
from riskwatch_ml.schema import catalogue

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
STEP = timedelta(minutes=5)


def test_labelled_rows_one_step_apart_are_one_incident():
    # GIVEN labels 0 1 1 0 1 of one instance and 1 of another
    times = pd.DatetimeIndex([NOON + place * STEP for place in (0, 1, 2, 3, 4, 1)]).as_unit("ms")
    labels = pd.DataFrame({"instance_id": [*"aaaaa", "b"], "timestamp": times, "label": [0, 1, 1, 0, 1, 1]})

    # WHEN they are joined
    incidents = [(i.instance_id, i.start, i.end) for i in data.label_incidents(labels, STEP)]

    # THEN each run is an incident that ends with its last row's period
    assert incidents == [
        ("a", NOON + STEP, NOON + 3 * STEP),
        ("a", NOON + 4 * STEP, NOON + 5 * STEP),
        ("b", NOON + STEP, NOON + 2 * STEP),
    ]


def test_the_simulated_fleet_is_cut_before_the_streamed_hours():
    chosen = data.simulated(NOON + timedelta(minutes=3), stream_hours=6, days=2)
    end = NOON - 2 * STEP
    assert (chosen.start, chosen.cut, chosen.end) == (end - timedelta(days=2), end - timedelta(hours=6), end)
    # THEN two periods are over that the first scheduled run of the stream finds, and every kind goes on from there
    assert [part.rows["timestamp"].min() for part in chosen.ahead()] == [pd.Timestamp(end)] * 4
    for history, newest, kind in zip(chosen.history(), chosen.newest(), chosen.kinds, strict=True):
        assert history.rows["timestamp"].max() < pd.Timestamp(chosen.cut) <= newest.rows["timestamp"].min()
        assert len(history.rows) + len(newest.rows) == len(kind.rows)


def test_the_simulated_fleet_has_four_kinds():
    # GIVEN / WHEN
    chosen = data.simulated(NOON, stream_hours=6, days=1)

    # THEN the first kind has plain ids, the others say their kind, and each has its incidents
    assert [metrics.kind for metrics in chosen.catalogues] == ["ec2", "rds", "alb", "lambda"]
    for kind in chosen.kinds:
        assert catalogue.names_of_kind(chosen.inventory, kind.catalogue, chosen.catalogues) == set(kind.inventory)
    incidents = {catalogue.of_instance(item.instance_id, chosen.catalogues).kind for item in chosen.incidents}
    assert incidents == {"ec2", "rds", "alb", "lambda"}
    assert [part.catalogue.kind for part in chosen.late_history()] == ["ec2"]


def test_further_kinds_change_no_row_of_the_first():
    # GIVEN / WHEN
    alone = data.simulated(NOON, stream_hours=6, days=1, further_kinds=())
    beside = data.simulated(NOON, stream_hours=6, days=1)

    # THEN
    assert len(alone.kinds) == 1
    for name in ("rows", "late", "ahead"):
        pd.testing.assert_frame_equal(getattr(alone.first, name), getattr(beside.first, name))
    assert beside.incidents[: len(alone.incidents)] == alone.incidents

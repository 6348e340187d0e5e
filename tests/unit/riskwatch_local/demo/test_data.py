"""How labels become incidents, and how a source is cut."""

from datetime import UTC, datetime, timedelta

import pandas as pd

from riskwatch_local.demo import data

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
    # THEN two periods are over that the first scheduled run of the stream finds, and the fleet goes on from there
    assert chosen.ahead["timestamp"].min() == pd.Timestamp(end)
    assert chosen.history()["timestamp"].max() < pd.Timestamp(chosen.cut) <= chosen.newest()["timestamp"].min()
    assert len(chosen.history()) + len(chosen.newest()) == len(chosen.rows)

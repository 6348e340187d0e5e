"""Training history: all rows that fit, else the newest and some older days."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from riskwatch_ml.features import history
from riskwatch_ml.features.baselines import fit_baselines
from riskwatch_ml.features.history import NEWEST, HistoryError, collect, held_bytes, most_rows
from riskwatch_ml.features.table import as_table

END = datetime(2026, 11, 22, 10, tzinfo=UTC)
DAY = timedelta(days=1)
START = END - 28 * DAY
# The dates that the interval and the newest 49 hours leave whole.
FIRST_WHOLE, LAST_WHOLE = (START + DAY).replace(hour=0), (END - NEWEST).replace(hour=0)
HOURLY = 24  # rows of an instance and day
NEWEST_ROWS = 49  # rows of an instance that are always kept
FLEET = tuple(f"i-{number:03d}" for number in range(40))


def source(names=FLEET, start=START - 5 * DAY, end=END):
    """Return a reader of hourly rows, and the list of intervals it was called with."""
    moments = pd.date_range(start, end, freq="1h", inclusive="left").as_unit("ms")
    rows = pd.DataFrame({"instance_id": np.repeat(names, len(moments)), "timestamp": np.tile(moments, len(names))})
    rows["cpu"] = np.arange(len(rows), dtype=float)
    asked = []

    def read(low, high):
        asked.append((low, high))
        return rows[(rows["timestamp"] >= low) & (rows["timestamp"] < high)]

    return read, asked


def dates(found, name):
    """Return the dates of an instance's rows before the newest 49 hours."""
    own = found.rows[(found.rows["instance_id"] == name) & (found.rows["timestamp"] < END - NEWEST)]
    return set(own["timestamp"].dt.date)


def test_a_history_that_fits_is_taken_whole():
    # GIVEN 28 days of 40 instances, and room for exactly these rows
    read, asked = source()
    everything = read(START, END)

    # WHEN
    found = collect(read, START, END, len(everything))

    # THEN
    keys = ["instance_id", "timestamp"]
    assert found.rows.sort_values(keys).reset_index(drop=True).equals(everything.reset_index(drop=True))
    assert (found.left_out, found.parts, found.note) == (0, 32, "")
    # AND it was read by UTC day, the newest first
    assert asked[1:3] == [(END.replace(hour=0), END), (END.replace(hour=0) - DAY, END.replace(hour=0))]
    assert asked[-1] == (START, START.replace(hour=0) + DAY)


@pytest.mark.parametrize("share", [0.9, 0.5, 0.2])
def test_of_a_longer_history_whole_days_are_left_out_evenly(share):
    # GIVEN room for a part of the rows
    read, _ = source()
    total = 28 * HOURLY * len(FLEET)
    most = int(share * total)

    # WHEN
    found = collect(read, START, END, most)

    # THEN the room is used, but for less than two steps
    assert most - 2 * total / 32 < len(found.rows) <= most
    assert found.left_out == total - len(found.rows)
    assert f"{found.left_out} of {total} rows are left out, for a training to fit into 4.5 GB" in found.note
    # AND everybody has the newest 49 hours
    newest = found.rows[found.rows["timestamp"] >= END - NEWEST]
    assert newest.groupby("instance_id").size().to_dict() == dict.fromkeys(FLEET, NEWEST_ROWS)
    # AND further days, whole but where the interval cuts them, about as many as the others
    counts = [len(dates(found, name)) for name in FLEET]
    assert min(counts) >= 1
    assert max(counts) - min(counts) <= 3
    whole = found.rows[(found.rows["timestamp"] >= FIRST_WHOLE) & (found.rows["timestamp"] < LAST_WHOLE)]
    of_day = whole.groupby(["instance_id", whole["timestamp"].dt.date]).size()
    assert set(of_day) == {HOURLY}
    # AND every day of the fleet is in the history
    assert len(set(found.rows["timestamp"].dt.date)) == 29


def test_the_next_training_learns_from_the_same_days():
    # GIVEN a training and the one of the day after
    read, _ = source(end=END + DAY)
    most = 13_000
    today, tomorrow = (collect(read, START + late * DAY, END + late * DAY, most) for late in (0, 1))

    # WHEN the dates that both could learn from are compared
    common = [
        (dates(today, name), {day for day in dates(tomorrow, name) if day < (END - NEWEST).date()}) for name in FLEET
    ]

    # THEN each keeps the same ones, but for the one that the interval left behind
    first = START.date()
    assert today.parts == tomorrow.parts
    assert [before - {first, (END - NEWEST).date()} for before, _ in common] == [after - {first} for _, after in common]


def test_what_an_instance_keeps_does_not_depend_on_the_others():
    # GIVEN a fleet and half of it, with room for half as many
    read, _ = source()
    few, _ = source(FLEET[::2])

    # WHEN / THEN
    whole, half = collect(read, START, END, 13_000), collect(few, START, END, 6_500)
    assert whole.parts == half.parts
    assert all(dates(whole, name) == dates(half, name) for name in FLEET[::2])


@pytest.mark.parametrize("most", [100, NEWEST_ROWS * len(FLEET), NEWEST_ROWS * len(FLEET) + HOURLY])
def test_the_newest_rows_alone_are_kept_where_there_is_no_room_for_more(most):
    # GIVEN room for a hundred rows, for the newest 49 hours, and for one day more of one instance
    read, _ = source()

    # WHEN
    found = collect(read, START, END, most)

    # THEN the history keeps these hours of every instance alone, and says so
    assert len(found.rows) == NEWEST_ROWS * len(FLEET)
    assert (found.rows["timestamp"] >= END - NEWEST).all()
    assert (found.parts, found.left_out) == (0, (28 * HOURLY - NEWEST_ROWS) * len(FLEET))
    assert found.note.endswith("the newest 49 hours and none of the days before")
    # AND of an interval without older rows nothing is left out
    alone = collect(read, END - NEWEST, END, 100)
    assert (len(alone.rows), alone.left_out, alone.note) == (NEWEST_ROWS * len(FLEET), 0, "")


def test_the_newest_rows_alone_have_a_profile_by_hour_of_day():
    # GIVEN a fortnight of an instance with a daily wave at five minutes, and no room for its older days
    moments = pd.date_range(END - 14 * DAY, END, freq="5min", inclusive="left").as_unit("ms")
    wave = 50 + 20 * np.sin(2 * np.pi * np.arange(len(moments)) / 288)
    rows = pd.DataFrame({"instance_id": "i-1", "timestamp": moments, "cpu": wave})
    found = collect(
        lambda low, high: rows[(rows["timestamp"] >= low) & (rows["timestamp"] < high)], END - 14 * DAY, END, 1
    )
    assert len(found.rows) == 49 * 12

    # WHEN
    baselines = fit_baselines(as_table(found.rows, ["cpu"], 1800), {})

    # THEN its centre follows the wave, from trough to crest
    assert np.ptp(baselines.center[baselines.instances["i-1"]][:, 0]) > 30


def test_days_without_rows_and_without_any_instance():
    # GIVEN rows of the oldest day only, then none at all
    read, _ = source(end=START + DAY)
    assert len(collect(read, START, END, 10**6).rows) == HOURLY * len(FLEET)
    nothing = collect(read, END - DAY, END, 10**6)
    assert (len(nothing.rows), list(nothing.rows.columns)) == (0, ["instance_id", "timestamp", "cpu"])


@pytest.mark.parametrize("start", [END, END + DAY])
def test_an_interval_without_an_end_after_its_start(start):
    # GIVEN / WHEN / THEN
    with pytest.raises(HistoryError, match="must start earlier"):
        collect(source()[0], start, END, 100)


def test_what_fits_depends_on_the_metrics():
    # GIVEN / WHEN / THEN as many rows as just fit, for ten metrics, forty, and one with its trailing columns
    for metrics in (10, 40, 1):
        most = most_rows(metrics, 300)
        assert held_bytes(most, metrics, 300) <= history.MAX_BYTES < held_bytes(most + 1, metrics, 300)
    assert most_rows(40, 300) < 1_000 * 28 * 288 <= most_rows(10, 300)
    # AND where the samples of very many metrics alone are too much, the newest days are all there is
    assert most_rows(2_000, 300) == 1

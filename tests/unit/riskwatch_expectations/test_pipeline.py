"""From raw to validated and quarantined through the bucket, damaged in every way, and back again by a replay."""

from datetime import timedelta

import numpy as np
import pandas as pd
import pytest

from riskwatch_expectations import revalidate
from riskwatch_expectations.pipeline import CSV_PART, EXPORT_PART, TAKEN, split_interval
from riskwatch_expectations.revalidate import Revalidated
from riskwatch_expectations.suites.rows import MOSTLY_IMPOSSIBLE, REPEATED
from riskwatch_expectations.validate import Interval, ValidationError
from riskwatch_lambda.arrival import was_ahead
from riskwatch_ml.core import clock
from riskwatch_ml.schema.catalogue import Catalogue
from riskwatch_ml.schema.metric import Metric
from riskwatch_ml.storage.bucket import Store
from riskwatch_ml.storage.keys import hour_key
from riskwatch_ml.storage.parquet import StoreError
from tests.support.bucket import Bucket
from tests.support.validating import INTERVAL, NOON, TEN, catalogue, two_hours

LEFT = {MOSTLY_IMPOSSIBLE: 1, "cpu outside [0, 200] %": 1}
NAME = "instance_id is empty, not printable, or longer than 255 bytes"


@pytest.fixture
def store():
    return Store(Bucket(), "bucket")


@pytest.fixture
def rows():
    """Two hours of two instances."""
    return two_hours()


def split(store, frame, part=EXPORT_PART, metrics=None):
    store.write_hours("raw", frame, TEN, NOON, part)
    return split_interval(store, metrics or catalogue(), INTERVAL, part)


def layer(store, name, part=None):
    return store.read_hours(name, TEN, NOON, part=part)


def spoil(rows, places, cpu):
    """Leave rows without a possible value."""
    rows.loc[places, "cpu"] = cpu
    rows.loc[places, "net"] = np.nan


def reasons(store):
    found = layer(store, "quarantine")
    return {(row.instance_id, f"{row.timestamp:%H:%M}"): row.reasons for row in found.itertuples()}


def test_ten_ways_to_damage_a_row_are_ten_reasons(store, rows):
    # GIVEN rows damaged in ten ways, and a row that a file has brought already
    split(store, rows.iloc[[40]], CSV_PART)
    rows.loc[0, "instance_id"] = None
    rows.loc[1, "instance_id"] = ""
    rows.loc[2, "instance_id"] = "web\x1b[2J"
    spoil(rows, 3, 300.5)
    spoil(rows, 4, -1.0)
    rows.loc[5, ["cpu", "net"]] = [1000.0, 2e15]
    rows.loc[6, ["cpu", "net"]] = [np.nan, np.inf]
    rows.loc[7, "timestamp"] += timedelta(seconds=30)
    rows.loc[8, ["cpu", "net"]] = np.nan
    damaged = pd.concat([rows, rows.iloc[[9]].assign(cpu=1.0)], ignore_index=True)

    # WHEN
    outcome = split(store, damaged)

    # THEN each of them is in quarantine with its reason, and nothing is lost
    assert layer(store, "quarantine")["reasons"].value_counts().to_dict() == {
        "instance_id is missing": 1,
        NAME: 2,
        f"{MOSTLY_IMPOSSIBLE}; cpu outside [0, 100] %": 2,
        f"{MOSTLY_IMPOSSIBLE}; cpu outside [0, 100] %; net outside [-inf, inf]": 1,
        f"{MOSTLY_IMPOSSIBLE}; net outside [-inf, inf]": 1,
        "timestamp off the grid of 300 s": 1,
        "no metric has a value": 1,
        REPEATED: 1,
        TAKEN: 1,
    }
    assert reasons(store)["a", "10:35"] == "timestamp off the grid of 300 s"
    assert reasons(store)["b", "11:20"] == TAKEN
    assert len(layer(store, "raw", EXPORT_PART)) == len(damaged) == 49
    assert len(layer(store, "validated", EXPORT_PART)) + len(layer(store, "quarantine")) == 49
    assert (outcome.rows, len(outcome.validated), len(outcome.quarantined)) == (49, 38, 11)


def test_text_for_numbers_is_an_error_that_names_the_column_and_writes_nothing(store, rows):
    store.put_frame(hour_key("raw", TEN), rows.iloc[:12].astype({"cpu": "str"}))
    with pytest.raises(ValidationError, match=r"expect_column_values_to_be_of_type\(cpu\)"):
        split_interval(store, catalogue(), INTERVAL)
    assert store.keys("validated/") == store.keys("quarantine/") == []


# ----------------------------------------------------------------------------------------------------------- replay


def test_a_corrected_bound_brings_its_rows_back_and_leaves_the_others(store, rows):
    # GIVEN rows in quarantine: two beyond a bound that was wrong, one beyond any, one without values
    spoil(rows, [3, 30], 150.0)
    spoil(rows, 4, -1.0)
    rows.loc[8, ["cpu", "net"]] = np.nan
    split(store, rows)

    # WHEN they are judged again by the corrected catalogue
    done = revalidate.revalidate(store, catalogue(upper=200.0), INTERVAL)

    # THEN the two are validated, and the layers are as if the bound had always been that
    left = {MOSTLY_IMPOSSIBLE: 1, "cpu outside [0, 200] %": 1, "no metric has a value": 1}
    assert done == Revalidated(4, 2, 2, left)
    after = {key: data for key, data in store.client.objects.items() if "quarantine" not in key}
    assert set(reasons(store)) == {("a", "10:20"), ("a", "10:40")}
    split(store, rows, metrics=catalogue(upper=200.0))
    assert {key: data for key, data in store.client.objects.items() if "quarantine" not in key} == after


def test_rows_that_came_from_the_future_stay_in_quarantine(store, rows, monkeypatch):
    # GIVEN two rows beyond a bound, and a clock for which the newest row of each instance is ahead, one of the two too
    spoil(rows, [3, 47], 150.0)
    monkeypatch.setattr(clock, "now", lambda: NOON - timedelta(minutes=16))
    split(store, rows)

    # WHEN they are judged again by the corrected catalogue, a day later
    monkeypatch.setattr(clock, "now", lambda: NOON + timedelta(days=1))
    done = revalidate.revalidate(store, catalogue(upper=200.0), INTERVAL)

    # THEN the two stay with their reason: their times are as wrong as before
    assert (done.rows, done.validated, done.left) == (3, 1, 2)
    assert {key for key, reason in reasons(store).items() if was_ahead(reason)} == {("a", "11:55"), ("b", "11:55")}


def test_a_second_replay_changes_nothing(store, rows):
    spoil(rows, [3, 4], [150.0, -1.0])
    rows.loc[[5, 6], "cpu"] = [150.0, -1.0]
    split(store, rows)
    revalidate.revalidate(store, catalogue(upper=200.0), INTERVAL)
    before = dict(store.client.objects)
    assert revalidate.revalidate(store, catalogue(upper=200.0), INTERVAL) == Revalidated(
        1, 0, 1, LEFT, 0, {"cpu outside [0, 100] %": 1}
    )
    assert store.client.objects == before


def test_a_replay_keeps_to_its_interval_and_part(store, rows):
    # GIVEN rows of two hours and of two sources, all beyond a bound
    split(store, rows.assign(cpu=150.0, net=np.nan))
    split(store, rows.assign(cpu=150.0, net=np.nan, instance_id=rows["instance_id"] + "-csv"), CSV_PART)

    # WHEN half an hour is judged again
    done = revalidate.revalidate(store, catalogue(upper=200.0), Interval(TEN, TEN + timedelta(minutes=30), 300))

    # THEN its rows have moved within their parts, those around them have not
    assert (done.rows, done.validated) == (24, 24)
    for part in (EXPORT_PART, CSV_PART):
        assert (len(layer(store, "validated", part)), len(layer(store, "quarantine", part))) == (12, 36)


def test_a_row_that_is_there_already_stays_in_quarantine(store, rows):
    # GIVEN a repeated row, and one that a file has brought meanwhile
    repeated = pd.concat([rows, rows.iloc[[9]].assign(cpu=1.0)], ignore_index=True)
    split(store, rows.iloc[[20]], CSV_PART)
    spoil(repeated, 20, 150.0)
    split(store, repeated)

    # WHEN
    done = revalidate.revalidate(store, catalogue(upper=200.0), INTERVAL)

    # THEN
    assert done == Revalidated(2, 0, 2, {REPEATED: 1, TAKEN: 1})
    validated = layer(store, "validated")
    assert not validated.duplicated(["instance_id", "timestamp"]).any()
    assert len(validated) == 48


def test_killed_before_the_quarantine_is_written_a_row_is_not_counted_twice(store, rows, monkeypatch):
    # GIVEN a replay that dies between the two writes
    spoil(rows, [3, 4], [150.0, -1.0])
    rows.loc[5, "cpu"] = -2.0
    split(store, rows)
    written = Store.write_hours

    def dies(self, layer, *given):
        if layer == "quarantine":
            raise ConnectionError("the machine went away")
        return written(self, layer, *given)

    monkeypatch.setattr(Store, "write_hours", dies)
    with pytest.raises(ConnectionError):
        revalidate.revalidate(store, catalogue(upper=200.0), INTERVAL)
    monkeypatch.undo()

    # WHEN it runs again
    done = revalidate.revalidate(store, catalogue(upper=200.0), INTERVAL)

    # THEN the row is in one place
    assert done == Revalidated(1, 0, 1, LEFT, 0, {"cpu outside [0, 100] %": 1})
    assert len(layer(store, "validated")) + len(layer(store, "quarantine")) == 48


def test_rows_of_an_older_catalogue_are_judged_by_the_columns_of_today(store, rows):
    # GIVEN rows without a metric that the catalogue has now, with one that it has no longer
    spoil(rows, 3, 150.0)
    split(store, rows)
    today = Catalogue((Metric("cpu", "Test", "CPU", upper=200.0), Metric("new", "Test", "New")))

    # WHEN / THEN
    assert revalidate.revalidate(store, today, INTERVAL).validated == 1
    assert layer(store, "validated")["cpu"].max() == 150.0


def test_what_is_held_is_shown_with_reasons_and_part(store, rows):
    spoil(rows, 3, 150.0)
    split(store, rows)
    shown = revalidate.read_quarantined(store, catalogue(), TEN, NOON)
    assert shown[["instance_id", "reasons", "part"]].to_numpy().tolist() == [
        ["a", f"{MOSTLY_IMPOSSIBLE}; cpu outside [0, 100] %", EXPORT_PART]
    ]
    assert revalidate.read_quarantined(store, catalogue(), NOON, NOON + timedelta(days=1)).empty


def test_an_empty_quarantine_is_no_work(store):
    assert revalidate.revalidate(store, catalogue(), INTERVAL) == Revalidated(0, 0, 0, {})


# ------------------------------------------------------------------------------------------------------- bad objects


@pytest.mark.parametrize("spoil", [lambda data: b"no parquet", lambda data: data[: len(data) // 2], lambda data: b""])
def test_a_corrupt_object_is_named_and_one_to_compare_with_is_left_out(store, rows, spoil, caplog):
    # GIVEN two validated hours, and two damaged objects: one of raw, and one of the time before that is compared
    split(store, rows)
    before = rows.assign(timestamp=rows["timestamp"] - timedelta(hours=2))
    store.write_hours("validated", before, TEN - timedelta(hours=2), TEN)
    raw, earlier = hour_key("raw", TEN), hour_key("validated", TEN - timedelta(hours=1))
    whole = store.client.objects[raw]
    for key in (raw, earlier):
        store.client.objects[key] = spoil(store.client.objects[key])
    objects = dict(store.client.objects)

    # WHEN / THEN
    with pytest.raises(StoreError, match=raw):
        split_interval(store, catalogue(), INTERVAL)
    assert store.client.objects == objects
    # AND without the first of them the interval is validated, and the second is named
    store.client.objects[raw] = whole
    assert len(split_interval(store, catalogue(), INTERVAL).validated)
    assert earlier in caplog.text


def test_an_object_replaced_while_it_is_read_counts_as_it_was_or_as_it_is(store, rows, monkeypatch):
    # GIVEN raw rows that another writer replaces between the reads of the two hours
    split(store, rows)
    corrected = rows.assign(cpu=50.0)
    other = Store(Bucket(), "bucket")
    other.write_hours("raw", corrected, TEN, NOON)
    read = store.client.get_object

    def replaced(**asked):
        answer = read(**asked)
        store.client.objects |= other.client.objects
        return answer

    monkeypatch.setattr(store.client, "get_object", replaced)

    # WHEN
    outcome = split_interval(store, catalogue(), INTERVAL)

    # THEN every hour is whole, none is lost, and the next run settles it
    assert (outcome.rows, len(outcome.validated)) == (48, 48)
    for _, hour in outcome.validated.groupby(outcome.validated["timestamp"].dt.floor("h")):
        assert (hour["cpu"] == 50.0).all() or (hour["cpu"] != 50.0).all()
    split_interval(store, catalogue(), INTERVAL)
    assert (layer(store, "validated")["cpu"] == 50.0).all()


def test_killed_between_the_layers_the_next_run_completes_both(store, rows):
    # GIVEN a row in quarantine, and a run by a catalogue that lets it pass, which dies half way
    spoil(rows, 3, 150.0)
    split(store, rows)
    store.client.dies_at = hour_key("validated", TEN)
    with pytest.raises(ConnectionError):
        split_interval(store, catalogue(200.0), INTERVAL)
    store.client.dies_at = None

    # WHEN
    split_interval(store, catalogue(200.0), INTERVAL)

    # THEN
    assert (len(layer(store, "validated")), len(layer(store, "quarantine"))) == (48, 0)

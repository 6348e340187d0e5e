"""From raw to validated and quarantined through the bucket, damaged in every way, and back again by a replay."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from riskwatch_expectations import revalidate
from riskwatch_expectations.pipeline import CSV_PART, EXPORT_PART, TAKEN, split_interval
from riskwatch_expectations.revalidate import Replayed
from riskwatch_expectations.suites.rows import REPEATED
from riskwatch_expectations.validate import Interval, ValidationError
from riskwatch_ml.schema.catalogue import Catalogue, Metric
from riskwatch_ml.storage.bucket import Store, StoreError
from riskwatch_ml.storage.keys import hour_key
from tests.support.bucket import Bucket

TEN = datetime(2026, 11, 22, 10, tzinfo=UTC)
NOON = TEN + timedelta(hours=2)
INTERVAL = Interval(TEN, NOON, 300)
NAME = "instance_id is empty, not printable, or longer than 255 bytes"


def catalogue(upper=100.0):
    return Catalogue((Metric("cpu", "Test", "CPU", lower=0.0, upper=upper, unit="%"), Metric("net", "Test", "Net")))


@pytest.fixture
def store():
    return Store(Bucket(), "bucket")


@pytest.fixture
def rows():
    """Two hours of two instances."""
    moments = [TEN + timedelta(minutes=5 * place) for place in range(24)]
    frame = pd.DataFrame([(name, moment) for name in "ab" for moment in moments], columns=["instance_id", "timestamp"])
    frame = frame.astype({"instance_id": "str", "timestamp": "datetime64[ms, UTC]"})
    values = np.random.default_rng(7).uniform(10, 90, (len(frame), 2))
    return frame.assign(cpu=values[:, 0], net=values[:, 1])


def split(store, frame, part=EXPORT_PART, metrics=None):
    store.write_hours("raw", frame, TEN, NOON, part)
    return split_interval(store, metrics or catalogue(), INTERVAL, part)


def layer(store, name, part=None):
    return store.read_hours(name, TEN, NOON, part=part)


def reasons(store):
    found = layer(store, "quarantine")
    return {(row.instance_id, f"{row.timestamp:%H:%M}"): row.reasons for row in found.itertuples()}


def test_ten_ways_to_damage_a_row_are_ten_reasons(store, rows):
    # GIVEN rows damaged in ten ways, and a row that a file has brought already
    split(store, rows.iloc[[40]], CSV_PART)
    rows.loc[0, "instance_id"] = None
    rows.loc[1, "instance_id"] = ""
    rows.loc[2, "instance_id"] = "web\x1b[2J"
    rows.loc[3, "cpu"] = 300.5
    rows.loc[4, "cpu"] = -1.0
    rows.loc[5, "cpu"] *= 1000
    rows.loc[6, "net"] = np.inf
    rows.loc[7, "timestamp"] += timedelta(seconds=30)
    rows.loc[8, ["cpu", "net"]] = np.nan
    damaged = pd.concat([rows, rows.iloc[[9]].assign(cpu=1.0)], ignore_index=True)

    # WHEN
    outcome = split(store, damaged)

    # THEN each of them is in quarantine with its reason, and nothing is lost
    assert layer(store, "quarantine")["reasons"].value_counts().to_dict() == {
        "instance_id is missing": 1,
        NAME: 2,
        "cpu outside [0, 100] %": 3,
        "net outside [-inf, inf]": 1,
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
    rows.loc[[3, 30], "cpu"] = 150.0
    rows.loc[4, "cpu"] = -1.0
    rows.loc[8, ["cpu", "net"]] = np.nan
    split(store, rows)

    # WHEN they are judged again by the corrected catalogue
    done = revalidate.replay(store, catalogue(upper=200.0), INTERVAL)

    # THEN the two are validated, and the layers are as if the bound had always been that
    assert done == Replayed(4, 2, 2, {"cpu outside [0, 200] %": 1, "no metric has a value": 1})
    after = {key: data for key, data in store.client.objects.items() if "quarantine" not in key}
    assert set(reasons(store)) == {("a", "10:20"), ("a", "10:40")}
    split(store, rows, metrics=catalogue(upper=200.0))
    assert {key: data for key, data in store.client.objects.items() if "quarantine" not in key} == after


def test_a_second_replay_changes_nothing(store, rows):
    rows.loc[[3, 4], "cpu"] = [150.0, -1.0]
    split(store, rows)
    revalidate.replay(store, catalogue(upper=200.0), INTERVAL)
    before = dict(store.client.objects)
    assert revalidate.replay(store, catalogue(upper=200.0), INTERVAL) == Replayed(
        1, 0, 1, {"cpu outside [0, 200] %": 1}
    )
    assert store.client.objects == before


def test_a_replay_keeps_to_its_interval_and_part(store, rows):
    # GIVEN rows of two hours and of two sources, all beyond a bound
    split(store, rows.assign(cpu=150.0))
    split(store, rows.assign(cpu=150.0, instance_id=rows["instance_id"] + "-csv"), CSV_PART)

    # WHEN half an hour is judged again
    done = revalidate.replay(store, catalogue(upper=200.0), Interval(TEN, TEN + timedelta(minutes=30), 300))

    # THEN its rows have moved within their parts, those around them have not
    assert (done.rows, done.validated) == (24, 24)
    for part in (EXPORT_PART, CSV_PART):
        assert (len(layer(store, "validated", part)), len(layer(store, "quarantine", part))) == (12, 36)


def test_a_row_that_is_there_already_stays_in_quarantine(store, rows):
    # GIVEN a repeated row, and one that a file has brought meanwhile
    repeated = pd.concat([rows, rows.iloc[[9]].assign(cpu=1.0)], ignore_index=True)
    repeated.loc[20, "cpu"] = 150.0
    split(store, repeated)
    split(store, rows.iloc[[20]], CSV_PART)

    # WHEN
    done = revalidate.replay(store, catalogue(upper=200.0), INTERVAL)

    # THEN
    assert done == Replayed(2, 0, 2, {REPEATED: 1, TAKEN: 1})
    validated = layer(store, "validated")
    assert not validated.duplicated(["instance_id", "timestamp"]).any()
    assert len(validated) == 48


def test_killed_before_the_quarantine_is_written_a_row_is_not_counted_twice(store, rows, monkeypatch):
    # GIVEN a replay that dies between the two writes
    rows.loc[[3, 4], "cpu"] = [150.0, -1.0]
    split(store, rows)
    written = Store.write_hours

    def dies(self, layer, *given):
        if layer == "quarantine":
            raise ConnectionError("the machine went away")
        return written(self, layer, *given)

    monkeypatch.setattr(Store, "write_hours", dies)
    with pytest.raises(ConnectionError):
        revalidate.replay(store, catalogue(upper=200.0), INTERVAL)
    monkeypatch.undo()

    # WHEN it runs again
    done = revalidate.replay(store, catalogue(upper=200.0), INTERVAL)

    # THEN the row is in one place
    assert done == Replayed(1, 0, 1, {"cpu outside [0, 200] %": 1})
    assert len(layer(store, "validated")) + len(layer(store, "quarantine")) == 48


def test_rows_of_an_older_catalogue_are_judged_by_the_columns_of_today(store, rows):
    # GIVEN rows without a metric that the catalogue has now, with one that it has no longer
    rows.loc[3, "cpu"] = 150.0
    split(store, rows)
    today = Catalogue((Metric("cpu", "Test", "CPU", upper=200.0), Metric("new", "Test", "New")))

    # WHEN / THEN
    assert revalidate.replay(store, today, INTERVAL).validated == 1
    assert layer(store, "validated")["cpu"].max() == 150.0


def test_what_is_held_is_shown_with_reasons_and_part(store, rows):
    rows.loc[3, "cpu"] = 150.0
    split(store, rows)
    shown = revalidate.held(store, TEN, NOON)
    assert shown[["instance_id", "reasons", "part"]].to_numpy().tolist() == [
        ["a", "cpu outside [0, 100] %", EXPORT_PART]
    ]
    assert revalidate.held(store, NOON, NOON + timedelta(days=1)).empty


def test_an_empty_quarantine_is_no_work(store):
    assert revalidate.replay(store, catalogue(), INTERVAL) == Replayed(0, 0, 0, {})


# ------------------------------------------------------------------------------------------------------- bad objects


@pytest.mark.parametrize("name", ["raw", "validated"])
@pytest.mark.parametrize("spoil", [lambda data: b"no parquet", lambda data: data[: len(data) // 2], lambda data: b""])
def test_a_corrupt_object_is_named_and_nothing_is_written(store, rows, name, spoil):
    # GIVEN two validated hours, and an object that was damaged since: of raw, or of the time before that is compared
    split(store, rows)
    before = rows.assign(timestamp=rows["timestamp"] - timedelta(hours=2))
    store.write_hours("validated", before, TEN - timedelta(hours=2), TEN)
    key = hour_key(name, TEN if name == "raw" else TEN - timedelta(hours=1))
    store.client.objects[key] = spoil(store.client.objects[key])
    objects = dict(store.client.objects)

    # WHEN / THEN
    with pytest.raises(StoreError, match=key):
        split_interval(store, catalogue(), INTERVAL)
    assert store.client.objects == objects


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
    rows.loc[3, "cpu"] = 150.0
    split(store, rows)
    store.client.dies_at = hour_key("validated", TEN)
    with pytest.raises(ConnectionError):
        split_interval(store, catalogue(200.0), INTERVAL)
    store.client.dies_at = None

    # WHEN
    split_interval(store, catalogue(200.0), INTERVAL)

    # THEN
    assert (len(layer(store, "validated")), len(layer(store, "quarantine"))) == (48, 0)

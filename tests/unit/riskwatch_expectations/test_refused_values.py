"""Refused values through the bucket: stored with instance, time, metric, value and reason, and returned by a replay."""

from datetime import timedelta

import numpy as np
import pytest

from riskwatch_expectations import revalidate
from riskwatch_expectations.pipeline import CSV_PART, EXPORT_PART, TAKEN, split_interval
from riskwatch_ml.schema import metric_rows
from riskwatch_ml.storage import keys
from riskwatch_ml.storage.bucket import Store
from tests.support.bucket import Bucket
from tests.support.validating import INTERVAL, NOON, TEN, catalogue, two_hours

BEYOND = "cpu outside [0, 100] %"


@pytest.fixture
def store():
    return Store(Bucket(), "bucket")


@pytest.fixture
def rows():
    """Two hours of two instances, with a value beyond a bound in each hour."""
    frame = two_hours()
    frame.loc[[3, 40], "cpu"] = [150.0, 288.0]
    return frame


def split(store, frame, part=EXPORT_PART, metrics=None):
    store.write_hours("raw", frame, TEN, NOON, part)
    return split_interval(store, metrics or catalogue(), INTERVAL, part)


def layer(store, name):
    return store.read_hours(name, TEN, NOON)


def values_in(store, *names):
    """Give the number of values in layers."""
    return sum(metric_rows.count_values(layer(store, name)) for name in names)


def stored(store):
    columns = ["instance_id", "metric", "value", "reason"]
    return layer(store, keys.REFUSED_VALUES).reindex(columns=columns).to_numpy().tolist()


def test_refused_values_are_stored_and_rows_and_values_add_up(store, rows):
    # GIVEN two impossible values, and a row without a possible one
    rows.loc[5, ["cpu", "net"]] = [-1.0, np.nan]

    # WHEN
    outcome = split(store, rows)

    # THEN the values are stored beside the quarantined rows, which are one
    assert stored(store) == [["a", "cpu", 150.0, BEYOND], ["b", "cpu", 288.0, BEYOND]]
    assert (len(layer(store, "validated")), len(layer(store, "quarantine"))) == (47, 1)
    # AND values in = values kept + values refused, in the outcome and in the bucket
    refused = values_in(store, "quarantine") + len(layer(store, keys.REFUSED_VALUES))
    assert values_in(store, "raw") == values_in(store, "validated") + refused
    assert (outcome.values_kept, outcome.values_refused) == (values_in(store, "validated"), refused) == (92, 3)


def test_a_second_validation_without_impossible_values_clears_them(store, rows):
    split(store, rows)
    split(store, rows.assign(cpu=50.0))
    assert stored(store) == []


def test_a_corrected_bound_returns_its_values_to_their_rows(store, rows):
    # GIVEN refused values, one of them beyond any bound
    split(store, rows)

    # WHEN the bound is corrected for one of them, and the raw rows are gone
    for key in store.keys("raw/"):
        store.delete(key)
    done = revalidate.revalidate(store, catalogue(upper=200.0), INTERVAL)

    # THEN it is back in its row, the other is left, and no row was in quarantine
    assert (done.rows, done.values_returned, done.value_reasons) == (0, 1, {BEYOND: 1})
    assert layer(store, "validated")["cpu"].max() == 150.0
    assert stored(store) == [["b", "cpu", 288.0, BEYOND]]
    # AND the layers are those of a validation by the corrected catalogue
    objects = {key: data for key, data in store.client.objects.items() if key.startswith("validated/")}
    split(store, rows, metrics=catalogue(upper=200.0))
    assert {key: data for key, data in store.client.objects.items() if key.startswith("validated/")} == objects


def test_killed_before_the_values_leave_the_quarantine_a_replay_completes(store, rows, monkeypatch):
    # GIVEN a replay that dies between the two writes
    split(store, rows)
    written = Store.write_hours

    def dies(self, name, *given):
        if name == keys.REFUSED_VALUES:
            raise ConnectionError("the machine went away")
        return written(self, name, *given)

    monkeypatch.setattr(Store, "write_hours", dies)
    with pytest.raises(ConnectionError):
        revalidate.revalidate(store, catalogue(upper=300.0), INTERVAL)
    monkeypatch.undo()

    # WHEN it runs again, THEN the values are in one place
    revalidate.revalidate(store, catalogue(upper=300.0), INTERVAL)
    assert stored(store) == []
    assert sorted(layer(store, "validated")["cpu"].nlargest(2)) == [150.0, 288.0]


def test_a_row_that_an_earlier_release_refused_for_one_value_lives_on_without_it(store, rows):
    # GIVEN a quarantined row with one impossible value, and a replay that was killed after it was validated
    store.write_hours("quarantine", rows.iloc[[3]].assign(reasons=BEYOND), TEN, NOON)
    before = dict(store.client.objects)

    # WHEN
    done = revalidate.revalidate(store, catalogue(), INTERVAL)

    # THEN it is validated without the value, which is refused
    assert (done.rows, done.validated, done.left, done.value_reasons) == (1, 1, 0, {BEYOND: 1})
    assert layer(store, "validated")[["cpu", "net"]].isna().to_numpy().tolist() == [[True, False]]
    assert stored(store) == [["a", "cpu", 150.0, BEYOND]]
    # AND if the quarantine was not written then, the next replay removes the row
    after = dict(store.client.objects)
    store.client.objects.update(before)
    assert revalidate.revalidate(store, catalogue(), INTERVAL).rows == 0
    assert store.client.objects == after


def test_a_row_of_another_source_goes_to_quarantine_with_all_its_values(store, rows):
    # GIVEN a row that a file has brought already
    split(store, rows.iloc[[3]].assign(cpu=50.0), CSV_PART)

    # WHEN the export brings it with an impossible value
    outcome = split(store, rows)

    # THEN it is quarantined with the value, which is not stored a second time
    quarantined = layer(store, "quarantine")
    assert quarantined[["cpu", "reasons"]].to_numpy().tolist() == [[150.0, TAKEN]]
    assert stored(store) == [["b", "cpu", 288.0, BEYOND]]
    assert outcome.values_kept + outcome.values_refused == 96


def test_refused_values_are_listed_with_their_part(store, rows):
    split(store, rows)
    listed = revalidate.read_refused_values(store, catalogue(), TEN, NOON)
    assert listed[["instance_id", "metric", "value", "part"]].to_numpy().tolist() == [
        ["a", "cpu", 150.0, EXPORT_PART],
        ["b", "cpu", 288.0, EXPORT_PART],
    ]
    assert revalidate.read_refused_values(store, catalogue(), NOON, NOON + timedelta(days=1)).empty
    assert revalidate.read_quarantined(store, catalogue(), TEN, NOON).empty

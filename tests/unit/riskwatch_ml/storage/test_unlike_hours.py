"""An hour whose columns have other types than those of most hours: it is named, or left out where others go on."""

from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from riskwatch_ml.storage import keys
from riskwatch_ml.storage.parquet import DamagedObjectError

TEN = datetime(2026, 11, 22, 10, tzinfo=UTC)
HOUR = timedelta(hours=1)


def put(store, hour, values):
    """Write the object of an hour and return its key."""
    key = keys.hour_key(keys.VALIDATED, TEN + hour * HOUR)
    stamps = pd.date_range(TEN + hour * HOUR, periods=len(values), freq="min", unit="ms")
    store.put_frame(key, pd.DataFrame({"instance_id": "web-1", "timestamp": stamps, "cpu": values}))
    return key


@pytest.mark.parametrize("place", [0, 1, 3])
def test_an_hour_with_texts_for_numbers_is_named_or_left_out(store, place):
    # GIVEN hours of numbers, one of texts, and more hours without a value
    for hour in range(9):
        put(store, hour, [1.0, 2.0] if hour < 4 else [None])
    key = put(store, place, ["much", "more"])

    # WHEN / THEN the error names it
    text = rf"s3://b/{key} is no Parquet .*column cpu is of type string, that of other objects double.* restore"
    with pytest.raises(DamagedObjectError, match=text):
        store.read_hours(keys.VALIDATED, TEN, TEN + 9 * HOUR)
    # AND who can go on without it gets the others and its name
    damaged = []
    assert len(store.read_hours(keys.VALIDATED, TEN, TEN + 9 * HOUR, damaged=damaged)) == 11
    assert [key in named for named in damaged] == [True]
    # AND who does not read the column reads the hour
    assert len(store.read_hours(keys.VALIDATED, TEN, TEN + 9 * HOUR, columns=())) == 13


def test_whole_numbers_and_hours_without_a_value_are_read_with_the_others(store):
    # GIVEN / WHEN / THEN
    for hour, values in enumerate([[1.5], [2], [None]]):
        put(store, hour, values)
    found = store.read_hours(keys.VALIDATED, TEN, TEN + 3 * HOUR)
    assert found["cpu"].dropna().tolist() == [1.5, 2.0]

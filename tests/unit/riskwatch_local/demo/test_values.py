"""The values of the demo add up, and a lost one is found."""

from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from riskwatch_local.demo import values
from riskwatch_ml.schema.catalogue import Catalogue
from riskwatch_ml.schema.metric import Metric
from riskwatch_ml.storage import keys
from riskwatch_ml.storage.bucket import Store
from tests.support.bucket import Bucket

TEN = datetime(2026, 11, 22, 10, tzinfo=UTC)
ELEVEN = TEN + timedelta(hours=1)
METRICS = Catalogue((Metric("cpu", "Test", "CPU"), Metric("net", "Test", "Net")))


def frame(*rows, **more):
    table = pd.DataFrame(rows, columns=["instance_id", "minute", "cpu", "net"]).assign(**more)
    moments = [TEN + timedelta(minutes=minute) for minute in table.pop("minute")]
    return table.assign(timestamp=pd.DatetimeIndex(moments).as_unit("ms"))


@pytest.fixture
def store():
    """Three rows: one whole, one without a refused value, one refused."""
    filled = Store(Bucket(), "bucket")
    filled.write_hours(keys.RAW, frame(("a", 0, 1.0, 2.0), ("a", 5, 288.0, 2.0), ("a", 10, -1.0, None)), TEN, ELEVEN)
    filled.write_hours(keys.VALIDATED, frame(("a", 0, 1.0, 2.0), ("a", 5, None, 2.0)), TEN, ELEVEN)
    filled.write_hours(keys.QUARANTINE, frame(("a", 10, -1.0, None), reasons="why"), TEN, ELEVEN)
    refused = frame(("a", 5, 0.0, 0.0), metric="cpu", value=288.0, reason="why").drop(columns=["cpu", "net"])
    filled.write_hours(keys.REFUSED_VALUES, refused, TEN, ELEVEN)
    return filled


def test_the_values_of_an_export_are_counted_in_the_bucket(store):
    counts = values.exported(store, METRICS, TEN, ELEVEN)
    assert counts == {"received": 5, "kept": 3, "refused": 2, "refused_alone": 1}
    assert values.adds_up(counts)
    assert values.line(counts) == "5 = 3 kept + 2 refused, 1 of them without their row"


def test_a_value_that_was_lost_is_found(store):
    # GIVEN a bucket without the refused value
    for key in store.keys(f"{keys.REFUSED_VALUES}/"):
        store.delete(key)

    # WHEN / THEN
    assert not values.adds_up(values.exported(store, METRICS, TEN, ELEVEN))


def test_the_values_of_the_stream_are_counted_in_what_the_function_stored():
    # GIVEN a row with a refused value, one without a value of cpu, and a refused row with two values
    labelled = [
        {"cpu": None, "net": 2.0, "refused_values": [{"feature": "cpu"}]},
        {"cpu": None, "net": 1.0, "refused_values": []},
    ]
    counts = values.streamed(5, labelled, [{"rows": 1, "values": 2}], METRICS)

    # WHEN / THEN
    assert counts == {"received": 5, "kept": 2, "refused": 3, "refused_alone": 1}
    assert values.adds_up(counts)
    assert not values.adds_up(values.streamed(6, labelled, [], METRICS))

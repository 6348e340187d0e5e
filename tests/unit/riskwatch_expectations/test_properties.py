"""Whatever the rows, a validation accounts for every row and every value, and raises typed errors only."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from riskwatch_expectations.pipeline import split_interval
from riskwatch_expectations.validate import Interval
from riskwatch_ml.schema import metric_rows
from riskwatch_ml.schema.catalogue import Catalogue
from riskwatch_ml.schema.metric import Metric
from riskwatch_ml.storage import keys
from riskwatch_ml.storage.bucket import Store
from tests.support.bucket import Bucket

# The rows arrive at midnight after it (conftest): the last ones are ahead.
START = datetime(2026, 11, 22, 22, tzinfo=UTC)
END = START + timedelta(hours=4)
INTERVAL = Interval(START, END, 300)
METRICS = Catalogue(
    (Metric("cpu", "Test", "CPU", lower=0.0, upper=100.0), Metric("net", "Test", "Net"), Metric("lat", "Test", "Lat"))
)
NAMES = list(METRICS.names)

_VALUES = st.one_of(
    st.sampled_from([10.0, np.nan, np.inf, -np.inf, -1.0, 288.0, 1e15, 2e15]), st.floats(width=64, allow_nan=True)
)
_SECONDS = st.one_of(st.integers(0, 47).map(lambda place: place * 300), st.integers(0, 4 * 3600 - 1))
_INSTANCES = st.sampled_from(["a", "b", "", None, "web\n1", "ü" * 128])


@st.composite
def _tables(draw):
    count = draw(st.integers(1, 12))
    cells = [[draw(_VALUES) for _ in NAMES] for _ in range(count)]
    times = [START + timedelta(seconds=draw(_SECONDS)) for _ in range(count)]
    stamps = pd.DatetimeIndex(times).as_unit("ms")
    names = pd.Series([draw(_INSTANCES) for _ in range(count)], dtype="str")
    columns = dict(zip(NAMES, np.array(cells).T, strict=True))
    return pd.DataFrame({"instance_id": names, "timestamp": stamps, **columns})


@settings(max_examples=settings.default.max_examples // 8)
@given(_tables())
def test_rows_and_values_in_are_those_kept_and_refused(rows):
    # GIVEN raw rows with any keys, times and values in any order
    store = Store(Bucket(), "bucket")
    store.write_hours(keys.RAW, rows, START, END)

    # WHEN they are validated
    outcome = split_interval(store, METRICS, INTERVAL)

    # THEN every row and every value is kept or refused, in the outcome and in the bucket
    layers = {name: store.read_hours(name, START, END) for name in (keys.VALIDATED, keys.QUARANTINE)}
    alone = store.read_hours(keys.REFUSED_VALUES, START, END)
    assert len(rows) == outcome.rows == sum(map(len, layers.values()))
    total = int(rows[NAMES].notna().to_numpy().sum())
    assert total == outcome.values_kept + outcome.values_refused
    assert total == len(alone) + sum(map(metric_rows.count_values, layers.values()))
    # AND what is kept is possible, in time, and there once
    validated = outcome.validated
    assert not metric_rows.find_impossible(validated[NAMES].to_numpy(), METRICS).any()
    assert not validated.duplicated(["instance_id", "timestamp"]).any()
    assert validated["instance_id"].isin(["a", "b"]).all()
    # The limit of ten minutes after the arrival at midnight.
    assert (validated["timestamp"] <= datetime(2026, 11, 23, 0, 10, tzinfo=UTC)).all()
    assert validated[NAMES].notna().any(axis=1).all()

"""Whatever the rows, packing loses no row and no value on the way to the function."""

import base64
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from riskwatch_lambda.model.row_schema import RowSchema
from riskwatch_lambda.scoring.records import decode
from riskwatch_ml.core import clock
from riskwatch_ml.schema.catalogue import Catalogue
from riskwatch_ml.schema.metric import Metric
from riskwatch_ml.streaming.packs import Packer, StreamError

TEN = datetime(2026, 11, 22, 10, tzinfo=UTC)
METRICS = Catalogue(
    (Metric("cpu", "Test", "CPU", lower=0.0, upper=100.0), Metric("net", "Test", "Net"), Metric("lat", "Test", "Lat"))
)
NAMES = list(METRICS.names)
ROW_SCHEMA = RowSchema(METRICS.names, ((0.0, 100.0), (None, None), (None, None)), 3)

_VALUES = st.one_of(
    st.sampled_from([10.0, np.nan, np.inf, -np.inf, -1.0, 288.0, 1e15, 2e15]), st.floats(width=64, allow_nan=True)
)
# Any millisecond that a table can have and a record may name, near and far apart.
_SECONDS = st.one_of(st.integers(0, 20).map(lambda place: place * 300), st.integers(-(10**8), 10**8))


@st.composite
def _tables(draw):
    count = draw(st.integers(1, 12))
    cells = [[draw(_VALUES) for _ in NAMES] for _ in range(count)]
    times = [TEN + timedelta(seconds=draw(_SECONDS)) for _ in range(count)]
    names = [draw(st.sampled_from(["a", "b", "c"])) for _ in range(count)]
    stamps = pd.DatetimeIndex(times).as_unit("ms")
    return pd.DataFrame({"instance_id": names, "timestamp": stamps, **dict(zip(NAMES, np.array(cells).T, strict=True))})


@given(_tables(), st.integers(1, 4))
def test_rows_and_values_in_are_those_that_the_function_labels_or_refuses(rows, context_rows):
    # GIVEN rows with any times and values in any order
    repeated = rows[rows[NAMES].notna().any(axis=1)].duplicated(["instance_id", "timestamp"]).any()

    # WHEN two have the same instance and time, THEN that is an error
    if repeated:
        with pytest.raises(StreamError, match="two rows of"):
            Packer(rows, {}, context_rows, 1800, METRICS)
        return

    # WHEN they are packed
    packer = Packer(rows, {}, context_rows, 1800, METRICS)
    queues = packer.packs(datetime(2020, 1, 1, tzinfo=UTC), datetime(2035, 1, 1, tzinfo=UTC))
    packs = [pack for queue in queues for pack in queue]

    # AND decoded as the function does, long after their time
    arrived_ms = clock.epoch_ms(datetime(2040, 1, 1, tzinfo=UTC))
    parts = [decode(base64.b64encode(pack.data).decode(), ROW_SCHEMA, arrived_ms) for pack in packs]

    # THEN every row with a value is labelled or refused
    sent = rows[rows[NAMES].notna().any(axis=1)]
    labelled = [row for part in parts for record in part.records for row in record.rows[-record.newest :]]
    refused = [row for part in parts for row in part.refused]
    assert len(labelled) + sum(row.rows for row in refused) == len(sent) == sum(pack.rows for pack in packs)

    # AND every value is kept or refused
    kept = sum(value is not None for row in labelled for value in row)
    alone = sum(len(values) for part in parts for record in part.records for values in record.refused_values.values())
    total = int(sent[NAMES].notna().to_numpy().sum())
    assert kept + alone + sum(row.values for row in refused) == total == sum(pack.values for pack in packs)

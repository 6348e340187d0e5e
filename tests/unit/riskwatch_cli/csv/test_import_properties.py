"""Whatever a file holds, its import accounts for every row and every value, or refuses the file with its reason."""

import tempfile
from datetime import datetime, timedelta
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from riskwatch_cli.csv import import_rows
from riskwatch_ml.core.errors import UserInputError
from riskwatch_ml.ingest import csv_reader
from riskwatch_ml.schema import catalogue, metric_rows
from riskwatch_ml.storage import keys
from riskwatch_ml.storage.bucket import Store
from tests.support.bucket import Bucket

METRICS = catalogue.load()
TEN = datetime(2025, 2, 17, 10)
_CELLS = st.one_of(
    st.sampled_from(["20", "", "288", "-3", "1e300", "nan", "inf", "-inf", "1e400", "0"]),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
)
_TEXTS = st.one_of(*[_CELLS] * 30, st.sampled_from(["abc", "1,5", "'"]))
# On the grid and off it, hours and years apart, in any order; some lie in the future.
_SECONDS = st.one_of(
    st.integers(0, 24).map(lambda place: place * 300), st.integers(0, 7200), st.sampled_from([10**6, -(10**6), 10**9])
)


@st.composite
def _files(draw):
    lines = ["timestamp,instance_id,CPUUtilization,Latency_ms"]
    for _ in range(draw(st.integers(1, 8))):
        moment = TEN + timedelta(seconds=draw(_SECONDS))
        name = draw(st.sampled_from(["a", "b", "c"]))
        lines.append(f"{moment:%Y-%m-%dT%H:%M:%SZ},{name},{draw(_TEXTS)},{draw(_TEXTS)}")
    return "\n".join(lines) + "\n"


@settings(max_examples=settings.default.max_examples // 8)
@given(_files())
def test_rows_and_values_of_a_file_are_those_kept_and_refused(content):
    # GIVEN a file with any times and values in any order
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.csv"
        path.write_text(content, encoding="utf-8")
        store = Store(Bucket(), "bucket")

        # WHEN it is imported
        try:
            rows = csv_reader.read(path, METRICS).rows
        except UserInputError:
            # THEN it is refused as a whole, with a typed error
            return
        imported = import_rows.bring_in(store, rows, METRICS, 300, lambda done, total: None)

    # OR every row and every value is kept or refused, in the counts and in the bucket
    assert imported.adds_up
    assert (imported.rows, imported.values) == (len(rows), metric_rows.count_values(rows))
    first, last = rows["timestamp"].min().to_pydatetime(), rows["timestamp"].max().to_pydatetime() + timedelta(hours=1)
    layers = {name: store.read_hours(name, first, last) for name in (keys.VALIDATED, keys.QUARANTINE)}
    assert {name: len(frame) for name, frame in layers.items()} == {
        keys.VALIDATED: imported.validated,
        keys.QUARANTINE: imported.quarantined,
    }
    alone = len(store.read_hours(keys.REFUSED_VALUES, first, last))
    assert alone == sum(imported.value_reasons.values())
    assert sum(map(metric_rows.count_values, layers.values())) + alone == imported.values

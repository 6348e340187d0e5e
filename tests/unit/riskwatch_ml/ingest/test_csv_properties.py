"""Whatever a CSV file holds, it is read, or refused by one short line that names it."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from riskwatch_ml.ingest import csv_reader
from riskwatch_ml.ingest.csv_reader import CsvError
from riskwatch_ml.schema import catalogue
from tests.support.fuzzing import TEXTS, damaged, outcome

CATALOGUE = catalogue.load()
_TIMES = st.one_of(
    st.sampled_from(
        ["2025-02-17T00:00:00Z", "2025-02-17 00:05", "2/17/2025 0:05", "17/2/2025 0:05", "2/3/25 12:05 AM"]
    ),
    st.sampled_from(["1739750700", "1739750700000", "9" * 18, "9" * 20, "253402300800", "0001-01-01T00:00:00+14:00"]),
    st.datetimes().map(str),
    st.integers(0, 10**19).map(str),
    st.tuples(*[st.integers(0, 9999)] * 3).map(lambda parts: "/".join(map(str, parts))),
    TEXTS,
)
_CELLS = st.one_of(st.sampled_from(["1", "2.5", "", "-", "nan", "inf", "1e999", "1_000", "-1", "٣", "x"]), TEXTS)
_NAMES = st.sampled_from(
    ["CPUUtilization", "cpu_utilization", "Latency_ms", "InstanceId", "host", "load", "x" * 200, ""]
)


@st.composite
def files(draw):
    names = [draw(st.sampled_from(["timestamp", "ts", "Date"])), *draw(st.lists(_NAMES, min_size=1, max_size=3))]
    lines = [",".join(names)]
    for _ in range(draw(st.integers(0, 5))):
        cells = [draw(_TIMES), *(draw(_CELLS) for _ in names[1:])]
        lines.append(",".join(f'"{cell}"' if "," in cell or "\n" in cell else cell for cell in cells))
    encoding = draw(st.sampled_from(["utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1"]))
    return "\n".join(lines).encode(encoding, "replace")


@given(
    st.one_of(files(), damaged(files()), st.binary(max_size=60)),
    st.sampled_from([CATALOGUE, None]),
    st.sampled_from([None, "web", "web-1"]),
)
def test_a_file_is_read_or_refused_by_name(tmp_path_factory, content, metrics, instance):
    # GIVEN
    path = tmp_path_factory.getbasetemp() / "web.csv"
    path.write_bytes(content)

    # WHEN
    found, refusal = outcome(lambda: csv_reader.read(path, metrics, instance=instance), CsvError)

    # THEN one line says which file, and no text of it in full
    if found is None:
        assert refusal.startswith("web.csv: ")
        assert len(refusal) < 1_500
        return

    # OR every row has a time and an instance, and no value is infinite
    rows = found.rows
    assert len(rows) > 0
    assert rows["timestamp"].notna().all()
    assert rows["instance_id"].map(lambda name: isinstance(name, str) and name != "").all()
    assert not np.isinf(rows.drop(columns=["instance_id", "timestamp"]).to_numpy(np.float64)).any()

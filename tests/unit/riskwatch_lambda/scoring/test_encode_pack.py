"""Packs: the decoder reads what the encoder writes."""

from __future__ import annotations

import base64
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from riskwatch_lambda.model.row_schema import MAGNITUDE_LIMIT, RowSchema
from riskwatch_lambda.scoring.record_form import EARLIEST_MS, LATEST_MS, NAME_LIMIT
from riskwatch_lambda.scoring.records import decode, encode_pack

FEATURES = ("cpu", "net", "disk")
# More context than a pack below has, so that no row is cut off.
ROW_SCHEMA = RowSchema(FEATURES, ((0.0, 100.0), (0.0, None), (None, None)), context_rows=100)

NAMES = st.text(min_size=1, max_size=NAME_LIMIT // 4).filter(str.isprintable)


def values(low: float, high: float) -> st.SearchStrategy[float | None]:
    return st.none() | st.floats(low, high)


@st.composite
def instances(draw):
    times = sorted(draw(st.sets(st.integers(EARLIEST_MS, LATEST_MS - 1), min_size=1, max_size=8)))
    bounds = ((0.0, 100.0), (0.0, MAGNITUDE_LIMIT), (-MAGNITUDE_LIMIT, MAGNITUDE_LIMIT))
    columns = [draw(st.lists(values(*pair), min_size=len(times), max_size=len(times))) for pair in bounds]
    return {
        "id": draw(NAMES),
        "role": draw(NAMES),
        "newest": draw(st.integers(1, len(times))),
        "ts": times,
        "columns": columns,
    }


@given(
    NAMES,
    st.permutations(range(len(FEATURES))),
    st.lists(instances(), min_size=1, max_size=4, unique_by=lambda entry: entry["id"]),
)
def test_a_pack_is_decoded_to_the_rows_that_were_encoded(service, order, entries):
    # GIVEN possible rows of some instances, with the features in any order
    shuffled = [{**entry, "columns": [entry["columns"][index] for index in order]} for entry in entries]

    # WHEN they are encoded, sent by Kinesis and decoded
    data = base64.b64encode(encode_pack(service, [FEATURES[index] for index in order], shuffled)).decode()
    records, refused = decode(data, ROW_SCHEMA)

    # THEN every value, time and name is as it was, and nothing is refused
    assert refused == ()
    assert [(record.service, record.role, record.instance_id, record.newest) for record in records] == [
        (service, entry["role"], entry["id"], entry["newest"]) for entry in entries
    ]
    assert [list(record.ts) for record in records] == [entry["ts"] for entry in entries]
    assert [[list(column) for column in zip(*record.rows, strict=True)] for record in records] == [
        entry["columns"] for entry in entries
    ]


def test_a_pack_is_compact_json_in_a_fixed_order():
    # GIVEN one instance, WHEN it is encoded, THEN the bytes are those that earlier releases have sent
    entry = {"id": "web-1", "role": "web", "newest": 1, "ts": [EARLIEST_MS], "columns": [[1.5], [None]]}
    assert encode_pack("büro", ("cpu", "net"), [entry]) == (
        b'{"v":2,"service":"b\\u00fcro","features":["cpu","net"],"instances":[{"id":"web-1","role":"web","newest":1,'
        b'"ts":[946684800000],"columns":[[1.5],[null]]}]}'
    )


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_json_does_not_know_is_refused(value):
    entry = {"id": "web-1", "role": "web", "newest": 1, "ts": [EARLIEST_MS], "columns": [[value]]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        encode_pack("shop", ("cpu",), [entry])
    assert json.loads(encode_pack("shop", ("cpu",), [{**entry, "columns": [[None]]}]))["instances"][0]["id"] == "web-1"

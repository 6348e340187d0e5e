"""Decoding a record of one row: what cannot be scored is refused with a reason that says what is wrong."""

from __future__ import annotations

import base64
import json
import sys
from typing import Any

import pytest

from riskwatch_lambda.model.row_check import is_row_refused
from riskwatch_lambda.model.row_schema import RecordError
from riskwatch_lambda.scoring.records import ONE_ROW_LIMIT, PACK_LIMIT, decode, parse
from tests.support import tiny

ROW_SCHEMA = tiny.model().row_schema


def encoded(document: Any) -> str:
    text = document if isinstance(document, bytes) else json.dumps(document).encode()
    return base64.b64encode(text).decode()


def test_a_valid_record_keeps_the_rows_that_the_model_can_use():
    # GIVEN three rows for a model with a context of two, whole numbers and a missing value among them
    document = tiny.stream_record([[1, 1], [2, None], [3.5, 4]])

    # WHEN it is decoded
    ((record,), refused) = decode(encoded(document), ROW_SCHEMA)

    # THEN the two newest rows are left, as floats, and missing stays missing
    assert record.rows == ((2.0, None), (3.5, 4.0))
    assert all(type(value) is float for value in record.rows[1])
    assert record.ts == tuple(document["ts"][1:])
    assert (record.service, record.role, record.instance_id, record.newest) == ("shop", "web", "web-1", 1)
    assert refused == ()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (None, "not text"),
        ("a" * (PACK_LIMIT + 4), f"limit is {PACK_LIMIT}"),
        (encoded({**tiny.stream_record([[1, 2]]), "more": "a" * ONE_ROW_LIMIT}), f"limit of v 1 is {ONE_ROW_LIMIT}"),
        ("eyJ2IjoxfQ=", "not base64"),
        ("eyJ2\nIjoxfQ==", "not base64"),
        ("é", "not base64"),
        (encoded(b"\xff\xfe"), "not UTF-8"),
        (encoded(b""), "not JSON"),
        (encoded(b"\xef\xbb\xbf{}"), "not JSON"),
        (encoded(b"{'v': 1}"), "not JSON"),
        (encoded(b"[" * 40_000), "not JSON"),
        (encoded(b'{"v": NaN}'), "NaN is not a JSON number"),
        (encoded(b'{"v": -Infinity}'), "-Infinity is not a JSON number"),
        (encoded(b'{"v": 1, "v": 2}'), "'v' twice in one object"),
        (encoded(b'{"v": 1, "more": {"a": 1, "a": 1}}'), "'a' twice in one object"),
        (encoded(b'{"v": 1} {}'), "more follows after character 8"),
        (encoded([]), "not a JSON object"),
    ],
)
def test_data_that_is_no_json_object_is_refused(data: object, reason: str):
    # GIVEN data that is no JSON object in base64
    # WHEN it is decoded
    # THEN the reason says how it is not
    with pytest.raises(RecordError, match=reason):
        decode(data, ROW_SCHEMA)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"v": 3}, "v is 3, this function reads 1 and 2"),
        ({"v": True}, "v is True"),
        ({"v": None}, "v is None"),
        ({"service": ""}, "service must be printable"),
        ({"role": 7}, "role must be printable"),
        ({"instance_id": "a\nb"}, "instance_id must be printable"),
        ({"instance_id": "\ud800"}, "instance_id must be printable"),
        ({"instance_id": "ü" * 128}, "instance_id has 256 bytes"),
        ({"ts": []}, "ts must be a list"),
        ({"ts": [tiny.TEN]}, "as many rows"),
        ({"ts": [tiny.TEN, tiny.TEN]}, "ts is 1795341600000, not later than the time before it, 1795341600000"),
        ({"ts": [tiny.TEN, tiny.TEN - 1]}, "not later"),
        ({"ts": [1_795_341_600, tiny.TEN]}, r"ts\[0\] is 1795341600: not epoch milliseconds"),
        ({"ts": [float(tiny.TEN), tiny.TEN + 1]}, r"ts\[0\]"),
        ({"rows": None}, "rows must be a list"),
        ({"rows": [[1, 2], [1]]}, r"rows\[1\] has 1 values, the model has 2"),
        ({"rows": [[1, 2], 3]}, r"rows\[1\] has no list"),
        ({"rows": [[1, True], [1, 2]]}, "net of row 0 is True"),
        ({"rows": [[1, 2], ["1", 2]]}, "cpu of row 1 is '1'"),
        ({"rows": [[1, 2], [None, 10**400]]}, "net is 1000"),
        ({"rows": [[1, 2], [None, 2e15]]}, "net is 2000000000000000.0, expected null or a finite number"),
        ({"rows": [[1, 2], [-0.5, None]]}, "cpu is -0.5, below its lower bound 0"),
        ({"rows": [[1, 2], [100.01, None]]}, "cpu is 100.01, above its upper bound 100"),
        ({"rows": [[1, 2], [-1, -2e15]]}, "cpu is -1, below its lower bound 0; net is -2000000000000000.0, expected"),
    ],
)
def test_a_record_that_breaks_the_contract_is_refused(changes: dict[str, Any], reason: str):
    # GIVEN a record of two rows with one thing wrong
    document = {**tiny.stream_record([[1, 2], [3, 4]]), **changes}

    # WHEN it is parsed, THEN the reason names it, in few words
    with pytest.raises(RecordError, match=reason) as caught:
        parse(document, ROW_SCHEMA)
    assert len(str(caught.value)) <= 300


@pytest.mark.parametrize(
    ("last", "reason"),
    [
        ([1.0, True], "net of row 1 is True"),
        (["1", 2.0], "cpu of row 1 is '1'"),
        ([100.01, None], "cpu is 100.01, above its upper bound 100"),
        ([-0.5, None], "cpu is -0.5, below its lower bound 0"),
        ([None, 2e15], "net is 2000000000000000.0, expected null or a finite number"),
    ],
)
def test_one_wrong_value_among_floats_is_found(last: list[Any], reason: str):
    # GIVEN a row of floats and nulls, which is taken as it is
    assert parse(tiny.stream_record([[1.0, None], [3.0, 4.0]]), ROW_SCHEMA).rows == ((1.0, None), (3.0, 4.0))

    # WHEN one value of the row to label is wrong, THEN the reason names it
    with pytest.raises(RecordError, match=reason):
        parse(tiny.stream_record([[1.0, None], last]), ROW_SCHEMA)


def test_white_space_around_a_document_is_no_fault():
    text = f" \n{json.dumps(tiny.stream_record([[1.0, 2.0]]))}\r\n\t"
    assert len(decode(encoded(text.encode()), ROW_SCHEMA).records) == 1


def test_numbers_that_overflow_in_json_are_refused():
    # GIVEN a literal that Python reads as infinity
    text = json.dumps(tiny.stream_record([[1, 2]])).replace("[1, 2]", "[null, 1e999]").encode()

    # WHEN it is decoded, THEN it is refused
    with pytest.raises(RecordError, match="net is inf"):
        decode(encoded(text), ROW_SCHEMA)


@pytest.mark.parametrize(
    ("last", "row", "value", "reason"),
    [
        ([150, 2], (None, 2.0), 150.0, "cpu is 150, above its upper bound 100"),
        ([-0.5, 2.0], (None, 2.0), -0.5, "cpu is -0.5, below its lower bound 0"),
        ([1.0, 2e15], (1.0, None), 2e15, "net is 2000000000000000.0, expected null or a finite number"),
        ([1, -(10**400)], (1.0, None), -sys.float_info.max, "net is -10000"),
    ],
)
def test_one_impossible_value_costs_that_value(last: list[Any], row: Any, value: float, reason: str):
    # GIVEN a record with an impossible value in the row to label, and one in its context
    document = tiny.stream_record([[1, 2], [150, 3], last])

    # WHEN it is parsed
    record = parse(document, ROW_SCHEMA)

    # THEN both rows are left without the value, and the one of the row to label is named with its reason
    assert record.rows == ((None, 3.0), row)
    ((refused,),) = record.refused_values.values()
    assert list(record.refused_values) == [document["ts"][2]]
    assert (refused.feature, refused.value) == ("cpu" if row[0] is None else "net", value)
    assert refused.reason.startswith(reason)
    assert len(refused.reason) < 100


@pytest.mark.parametrize(
    ("impossible", "present", "features", "refused"),
    [(0, 0, 2, False), (1, 2, 2, False), (1, 1, 10, True), (5, 10, 10, False), (6, 10, 10, True), (2, 3, 10, False)],
)
def test_a_row_is_refused_for_its_values_if_more_than_half_of_the_features_are_impossible_or_none_is_left(
    impossible: int, present: int, features: int, refused: bool
):
    assert is_row_refused(impossible, present, features) is refused


@pytest.mark.parametrize(("ts", "row"), [(1, [150, None]), (1, [-3, 2e15]), (0, [3, 2])])
def test_an_impossible_row_of_the_context_is_left_out(ts: int, row: list[float]):
    # GIVEN a row of the context beyond a bound, or with the time of the row before it
    document = tiny.stream_record([[1, 2], row, [5, 6]])
    document["ts"][1] = document["ts"][ts]

    # WHEN the record is parsed, THEN the newest row is labelled in the light of the others, as in training
    record = parse(document, ROW_SCHEMA)
    assert record.rows == ((1.0, 2.0), (5.0, 6.0))
    assert record.ts == (document["ts"][0], document["ts"][2])

"""The kind of a record: it selects the schema, and stays with the record and with its refused parts."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from riskwatch_lambda.model.row_schema import RecordError, RowSchema
from riskwatch_lambda.scoring.records import Decoded, decode, encode_pack, parse
from tests.support import kinds, tiny
from tests.support.packing import entry, pack
from tests.support.tiny import TEN

FIRST = RowSchema(("cpu", "net"), ((0, 100), (None, None)), 2, "ec2")
FURTHER = {"rds": RowSchema(("connections",), ((0, 1000),), 1, "rds")}


def decoded(document: dict[str, Any], first: RowSchema = FIRST) -> Decoded:
    return decode(base64.b64encode(json.dumps(document).encode()).decode(), first, None, FURTHER)


@pytest.mark.parametrize("stated", [{}, {"kind": None}, {"kind": "ec2"}])
@pytest.mark.parametrize("document", [tiny.stream_record([[1.0, 2.0]]), pack(entry("web-1", [[1.0, 2.0]]))])
def test_a_record_without_a_kind_is_of_the_first_one(stated, document):
    ((record,), refused) = decoded({**document, **stated})
    assert (record.resource_kind, record.rows, refused) == ("ec2", ((1.0, 2.0),), ())


@pytest.mark.parametrize("document", [kinds.row(40.0), kinds.pack(kinds.ORDERS, [40.0], 1)])
def test_a_kind_selects_its_schema(document):
    ((record,), refused) = decoded(document)
    assert (record.resource_kind, record.rows, refused) == ("rds", ((40.0,),), ())


def test_a_record_is_measured_by_the_schema_of_its_kind():
    # GIVEN a row with the features of the first kind that says it is of another WHEN decoded THEN it is refused
    with pytest.raises(RecordError, match=r"rows\[0\] has 2 values, the model has 1 features") as caught:
        decoded(tiny.stream_record([[1.0, 2.0]], kind="rds"))
    assert (caught.value.resource_kind, caught.value.rows, caught.value.values) == ("rds", 1, 2)
    with pytest.raises(RecordError, match="features has no connections") as caught:
        decoded({**pack(entry("web-1", [[1.0, 2.0]] * 3, 3)), "kind": "rds"})
    assert (caught.value.resource_kind, caught.value.rows, caught.value.values) == ("rds", 3, 6)


@pytest.mark.parametrize("first", [FIRST, tiny.model().row_schema])
@pytest.mark.parametrize("kind", ["alb", "RDS", "rds ", "ec2/", "x" * 5000])
def test_an_unknown_kind_is_named_with_those_of_the_model(first, kind):
    with pytest.raises(RecordError) as caught:
        decoded({**kinds.row(40.0), "kind": kind}, first)
    assert str(caught.value).startswith(f"kind is {kind!r}"[:250])
    assert caught.value.resource_kind == kind[:255]
    if len(kind) < 9:
        assert str(caught.value).endswith(f"the model has {first.resource_kind or 'one kind without a name'}, rds")


@pytest.mark.parametrize("kind", [1, True, 0.5, [], {}, [[]]])
def test_a_kind_that_is_no_text_is_refused(kind):
    for document in (kinds.row(40.0), kinds.pack(kinds.ORDERS, [40.0], 1)):
        with pytest.raises(RecordError, match="kind must be text") as caught:
            decoded({**document, "kind": kind})
        assert caught.value.resource_kind == ""


def test_a_kind_that_is_nested_without_end_is_refused():
    text = json.dumps(kinds.row(40.0, kind=0)).replace('"kind": 0', f'"kind": {"[" * 900}{"]" * 900}')
    with pytest.raises(RecordError, match="kind must be text"):
        decode(base64.b64encode(text.encode()).decode(), FIRST, None, FURTHER)


def test_parse_reads_a_record_of_any_kind():
    assert parse(kinds.row(40.0), FIRST, FURTHER).resource_kind == "rds"
    assert parse(tiny.stream_record([[1.0, 2.0]]), FIRST, FURTHER).resource_kind == "ec2"
    with pytest.raises(RecordError, match="the model has ec2"):
        parse(kinds.row(40.0), FIRST)


@given(
    st.sampled_from([None, "ec2", "rds"]),
    st.lists(st.none() | st.floats(-10, 2000), min_size=1, max_size=5),
    st.integers(1, 5),
)
def test_refused_parts_come_back_with_the_kind(kind, cells, newest):
    # GIVEN a pack with possible and impossible rows WHEN it is decoded, and each refused part again
    columns = [cells] if kind == "rds" else [cells, [None] * len(cells)]
    features = FURTHER["rds"].features if kind == "rds" else FIRST.features
    ts = [TEN + tiny.PERIOD_MS * n for n in range(len(cells))]
    packed = {"id": "x", "role": "web", "newest": min(newest, len(cells)), "ts": ts, "columns": columns}
    found = decode(base64.b64encode(encode_pack("shop", features, [packed], kind)).decode(), FIRST, None, FURTHER)

    # THEN records and parts are of the kind, every row is one of them, and a part is refused for the same reason again
    expected = kind or "ec2"
    assert {record.resource_kind for record in found.records} <= {expected}
    assert sum(record.newest for record in found.records) + sum(part.rows for part in found.refused) == packed["newest"]
    for part in found.refused:
        assert part.resource_kind == expected
        assert part.document.get("kind") == kind
        again = decoded(dict(part.document))
        assert [(other.reason, other.resource_kind) for other in again.refused] == [(part.reason, expected)]

"""Decoding a pack: what is wrong with one row or one instance is no harm to the others, and every row is counted."""

from __future__ import annotations

import base64
import json
import re
import sys
from typing import Any

import pytest

from riskwatch_lambda.model.row_schema import RecordError, RowSchema
from riskwatch_lambda.scoring import scorer
from riskwatch_lambda.scoring.records import PACK_LIMIT, decode, parse
from tests.support import tiny
from tests.support.packing import entry, pack
from tests.support.tiny import PERIOD_MS, TEN

ROW_SCHEMA = tiny.model().row_schema


def decoded(document: Any) -> Any:
    return decode(base64.b64encode(json.dumps(document).encode()).decode(), ROW_SCHEMA)


def test_a_pack_holds_many_instances_and_many_rows_of_each():
    # GIVEN one row of web-1 with more context than the model can use, and two rows of web-2 without any
    document = pack(entry("web-1", [[0, 0], [1, 1], [2, None], [3.5, 4]], 1), entry("web-2", [[5, 5], [6, 6]], 2))

    # WHEN it is decoded
    (one, two), refused = decoded(document)

    # THEN rows are as the model wants them, and each instance says how many are to be labelled
    assert (one.service, one.role, one.instance_id, one.newest) == ("shop", "web", "web-1", 1)
    assert one.rows == ((2.0, None), (3.5, 4.0))
    assert all(type(value) is float for value in one.rows[1])
    assert one.ts == tuple(document["instances"][0]["ts"][2:])
    assert (two.instance_id, two.newest, two.rows) == ("web-2", 2, ((5.0, 5.0), (6.0, 6.0)))
    assert refused == ()


def test_columns_are_found_by_the_name_of_their_feature():
    # GIVEN a pack with another order of features and one that the model does not know
    document = pack(entry("web-1", [[7, 1, 2]]), features=("disk", "net", "cpu"))

    # WHEN / THEN
    (record,), _ = decoded(document)
    assert record.rows == ((2.0, 1.0),)


@pytest.mark.parametrize(
    ("changes", "reason", "rows"),
    [
        ({"service": 3}, "service must be printable", 3),
        ({"features": None}, "features must be a list of names", 3),
        ({"features": ["cpu", 5]}, "features must be a list of names", 3),
        ({"features": ["cpu", "cpu"]}, "features names a feature twice", 3),
        ({"features": ["cpu", "disk"]}, "features has no net, which the model needs", 3),
        ({"instances": []}, "instances must be a list", 1),
        ({"instances": {"web-1": 1}}, "instances must be a list", 1),
        ({"v": 2.0}, "v is 2.0", 1),
    ],
)
def test_a_pack_that_does_not_say_whose_rows_it_holds_is_refused_whole(changes: dict, reason: str, rows: int):
    # GIVEN a pack of three rows to label with its head damaged, WHEN / THEN the reason says how, and rows are counted
    document = {**pack(entry("web-1", [[1, 2], [3, 4]], 2), entry("web-2", [[1, 2]])), **changes}
    with pytest.raises(RecordError, match=reason) as caught:
        decoded(document)
    assert caught.value.rows == rows


@pytest.mark.parametrize(
    ("damage", "reason", "rows"),
    [
        (5, "not a JSON object", 1),
        ({"id": "a\nb"}, "id must be printable", 2),
        ({"id": "x" * 256}, "id has 256 bytes", 2),
        ({"role": None}, "role must be printable", 2),
        ({"newest": 0}, "newest is 0, expected a number of rows from 1 to 3", 1),
        ({"newest": 4}, "newest is 4", 3),
        ({"newest": True}, "newest is True", 3),
        ({"newest": None}, "newest is None", 3),
        ({"ts": None}, "ts must be a list", 1),
        ({"ts": [TEN, TEN + 1, float(TEN + 2)]}, r"ts\[2\]", 2),
        ({"ts": [TEN, 1_795_341_600, TEN + 2]}, r"ts\[1\] is 1795341600: not epoch milliseconds", 2),
        ({"columns": None}, "web-1 has no columns for 2 features", 2),
        ({"columns": [[1, 2, 3]]}, "web-1 has 1 columns for 2 features", 2),
        ({"columns": [[1, 2, 3], [1, 2]]}, "column of net must be a list of as many values as ts has times, 3", 2),
        ({"columns": [[1, 2, 3], "abc"]}, "column of net", 2),
        ({"columns": [[1, 2, 3], [1, True, 2]]}, "net of row 1 is True", 2),
        ({"columns": [[1, 2, "3"], [1, 2, 3]]}, "cpu of row 2 is '3'", 2),
        ({"columns": [[1, [2], 3], [1, 2, 3]]}, r"cpu of row 1 is \[2\]", 2),
    ],
)
def test_an_instance_that_cannot_be_read_is_refused_alone(damage: Any, reason: str, rows: int):
    # GIVEN a damaged instance between two good ones
    bad = entry("web-1", [[1, 1], [2, 2], [3, 3]], 2)
    bad = {**bad, **damage} if isinstance(damage, dict) else damage
    good = [entry("web-2", [[1, 2]]), entry("web-3", [[1, 2]])]

    # WHEN it is decoded
    records, (refused,) = decoded(pack(good[0], bad, good[1]))

    # THEN the good ones are there, and the other is refused with its reason, its rows, and as a pack of its own
    assert [record.instance_id for record in records] == ["web-2", "web-3"]
    assert refused.rows == rows
    assert re.search(reason, refused.reason)
    assert refused.document == pack(bad)


def test_an_instance_that_comes_twice_is_refused_the_second_time():
    # GIVEN / WHEN
    records, (refused,) = decoded(pack(entry("web-1", [[1, 2]]), entry("web-1", [[3, 4]])))

    # THEN
    assert [record.rows for record in records] == [((1.0, 2.0),)]
    assert (refused.reason, refused.rows) == ("the pack holds web-1 twice", 1)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ([-0.5, None], "cpu is -0.5, below its lower bound 0"),
        ([100.01, 2e15], "cpu is 100.01, above its upper bound 100; net is 2000000000000000.0"),
        ([None, 2e15], "net is 2000000000000000.0, expected null or a finite number"),
        ([None, 10**400], "net is 1000"),
    ],
)
def test_a_row_without_a_possible_value_is_refused_alone_and_is_no_context(bad: list, reason: str):
    # GIVEN four rows to label, the second of them without a possible value, behind one row of context
    rows = [[1, 1], [2, 2], bad, [4, 4], [5, 5]]

    # WHEN
    (record,), (refused,) = decoded(pack(entry("web-1", rows, 4)))

    # THEN three are left to label, with the context, and the fourth is a pack of its own, with names and its context
    assert record.newest == 3
    assert record.rows == ((1.0, 1.0), (2.0, 2.0), (4.0, 4.0), (5.0, 5.0))
    assert refused.reason.startswith(reason)
    assert (refused.rows, refused.values) == (1, len(bad) - bad.count(None))
    assert refused.document == pack(entry("web-1", [[2, 2], bad], 1, last_ms=TEN + 10 * PERIOD_MS))
    # AND sent again it is refused for the same reason
    none, (again,) = decoded(refused.document)
    assert (none, again) == ((), refused)


def test_a_refused_row_that_is_sent_again_keeps_its_features_and_its_context():
    # GIVEN a row that the bounds of a catalogue refuse, behind others, one of them refused too, with a metric that the
    # model of the day does not use
    rows = [[1, 10, 7], [2, 20, 7], [-1, None, 7], [150, -2e15, 8]]
    _, (refused,) = decoded(pack(entry("web-1", rows, 1), features=("cpu", "net", "disk")))

    # WHEN it comes again after the catalogue is corrected, to a model that uses the metric and has another order
    later = RowSchema(("disk", "net", "cpu"), ((None, None), (None, None), (0.0, 200.0)), ROW_SCHEMA.context_rows)
    assert (refused.rows, refused.values) == (1, 2)
    (record,), left = decode(base64.b64encode(json.dumps(refused.document).encode()).decode(), later)

    # THEN each value is that of its feature, and the row has its context
    assert left == ()
    assert record.rows == ((7.0, 20.0, 2.0), (8.0, None, 150.0))
    assert record.newest == 1


def test_a_literal_that_overflows_is_refused():
    # GIVEN a literal that Python reads as infinity
    text = json.dumps(pack(entry("web-1", [[1, 7], [1, 2]], 2))).replace("[7, 2]", "[1e999, 2]")

    # WHEN / THEN
    (record,), refused = decode(base64.b64encode(text.encode()).decode(), ROW_SCHEMA)
    assert (record.newest, record.rows, refused) == (2, ((1.0, None), (1.0, 2.0)), ())
    ((value,),) = record.refused_values.values()
    assert value == ("net", sys.float_info.max, "net is inf, expected null or a finite number")


def test_of_rows_with_one_time_the_first_stands():
    # GIVEN four rows to label, the second with the time of the first, the third before both
    document = pack(entry("web-1", [[1, 1], [2, 2], [3, 3], [4, 4]], 4))
    ts = document["instances"][0]["ts"]
    document["instances"][0]["ts"] = [ts[1], ts[1], ts[0], ts[3]]

    # WHEN
    (record,), refused = decoded(document)

    # THEN
    assert (record.ts, record.rows) == ((ts[1], ts[3]), ((1.0, 1.0), (4.0, 4.0)))
    assert [part.reason for part in refused] == [
        f"ts is {ts[1]}, not later than the time before it, {ts[1]}",
        f"ts is {ts[0]}, not later than the time before it, {ts[1]}",
    ]


def test_an_impossible_row_of_the_context_is_neither_used_nor_counted():
    # GIVEN a row to label whose context is impossible
    (record,), refused = decoded(pack(entry("web-1", [[1, 1], [150, None], [3, 3]], 1)))

    # THEN the row before stands in for it, and nothing is refused, as the row was when it was new
    assert record.rows == ((1.0, 1.0), (3.0, 3.0))
    assert refused == ()


def test_an_instance_without_a_possible_row_leaves_no_record():
    # GIVEN / WHEN / THEN
    records, refused = decoded(pack(entry("web-1", [[1, 1], [150, None], [-3, 3e15]], 2)))
    assert records == ()
    assert [(part.rows, part.values) for part in refused] == [(1, 1), (1, 2)]


def test_impossible_values_cost_themselves_and_are_named_for_the_rows_to_label():
    # GIVEN three rows to label behind a row of context, an impossible value in three of the four
    rows = [[150, 1], [2, 2], [-3, 3], [4, 4e15]]

    # WHEN
    (record,), refused = decoded(pack(entry("web-1", rows, 3)))

    # THEN each row is there without it, and those of the rows to label are named by their times
    assert refused == ()
    assert (record.newest, record.rows) == (3, ((None, 1.0), (2.0, 2.0), (None, 3.0), (4.0, None)))
    named = {ms: [(value.feature, value.value) for value in values] for ms, values in record.refused_values.items()}
    assert named == {record.ts[2]: [("cpu", -3.0)], record.ts[3]: [("net", 4e15)]}


def test_a_pack_may_be_larger_than_a_record_of_one_row():
    # GIVEN a pack of 3,000 rows, and one that is too large
    rows = [[float(place % 100), 1.5] for place in range(3000)]
    document = pack(entry("web-1", rows, 3000, last_ms=TEN))

    # WHEN / THEN
    (record,), _ = decoded(document)
    assert record.newest == len(record.rows) == 3000
    with pytest.raises(RecordError, match=f"the limit is {PACK_LIMIT}"):
        decoded({**document, "more": "x" * PACK_LIMIT})


def test_the_rows_of_a_pack_get_the_verdicts_that_each_would_get_alone():
    # GIVEN a model with a window of two rows, and rows with a gap, missing values and an hour that is another
    extra = tiny.two_members()
    model = tiny.model(extra["arrays"], members=extra["members"])
    rows = [[11, 100], [12, 110], [None, 90], [15, None], [30, 100], [9, 140], [60, 60]]
    document = entry("web-1", rows, 6)
    document["ts"] = [ms - 2 * 3_600_000 for ms in document["ts"][:4]] + document["ts"][4:]

    # WHEN the pack is scored, and each of its rows as a record of its own with the row before it
    (record,), _ = decoded(pack(document))
    together = scorer.verdicts(model, record)
    alone = []
    for place in range(1, 7):
        single = tiny.stream_record(rows[place - 1 : place + 1], ts=document["ts"][place - 1 : place + 1])
        alone.append(scorer.score(model, parse(single, model.row_schema)))

    # THEN they are the same, and the first row behind the gap has no context
    assert together == tuple(alone)
    assert [verdict.context for verdict in together] == [True, True, True, False, True, True]


JUNK: list[Any] = [None, True, -1, 0.5, 1e300, 10**400, "", "x\n", [], {}, [[]], {"id": "web-1"}]


def places(node: Any) -> Any:
    """Give every place in a document, as container and key."""
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        yield node, key
        if isinstance(value, dict | list):
            yield from places(value)


def test_whatever_is_damaged_every_row_is_labelled_or_refused_with_a_reason():
    # GIVEN packs of seven rows with something wrong at every place in turn, though not in how many rows there are
    whole = pack(entry("web-1", [[1, 1], [2, 2], [3, 3]], 2), entry("web-2", [[4, 4]] * 5, 5))
    count = len(list(places(whole)))
    outcomes = {"labelled": 0, "refused": 0, "raised": 0}
    for number in range(count):
        for junk in JUNK:
            damaged = json.loads(json.dumps(whole))
            container, key = list(places(damaged))[number]
            if key in ("v", "instances", "newest", "ts") or container is damaged["instances"]:
                continue
            container[key] = junk

            # WHEN they are decoded
            try:
                records, refused = decoded(damaged)
            except RecordError as error:
                rows, kind = error.rows, "raised"
            else:
                rows = sum(each.newest for each in records) + sum(each.rows for each in refused)
                kind = "refused" if refused else "labelled"

            # THEN nothing else is raised, and the rows add up
            assert rows == 7, (key, junk)
            outcomes[kind] += 1
    assert min(outcomes.values()) > 20, outcomes

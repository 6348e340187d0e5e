"""A batch of several kinds: each row is judged by the part of its kind, and none is lost."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import kinds, tiny, world
from tests.support.kinds import CALM, CARTS, EC2, ORDERS, PAGING, RDS, UNUSUAL
from tests.support.packing import entry, pack
from tests.support.tiny import CPU, NET
from tests.support.world import DONE, PAGING_CPU, World


def made(**changes: Any) -> World:
    """Give a function with a model of both kinds."""
    return World(kinds.model(**changes))


def test_each_row_is_judged_by_the_part_of_its_kind():
    # GIVEN a model of two kinds WHEN a batch has a row of each, and a pack of two rows of the second
    function = made()
    function.send(world.row(PAGING_CPU), kinds.row(UNUSUAL), kinds.pack(CARTS, [CALM, PAGING], 2))

    # THEN score, level, features, rule and model are those of the kind
    first, *further = function.s3.lines("labelled/")
    assert (first["resource_kind"], first["model_id"], first["cpu"], first["alert"]) == (
        EC2,
        "tiny-1",
        PAGING_CPU,
        True,
    )
    assert "connections" not in first
    assert [(row["instance_id"], row["score"], row["level"], row["unusual"], row["alert"]) for row in further] == [
        (ORDERS, 2.0, "Idle", True, False),
        (CARTS, 0.0, "Idle", False, False),
        (CARTS, 4.0, "High Load", True, True),
    ]
    for row in further:
        assert (row["resource_kind"], row["model_id"], row["missing"]) == (RDS, "tiny-rds", [])
        assert "cpu" not in row
    assert function.s3.lines("quarantine/") == []


def test_an_episode_and_its_message_name_the_kind():
    # GIVEN / WHEN an instance of each kind pages
    function = made()
    function.send(world.row(PAGING_CPU), kinds.row(PAGING))

    # THEN one page of the service names both, each with its kind, and so do the items of the table
    (message,) = function.sns.messages
    assert {line["instance_id"]: line["resource_kind"] for line in message["opened"]} == {"web-1": EC2, ORDERS: RDS}
    assert {line["model_id"] for line in message["opened"]} == {"tiny-1", "tiny-rds"}
    assert {item["instance_id"]: item["resource_kind"] for item in function.dynamodb.listed()} == {
        "web-1": EC2,
        ORDERS: RDS,
    }
    assert function.dynamodb.state(ORDERS)["kind"] == "behaviour"


def test_an_episode_closes_by_the_rule_of_its_kind():
    # GIVEN an open episode of each kind: databases close after one row, others after two
    function = made()
    function.send(world.row(PAGING_CPU), kinds.row(PAGING))

    # WHEN each sends a calm row
    function.send(world.row(CPU, 1), kinds.row(CALM, 1))

    # THEN
    assert (function.dynamodb.state("web-1")["status"], function.dynamodb.state(ORDERS)["status"]) == ("open", "closed")


@pytest.mark.parametrize(
    ("record", "rows", "values", "reason"),
    [
        (kinds.row(CALM, kind="alb"), 1, 1, "kind is 'alb', the model has ec2, rds"),
        (kinds.pack(ORDERS, [1.0, None, 3.0], 3, kind="alb"), 3, 2, "kind is 'alb', the model has ec2, rds"),
        (kinds.row(CALM, kind=["alb"]), 1, 1, "kind must be text, found list"),
    ],
)
def test_a_record_of_an_unknown_kind_is_quarantined(record, rows, values, reason):
    # GIVEN / WHEN a record of a kind that the model does not have comes with a good one
    function = made()
    assert function.send(record, world.row(CPU)) == DONE

    # THEN its rows are counted, the reason names the kind and those of the model, and it can be sent again
    (refused,) = function.s3.lines("quarantine/")
    assert (refused["reason"], refused["rows"], refused["values"]) == (reason, rows, values)
    assert refused["resource_kind"] == ("alb" if record["kind"] == "alb" else None)
    assert json.loads(base64.b64decode(refused["data"])) == record
    assert len(function.s3.lines("labelled/")) == 1


def test_a_refused_part_of_a_pack_keeps_its_kind():
    # GIVEN a pack with a row below its bounds WHEN it is refused
    function = made()
    function.send(kinds.pack(ORDERS, [CALM, -1.0, CALM], 2))

    # THEN the part is of the kind, and the next function refuses it for the same reason
    (refused,) = function.s3.lines("quarantine/")
    again = made()
    again.send(refused["data"])
    (second,) = again.s3.lines("quarantine/")
    for document in (refused, second):
        assert document["resource_kind"] == RDS
        assert document["reason"] == "connections is -1, below its lower bound 0"


def test_a_model_of_an_earlier_release_has_one_kind_without_a_name():
    # GIVEN a model without kinds WHEN records with and without a kind come
    function = World()
    function.send(world.row(CPU), kinds.row(CALM))

    # THEN the record without a kind is its own, and the other is quarantined
    (label,) = function.s3.lines("labelled/")
    (refused,) = function.s3.lines("quarantine/")
    assert (label["instance_id"], label["resource_kind"]) == ("web-1", None)
    assert refused["reason"] == "kind is 'rds', the model has one kind without a name"


def test_an_episode_of_an_earlier_release_goes_on_under_a_model_of_two_kinds():
    # GIVEN an episode that a model without kinds opened: its item has no kind
    function = World()
    function.send(world.row(PAGING_CPU))
    assert "resource_kind" not in function.dynamodb.state("web-1")

    # WHEN a model of two kinds judges the next rows
    function.model = kinds.model()
    function.send(world.row(CPU, 1), world.row(CPU, 2))

    # THEN the episode has ended, and the next one names its kind
    assert function.dynamodb.state("web-1")["status"] == "closed"
    function.send(world.row(PAGING_CPU, world.SEVEN_HOURS))
    assert function.dynamodb.state("web-1")["resource_kind"] == EC2


def test_a_part_that_changes_does_not_swap_the_model_of_another_kind():
    # GIVEN open episodes of both kinds WHEN a release replaces the first part only, and both calm down
    function = made()
    function.send(world.row(PAGING_CPU), kinds.row(PAGING))
    function.model = kinds.model(first={"model_id": "tiny-2"})
    function.send(world.row(CPU, 1), world.row(CPU, 2), kinds.row(CALM, 1))

    # THEN the new model may be why the first is calm, and it cannot be why the second is
    assert function.dynamodb.state("web-1")["new_normal"] == "[]"
    assert "new_normal" not in function.dynamodb.state(ORDERS)


CELLS = st.sampled_from([None, 10.0, 10.5, 60.0, 150.0, -5.0, 2000.0])
_FIRST = st.builds(
    lambda name, rows, newest: pack(entry(name, [list(row) for row in rows], min(newest, len(rows)))),
    st.sampled_from(["web-1", "web-2"]),
    st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=4),
    st.integers(1, 3),
)
_FURTHER = st.builds(
    lambda name, cells, newest, kind: kinds.pack(name, cells, min(newest, len(cells)), kind=kind),
    st.sampled_from([ORDERS, CARTS, "web-1"]),
    st.lists(CELLS, min_size=1, max_size=4),
    st.integers(1, 3),
    st.sampled_from([RDS, "alb", EC2, 7]),
)
_SINGLE = st.builds(lambda cell, kind: kinds.row(cell, kind=kind), CELLS, st.sampled_from([RDS, "alb", EC2]))
_PLAIN = st.builds(lambda cpu, net: tiny.stream_record([[cpu, net]]), CELLS, st.just(NET))


def _asked(document: dict[str, Any]) -> int:
    return sum(part["newest"] for part in document.get("instances", [{"newest": 1}]))


@given(st.lists(st.one_of(_FIRST, _FURTHER, _SINGLE, _PLAIN), min_size=1, max_size=5))
def test_rows_in_are_rows_labelled_and_rows_quarantined(documents):
    # GIVEN records of both kinds, of unknown kinds, and of an instance of two kinds WHEN they come in one batch
    function = made()
    assert function.handle(function.event(*documents, arrived_ms=world.ELEVEN)) == DONE

    # THEN every row has a verdict of its kind or a reason
    labelled, refused = function.s3.lines("labelled/"), function.s3.lines("quarantine/")
    assert len(labelled) + sum(part["rows"] for part in refused) == sum(map(_asked, documents))
    for row in labelled:
        own, other = ("connections", "cpu") if row["resource_kind"] == RDS else ("cpu", "connections")
        assert own in row
        assert other not in row
        assert row["model_id"] == {EC2: "tiny-1", RDS: "tiny-rds"}[row["resource_kind"]]

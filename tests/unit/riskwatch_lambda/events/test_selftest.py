"""The self-test: golden records must be labelled as in training, and sent records are labelled without side effects."""

from __future__ import annotations

import math

import pytest

from riskwatch_lambda import handler
from riskwatch_lambda.events import selftest
from riskwatch_lambda.handler import EventError, SetupError
from tests.support import kinds, tiny
from tests.support.tiny import CPU, NET

RECORDS = [tiny.stream_record([[CPU + math.e**2 - 1, NET]]), tiny.stream_record([[60.0, NET]])]
# |(log(e^2), 0)| = 2; |(log(1 + 50), 0)| = 3.931826
EXPECTED = [
    {"score": 2.0, "level": "Normal", "unusual": True},
    {"score": 3.931826, "level": "High Load", "unusual": True},
]


def no_outputs():
    raise AssertionError("a self-test must not ask for outputs")


def test_golden_records_agree():
    # GIVEN a model with two golden records, the first with a score a rounding away
    expected = [{**EXPECTED[0], "score": 2.000001}, EXPECTED[1]]
    model = tiny.model(golden={"records": RECORDS, "expected": expected})

    # WHEN it tests itself
    answer = handler.answer({"selftest": {}}, model, no_outputs, "7", 0)

    # THEN it says what it is and finds no difference
    assert answer == {
        "model_id": "tiny-1",
        "schema": "maps/1",
        "family": "kmeans",
        "features": ["cpu", "net"],
        "context_rows": 2,
        "max_gap_s": 1800,
        "period_s": 300,
        "resource_kind": None,
        "kinds": {},
        "golden": {"rows": 2, "differences": 0},
        "labels": [],
    }


@pytest.mark.parametrize("change", [{"score": 3.9319}, {"score": None}, {"level": "Idle"}, {"unusual": False}])
def test_a_difference_from_training_is_counted(change):
    # GIVEN a golden record whose expectation differs in one value, WHEN it is tested, THEN it is counted
    model = tiny.model(golden={"records": RECORDS[1:], "expected": [{**EXPECTED[1], **change}]})
    assert selftest.golden_differences(model) == 1


def test_a_golden_record_that_cannot_be_decoded_is_a_difference():
    # GIVEN a golden record beyond the bounds, WHEN it is tested, THEN it is counted
    model = tiny.model(golden={"records": [tiny.stream_record([[101, NET]])], "expected": [EXPECTED[1]]})
    assert selftest.golden_differences(model) == 1


def test_sent_records_are_labelled_or_refused_in_their_order():
    # GIVEN a record far from normal and one beyond the bounds
    records = [RECORDS[1], tiny.stream_record([[101, None]])]

    # WHEN they are sent along
    labels = handler.answer({"selftest": {"records": records}}, tiny.model(), no_outputs, "7", 0)["labels"]

    # THEN the first is a labelled row that is no alert, and the second comes with its reason
    assert labels[0] == {
        "instance_id": "web-1",
        "service": "shop",
        "role": "web",
        "resource_kind": None,
        "timestamp": "2026-11-22T11:00:00.000Z",
        "cpu": 60.0,
        "net": 100.0,
        "score": 3.931826,
        "level": "High Load",
        "risk": "High Load",
        "unusual": True,
        "alert": False,
        "episode_id": None,
        "context": True,
        "model_id": "tiny-1",
        "model_version": "7",
        "reasons": [
            {"feature": "cpu", "value": 60.0, "low": 7.0, "high": 13.0, "share": 1.0, "direction": "up"},
        ],
        "missing": [],
        "refused_values": [],
        "arrived": None,
    }
    assert labels[1] == {"reason": "cpu is 101, above its upper bound 100"}


@pytest.mark.parametrize("event", [None, [], {}, {"Records": None}, {"other": 1}])
def test_an_event_that_is_none_of_ours_is_refused(event):
    # GIVEN an unknown event, WHEN it arrives, THEN it is an error and no empty answer
    with pytest.raises(EventError):
        handler.answer(event, tiny.model(), no_outputs, "7", 0)


@pytest.mark.parametrize("request_", [None, [], {"records": {}}])
def test_a_selftest_request_that_is_not_understood_is_refused(request_):
    # GIVEN a self-test without an object or with records that are no list, WHEN it arrives, THEN it is refused
    with pytest.raises(selftest.SelfTestError):
        handler.answer({"selftest": request_}, tiny.model(), no_outputs, "7", 0)


def test_a_missing_variable_is_named(monkeypatch):
    # GIVEN an environment without the table
    monkeypatch.setenv("RISKWATCH_BUCKET", "bucket")
    monkeypatch.delenv("RISKWATCH_TABLE", raising=False)

    # WHEN clients are made, THEN the error names the variable
    with pytest.raises(SetupError, match="RISKWATCH_TABLE"):
        handler.outputs.__wrapped__()


def test_the_parts_of_all_kinds_are_tested_and_named():
    # GIVEN a model of two kinds with golden records of both, and records of each kind and of an unknown one
    model = kinds.model(first={"golden": {"records": RECORDS, "expected": EXPECTED}})
    records = [tiny.stream_record([[10.0, NET]]), kinds.row(kinds.PAGING), kinds.row(1.0, kind="alb")]

    # WHEN
    answer = handler.answer({"selftest": {"records": records}}, model, no_outputs, "7", 0)

    # THEN the facts are those of the first part, with those of the other below, and the golden records are all counted
    assert (answer["model_id"], answer["features"], answer["resource_kind"]) == ("tiny-1", ["cpu", "net"], "ec2")
    assert answer["golden"] == {"rows": 3, "differences": 0}
    assert answer["kinds"] == {
        "rds": {
            "model_id": "tiny-rds",
            "features": ["connections"],
            "context_rows": 1,
            "max_gap_s": 1800,
            "period_s": 300,
        }
    }
    first, second, third = answer["labels"]
    assert (first["model_id"], first["resource_kind"]) == ("tiny-1", "ec2")
    assert (second["model_id"], second["resource_kind"], second["score"]) == ("tiny-rds", "rds", 4.0)
    assert third == {"reason": "kind is 'alb', the model has ec2, rds"}


def test_a_difference_of_any_part_is_counted():
    # GIVEN a second part with a golden record that differs from training WHEN the function tests itself
    golden = {**kinds.GOLDEN, "expected": [{"score": 2.5, "level": "Idle", "unusual": True}]}
    answer = handler.answer({"selftest": {}}, kinds.model(golden=golden), no_outputs, "7", 0)

    # THEN
    assert answer["golden"] == {"rows": 1, "differences": 1}

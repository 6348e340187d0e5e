"""Asking the live function, and what its answers mean."""

import json

import pytest

from riskwatch_lambda.events import selftest
from riskwatch_ml.schema import catalogue
from riskwatch_ml.streaming import live_model
from riskwatch_ml.streaming.live_model import LiveError
from tests.support import kinds
from tests.support.bucket import body
from tests.support.contract import imitates


@imitates("lambda")
class Lambda:
    """Answers every call with one text."""

    def __init__(self, text, **more):
        self.text, self.more = text, more

    def invoke(self, **asked):
        assert (asked["FunctionName"], asked["Qualifier"]) == ("risk", "live")
        return {"Payload": body(self.text.encode()), **self.more}


def test_the_answer_says_what_a_record_holds():
    # GIVEN / WHEN
    text = '{"model_id": "m", "features": ["a", "b"], "context_rows": 3, "max_gap_s": 1800, "period_s": 300}'
    found = live_model.ask(Lambda(text), "risk", "live")

    # THEN
    assert found == live_model.LiveModel("m", ("a", "b"), 3, 1800, 300)


def test_the_answer_names_the_kinds():
    # GIVEN / WHEN the answer of a function of two kinds
    part = {"model_id": "m", "features": ["a", "b"], "context_rows": 3, "max_gap_s": 1800, "period_s": 300}
    databases = {**part, "model_id": "d", "features": ["c"]}
    text = json.dumps({**part, "resource_kind": "ec2", "kinds": {"rds": databases}})
    found = live_model.ask(Lambda(text), "risk", "live")

    # THEN the model of the first kind has that of the other
    assert (found.model_id, found.kind, list(found.others)) == ("m", "ec2", ["rds"])
    assert found.of_kind("ec2", first="ec2") is found
    assert found.of_kind("rds", first="ec2") == live_model.LiveModel("d", ("c",), 3, 1800, 300, "rds")
    assert found.of_kind("alb", first="ec2") is None


def test_a_function_of_an_earlier_release_serves_the_first_kind():
    # GIVEN / WHEN an answer without kinds THEN it is the model of the first kind of the installation
    found = live_model.LiveModel("m", ("a",), 3, 1800, 300)
    assert found.of_kind("rds", first="rds") is found
    assert found.of_kind("rds", first="ec2") is None


def test_the_answer_of_the_function_is_understood():
    # GIVEN / WHEN the function itself answers
    answer = selftest.run({}, kinds.model(), "7")
    found = live_model.ask(Lambda(json.dumps(answer)), "risk", "live")

    # THEN
    assert (found.kind, found.features) == ("ec2", ("cpu", "net"))
    assert (found.others["rds"].model_id, found.others["rds"].features) == ("tiny-rds", ("connections",))


@pytest.mark.parametrize(
    ("client", "words"),
    [
        (Lambda('{"model_id": null}'), "no model is promoted yet"),
        (Lambda('{"errorMessage": "boom"}', FunctionError="Unhandled"), "risk:live raised on selftest: .*boom"),
    ],
)
def test_no_model_to_ask(client, words):
    # GIVEN / WHEN / THEN
    with pytest.raises(LiveError, match=words):
        live_model.ask(client, "risk", "live")


def test_features_come_in_the_order_of_the_model():
    # GIVEN / WHEN / THEN
    assert live_model.select_metrics(catalogue.load(), ("latency_ms", "cpu_utilization")).names == (
        "latency_ms",
        "cpu_utilization",
    )
    with pytest.raises(LiveError, match="needs gpu, which the catalogue does not have"):
        live_model.select_metrics(catalogue.load(), ("latency_ms", "gpu"))
    # AND the kind stays what it was
    databases = catalogue.load("rds")
    assert live_model.select_metrics(databases, databases.names[:1]).kind == databases.kind

"""Asking the live function, and what its answers mean."""

import pytest

from riskwatch_ml.schema import catalogue
from riskwatch_ml.streaming import live_model
from riskwatch_ml.streaming.live_model import LiveError
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
    assert live_model.wanted(catalogue.load(), ("latency_ms", "cpu_utilization")).names == (
        "latency_ms",
        "cpu_utilization",
    )
    with pytest.raises(LiveError, match="needs gpu, which the catalogue does not have"):
        live_model.wanted(catalogue.load(), ("latency_ms", "gpu"))

"""Tasks of watch_model: when a retrain is asked for, and that the request is announced only then."""

import pytest
from airflow.sdk.exceptions import AirflowSkipException

from riskwatch_airflow.assets import RETRAIN_REQUEST
from riskwatch_airflow.tasks import watch


def report(violated, retrain=False, model_id="m"):
    return {"model_id": model_id, "distribution": {"violated": violated}, "retrain": retrain}


@pytest.mark.parametrize(
    ("newest", "earlier", "wanted"),
    [
        (True, [], False),
        (True, [report(False), report(True)], True),
        (True, [report(True), report(False)], True),
        (True, [report(True), report(False), report(False)], False),  # only the two before count
        (False, [report(True), report(True)], False),  # the newest must violate
        (True, [report(True, retrain=True), report(True)], False),  # asked within the day
        (True, [report(True, model_id="old"), report(True, model_id="old")], False),
    ],
)
def test_two_of_three_reports_and_the_newest(newest, earlier, wanted):
    # GIVEN / WHEN / THEN
    assert watch.retrain_wanted({"violated": newest}, earlier, "m") is wanted


def test_a_request_is_announced_only_when_asked_for(context):
    # GIVEN two reports
    asked = {"key": "watch/x.json", "model_id": "m", "retrain": True, "reason": "label distribution", "rows": 1}

    # WHEN / THEN
    with pytest.raises(AirflowSkipException):
        watch.request(context, {**asked, "retrain": False})
    assert context["outlet_events"] == {}
    watch.request(context, asked)
    assert context["outlet_events"][RETRAIN_REQUEST].extra["model_id"] == "m"

"""Episodes and incidents of labelled rows, and the distance between them, worked out by hand."""

import pandas as pd
import pytest

from riskwatch_ml.backtest.episodes import episodes, incidents, near
from tests.unit.riskwatch_ml.backtest.test_report import at, labelled


@pytest.mark.filterwarnings("error")
def test_an_episode_does_not_go_on_over_days_without_rows():
    # GIVEN an alert in the last row before an outage of two days, and one in the first row after it
    rows = labelled(at(48, 23, 24))
    rows.loc[24:, "timestamp"] += pd.Timedelta(days=2)
    # THEN
    assert episodes(rows)["first"].tolist() == [23, 24]


def test_an_incident_is_met_by_the_first_alert_in_it():
    # GIVEN an incident with an alert in its third row, and one without an alert
    rows = labelled(at(48, 12))
    # WHEN
    found = incidents(rows, at(48, 10, 11, 12, 13, 30).astype(float))
    # THEN
    assert found["rows"].tolist() == [4, 1]
    assert found["met"].tolist() == [True, False]
    assert found["delay_min"].tolist()[0] == 10.0


def test_only_an_incident_of_the_same_instance_is_near():
    # GIVEN an alert of each of two instances, and an incident of the first, ten minutes later
    rows = labelled(at(48, 20), names=("a", "b"))
    truth = incidents(rows, at(96, 22).astype(float))
    # THEN
    assert near(episodes(rows), truth).tolist() == [True, False]

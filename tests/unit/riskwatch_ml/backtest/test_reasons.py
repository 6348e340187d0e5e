"""Reasons in the report of a backtest of few metrics: what changed, with its own range, and never within it."""

import numpy as np
import pandas as pd

from riskwatch_lambda.scoring.reasons import CHANGE, DEVIATION, reason_text
from riskwatch_ml.backtest.replay import backtest


def test_a_series_that_begins_to_swing_within_its_range_says_so():
    # GIVEN slow waves from 0 to 100 without a catalogue, and one hour in which the series jumps to and fro between them
    rng = np.random.default_rng(2)
    times = pd.date_range("2026-11-02", periods=8 * 288, freq="5min", tz="UTC").as_unit("ms")
    level = 50 + 45 * np.sin(np.arange(len(times)) * 2 * np.pi / 500) + rng.normal(0, 1, len(times))
    swings = slice(7 * 288 + 100, 7 * 288 + 112)
    level[swings] = np.where(np.arange(12) % 2, 85.0, 15.0)
    rows = pd.DataFrame({"instance_id": "i", "timestamp": times, "queue_kb": np.maximum(level, 0)})

    # WHEN
    found = backtest(rows[: 7 * 288], rows[7 * 288 :], family="kmeans")

    # THEN it pages, and the reasons are changes and deviations in ranges that do not begin below 0 where they cannot
    reasons = [reason for told in found.explanations.values() for reason in told]
    assert found.rows["alert"].iloc[100:112].any()
    assert {reason.get("aspect") for reason in reasons} & {CHANGE, DEVIATION}
    for reason in reasons:
        assert not reason["low"] <= reason["value"] <= reason["high"]
        assert reason_text("queue_kb", reason) is not None
        if reason.get("aspect") != CHANGE:
            assert reason["low"] >= 0

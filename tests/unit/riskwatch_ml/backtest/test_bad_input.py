"""What real metrics look like on a bad day, for every family: a defined result or an error that names the trouble."""

import numpy as np
import pandas as pd
import pytest

from riskwatch_ml.backtest.replay import backtest
from riskwatch_ml.families import FAMILIES

DAY = 288


def fleet(days, start="2026-11-01", names=("a", "b"), seed=0, columns=("m0", "m1", "m2", "m3")):
    """Rows every five minutes of instances whose metrics follow the day."""
    rng = np.random.default_rng(seed)
    n = int(days * DAY)
    times = pd.date_range(start, periods=n, freq="5min", tz="UTC").as_unit("ms")
    wave = 3 * np.sin(np.arange(n) * 2 * np.pi / DAY)[:, None]
    parts = []
    for name in names:
        values = pd.DataFrame(10 + wave + rng.normal(0, 1, (n, len(columns))), columns=list(columns))
        values.insert(0, "instance_id", name)
        values.insert(1, "timestamp", times)
        parts.append(values)
    return pd.concat(parts, ignore_index=True)


HISTORY, REPLAY = fleet(1.125), fleet(0.125, start="2026-11-02T03:00", seed=1)


def _jump(moments):
    """Which way a clock went wrong: back for the first hours of the history, ahead for the last ones of the replay."""
    return (moments >= "2026-11-02T05:00").astype(int) - (moments < "2026-11-01T04:10").astype(int)


@pytest.mark.parametrize("family", list(FAMILIES))
@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda x: x.assign(m0=4.0), id="a constant metric"),
        pytest.param(lambda x: x.assign(m0=4.0, m1=4.0, m2=4.0, m3=4.0), id="all metrics constant"),
        pytest.param(lambda x: x.assign(m0=np.nan), id="a metric without values"),
        pytest.param(lambda x: x.assign(m0=x["m0"].where(x.index % 50 > 0, np.inf)), id="infinite values"),
        pytest.param(
            lambda x: x[(x["instance_id"] == "a") | (x.groupby("instance_id").cumcount() < 5)],
            id="an instance of five rows",
        ),
        pytest.param(lambda x: x[x["instance_id"] == "a"], id="one instance"),
        pytest.param(
            lambda x: x.assign(timestamp=x["timestamp"] + pd.to_timedelta(_jump(x["timestamp"]) * 90, unit="D")),
            id="a clock that jumps",
        ),
    ],
)
def test_every_row_still_gets_a_verdict(family, spoil):
    # GIVEN history and replay spoilt in the same way
    rows = spoil(REPLAY)
    # WHEN
    labelled = backtest(spoil(HISTORY), rows, family=family).rows
    # THEN
    assert len(labelled) == len(rows)
    assert np.isfinite(labelled["score"]).all()
    assert set(labelled["level"]) <= {"Idle", "Normal", "High Load"}


@pytest.mark.parametrize("family", list(FAMILIES))
def test_the_order_of_the_rows_changes_nothing(family):
    straight = backtest(HISTORY, REPLAY, family=family).rows
    shuffled = backtest(HISTORY.sample(frac=1, random_state=3), REPLAY.sample(frac=1, random_state=4), family=family)
    pd.testing.assert_frame_equal(shuffled.rows, straight)


@pytest.mark.parametrize("family", list(FAMILIES))
def test_two_thousand_columns(family):
    # GIVEN more metrics than rows
    names = [f"c{number}" for number in range(2000)]
    # WHEN / THEN
    labelled = backtest(fleet(0.2, columns=names), fleet(0.05, "2026-11-02", columns=names), family=family).rows
    assert np.isfinite(labelled["score"]).all()

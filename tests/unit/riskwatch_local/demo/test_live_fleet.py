"""The fleet that keeps sending: each row once, when its period is over."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from riskwatch_local.demo import data, simulator
from riskwatch_local.demo.live_fleet import LiveFleet
from riskwatch_local.demo.publish import KindRows
from riskwatch_ml.core import clock
from riskwatch_ml.schema import catalogue
from tests.unit.riskwatch_local.demo.test_simulator import END

START = clock.floor(END, 300)


class CloudWatch:
    """Counts datapoints by time, or fails."""

    def __init__(self):
        self.moments = []
        self.metrics = set()

    def put_metric_data(self, **asked):
        self.moments += [datum["Timestamp"] for datum in asked["MetricData"]]
        self.metrics |= {datum["MetricName"] for datum in asked["MetricData"]}


@pytest.fixture(scope="module")
def simulation():
    return simulator.simulate(END, days=1)


def test_the_fleet_goes_on_as_the_same_instances(simulation):
    # GIVEN / WHEN
    ahead = simulator.continuation(simulation, START, hours=24)

    # THEN rows without a gap, and each instance near its full load as before
    assert ahead["timestamp"].min() == START
    assert len(ahead) == 12 * 288
    quiet = simulation.rows[simulator.quiet_rows(simulation.rows, simulation.incidents)]
    before, after = (rows.groupby("instance_id")["running_processes"].quantile(0.9) for rows in (quiet, ahead))
    assert ((after / before - 1).abs() < 0.08).all()

    # AND with the traits that it has, which nothing else makes
    alike = replace(simulation, traits={name: np.ones(10) for name in simulation.traits})
    plain = simulator.continuation(alike, START, hours=24)
    ratio = (ahead["running_processes"] / plain["running_processes"]).groupby(ahead["instance_id"]).median()
    expected = [simulation.traits[name][simulator.METRICS.index("running_processes")] for name in ratio.index]
    np.testing.assert_allclose(ratio, expected, rtol=1e-4)


def test_a_row_is_sent_once_when_its_period_is_over(simulation, monkeypatch):
    # GIVEN two hours of rows, and the clock a quarter of an hour after their start
    rows, sent = simulator.continuation(simulation, START, hours=2), CloudWatch()
    now = [START + timedelta(minutes=15)]
    monkeypatch.setattr(clock, "now", lambda: now[0])
    fleet = LiveFleet([KindRows(catalogue.load(), rows)], 300, sent)

    # WHEN it sends, and again four and five minutes later
    counts = []
    for minutes in (0, 4, 1):
        now[0] += timedelta(minutes=minutes)
        fleet.send_what_is_over()
        counts.append(fleet.sent)

    # THEN three periods of twelve instances were over, then one more
    assert counts == [36, 36, 48]
    assert sorted(set(sent.moments)) == [START + step * timedelta(minutes=5) for step in range(4)]
    assert len(sent.moments) == 48 * 10


def test_the_context_sends_in_the_background_and_ends(simulation):
    # GIVEN rows that are over WHEN the context is entered and left THEN all are sent
    rows, sent = simulator.continuation(simulation, START, hours=1), CloudWatch()
    with LiveFleet([KindRows(catalogue.load(), rows)], 300, sent) as fleet:
        pass
    assert fleet.sent == len(rows)


def test_every_kind_is_sent():
    # GIVEN rows of two kinds that are over
    source, sent = data.simulated(END - timedelta(days=3), stream_hours=1, days=1, further_kinds=["rds"]), CloudWatch()
    kinds = [part._replace(rows=part.rows[:10]) for part in source.ahead()]

    # WHEN / THEN
    with LiveFleet(kinds, 300, sent) as fleet:
        pass
    assert fleet.sent == 20
    assert {"CPUUtilization", "DatabaseConnections"} <= sent.metrics

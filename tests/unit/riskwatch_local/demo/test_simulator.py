"""The simulated fleet: the same twice, within bounds, with incidents that stand out and losses beside them."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from riskwatch_local.demo import simulator
from riskwatch_ml.schema import catalogue, metric_rows

END = datetime(2026, 11, 22, 10, 3, 20, tzinfo=UTC)


@pytest.fixture(scope="module")
def simulation():
    return simulator.simulate(END)


@pytest.fixture(scope="module")
def complete(simulation):
    rows = pd.concat([simulation.rows, simulation.late])
    return rows.sort_values(["instance_id", "timestamp"]).reset_index(drop=True)


def test_equal_arguments_give_equal_rows_and_another_seed_others(simulation):
    again = simulator.simulate(END)
    pd.testing.assert_frame_equal(simulation.rows, again.rows)
    pd.testing.assert_frame_equal(simulation.late, again.late)
    assert simulation.incidents == again.incidents
    assert not simulation.rows.equals(simulator.simulate(END, seed=8).rows)


def test_the_axis_ends_with_the_last_full_period_before_the_end(simulation):
    # GIVEN an end of 10:03:20 THEN rows run from four days before 10:00 to 09:55
    times = simulation.rows["timestamp"]
    assert times.min() == pd.Timestamp("2026-11-18T10:00Z")
    assert times.max() == pd.Timestamp("2026-11-22T09:55Z")
    assert times.dtype == "datetime64[ms, UTC]"
    assert list(simulation.rows.columns) == ["instance_id", "timestamp", *catalogue.load().names]


def test_values_lie_within_the_physical_bounds_but_for_the_misreported_rows(complete):
    # GIVEN every row
    metrics = catalogue.load()
    values = complete[list(metrics.names)].to_numpy()
    assert not np.isinf(values).any()

    # WHEN the impossible values are looked for
    impossible = metric_rows.find_impossible(values, metrics)

    # THEN they are in the few rows that a broken agent sent, and cost some of these, before the cut and after it
    assert impossible.any(axis=1).sum() == simulator.MISREPORTED_PAST + simulator.MISREPORTED_STREAMED
    lost = metric_rows.find_refused_rows(values, impossible)
    assert lost.sum() == simulator.LOST_PAST + simulator.LOST_STREAMED
    assert 0 < simulator.LOST_STREAMED < simulator.MISREPORTED_STREAMED


def test_twelve_instances_in_four_roles_and_two_services(simulation, complete):
    inventory = simulation.inventory
    roles = pd.Series([item.role for item in inventory.values()]).value_counts().to_dict()
    assert roles == {"web": 4, "worker": 3, "database": 3, "cache": 2}
    assert {item.service for item in inventory.values()} == {"shop", "billing"}
    assert set(complete["instance_id"]) == set(inventory)


def test_a_few_rows_are_lost_and_a_few_are_late(simulation, complete):
    stream_start = pd.Timestamp("2026-11-22T04:00Z")
    expected = 12 * 4 * 288
    assert 0.99 * expected < len(complete) < expected
    assert 5 <= len(simulation.late) <= 60
    assert (simulation.late["timestamp"] < stream_start).all()
    assert not simulation.rows.merge(simulation.late, on=["instance_id", "timestamp"]).size
    gap = complete[complete["instance_id"] == "worker-3"]["timestamp"].diff().max()
    assert gap > timedelta(minutes=40)


@pytest.mark.parametrize("hour", [3, 10, 17, 23])
def test_streamed_incidents_stand_out_at_any_hour(hour):
    # GIVEN fleets whose stream ends at different hours of the day
    end = datetime(2026, 11, 22, hour, tzinfo=UTC)
    simulation = simulator.simulate(end)
    start = end - timedelta(hours=6)
    past = simulation.rows[simulation.rows["timestamp"] < start]
    streamed = [incident for incident in simulation.incidents if incident.start >= start]
    assert {"surge", "outage", "disk saturation", "slow dependency"} <= {incident.kind for incident in streamed}
    assert len({incident.instance_id for incident in streamed}) >= 4
    for incident in streamed:
        if incident.kind == "stuck metric":
            continue
        # WHEN the incident's rows are compared with the instance's own past, hour by hour, on its clearest metric
        metric = incident.metrics[0]
        own = past[past["instance_id"] == incident.instance_id]
        by_hour = own.groupby(own["timestamp"].dt.hour)[metric]
        rows = simulation.rows[
            (simulation.rows["instance_id"] == incident.instance_id)
            & simulation.rows["timestamp"].between(incident.start, incident.end, inclusive="left")
        ]
        hours = rows["timestamp"].dt.hour
        away = (rows[metric] - hours.map(by_hour.median())).abs() / hours.map(by_hour.std())
        # THEN most of them lie far outside, and none is missing
        assert away.median() > 4, incident
        assert len(rows) == pytest.approx((incident.end - incident.start) / timedelta(minutes=5), abs=1)


def test_a_stuck_metric_repeats_itself(simulation):
    incident = next(item for item in simulation.incidents if item.kind == "stuck metric")
    rows = simulation.rows[
        (simulation.rows["instance_id"] == incident.instance_id)
        & simulation.rows["timestamp"].between(incident.start, incident.end, inclusive="left")
    ]
    assert rows["cpu_utilization"].nunique() == 1
    assert rows["latency_ms"].nunique() > 10


def test_regimes_follow_the_roles_rhythm(simulation):
    # A worker's batches run at night: full load then, next to none at noon.
    assert simulation.regimes["worker", 3] == "High Load"
    assert simulation.regimes["worker", 13] == "Idle"
    assert simulation.regimes["web", 3] == "Idle"
    assert simulation.regimes["web", 12] == "High Load"
    assert len(simulation.regimes) == 4 * 24


def test_the_regimes_are_in_the_rows(simulation):
    # GIVEN quiet rows that report a possible CPU value
    quiet = simulator.quiet_rows(simulation.rows, simulation.incidents)
    cpu = simulation.rows["cpu_utilization"]
    quiet &= (cpu <= 100).to_numpy()
    # WHEN the bounds of the regimes are applied to the values themselves
    level = np.select([cpu < simulator.IDLE_BELOW, cpu < simulator.HIGH_FROM], ["Idle", "Normal"], "High Load")
    # THEN they say what was written down
    assert np.mean(level[quiet] == simulator.true_levels(simulation)[quiet]) > 0.98


def test_a_stream_longer_than_the_whole_is_refused():
    with pytest.raises(ValueError, match="stream_hours is 30"):
        simulator.simulate(END, days=1, stream_hours=30)

"""The simulated databases, load balancers and functions: plausible, with incidents that stand out."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from riskwatch_local.demo import simulated_kinds, simulator
from riskwatch_local.demo.profiles import FLEETS
from riskwatch_ml.schema import catalogue, metric_rows

END = datetime(2026, 11, 22, 10, 3, 20, tzinfo=UTC)
STOP = datetime(2026, 11, 22, 10, tzinfo=UTC)
KINDS = {metrics.kind: metrics for metrics in catalogue.load_all(["ec2", *FLEETS])[1:]}


@pytest.fixture(scope="module")
def simulations():
    return {kind: simulated_kinds.simulate(metrics, END) for kind, metrics in KINDS.items()}


@pytest.fixture(params=FLEETS)
def simulation(simulations, request):
    return simulations[request.param]


def during(rows, incident):
    return rows[
        (rows["instance_id"] == incident.instance_id)
        & rows["timestamp"].between(incident.start, incident.end, inclusive="left")
    ]


def test_equal_arguments_give_equal_rows_and_another_seed_others(simulation):
    again = simulated_kinds.simulate(simulation.catalogue, END)
    pd.testing.assert_frame_equal(simulation.rows, again.rows)
    assert (simulation.incidents, simulation.traits) == (again.incidents, again.traits)
    assert not simulation.rows.equals(simulated_kinds.simulate(simulation.catalogue, END, seed=8).rows)


def test_rows_have_the_columns_of_the_catalogue_and_ids_of_the_kind(simulation):
    metrics = simulation.catalogue
    rows = simulation.rows
    assert list(rows.columns) == metric_rows.columns(metrics)
    assert set(rows["instance_id"]) == set(simulation.inventory)
    assert all(name.startswith(f"{metrics.kind}/") for name in simulation.inventory)
    assert {item.service for item in simulation.inventory.values()} == set(simulator.SERVICES)
    assert (rows["timestamp"].min(), rows["timestamp"].max()) == (STOP - timedelta(days=4), STOP - timedelta(minutes=5))
    assert rows["timestamp"].dtype == "datetime64[ms, UTC]"


def test_values_lie_within_the_bounds_of_the_catalogue(simulation):
    values = simulation.rows[list(simulation.catalogue.names)].to_numpy(dtype=float)
    assert not np.isinf(values).any()
    assert not metric_rows.find_impossible(values, simulation.catalogue).any()


def test_counts_are_whole_and_statistics_in_order(simulations):
    functions, balancers = simulations["lambda"].rows.dropna(), simulations["alb"].rows
    for rows, names in (
        (functions, ("invocations", "errors", "throttles", "concurrent_executions")),
        (balancers, ("requests", "target_4xx", "target_5xx", "active_connections")),
    ):
        assert (rows[list(names)] % 1 == 0).all(axis=None)
    assert (functions["duration_ms"] < functions["duration_p99_ms"]).all()
    assert (functions["duration_p99_ms"] < functions["duration_max_ms"]).all()
    assert (balancers["response_time_ms"] < balancers["response_time_p99_ms"]).all()
    assert (functions["errors"] <= functions["invocations"]).all()
    assert (balancers["target_5xx"] <= balancers["requests"]).all()


def test_a_function_without_invocations_has_no_row(simulations):
    # GIVEN functions that have nothing to do in some periods
    rows = simulations["lambda"].rows
    assert 0.97 * 3 * 4 * 288 < len(rows) < 3 * 4 * 288

    # WHEN / THEN a row has invocations, or only throttled ones and then no duration
    assert ((rows["invocations"] > 0) | (rows["throttles"] > 0)).all()
    assert (rows["duration_ms"].isna() == (rows["invocations"] == 0)).all()


@pytest.mark.parametrize("kind", FLEETS)
@pytest.mark.parametrize("hour", [3, 10, 17, 23])
def test_incidents_stand_out_at_any_hour(kind, hour):
    # GIVEN a fleet whose stream ends at an hour of the day
    end = STOP.replace(hour=hour)
    simulation = simulated_kinds.simulate(KINDS[kind], end)
    assert 1 <= len(simulation.incidents) <= 2
    for incident in simulation.incidents:
        assert set(incident.metrics) <= set(KINDS[kind].names)
        # WHEN its rows are compared with the resource's own past, hour by hour, on its clearest metric
        metric = incident.metrics[0]
        past = simulation.rows[simulation.rows["timestamp"] < end - timedelta(hours=6)]
        own = past[past["instance_id"] == incident.instance_id]
        by_hour = own.groupby(own["timestamp"].dt.hour)[metric]
        rows = during(simulation.rows, incident)
        hours = rows["timestamp"].dt.hour
        away = (rows[metric] - hours.map(by_hour.median())) / hours.map(by_hour.std()).clip(lower=1e-3)

        # THEN most of them lie far above, and all of it is streamed
        assert away.median() > 10, incident
        assert timedelta(minutes=30) <= incident.end - incident.start <= timedelta(minutes=90)
        assert end - timedelta(hours=6) <= incident.start < incident.end <= end


def without_rhythm(rows, name):
    """Return the mean CPU of each hour, as a share of what is usual at its time of day."""
    own = rows[(rows["instance_id"] == name) & (rows["cpu_utilization"] <= 100)].set_index("timestamp")
    hourly = own[own.index < STOP - timedelta(hours=6)]["cpu_utilization"].resample("1h").mean()
    return hourly / hourly.groupby(hourly.index.hour).transform("mean")


def test_the_load_shares_its_noise_with_the_instances_of_the_service(simulations):
    # GIVEN a database of the service shop, and two EC2 instances, one of shop and one of billing
    database = without_rhythm(simulations["rds"].rows, "rds/shop-orders")
    instances = simulator.simulate(END).rows

    # WHEN / THEN
    shop, billing = (database.corr(without_rhythm(instances, name)) for name in ("database-2", "database-3"))
    assert shop > 0.4 > billing


def test_the_fleet_goes_on_as_the_same_resources(simulation):
    # GIVEN / WHEN
    ahead = simulated_kinds.continuation(simulation, STOP, hours=24)

    # THEN its rows begin at the end, without incidents
    assert ahead["timestamp"].min() == STOP
    assert list(ahead.columns) == list(simulation.rows.columns)
    load = {"rds": "active_connections", "alb": "requests", "lambda": "invocations"}[simulation.catalogue.kind]
    before = simulation.rows[simulation.rows["timestamp"] < STOP - timedelta(hours=6)]
    usual, after = (rows.groupby("instance_id")[load].quantile(0.9) for rows in (before, ahead))
    assert ((after / usual - 1).abs() < 0.3).all()

    # AND the resources have their traits, which nothing else makes
    alike = {name: dict.fromkeys(traits, 1.0) for name, traits in simulation.traits.items()}
    assert not ahead.equals(simulated_kinds.continuation(replace(simulation, traits=alike), STOP, hours=24))


def test_sums_are_those_of_the_period():
    minutes, periods = (simulated_kinds.simulate(KINDS["alb"], END, days=1, period_s=step).rows for step in (60, 300))
    ratio = periods["requests"].median() / minutes["requests"].median()
    assert ratio == pytest.approx(5, rel=0.1)
    assert periods["response_time_ms"].median() == pytest.approx(minutes["response_time_ms"].median(), rel=0.1)

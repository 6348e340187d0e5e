"""Baselines: profile and trust, day types and local time, fallbacks, floors, and peak memory."""

import tracemalloc
from datetime import date

import numpy as np
import pandas as pd
import pytest

from riskwatch_ml.core.local_time import UTC_DAYS, LocalTime
from riskwatch_ml.features import table as features
from riskwatch_ml.features.baselines import fit_baselines
from riskwatch_ml.features.spaces import NEVER_SEEN_SCALE, fit_level_scaling
from riskwatch_ml.features.table import MetricTable, as_table
from tests.support.fleets import frame

GAP = 6 * 300


def test_a_stable_hour_of_day_profile_is_trusted_and_noise_is_not():
    # GIVEN six days where a follows the hour exactly and b is noise
    hours = (np.arange(6 * 288) // 12) % 24
    noise = np.random.default_rng(0).normal(50, 10, len(hours))
    table = as_table(frame("i", np.column_stack([10.0 * hours, noise]), columns="ab"), ["a", "b"], GAP)
    # WHEN
    baselines = fit_baselines(table, {"i": "web"})
    # THEN a's centre is its hour's mean, b's is nearly the same at every hour
    assert baselines.center[0, :, 0] == pytest.approx(10.0 * np.arange(24))
    assert np.ptp(baselines.center[0, :, 1]) < 0.5
    # and a's scale stands on the floor, 0.3 of its deviation: 10 * sqrt((24**2 - 1) / 12)
    assert baselines.scale[0, :, 0] == pytest.approx(0.3 * 10 * np.sqrt(575 / 12), rel=1e-6)


def test_less_than_two_days_earn_no_profile():
    hours = (np.arange(560) // 12) % 24
    baselines = fit_baselines(as_table(frame("i", 10.0 * hours), ["a"], GAP), {})
    assert np.ptp(baselines.center[0]) == 0


def test_fallbacks_go_from_instance_to_role_to_fleet():
    # GIVEN two instances with 29 hours in two roles, and one with many rows that span less than a day
    rows = pd.concat([frame("w", np.full(30, 10.0), step="1h"), frame("d", np.full(30, 90.0), step="1h")])
    rows = pd.concat([rows, frame("few", np.full(270, 10.0))])
    roles = {"w": "web", "d": "db", "few": "web"}
    baselines = fit_baselines(as_table(rows, ["a"], GAP), roles)
    # THEN
    assert sorted(baselines.instances) == ["d", "w"]
    index = baselines.index(["w", "few", "nobody"], roles)
    assert index.tolist() == [baselines.instances["w"], baselines.roles["web"], baselines.fleet]
    assert baselines.center[baselines.roles["web"], 0, 0] == 10
    assert baselines.center[baselines.fleet, 0, 0] == pytest.approx((300 * 10 + 30 * 90) / 330, rel=1e-6)


@pytest.mark.parametrize(("step", "rows"), [("1min", 1440), ("5min", 288), ("1h", 24)])
def test_a_day_of_rows_earns_a_baseline_and_two_a_profile(step, rows):
    # GIVEN an instance with exactly one day, then two, of a metric that follows the hour
    def fitted(days):
        hour = np.arange(rows * days) * 24 // rows % 24
        return fit_baselines(as_table(frame("a", 10.0 * hour, step=step), ["a"], GAP), {})

    # THEN
    assert list(fitted(1).instances) == ["a"]
    assert np.ptp(fitted(1).center[0, :, 0]) == 0
    if rows // 24 >= 6:
        assert np.ptp(fitted(2).center[0, :, 0]) > 200


def test_a_metric_that_one_instance_lacks_comes_from_its_role():
    both = [[x, 5.0] for x in range(30)]
    rows = pd.concat([frame("w1", both, columns="ab", step="1h")])
    rows = pd.concat([rows, frame("w2", [[x, np.nan] for x in range(30)], columns="ab", step="1h")])
    baselines = fit_baselines(as_table(rows, ["a", "b"], GAP), {"w1": "web", "w2": "web"})
    assert baselines.center[baselines.instances["w2"], :, 1].tolist() == [5.0] * 24


def test_constant_and_absent_metrics_do_no_harm():
    # GIVEN a metric that never moves and one that was never reported
    table = as_table(frame("i", [[4.0, np.nan]] * 40, columns="ab"), ["a", "b"], GAP)
    baselines = fit_baselines(table, {})
    # WHEN the same rows, and a row with a value for the unknown metric, are measured
    later = as_table(frame("i", [[4.0, 123.0]], columns="ab"), ["a", "b"], GAP)
    # THEN nothing is divided by zero and the unknown metric says nothing
    assert baselines.behaviour(table, np.zeros(40, int)).tolist() == [[0.0, 0.0]] * 40
    assert baselines.behaviour(later, np.zeros(1, int)) == pytest.approx(np.zeros((1, 2)), abs=1e-9)
    assert baselines.scale[0, 0, 1] == np.float32(NEVER_SEEN_SCALE)


def test_parameters_are_float32_before_they_are_used():
    rng = np.random.default_rng(0)
    baselines = fit_baselines(as_table(frame("i", rng.normal(size=100)), ["a"], GAP), {})
    center, scale = fit_level_scaling(rng.normal(size=(50, 3)), np.zeros(50, int), [0, 1])
    for values in (baselines.center, baselines.scale, center, scale):
        assert np.array_equal(values, values.astype(np.float32))


def test_baselines_of_many_instances_need_little_memory_beside_the_rows():
    # GIVEN 400 instances of 300 rows: one mask of all rows for each instance would be 48 MB
    rng = np.random.default_rng(0)
    count, each = 400, 300
    code = np.repeat(np.arange(count), each)
    names = tuple(f"i-{number:03d}" for number in range(count))
    values = rng.normal(10, 2, (count * each, 1))
    table = MetricTable(("a",), names, code, np.tile(np.arange(each) * 300_000, count), code.copy(), values)
    # WHEN
    tracemalloc.start()
    found = fit_baselines(table, {name: f"role {number % 2}" for number, name in enumerate(names)})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # THEN every instance, both roles and the fleet have theirs
    assert len(found.center) == count + 3
    assert found.center[found.instances["i-007"], 0, 0] == pytest.approx(values[code == 7].mean(), abs=0.5)
    assert peak < 30e6


def test_rows_in_many_blocks_give_what_one_block_gives(monkeypatch):
    # GIVEN three instances of three days with gaps and missing values
    rng = np.random.default_rng(1)
    rows = pd.concat([frame(name, rng.normal(20, 3, (864, 2)), columns=("a", "b")) for name in "xyz"])
    rows.iloc[::5, 2] = np.nan
    table = as_table(rows, ["a", "b"], GAP)
    roles = {"x": "web", "y": "web", "z": "db"}
    whole = fit_baselines(table, roles)
    own = whole.index(table.instances, roles)[table.code]
    scaling = np.array([20.0, 20.0]), np.array([3.0, 3.0])

    # WHEN they are computed on in blocks of 100
    monkeypatch.setattr(features, "BLOCK_ROWS", 100)
    parts = fit_baselines(table, roles)

    # THEN baselines agree as far as a float32 file can tell, and given the same ones the spaces are equal
    assert parts.center == pytest.approx(whole.center, rel=1e-6)
    assert parts.scale == pytest.approx(whole.scale, rel=1e-4)
    blocks = whole.behaviour(table, own), whole.level(table, own, *scaling)
    monkeypatch.undo()
    for given, expected in zip(blocks, (whole.behaviour(table, own), whole.level(table, own, *scaling)), strict=True):
        assert np.array_equal(given, expected)


DAYS = 28
MONDAY = "2026-11-02"


def weekly(weekend, days=DAYS, seed=0, noise=3.0, start=MONDAY, scale=1.0):
    """Rows of an instance that follows the hour, with another load at weekends; and local day of week and hour."""
    rng = np.random.default_rng(seed)
    times = pd.date_range(start, periods=days * 96, freq="15min", tz="UTC")
    off = times.day_of_week >= 5
    wave = 50 + 20 * np.sin(2 * np.pi * times.hour / 24)
    values = wave * np.where(off, weekend, 1.0) + noise * np.where(off, scale, 1.0) * rng.normal(size=len(times))
    return frame("i", values, start=start, step="15min")


def fitted(rows, settings=UTC_DAYS):
    return fit_baselines(as_table(rows, ["a"], GAP * 3), {"i": "web"}, settings)


def at(baselines, moment):
    """Return centre and scale of the instance at a time."""
    ms = np.array([int(pd.Timestamp(moment, tz="UTC").timestamp() * 1000)])
    slot = baselines.seasons.slots(ms, np.array([0]), baselines.center.shape[1])[0][0]
    return baselines.center[0, slot, 0], baselines.scale[0, slot, 0]


def test_weekends_that_repeat_have_their_own_range():
    # GIVEN four weeks with weekends at half the load
    baselines = fitted(weekly(0.5))

    # WHEN / THEN workday and weekend at six o'clock, when the wave is at its top
    assert at(baselines, "2026-12-02T06:00")[0] == pytest.approx(70, abs=2)
    assert at(baselines, "2026-12-05T06:00")[0] == pytest.approx(35, abs=3)
    # AND each is as narrow as the floor allows: not wide enough for both
    assert all(at(baselines, day)[1] < 7 for day in ("2026-12-02T06:00", "2026-12-05T06:00"))


def test_bursts_at_weekends_alone_are_no_evidence():
    # GIVEN weekends with the same mean, and five times the noise
    assert fitted(weekly(1.0, scale=5.0)).center.shape[1] == 24


@pytest.mark.parametrize("seed", range(4))
def test_a_fleet_without_weekends_has_no_day_types(seed):
    assert fitted(weekly(1.0, seed=seed)).center.shape[1] == 24


def test_one_weekend_is_no_evidence():
    assert fitted(weekly(0.5, days=11)).center.shape[1] == 24


def test_an_odd_weekend_is_no_evidence():
    # GIVEN four weeks without weekends, and a fall of the load on the last one
    rows = weekly(1.0)
    fell = (rows["timestamp"] >= "2026-11-28") & (rows["timestamp"] < "2026-11-30")
    rows.loc[fell, "a"] *= 0.5

    # WHEN / THEN
    assert fitted(rows).center.shape[1] == 24


def test_a_holiday_does_not_widen_the_range_of_other_days():
    # GIVEN a Wednesday without load, in a fleet with weekends and in one without
    for weekend in (0.5, 1.0):
        rows = weekly(weekend)
        fell = rows["timestamp"].dt.strftime("%m-%d") == "11-18"
        usual = fitted(rows)
        rows.loc[fell, "a"] = 1.0

        # WHEN it is listed as a holiday, and when it is not
        listed = fitted(rows, LocalTime(holidays=(date(2026, 11, 18),)))
        unlisted = fitted(rows)

        # THEN the range of a workday stays as it is without the holiday
        day = "2026-12-02T06:00"
        assert at(listed, day) == pytest.approx(at(usual, day), rel=0.02)
        assert at(unlisted, day)[1] > 1.3 * at(usual, day)[1]
        # AND a holiday to come counts as a day off
        christmas = fitted(rows, LocalTime(holidays=(date(2026, 11, 18), date(2026, 12, 2))))
        assert at(christmas, day)[0] == pytest.approx(at(christmas, "2026-12-05T06:00")[0])


def test_a_jump_at_midnight_belongs_to_the_first_hours_alone():
    # GIVEN weekends at half the load, with the mean of the last three hours as metric
    rows = weekly(0.5, noise=1.0)
    rows["a"] = rows["a"].rolling(12, min_periods=1).mean()

    # WHEN
    baselines = fitted(rows)

    # THEN Saturday begins between the two, and Sunday at its own mean
    saturday, sunday, friday = (at(baselines, f"2026-12-0{day}T00:30")[0] for day in (5, 6, 4))
    assert sunday + 5 < saturday < friday


def test_after_a_clock_change_the_profile_moves_with_local_time():
    # GIVEN a load that follows the clock of Berlin, trained before the change to summer time
    times = pd.date_range("2026-03-01", "2026-03-28", freq="15min", tz="UTC", inclusive="left")
    local = times.tz_convert("Europe/Berlin")
    rows = frame("i", np.where(local.hour == 9, 90.0, 10.0), start="2026-03-01", step="15min")

    # WHEN
    berlin, utc = fitted(rows, LocalTime("Europe/Berlin")), fitted(rows)

    # THEN nine in Berlin is eight in UTC before the change, and seven after it
    assert at(berlin, "2026-03-28T08:00")[0] == at(berlin, "2026-03-29T07:00")[0] > 80
    assert at(utc, "2026-03-29T07:00")[0] < 20


def test_the_fleet_expects_of_each_zone_what_it_does_at_that_local_hour():
    # GIVEN two roles that work at nine, in Berlin and in Tokyo
    parts, settings = [], LocalTime("UTC", {"berlin": "Europe/Berlin", "tokyo": "Asia/Tokyo"})
    for name, zone in (("b", "Europe/Berlin"), ("t", "Asia/Tokyo")):
        times = pd.date_range("2026-11-02", periods=10 * 96, freq="15min", tz="UTC")
        parts.append(
            frame(name, np.where(times.tz_convert(zone).hour == 9, 90.0, 10.0), start="2026-11-02", step="15min")
        )

    # WHEN
    table = as_table(pd.concat(parts), ["a"], GAP * 3)
    baselines = fit_baselines(table, {"b": "berlin", "t": "tokyo"}, settings)

    # THEN the profile of the fleet is at nine as well
    assert baselines.center[baselines.fleet, :, 0].argmax() == 9
    assert baselines.seasons.zone_of.tolist() == [1, 2, 1, 2, 0]

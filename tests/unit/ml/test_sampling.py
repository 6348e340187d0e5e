"""Which rows a fit holds out, and which it measures against the baselines of roles and fleet."""

from types import SimpleNamespace

import numpy as np
import pytest

from ml import sampling
from ml.sampling import BLOCK_MS, DAY_MS, FALLBACK_ROWS, foreign_rows

HOUR_MS = 3_600_000
BEGIN = 20_000 * DAY_MS + 10 * HOUR_MS  # a history begins at any hour


def moments(days, period_ms=HOUR_MS, begin=BEGIN):
    """Times of rows in a number of days."""
    return begin + np.arange(0, int(days * DAY_MS), period_ms)


def folds(*instances, groups=None):
    """Folds of the rows of some instances, given as their times."""
    code = np.repeat(np.arange(len(instances)), [len(ms) for ms in instances])
    table = SimpleNamespace(code=code, ms=np.concatenate(instances))
    found = sampling.folds(table, np.array(groups or [0] * len(instances))[code])
    return np.split(found, np.cumsum([len(ms) for ms in instances])[:-1])


@pytest.mark.parametrize("days", [1, 3, 3.9, 4, 9.3])
def test_where_no_day_is_missing_days_of_the_group_take_turns(days):
    # GIVEN two groups; in the first an instance begins later, and one is silent for less than a day
    late, outage = moments(days)[len(moments(days)) // 3 :], moments(days)
    outage = outage[(outage < BEGIN + 0.4 * days * DAY_MS) | (outage >= BEGIN + 0.4 * days * DAY_MS + 20 * HOUR_MS)]
    other = moments(days, begin=BEGIN + 5 * HOUR_MS)
    instances = [moments(days), late, outage, other]

    # WHEN
    found = folds(*instances, groups=[0, 0, 0, 1])

    # THEN blocks of a day, or of a quarter of less than four, alternate from the group's first row on
    first = [BEGIN, BEGIN, BEGIN, BEGIN + 5 * HOUR_MS]
    span = moments(days)[-1] - BEGIN
    block = DAY_MS if days >= 4 else span // 4 + 1
    for ms, begin, fold in zip(instances, first, found, strict=True):
        assert fold.tolist() == ((ms - begin) // block % 2).tolist()


@pytest.mark.parametrize("every", [2, 4, 8])
def test_the_days_that_an_instance_has_take_turns_where_days_are_left_out(every):
    # GIVEN three instances of which each has some dates of 32, as a long history is thinned
    whole = moments(32)
    dates = whole // DAY_MS
    instances = [whole[(dates + begin) % every == 0] for begin in range(2)]

    # WHEN one that has all is in their group
    *found, everything = folds(*instances, whole)

    # THEN both folds have as many days, but for one, and each of them whole
    for ms, fold in zip(instances, found, strict=True):
        of_date = [set(fold[ms // DAY_MS == date].tolist()) for date in np.unique(ms // DAY_MS)]
        assert of_date == [{place % 2} for place in range(len(of_date))]
    assert everything.tolist() == ((whole - BEGIN) // DAY_MS % 2).tolist()


def fleet(instances, days, period_ms, begin=BEGIN):
    """Instance and block of the rows of a fleet, sorted as a table is."""
    ms = moments(days, period_ms, begin)
    return np.repeat(np.arange(instances), len(ms)), np.tile(ms // BLOCK_MS, instances)


def test_a_small_fleet_is_measured_on_the_same_blocks_of_every_instance():
    # GIVEN five instances of 28 days at five minutes, of which every seventh block is about 6,000 rows
    code, block = fleet(5, 28, 300_000, BEGIN - HOUR_MS)

    # WHEN / THEN
    rows = foreign_rows(code, block)
    assert rows.tolist() == np.flatnonzero(block % 7 == 0).tolist()
    assert 5_000 < len(rows) <= FALLBACK_ROWS
    # AND a few rows are taken all
    assert foreign_rows(code[:100], block[:100]).tolist() == list(range(100))


@pytest.mark.parametrize("begin", [BEGIN, BEGIN + 5 * DAY_MS])
@pytest.mark.parametrize(("instances", "days"), [(600, 28), (1_000, 7), (3_000, 2)])
def test_a_large_fleet_is_measured_on_blocks_of_many_instances_and_hours(instances, days, begin):
    # GIVEN a fleet in which a block of all instances is more than 6,000 rows, or has no turn
    code, block = fleet(instances, days, 900_000, begin)

    # WHEN
    rows = foreign_rows(code, block)

    # THEN the room is used by whole blocks of as many instances as it allows, evenly
    assert 0.9 * FALLBACK_ROWS < len(rows) <= FALLBACK_ROWS
    chosen = set(zip(code[rows].tolist(), block[rows].tolist(), strict=True))
    most = block.max() + 1
    assert len(rows) == np.isin(code * most + block, code[rows] * most + block[rows]).sum()
    of_tenth = np.bincount([10 * one // instances for one, _ in chosen], minlength=10)
    assert np.ptp(of_tenth) <= 2
    assert len({one for one, _ in chosen}) > 0.6 * min(instances, len(chosen))
    # AND of every hour of the day about as often
    hours = np.bincount([two % 8 for _, two in chosen], minlength=8)
    assert hours.min() > 0.6 * hours.mean()
    # AND the same ones the next time
    assert rows.tolist() == foreign_rows(code, block).tolist()

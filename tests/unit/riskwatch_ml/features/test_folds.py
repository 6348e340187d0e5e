"""Row selection: held-out folds, and the rows for baselines of roles and fleet."""

from types import SimpleNamespace

import numpy as np
import pytest

from riskwatch_ml.features import folds as sampling
from riskwatch_ml.features.folds import BLOCK_MS, DAY_MS, FALLBACK_ROWS, LONGEST_RUN, fallback_rows

HOUR_MS = 3_600_000
BEGIN = 20_000 * DAY_MS + 10 * HOUR_MS  # a history begins at any hour


def moments(days, period_ms=HOUR_MS, begin=BEGIN):
    """Return times of rows in a number of days."""
    return begin + np.arange(0, int(days * DAY_MS), period_ms)


def folds(*instances, groups=None):
    """Return the folds of the rows of some instances, given as their times."""
    code = np.repeat(np.arange(len(instances)), [len(ms) for ms in instances])
    table = SimpleNamespace(code=code, ms=np.concatenate(instances))
    found = sampling.folds(table, np.array(groups or [0] * len(instances))[code])
    return np.split(found, np.cumsum([len(ms) for ms in instances])[:-1])


@pytest.mark.parametrize("days", [1, 1.7, 3, 3.9, 4, 9.3])
def test_where_no_day_is_missing_days_of_the_group_take_turns(days):
    # GIVEN two groups; in the first an instance begins later, and one is silent for less than a day
    late, outage = moments(days)[len(moments(days)) // 3 :], moments(days)
    outage = outage[(outage < BEGIN + 0.4 * days * DAY_MS) | (outage >= BEGIN + 0.4 * days * DAY_MS + 20 * HOUR_MS)]
    other = moments(days, begin=BEGIN + 5 * HOUR_MS)
    instances = [moments(days), late, outage, other]

    # WHEN
    found = folds(*instances, groups=[0, 0, 0, 1])

    # THEN blocks of a day, or of a quarter of less than four, before two at most of eight hours, alternate from the
    # group's first row on
    first = [BEGIN, BEGIN, BEGIN, BEGIN + 5 * HOUR_MS]
    span = moments(days)[-1] - BEGIN
    block = min(DAY_MS if days >= 2 else DAY_MS // 3, span // 4 + 1)
    for ms, begin, fold in zip(instances, first, found, strict=True):
        assert fold.tolist() == ((ms - begin) // block % 2).tolist()


def test_before_there_is_a_profile_no_hour_of_day_is_in_one_fold_alone():
    # GIVEN nearly two days, where quarters of them would be halves of a day
    ms = moments(46.5 / 24)
    # WHEN
    (fold,) = folds(ms)
    # THEN the hours that came twice were in both
    hour = ms // HOUR_MS % 24
    assert all(set(fold[hour == each].tolist()) == {0, 1} for each in np.unique(hour[24:]))


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
    """Return instance and time of the rows of a fleet, sorted as in a table."""
    ms = moments(days, period_ms, begin)
    return np.repeat(np.arange(instances), len(ms)), np.tile(ms, instances)


def runs_of(rows, code):
    """Return first and last row of each run of neighbours of an instance."""
    ends = (np.diff(rows) != 1) | (np.diff(code[rows]) != 0)
    return rows[np.append(True, ends)], rows[np.append(ends, True)]


def test_of_a_few_rows_all_are_measured():
    code, ms = fleet(5, 2, 300_000)
    assert fallback_rows(code, ms).tolist() == list(range(5 * 576))


MANY = [12, 30, 100, 166, 500, 5_000]


@pytest.mark.parametrize("begin", [BEGIN, BEGIN + 5 * DAY_MS])
@pytest.mark.parametrize(
    ("instances", "days", "period_ms"),
    [*((count, 28, 900_000) for count in MANY), (1, 28, 300_000), (600, 2, 300_000), (20, 7, 60_000), (4, 3, 10_000)],
)
def test_fallbacks_are_measured_on_many_moments_of_all_hours(instances, days, period_ms, begin):
    # GIVEN a fleet of any size, of any period
    code, ms = fleet(instances, days, period_ms, begin)

    # WHEN
    rows = fallback_rows(code, ms)

    # THEN most of the room is used
    assert 0.7 * FALLBACK_ROWS < len(rows) <= FALLBACK_ROWS
    # AND the blocks are many, from the first tenth of the time to the last
    blocks, count = np.unique(ms[rows] // BLOCK_MS, return_counts=True)
    assert len(blocks) >= 16
    assert np.ptp(blocks) >= 0.8 * days * 8
    # AND of every hour of the day about as often
    hours = np.bincount(blocks % 8, weights=count, minlength=8)
    assert hours.min() > 0.8 * hours.mean()
    # AND of instances from all over the fleet
    of_tenth = np.bincount(10 * code[rows] // instances, minlength=10)
    assert of_tenth[of_tenth > 0].min() > 0.4 * len(rows) / min(instances, 10)
    assert len(np.unique(code[rows])) > 0.6 * min(instances, len(rows) / 36)
    # AND the same ones the next time
    assert rows.tolist() == fallback_rows(code, ms).tolist()


@pytest.mark.parametrize(("instances", "period_ms"), [(100, 300_000), (100, 900_000), (20, 60_000), (4, 10_000)])
def test_they_are_measured_in_runs_of_neighbours(instances, period_ms):
    # GIVEN
    code, ms = fleet(instances, 7, period_ms)

    # WHEN
    rows = fallback_rows(code, ms)

    # THEN no run is shorter than a block, or than half of the longest run, but for those at the ends of the history
    first, last = runs_of(rows, code)
    edge = (ms[first] == ms[0]) | (ms[last] == ms.max())
    assert (last - first + 1)[~edge].min() >= min(BLOCK_MS // period_ms, LONGEST_RUN // 2)
    # AND none reaches over two instances
    assert (code[first] == code[last]).all()


def test_a_dense_history_of_hours_is_measured_from_one_end_to_the_other():
    # GIVEN three instances with a row each second, so that a block alone is more than all that is measured
    code, ms = fleet(3, 0.1, 1_000)

    # WHEN
    rows = fallback_rows(code, ms)

    # THEN of every instance rows are there, from all fifths of the time
    assert 0.9 * FALLBACK_ROWS < len(rows) <= FALLBACK_ROWS
    fifths = 5 * (ms[rows] - ms[0]) // (0.1 * DAY_MS)
    assert len({*zip(code[rows].tolist(), fifths.tolist(), strict=True)}) >= 13

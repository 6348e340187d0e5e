"""The paging threshold that keeps to a budget of pages, and the budget of a fleet."""

import logging

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from riskwatch_lambda.clock import DAY_MS, HOUR_MS
from riskwatch_lambda.paging_rule import PAGED, REMEMBERED, Opening
from riskwatch_ml.core.settings import Settings
from riskwatch_ml.features.served import read_served, served
from riskwatch_ml.model.page_budget import (
    InstanceDays,
    PageBudget,
    budget_of,
    fleet_budget,
    paging_threshold,
    served_threshold,
)
from tests.support.openings import UP

PERIOD_MS = 300_000
A_DAY = DAY_MS // PERIOD_MS
REQUIRED = {"bucket": "b", "stream": "s", "table": "t", "function": "f", "mlflow_uri": "http://mlflow:5000"}


def days_of(*lengths, begin_ms=0):
    """Give the days of instances with rows for so many days each."""
    rows = [round(length * A_DAY) for length in lengths]
    code = np.repeat(np.arange(len(lengths)), rows)
    return InstanceDays(code, np.concatenate([begin_ms + np.arange(n) * PERIOD_MS for n in rows]), 300)


def opening(hours, passed, code=0):
    """Give an opening of an instance that begins so many hours after its first row."""
    since_ms = round(hours * HOUR_MS)
    return code, Opening(UP, since_ms, since_ms + PERIOD_MS, max(passed, 1.0), passed, PAGED)


def all_days(pages):
    return PageBudget(pages, ordinary_days=False)


def test_the_threshold_is_the_smallest_that_keeps_to_the_budget():
    # GIVEN a day with openings of 1.5, 2.5 and 3.5
    openings = [opening(hour, strength) for hour, strength in ((2, 1.5), (10, 3.5), (18, 2.5))]

    # WHEN / THEN
    for pages, threshold in ((3.0, 1.0), (2.0, 1.5001), (1.0, 2.5001), (0.5, 3.5001)):
        assert paging_threshold(days_of(1), openings, all_days(pages)) == threshold


def test_the_busiest_fifth_of_the_days_costs_no_budget_of_ordinary_days():
    # GIVEN five days of an instance with an opening of 2 on each, and nine of 3 more on the third
    openings = [opening(24 * day + 8, 2.0) for day in range(5)]
    openings += [opening(48 + 9 + hour, 3.0) for hour in range(9)]
    days = days_of(5)

    # WHEN the third is left out, THEN there is a page a day on the other four
    assert paging_threshold(days, openings, PageBudget(1.0)) == 1.0
    assert paging_threshold(days, openings, PageBudget(0.9)) == 2.0001

    # WHEN all days count, THEN the openings of the third do, too
    assert paging_threshold(days, openings, all_days(2.8)) == 1.0
    assert paging_threshold(days, openings, all_days(2.7)) == 2.0001
    assert paging_threshold(days, openings, all_days(1.7)) == 3.0001


def test_the_busiest_days_are_those_of_all_instances():
    # GIVEN four quiet instances and one with five openings on its only day
    openings = [opening(hour, 2.0, code=4) for hour in range(5)]

    # WHEN / THEN its day is the busiest fifth
    assert paging_threshold(days_of(1, 1, 1, 1, 1), openings, PageBudget(0.1)) == 1.0
    assert paging_threshold(days_of(1, 1, 1, 1, 1), openings, all_days(0.9)) == 2.0001


def test_exhausted_openings_do_not_raise_the_threshold():
    # GIVEN openings that page at any threshold, more than the budget allows, and one of 1.5
    openings = [*(opening(hour, 0.0) for hour in range(0, 20, 2)), opening(21, 1.5)]

    # WHEN / THEN the threshold is that of the other one
    assert paging_threshold(days_of(1), openings, all_days(1.0)) == 1.0
    assert paging_threshold(days_of(1), openings, all_days(0.5)) == 1.5001


def test_a_part_of_a_day_counts_as_that_part():
    # GIVEN an opening in half a day, WHEN / THEN that is two a day
    assert paging_threshold(days_of(0.5), [opening(1, 1.5)], all_days(2.0)) == 1.0
    assert paging_threshold(days_of(0.5), [opening(1, 1.5)], all_days(1.9)) == 1.5001


def test_a_day_is_24_hours_from_the_first_row_of_the_instance():
    # GIVEN an instance whose rows begin in the evening, with openings in its hours 1 and 23
    days = days_of(5, begin_ms=20 * HOUR_MS)
    openings = [opening(20 + hour, 1.5) for hour in (1, 23)]

    # WHEN / THEN both are of its first day, which is the busiest fifth
    assert paging_threshold(days, openings, PageBudget(0.1)) == 1.0


def test_openings_outside_of_all_days_do_not_count():
    # GIVEN two instances with rows of a day, openings before the rows of the first, and after them
    days = days_of(1, 1, begin_ms=DAY_MS)
    before, after = [opening(hour, 2.0) for hour in (1, 2, 3)], [opening(48 + hour, 2.0) for hour in (1, 2, 3)]

    # WHEN / THEN they count for no instance
    assert paging_threshold(days, before, all_days(0.1)) == 1.0
    assert paging_threshold(days, after, all_days(0.1)) == 1.0


def test_a_day_without_rows_between_others_does_not_count():
    # GIVEN an instance with rows on its first and third day, and openings on the second
    ms = np.concatenate([np.arange(A_DAY), 2 * A_DAY + np.arange(A_DAY)]) * PERIOD_MS
    days = InstanceDays(np.zeros(len(ms), int), ms, 300)

    # WHEN / THEN
    assert paging_threshold(days, [opening(30, 2.0)], all_days(0.1)) == 1.0
    assert paging_threshold(days, [opening(50, 2.0)], all_days(0.1)) == 2.0001


def test_a_fleet_without_rows_or_openings_has_the_lowest_threshold():
    # GIVEN / WHEN / THEN
    none = InstanceDays(np.zeros(0, int), np.zeros(0, int), 300)
    assert paging_threshold(none, [], PageBudget()) == 1.0
    assert paging_threshold(days_of(3), [], all_days(0.01)) == 1.0


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 95), st.floats(0, 5)), max_size=30),
    st.sampled_from([0.1, 0.5, 1.0, 2.0]),
    st.booleans(),
)
def test_no_threshold_that_is_lower_keeps_to_the_budget(drawn, pages, ordinary_days):
    # GIVEN openings of four instances on four days
    days = days_of(4, 4, 4, 4)
    openings = [opening(hours, passed, code) for code, hours, passed in drawn]

    # WHEN
    threshold = paging_threshold(days, openings, PageBudget(pages, ordinary_days))

    # THEN it keeps to the budget, and a step less does not
    def pages_a_day(at):
        counts = np.zeros(16)
        for code, hours, passed in drawn:
            counts[code * 4 + hours // 24] += passed >= max(at, 1e-9)
        counts.sort()
        return counts[:13].sum() / 13 if ordinary_days else counts.sum() / 16

    assert pages_a_day(threshold) <= pages
    assert threshold == 1.0 or pages_a_day(threshold - 0.0001) > pages


@pytest.mark.parametrize(
    ("instances", "pages"), [(0, 1), (1, 1), (2, 2), (4, 4), (13, 4), (40, 4), (100, 10), (200, 20), (1000, 20)]
)
def test_the_default_budget_grows_with_the_fleet_up_to_what_one_rotation_can_answer(instances, pages):
    # GIVEN a fleet, WHEN its budget is asked for, THEN it is that of all instances together, on ordinary days
    budget = fleet_budget(instances)
    assert budget.pages * max(1, instances) == pytest.approx(pages)
    assert budget.ordinary_days


def test_more_rotations_answer_more_pages():
    # GIVEN a thousand instances, and thirteen, WHEN two teams are on call, THEN only the limit of the fleet doubles
    assert fleet_budget(1000, rotations=2).pages * 1000 == pytest.approx(40)
    assert fleet_budget(13, rotations=2) == fleet_budget(13)


def test_a_budget_that_a_person_sets_counts_all_days():
    # GIVEN / WHEN / THEN
    assert fleet_budget(50, 5.0) == PageBudget(0.1, ordinary_days=False)


def test_a_budget_of_an_earlier_release_counts_all_days_and_is_named_in_pages_a_day(caplog):
    # GIVEN settings with the budget for each instance, WHEN it is read
    with caplog.at_level(logging.WARNING):
        budget = budget_of(Settings(**REQUIRED, budget=0.25), 8)

    # THEN the log says how to write it from now on
    assert budget == PageBudget(0.25, ordinary_days=False)
    assert "set pages_per_day" in caplog.text
    assert "pages_per_day = 2 for 8 instances" in caplog.text
    # AND other settings warn of nothing
    caplog.clear()
    assert budget_of(Settings(**REQUIRED, pages_per_day=2.0), 8) == PageBudget(0.25, ordinary_days=False)
    assert budget_of(Settings(**REQUIRED, rotations=2), 1000) == fleet_budget(1000, rotations=2)
    assert caplog.text == ""


def test_a_threshold_of_openings_in_service_needs_a_week():
    # GIVEN six days and seven days with an opening on each
    openings = [opening(24 * day + 1, 1.5) for day in range(6)]

    # WHEN / THEN
    assert served_threshold(days_of(6), openings, all_days(0.5)) is None
    assert served_threshold(days_of(7), openings, all_days(0.5)) == 1.5001


def test_openings_in_service_are_known_since_the_first_or_since_a_full_memory():
    # GIVEN a quiet instance with one old opening, and a busy one whose memory is full
    _, old = opening(1, 1.5)
    busy = [opening(500 + hour, 1.5)[1] for hour in range(REMEMBERED)]

    # WHEN
    found = served({"quiet": (old,), "busy": busy, "new": ()})

    # THEN the busy one is known since its first opening, all others since that of the fleet
    assert (found.since("quiet"), found.since("new")) == (HOUR_MS, HOUR_MS)
    assert found.since("busy") == 500 * HOUR_MS
    # AND a document gives the same
    assert read_served(found.to_document()) == found
    assert read_served({}) is None
    assert read_served(None) is None

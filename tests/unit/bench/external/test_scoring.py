"""The rules of NAB: positions, costs and the scores of the null and the perfect detector."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.external.scoring import (
    PROFILES,
    Tally,
    Window,
    normalised_score,
    probation_rows,
    raw_score,
    scaled_sigmoid,
    tally,
)

STANDARD, LOW_FP, LOW_FN = PROFILES
WINDOWS = (Window(20, 29), Window(60, 69))


@pytest.mark.parametrize(
    ("position", "value"),
    [(-1.0, 0.98661430), (-0.5, 0.84828364), (0.0, 0.0), (1.0, -0.98661430), (3.0, -0.99999939), (3.01, -1.0)],
)
def test_the_sigmoid_falls_from_the_left_edge_to_far_behind_the_window(position, value):
    # 2 / (1 + exp(5 y)) - 1, worked out by hand; beyond three widths it is -1
    assert scaled_sigmoid(np.array(position)) == pytest.approx(value, abs=1e-8)


@pytest.mark.parametrize(("rows", "length"), [(4032, 604), (1243, 186), (5000, 750), (22_695, 750)])
def test_the_probationary_period_is_a_part_of_at_most_5000_rows(rows, length):
    assert probation_rows(rows) == length


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.key)
def test_null_and_perfect_detector_have_0_and_100(profile):
    # GIVEN no page, and a page on the first row of each window
    null, perfect = tally(np.array([]), WINDOWS, 10), tally(np.array([20, 60]), WINDOWS, 10)

    # WHEN / THEN
    assert normalised_score(null, profile) == 0
    assert normalised_score(perfect, profile) == pytest.approx(100)
    assert raw_score(perfect, profile) == pytest.approx(2)


def test_only_the_earliest_page_of_a_window_counts():
    # GIVEN pages in the sixth and in the tenth row of a window of ten
    result = tally(np.array([29, 25]), WINDOWS, 10)

    # WHEN / THEN the sixth is at y = -5/10
    assert (result.met, result.pages, result.false_pages) == (1, 2, 0)
    assert result.gain == pytest.approx(math.tanh(1.25) / math.tanh(2.5))


def test_a_page_outside_windows_costs_more_the_further_it_is_behind_the_last_window():
    # GIVEN pages before any window, one row and nine rows behind the first, and far behind the last
    results = {row: tally(np.array([row]), WINDOWS, 10) for row in (15, 30, 38, 99)}

    # WHEN / THEN the width of a window is the distance of its edges, nine rows
    assert [result.false_pages for result in results.values()] == [1, 1, 1, 1]
    assert results[15].false_gain == results[99].false_gain == -1
    assert results[30].false_gain == pytest.approx(-math.tanh(2.5 / 9))
    assert results[38].false_gain == pytest.approx(-math.tanh(2.5))


@pytest.mark.parametrize(("profile", "score"), [(STANDARD, 47.25), (LOW_FP, 44.5), (LOW_FN, 48.1667)])
def test_costs_are_those_of_the_profile(profile, score):
    # GIVEN one of two windows met on its first row, and a page before any window
    result = tally(np.array([15, 20]), WINDOWS, 10)

    # WHEN / THEN 100 (1 - cost + 1 missed) / (2 (1 + missed))
    assert normalised_score(result, profile) == pytest.approx(score, abs=1e-4)


def test_pages_of_the_probationary_period_are_left_out():
    assert tally(np.array([3, 9]), WINDOWS, 10) == Tally(windows=2)


def test_without_windows_every_page_is_false_and_there_is_no_score():
    result = tally(np.array([15, 15, 20]), (), 10)
    assert result == Tally(pages=2, false_pages=2, false_gain=-2.0)
    assert math.isnan(normalised_score(result, STANDARD))


def test_tallies_of_files_add_up():
    first, second = tally(np.array([20]), WINDOWS, 10), tally(np.array([15]), (), 10)
    assert first + second == Tally(windows=2, met=1, gain=1.0, pages=2, false_pages=1, false_gain=-1.0)


@given(pages=st.sets(st.integers(0, 99)), extra=st.integers(0, 99))
def test_a_score_is_at_most_100_and_a_false_page_never_raises_it(pages, extra):
    # GIVEN any pages, and one more outside windows
    before = tally(np.array(sorted(pages)), WINDOWS, 10)
    after = tally(np.array(sorted(pages | {extra})), WINDOWS, 10)
    outside = not any(window.first <= extra <= window.last for window in WINDOWS)

    # WHEN / THEN
    for profile in PROFILES:
        assert normalised_score(before, profile) <= 100 + 1e-9
        if outside:
            assert normalised_score(after, profile) <= normalised_score(before, profile)

"""The cool-down of a signature: one page for openings alike."""

from __future__ import annotations

import pytest

from riskwatch_lambda.clock import HOUR_MS
from riskwatch_lambda.paging_rule import BELOW, COOLING, FAMILIAR, NEW_INSTANCE, PAGED, TRAINED, Opening
from tests.support.openings import DOWN, OTHER, PERIOD_MS, TEN, cooled, follow, opens, outcome, quiet


@pytest.mark.parametrize("what", [PAGED, FAMILIAR, COOLING, BELOW])
@pytest.mark.parametrize(("after_ms", "expected"), [(6 * HOUR_MS, COOLING), (6 * HOUR_MS + 1, "page")])
def test_an_opening_is_in_cooldown_for_six_hours_after_the_end_of_one_alike(what, after_ms, expected):
    # GIVEN an opening that has ended, paged or held, WHEN one alike opens, THEN it is held for six hours
    assert outcome(cooled(what), opens(TEN + after_ms)) == expected


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (opens(TEN + HOUR_MS, 1.375), COOLING),
        (opens(TEN + HOUR_MS, 1.376), "page"),
        (opens(TEN + HOUR_MS, signature=DOWN), "page"),
        (opens(TEN + HOUR_MS, signature=OTHER), "page"),
    ],
)
def test_a_more_severe_opening_or_another_signature_is_in_no_cooldown(row, expected):
    # GIVEN an opening with a peak of 1.1 that has ended an hour before, WHEN / THEN
    assert outcome(cooled(), row) == expected


def test_openings_of_the_training_rows_cause_no_cooldown():
    # GIVEN an opening in the training rows an hour before, WHEN one alike opens, THEN it pages
    assert outcome(cooled(TRAINED), opens(TEN + HOUR_MS)) == "page"


def test_an_opening_in_cooldown_renews_it():
    # GIVEN openings of two rows every five hours
    rows = [
        row
        for at in range(5)
        for row in (
            opens(TEN + at * 5 * HOUR_MS),
            quiet(TEN + at * 5 * HOUR_MS + PERIOD_MS),
            quiet(TEN + at * 5 * HOUR_MS + 2 * PERIOD_MS),
        )
    ]

    # WHEN they come
    state, happened = follow(NEW_INSTANCE, *rows)

    # THEN only the first pages
    assert [step for step in happened if step in ("page", COOLING)] == ["page"] + [COOLING] * 4
    assert [opening.outcome for opening in state.openings] == [PAGED] + [COOLING] * 4


def test_an_opening_in_cooldown_pages_when_it_gets_more_severe_and_not_when_it_lasts():
    # GIVEN an opening in cool-down, WHEN it lasts for 24 hours beyond the cool-down, THEN it is held
    state, happened = follow(cooled(), *(opens(TEN + (at + 1) * HOUR_MS) for at in range(24)))
    assert happened == [COOLING] + [""] * 23

    # WHEN it gets more severe, THEN it pages
    later = TEN + 25 * HOUR_MS
    assert outcome(state, opens(later, 1.4)) == "page"


def test_an_opening_in_cooldown_pages_for_another_signature():
    # GIVEN an opening of cpu in cool-down, WHEN net becomes its main metric, THEN it pages
    state, _ = follow(cooled(), opens(TEN + HOUR_MS))
    state, happened = follow(state, opens(TEN + HOUR_MS + 1, 1.2, OTHER))
    assert happened == ["page"]
    # AND the signature is that of the most severe row
    assert state.openings[-1].signature == OTHER


def test_the_signature_of_an_opening_is_that_of_its_peak():
    # GIVEN an episode of cpu, WHEN net is more severe and then cpu again, but less, THEN the signature is net
    state, _ = follow(NEW_INSTANCE, opens(strength=1.5), opens(TEN + 1, 3.0, OTHER), opens(TEN + 2, 2.0))
    assert state.openings == (Opening(OTHER, TEN, None, 3.0, 3.0, PAGED),)

"""Familiar openings: usual at this time of day, or at any hour, and when one of them pages."""

from __future__ import annotations

import pytest

from riskwatch_lambda.clock import DAY_MS, HOUR_MS
from riskwatch_lambda.episode_rule import EpisodeState, Rule
from riskwatch_lambda.paging_rule import (
    BELOW,
    COOLING,
    FAMILIAR,
    PAGED,
    TRAINED,
    Familiar,
    Held,
    Opening,
    find_familiar,
)
from tests.support.openings import (
    DOWN,
    HIGH,
    MINUTE_MS,
    OTHER,
    PERIOD_MS,
    TEN,
    UP,
    USUAL,
    follow,
    opens,
    outcome,
    past,
    quiet,
    remembering,
)

DAYS = [DAY_MS * days for days in range(8)]


@pytest.mark.parametrize(
    ("agos", "expected"),
    [
        ([DAYS[1], DAYS[2]], FAMILIAR),
        ([DAYS[6], DAYS[7]], FAMILIAR),
        ([DAYS[1]], "page"),
        # two openings of one day are one day
        ([DAYS[1], DAYS[1] - HOUR_MS], "page"),
        ([DAYS[1], DAYS[7] + HOUR_MS], FAMILIAR),
        ([DAYS[1], 8 * DAY_MS], "page"),
        # within two hours of the time of day, before and after it
        ([DAYS[1] - 2 * HOUR_MS, DAYS[2] + 2 * HOUR_MS], FAMILIAR),
        ([DAYS[1] - 2 * HOUR_MS - 1, DAYS[2]], "page"),
        ([DAYS[1], DAYS[2] + 2 * HOUR_MS + 1], "page"),
        # the same hour today is no day before, however early
        ([DAYS[1], 30 * MINUTE_MS], "page"),
    ],
)
def test_an_opening_at_the_usual_time_of_day_is_familiar(agos, expected):
    # GIVEN openings so long ago, WHEN one as severe opens, THEN two days of the last seven make it familiar
    assert outcome(remembering(*map(past, agos)), opens()) == expected


@pytest.mark.parametrize(
    ("hours_ago", "expected"),
    [
        # three parts of the UTC day, on three, and on two of the last three days
        ([12, 28, 64], FAMILIAR),
        ([8, 12, 28], FAMILIAR),
        # all on the last day, in three parts
        ([8, 12, 18], "page"),
        # in two parts
        ([8, 28, 32], "page"),
        # the oldest is more than three days ago
        ([12, 16, 72.1], "page"),
        ([12, 16, 72], FAMILIAR),
    ],
)
def test_an_opening_is_familiar_at_any_hour_if_the_last_three_days_have_them_in_three_parts(hours_ago, expected):
    # GIVEN openings so many hours before ten, none of them twice at about the same hour
    state = remembering(*(past(round(hours * HOUR_MS)) for hours in hours_ago))

    # WHEN / THEN
    assert outcome(state, opens()) == expected


def test_a_day_is_counted_back_from_now():
    # GIVEN openings 20 h and 26 h ago in three parts: two days back, though both were yesterday
    openings = (past(26 * HOUR_MS), past(20 * HOUR_MS), past(8 * HOUR_MS))

    # WHEN / THEN
    familiar = find_familiar(openings, UP, 1.0, TEN)
    assert familiar == Familiar(1.1, 10 * MINUTE_MS, 2, is_by_hour=False)


@pytest.mark.parametrize("parts", [2, 3])
def test_a_part_is_three_hours_of_the_utc_day(parts):
    # GIVEN openings at 01:00 and 02:59 or 03:00 of today and at 20:00 two days ago
    midnight = TEN - 10 * HOUR_MS
    second = midnight + 3 * HOUR_MS - (1 if parts == 2 else 0)
    openings = [past(TEN - ms) for ms in (midnight - 28 * HOUR_MS, midnight + HOUR_MS, second)]

    # WHEN / THEN both of today are in one part, or in two
    assert outcome(remembering(*openings), opens()) == (FAMILIAR if parts == 3 else "page")


@pytest.mark.parametrize(
    ("strength", "peaks", "expected"),
    [
        (1.1499, (1.1, 1.1), FAMILIAR),
        (1.15, (1.5, 1.5), "page"),
        # alike is an opening whose peak is at least four fifths of the strength
        (1.1, (0.88, 0.88), FAMILIAR),
        (1.1, (0.879, 5.0), "page"),
    ],
)
def test_a_severe_opening_is_not_familiar(strength, peaks, expected):
    # GIVEN openings with peaks on two days, WHEN one opens, THEN nothing from 1.15 on is familiar
    state = remembering(*(past(ago, peak=peak) for ago, peak in zip(DAYS[1:], peaks, strict=False)))
    assert outcome(state, opens(strength=strength)) == expected


@pytest.mark.parametrize("signature", [DOWN, OTHER])
def test_openings_of_another_metric_or_direction_make_nothing_familiar(signature):
    # GIVEN usual openings of cpu up, WHEN another metric or direction opens, THEN it pages
    assert outcome(USUAL, opens(signature=signature)) == "page"


@pytest.mark.parametrize("what", [TRAINED, PAGED, FAMILIAR, COOLING, BELOW])
def test_every_outcome_makes_the_next_familiar(what):
    # GIVEN openings of one outcome, in training rows or in service, WHEN one opens, THEN it is familiar
    state = remembering(past(DAYS[1], outcome=what), past(DAYS[2], outcome=what))
    assert outcome(state, opens()) == FAMILIAR


def test_what_makes_an_opening_familiar_is_kept_with_it():
    # GIVEN openings on three days at this hour, and the longest at another one
    state = remembering(past(DAYS[1], peak=1.2), past(DAYS[3], peak=1.3), past(DAYS[6]), past(20 * HOUR_MS, minutes=90))

    # WHEN one opens
    state, _ = follow(state, opens())

    # THEN the days, the highest peak of this hour, and the longest of those that are alike
    assert state.held == Held(
        EpisodeState(True, TEN, TEN, None, 0, 1.1), Familiar(1.3, 90 * MINUTE_MS, 3, is_by_hour=True)
    )
    assert state.openings[-1] == Opening(UP, TEN, None, 1.1, 0.0, FAMILIAR)


def test_a_familiar_opening_stays_familiar_while_it_lasts():
    # GIVEN a familiar opening whose memory is at the edge of the seven days
    state = remembering(past(DAYS[7] + 2 * HOUR_MS), past(DAYS[6]))

    # WHEN it goes on for 40 minutes
    rows = [opens(TEN + at * PERIOD_MS) for at in range(9)]
    state, happened = follow(state, *rows)

    # THEN it is held all the time, and no row is an alert
    assert happened == [FAMILIAR] + [""] * 8
    # AND two quiet rows end it
    state, happened = follow(state, quiet(TEN + HOUR_MS), quiet(TEN + HOUR_MS + 1))
    assert happened == ["", ""]
    assert (state.held, state.openings[-1]) == (None, Opening(UP, TEN, TEN + HOUR_MS + 1, 1.1, 0.0, FAMILIAR))


@pytest.mark.parametrize(("strength", "expected"), [(1.3749, ""), (1.375, "page")])
def test_a_familiar_opening_pages_when_it_is_markedly_more_severe(strength, expected):
    # GIVEN a familiar opening, peaks of those alike 1.1
    state, _ = follow(USUAL, opens())

    # WHEN a row is 1.25 times as severe, or hardly less
    state, happened = follow(state, opens(TEN + PERIOD_MS, strength))

    # THEN it pages, and the episode begins at this row
    assert happened == [expected]
    if expected:
        assert state.held is None
        assert state.episode == EpisodeState(True, TEN + PERIOD_MS, TEN + PERIOD_MS, None, 0, strength)
        assert state.openings[-1] == Opening(UP, TEN, None, strength, strength, PAGED)


def test_a_familiar_opening_with_low_peaks_pages_from_the_limit_of_familiar_openings_on():
    # GIVEN peaks of 0.9, whose 1.25 fold is 1.125
    state = remembering(past(DAYS[1], peak=0.9), past(DAYS[2], peak=0.9))
    state, _ = follow(state, opens(strength=1.1))

    # WHEN / THEN
    _, happened = follow(state, opens(TEN + 1, 1.149), opens(TEN + 2, 1.15))
    assert happened == ["", "page"]


def test_a_familiar_opening_pages_when_it_lasts_longer_than_those_alike():
    # GIVEN openings of 20 and 40 minutes
    state = remembering(past(DAYS[1], minutes=20), past(DAYS[2], minutes=40))
    limit_ms = TEN + round(1.5 * 40 + 30) * MINUTE_MS

    # WHEN it lasts one and a half times as long and half an hour, and longer
    _, happened = follow(state, opens(), opens(limit_ms), opens(limit_ms + 1))

    # THEN only then it pages
    assert happened == [FAMILIAR, "", "page"]


def test_a_long_familiar_opening_below_the_threshold_does_not_page():
    # GIVEN a threshold of 2, WHEN a familiar opening lasts for a day, THEN it is held
    rows = [opens(TEN + at * HOUR_MS) for at in range(24)]
    assert follow(USUAL, *rows, rule=HIGH)[1] == [BELOW] + [""] * 23


def test_an_opening_below_the_threshold_is_held_from_the_row_on_that_would_have_paged():
    # GIVEN a threshold of 1.12, and an instance whose openings at this hour are usual
    rule = Rule(paging_threshold=1.12)

    # WHEN an opening begins below the threshold and reaches it
    state, happened = follow(USUAL, opens(), opens(TEN + 1, 1.13), opens(TEN + 2, 1.14), rule=rule)

    # THEN it is told as held once, with the reason
    assert happened == [BELOW, FAMILIAR, ""]
    assert state.openings[-1].outcome == FAMILIAR
    assert state.openings[-1].passed == 0.0

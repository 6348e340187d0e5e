"""The paging rule, row by row: pages, the threshold, exhausted metrics, the memory, and rows that change nothing."""

from __future__ import annotations

import math

import pytest

from riskwatch_lambda.clock import DAY_MS, HOUR_MS
from riskwatch_lambda.episode_rule import CALM_ROWS, EpisodeState, Metrics, Rule
from riskwatch_lambda.paging_rule import (
    BELOW,
    COOLING,
    FAMILIAR,
    NEW_INSTANCE,
    PAGED,
    REMEMBERED,
    TRAINED,
    InstanceState,
    Opening,
    Signature,
    follow_row,
    read_trained,
)
from tests.support.openings import (
    FULL,
    HIGH,
    MINUTE_MS,
    OTHER,
    RULE,
    TEN,
    UP,
    USUAL,
    cooled,
    exhausts,
    follow,
    opens,
    outcome,
    past,
    quiet,
    remembering,
)


def test_an_opening_pages_and_its_episode_closes_at_the_second_quiet_row():
    # GIVEN an instance without memory
    rows = [quiet(TEN), opens(TEN + 1), quiet(TEN + 2), opens(TEN + 3), quiet(TEN + 4), quiet(TEN + 5)]

    # WHEN its rows come
    state, happened = follow(NEW_INSTANCE, *rows)

    # THEN the first row that opens pages, and the episode closes by the episode rule
    assert happened == ["", "page", "alert", "alert", "alert", "close"]
    assert state.episode == EpisodeState(False, TEN + 1, TEN + 5, TEN + 5, 2, 1.1)
    # AND the opening is remembered with its end
    assert state.openings == (Opening(UP, TEN + 1, TEN + 5, 1.1, 1.1, PAGED),)


def test_an_opening_below_the_threshold_pages_when_a_row_reaches_it():
    # GIVEN a threshold of 2, WHEN strengths rise to it
    state, happened = follow(NEW_INSTANCE, *(opens(TEN + at, 1.0 + at / 4) for at in range(5)), rule=HIGH)

    # THEN the row at the threshold pages, and the episode is that of this row
    assert happened == [BELOW, "", "", "", "page"]
    assert state.episode == EpisodeState(True, TEN + 4, TEN + 4, None, 0, 2.0)
    # AND the opening is that of the first row, and its strength passed the other rules from there on
    assert state.openings == (Opening(UP, TEN, None, 2.0, 2.0, PAGED),)


def test_an_opening_below_the_threshold_ends_as_an_episode_does():
    # GIVEN an opening below the threshold, WHEN two quiet rows come, THEN it has ended without an alert
    state, happened = follow(NEW_INSTANCE, opens(), quiet(TEN + 1), quiet(TEN + 2), rule=HIGH)
    assert happened == [BELOW, "", ""]
    assert state == InstanceState(openings=(Opening(UP, TEN, TEN + 2, 1.1, 1.1, BELOW),))
    # AND one alike is in its cool-down, though it reaches a lower threshold
    assert outcome(state, opens(TEN + 3)) == COOLING


def test_an_episode_lasts_while_rows_open_below_the_threshold():
    # GIVEN an episode that a severe row opened, WHEN rows open below the threshold, THEN it goes on
    _, happened = follow(
        NEW_INSTANCE, opens(strength=2.0), *(opens(TEN + at, 1.0) for at in range(1, 20)), quiet(TEN + 30), rule=HIGH
    )
    assert happened == ["page"] + ["alert"] * 20


@pytest.mark.parametrize(("begin", "why"), [(USUAL, FAMILIAR), (cooled(), COOLING)], ids=[FAMILIAR, COOLING])
def test_an_opening_below_the_threshold_is_held_from_the_row_on_that_would_have_paged(begin, why):
    # GIVEN a threshold of 1.1, and an opening that is familiar or in cool-down and below it
    rule = Rule(paging_threshold=1.1)
    state, happened = follow(begin, opens(TEN + 1, 1.0), opens(TEN + 2, 1.05), rule=rule)
    assert (happened, state.openings[-1].outcome) == ([BELOW, ""], BELOW)

    # WHEN rows reach the threshold, THEN the first of them is held for the reason
    state, happened = follow(state, opens(TEN + 3, 1.12), opens(TEN + 4, 1.12), opens(TEN + 5, 1.0), rule=rule)
    assert happened == [why, "", ""]
    # AND the opening began with its first row, and none of its strengths passed
    assert state.openings[-1] == Opening(UP, TEN + 1, None, 1.12, 0.0, why)


def test_an_episode_is_calm_after_some_rows_in_succession_below_the_threshold():
    # GIVEN an episode, and rows that open below the threshold, one row fewer than it takes
    below = [opens(TEN + at, 1.0) for at in range(1, CALM_ROWS)]
    state, _ = follow(NEW_INSTANCE, opens(strength=2.0), *below, rule=HIGH)
    assert (state.episode.is_open, state.episode.is_calm) == (True, False)

    # WHEN one more comes, THEN it is calm, and goes on
    calm, happened = follow(state, opens(TEN + CALM_ROWS, 1.0), rule=HIGH)
    assert (happened, calm.episode.is_calm) == (["alert"], True)
    # AND a row at the threshold, or one that exhausts a metric, ends the calm
    for row in (opens(TEN + DAY_MS, 2.0), exhausts(TEN + DAY_MS)):
        assert not follow(calm, row, rule=HIGH)[0].episode.is_calm


def test_an_exhausted_metric_pages_though_it_is_usual_and_below_the_threshold():
    # GIVEN exhausted disks at this hour on two days, and a threshold of 2
    state = remembering(past(DAY_MS, signature=FULL), past(2 * DAY_MS, signature=FULL))

    # WHEN the disk is exhausted, THEN it pages
    assert outcome(state, exhausts(), HIGH) == "page"
    # AND what passes the rules does not count it: no threshold would hold it
    assert follow(state, exhausts(), rule=HIGH)[0].openings[-1].passed == 0.0


def test_an_exhausted_metric_pages_once_in_its_cooldown():
    # GIVEN an exhausted disk that has paged, WHEN it is exhausted again within six hours, THEN it is held
    state = cooled(signature=FULL, peak=0.2)
    assert outcome(state, exhausts(TEN + HOUR_MS), HIGH) == COOLING
    assert outcome(state, exhausts(TEN + 7 * HOUR_MS), HIGH) == "page"


def test_an_exhausted_metric_without_a_score_pages_once_in_its_cooldown():
    # GIVEN a disk that was exhausted in rows with too little context for a score
    rows = [exhausts(TEN, math.nan), quiet(TEN + 1), quiet(TEN + 2), exhausts(TEN + HOUR_MS, math.nan)]

    # WHEN / THEN the second opening is in the cool-down of the first
    assert follow(NEW_INSTANCE, *rows)[1] == ["page", "alert", "close", COOLING]


def test_the_peak_of_an_opening_is_that_of_its_rows_with_a_score():
    # GIVEN a first row without a score, WHEN a row with one follows, THEN the peak is its strength
    state, _ = follow(NEW_INSTANCE, exhausts(TEN, math.nan), opens(TEN + 1, 3.0))
    assert state.openings == (Opening(UP, TEN, None, 3.0, 3.0, PAGED),)


def test_a_familiar_or_low_opening_pages_when_it_exhausts_a_metric():
    # GIVEN a familiar opening, and one below the threshold, WHEN a metric is exhausted, THEN both page
    for state, rule in ((USUAL, RULE), (NEW_INSTANCE, HIGH)):
        _, happened = follow(state, opens(), exhausts(TEN + 1), rule=rule)
        assert happened[1] == "page"


def test_severities_that_passed_are_those_since_a_row_was_neither_familiar_nor_in_cooldown():
    # GIVEN an opening in cool-down that pages at 2.0 and goes on with 2.5 and exhausted rows
    state, _ = follow(cooled(), opens(TEN + 1, 1.3), opens(TEN + 2, 2.0), opens(TEN + 3, 2.5), exhausts(TEN + 4, 9.0))

    # THEN
    assert state.openings[-1] == Opening(FULL, TEN + 1, None, 9.0, 2.5, PAGED)


def test_an_instance_remembers_its_last_openings():
    # GIVEN more openings than an instance remembers, each of another metric
    rows = [
        row
        for at in range(REMEMBERED + 5)
        for row in (
            opens(TEN + at * HOUR_MS, signature=Signature(f"m{at}", "up")),
            quiet(TEN + at * HOUR_MS + 1),
            quiet(TEN + at * HOUR_MS + 2),
        )
    ]

    # WHEN they come, THEN the oldest are forgotten
    state, _ = follow(NEW_INSTANCE, *rows)
    assert [opening.signature.metric for opening in state.openings] == [f"m{at}" for at in range(5, 5 + REMEMBERED)]
    assert REMEMBERED == 32


@pytest.mark.parametrize("begin", [NEW_INSTANCE, USUAL, cooled()], ids=["page", FAMILIAR, COOLING])
def test_rows_that_come_again_change_nothing(begin):
    # GIVEN an opening, paged or held, that has ended, and the states before
    rows = [
        quiet(TEN),
        opens(TEN + 1),
        quiet(TEN + 2),
        opens(TEN + 3),
        quiet(TEN + 4),
        quiet(TEN + 5),
        quiet(TEN + 6),
    ]
    states, alerts = [], []
    state = begin
    for row in rows:
        step = follow_row(state, row, RULE)
        state = step.state
        states.append(state)
        alerts.append(step.alert)

    # WHEN the rows so far come again after each row, THEN the state is the very same object, with the same alerts
    for count, state in enumerate(states, 1):
        again = [follow_row(state, row, RULE) for row in rows[:count]]
        assert all(step.state is state for step in again)
        assert not any(step.opened or step.closed or step.held for step in again)
        assert [step.alert for step in again] == alerts[:count]


def test_quiet_rows_of_an_instance_without_an_opening_need_no_write():
    # GIVEN a state with memory and nothing open, WHEN quiet rows come, THEN it is the very same object
    for state in (NEW_INSTANCE, USUAL, cooled()):
        assert follow_row(state, quiet(TEN + HOUR_MS), RULE).state is state


def test_a_held_opening_is_over_after_a_day_without_rows():
    # GIVEN a familiar opening whose last row was at ten
    state, _ = follow(USUAL, opens())

    # WHEN a quiet row comes a day later, THEN it goes on
    at_limit, _ = follow(state, quiet(TEN + DAY_MS))
    assert at_limit.held is not None

    # WHEN one comes after more than a day, THEN it has ended with its last row
    after, happened = follow(state, quiet(TEN + DAY_MS + 1))
    assert happened == [""]
    assert (after.held, after.openings[-1].end_ms) == (None, TEN)
    # AND a row that opens is an opening of its own
    after, happened = follow(state, opens(TEN + DAY_MS + 1))
    assert happened == [FAMILIAR]
    assert [opening.since_ms for opening in after.openings[-2:]] == [TEN, TEN + DAY_MS + 1]


def test_an_earlier_release_that_opened_an_episode_ends_the_held_opening():
    # GIVEN a familiar opening in an item in which an earlier release has opened an episode since
    state, _ = follow(USUAL, opens())
    state = state._replace(episode=EpisodeState(True, TEN + HOUR_MS, TEN + HOUR_MS, None, 0, 2.0))

    # WHEN the next row comes
    after, happened = follow(state, opens(TEN + 2 * HOUR_MS))

    # THEN the episode goes on, and the held opening has ended
    assert happened == ["alert"]
    assert (after.held, after.openings[-1].end_ms) == (None, TEN)
    assert after.episode.last_ms == TEN + 2 * HOUR_MS


def test_an_opening_whose_episode_ended_without_a_row_has_ended_too():
    # GIVEN an episode that a model has learned as normal in the middle of its opening
    state, _ = follow(NEW_INSTANCE, opens())
    closed = state.episode._replace(is_open=False, closed_ms=TEN + HOUR_MS)

    # WHEN the next row opens, THEN the opening before it has ended with its newest row
    after, _ = follow(state._replace(episode=closed), opens(TEN + 2 * HOUR_MS))
    assert [opening.end_ms for opening in after.openings] == [TEN, None]


@pytest.mark.parametrize("begin", [NEW_INSTANCE, USUAL], ids=["page", FAMILIAR])
def test_a_row_without_a_metric_that_opened_does_not_end_an_opening(begin):
    # GIVEN an opening for cpu, paged or held
    state, _ = follow(begin, opens(metrics=Metrics(decisive=("cpu",))))

    # WHEN rows without cpu come, THEN they change nothing
    lacking = [quiet(TEN + at, metrics=Metrics(missing=("cpu", "net"))) for at in range(1, 5)]
    same, _ = follow(state, *lacking)
    assert same is state
    # AND rows without another metric end it
    ending = [quiet(TEN + at, metrics=Metrics(missing=("net",))) for at in (5, 6)]
    ended, _ = follow(state, *ending)
    assert (ended.held, ended.episode.is_open, ended.openings[-1].end_ms) == (None, False, TEN + 6)


def test_the_metrics_of_an_episode_are_those_of_the_row_that_pages():
    # GIVEN an opening for cpu below the threshold, WHEN a row pages for net, THEN net opened the episode
    state, _ = follow(
        NEW_INSTANCE,
        opens(metrics=Metrics(decisive=("cpu",))),
        opens(TEN + 1, 2.0, OTHER, metrics=Metrics(missing=("cpu",), decisive=("net",))),
        rule=HIGH,
    )
    assert state.episode.opened_by == ("net",)


def test_the_openings_of_a_model_document_are_in_milliseconds():
    # GIVEN / WHEN
    openings = read_trained([["cpu", "up", TEN // 1000, 15, 1.25], ("disk", "exhausted", TEN // 1000 + 60, 0, 0.5)])

    # THEN
    assert openings == (
        Opening(UP, TEN, TEN + 15 * MINUTE_MS, 1.25, 0.0, TRAINED),
        Opening(FULL, TEN + MINUTE_MS, TEN + MINUTE_MS, 0.5, 0.0, TRAINED),
    )

"""The episode rule, row by row."""

from __future__ import annotations

import math

import pytest

from riskwatch_lambda.clock import DAY_MS
from riskwatch_lambda.episode_rule import (
    NEW_INSTANCE_FACTOR,
    NO_EPISODE,
    BaselineKind,
    EpisodeState,
    Rule,
    RuleError,
    advance,
    close_expired,
    in_cooldown,
    is_expired,
)

RULE = Rule(close_rows=2)
DOCUMENT = {"m": 1, "n": 1, "close_rows": 2, "paging_threshold": 1.5, "cooldown_s": 3600, "group_s": 900}


def run(pages: str, rule: Rule = RULE) -> tuple[str, list[tuple[int, int | None]]]:
    """Apply a row a letter, P paging and . quiet, at 1, 2, 3, ...; give alerts as A, and begin and end of episodes."""
    state, alerts, spans = NO_EPISODE, "", []
    for ts, letter in enumerate(pages, 1):
        step = advance(state, ts, letter == "P", 1.0, rule)
        state = step.state
        alerts += "A" if step.alert else "."
        if step.opened:
            spans.append((ts, None))
        if step.closed:
            spans[-1] = (spans[-1][0], state.closed_ms)
    return alerts, spans


@pytest.mark.parametrize(
    ("pages", "alerts", "spans"),
    [
        ("....", "....", []),
        # opens at the first page, closes at the second quiet row in a row, which is no alert
        (".P..", ".AA.", [(2, 4)]),
        # a page in between starts the count of quiet rows again
        ("P.P.P..", "AAAAAA.", [(1, 7)]),
        # a page right after the closing row opens the next one
        ("P..P..", "AA.AA.", [(1, 3), (4, 6)]),
        ("..PP", "..AA", [(3, None)]),
    ],
)
def test_episodes_open_at_a_page_and_close_at_the_last_of_the_quiet_rows(pages, alerts, spans):
    # GIVEN rows of one instance, WHEN the rule follows them, THEN it opens and closes as drawn
    assert run(pages) == (alerts, spans)


@pytest.mark.parametrize(
    ("pages", "alerts"), [("P.P...", "..AA.."), ("P..P..", "......"), (".PP...", "..AA.."), ("PP..P...", ".AA.....")]
)
def test_two_of_three_rows_must_page_when_the_rule_says_so(pages, alerts):
    # GIVEN a rule of 2 of 3, WHEN rows come, THEN the second page among three rows opens, and pages before a close
    # do not count again
    assert run(pages, Rule(m=2, n=3, close_rows=2))[0] == alerts


def test_the_threshold_of_a_new_instance_is_a_factor_higher_and_an_unknown_role_has_none():
    # GIVEN a rule with a factor of 1.75, WHEN the factor of each kind of baseline is read
    rule = Rule(new_instance_factor=1.75)

    # THEN known instances have 1, new ones the factor, and those of an unknown role no score that pages
    assert [rule.factor(kind) for kind in BaselineKind] == [1.0, 1.75, math.inf]


def test_a_rule_of_an_earlier_release_has_the_default_factor():
    # GIVEN the rule of a document without the key, WHEN it is read, THEN new instances have the default
    assert Rule.of(DOCUMENT).new_instance_factor == NEW_INSTANCE_FACTOR >= 1


@pytest.mark.parametrize("factor", [0.9, math.inf, "2", True])
def test_a_factor_that_is_no_finite_number_from_one_on_is_refused(factor):
    # GIVEN a factor that would page new instances sooner, or is no number, WHEN it is read, THEN the error names it
    with pytest.raises(RuleError, match="new_instance_factor"):
        Rule.of({**DOCUMENT, "new_instance_factor": factor})


def test_rows_that_come_again_change_nothing_and_keep_their_alert():
    # GIVEN the rows 1 to 5, an episode in [2, 4) among them
    rows = [(1, False), (2, True), (3, False), (4, False), (5, False)]
    state, first = NO_EPISODE, []
    for ts, pages in rows:
        step = advance(state, ts, pages, 1.0, RULE)
        state = step.state
        first.append(step.alert)

    # WHEN those up to the last change come again, in any order
    again = {ts: advance(state, ts, pages, 1.0, RULE) for ts, pages in reversed(rows[:4])}

    # THEN the state is the very same object, and each row gets the alert that it had
    assert all(step.state is state for step in again.values())
    assert [again[ts].alert for ts in (1, 2, 3, 4)] == first[:4] == [False, True, True, False]


def test_quiet_rows_of_a_closed_instance_need_no_write():
    # GIVEN a closed episode, WHEN a quiet row comes, THEN the state is the very same object
    state = EpisodeState(False, 1, 3, 3, 2, 2.0)
    assert advance(state, 9, False, 0.1, RULE).state is state


def test_the_peak_is_the_highest_score_and_survives_rows_without_one():
    # GIVEN an episode opened by exhaustion, on a row without a score
    rows = [(1, True, math.nan), (2, True, 3.0), (3, True, math.nan), (4, True, 2.0)]

    # WHEN the rule follows them, THEN the peak is that of the rows with a score
    state = NO_EPISODE
    for ts, pages, score in rows:
        state = advance(state, ts, pages, score, RULE).state
    assert (state.is_open, state.since_ms, state.peak) == (True, 1, 3.0)


def test_cooldown_counts_from_the_opening_of_the_last_told_episode():
    # GIVEN a cool-down of an hour, WHEN the last reported episode opened at 0
    # THEN another one is paged if it opens from the hour on, and any if none was reported
    rule = Rule(cooldown_s=3600)
    assert in_cooldown(rule, 0, 3_599_999)
    assert not in_cooldown(rule, 0, 3_600_000)
    assert not in_cooldown(rule, None, 0)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"m": 2}, "1 <= m <= n"),
        ({"close_rows": 0}, "close_rows >= 1"),
        ({"paging_threshold": 0.9}, "at least 1"),
        ({"paging_threshold": True}, "paging_threshold is True"),
        ({"cooldown_s": "1h"}, "cooldown_s is '1h'"),
        ({"digest": 1}, "check digest"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(changes, reason):
    # GIVEN a rule with one value changed, WHEN it is read, THEN the error names it
    assert Rule.of(DOCUMENT).paging_threshold == 1.5
    with pytest.raises(RuleError, match=reason):
        Rule.of({**DOCUMENT, **changes})


def test_an_open_episode_expires_after_more_than_a_day_without_a_row():
    # GIVEN an open episode with a row at 1,000 ms, WHEN a day has passed THEN it goes on
    state = EpisodeState(True, 500, 1_000, None, 1, 2.0)
    assert not is_expired(1_000, 1_000 + DAY_MS)
    assert close_expired(state, 1_000 + DAY_MS) is state

    # WHEN more than a day has passed THEN it is closed at that time, with peak and newest row as they were
    now_ms = 1_000 + DAY_MS + 1
    assert is_expired(1_000, now_ms)
    assert close_expired(state, now_ms) == EpisodeState(False, 500, 1_000, now_ms, 1, 2.0)


@pytest.mark.parametrize(
    "state", [NO_EPISODE, EpisodeState(False, 500, 2_000, 2_000, 2, 2.0)], ids=["never open", "closed"]
)
def test_an_episode_that_is_not_open_does_not_expire(state):
    assert close_expired(state, 10 * DAY_MS) is state

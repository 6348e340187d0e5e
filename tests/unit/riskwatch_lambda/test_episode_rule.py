"""The episode rule, row by row."""

from __future__ import annotations

import math

import pytest

from riskwatch_lambda.episode_rule import QUIET, EpisodeState, Replay, Rule, RuleError, Span, advance, cooling, replay

RULE = Rule(close_rows=2)
DOCUMENT = {"m": 1, "n": 1, "close_rows": 2, "paging_threshold": 1.5, "cooldown_s": 3600, "group_s": 900}


def run(pages: str, rule: Rule = RULE, *, known: bool = True) -> tuple[str, list[tuple[int, int | None]]]:
    """Replay a row a letter, P paging and . quiet, at 1, 2, 3, ...; alerts come back as A."""
    result = replay([(ts, letter == "P", 1.0) for ts, letter in enumerate(pages, 1)], rule, known)
    return "".join("A" if alert else "." for alert in result.alerts), [span[:2] for span in result.episodes]


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


def test_an_instance_without_a_baseline_of_its_own_never_opens():
    # GIVEN pages only, of an instance not seen in training, WHEN they are followed, THEN nobody is called
    assert run("PPPP", known=False) == ("....", [])


def test_an_open_episode_of_an_instance_that_is_no_longer_known_still_closes():
    # GIVEN an open episode, WHEN quiet rows come under a model that does not know the instance
    state = advance(QUIET, 1, True, 2.0, RULE).state
    for ts in (2, 3):
        state = advance(state, ts, False, 0.5, RULE, known=False).state

    # THEN it closes
    assert state == EpisodeState(False, 1, 3, 3, 2, 2.0)


def test_rows_that_come_again_change_nothing_and_keep_their_alert():
    # GIVEN the rows 1 to 5, an episode in [2, 4) among them
    rows = [(1, False), (2, True), (3, False), (4, False), (5, False)]
    state, first = QUIET, []
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

    # WHEN it is replayed, THEN the peak is that of the rows with a score
    assert replay(rows, RULE) == Replay([True] * 4, [Span(1, None, 3.0)])


def test_cooldown_counts_from_the_opening_of_the_last_told_episode():
    # GIVEN a cool-down of an hour, WHEN the last told episode opened at 0, THEN another one may be told that opens from
    # the hour on, and any if none was told
    rule = Rule(cooldown_s=3600)
    assert cooling(rule, 0, 3_599_999)
    assert not cooling(rule, 0, 3_600_000)
    assert not cooling(rule, None, 0)


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

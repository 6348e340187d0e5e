"""Held openings in words: the reason of each, and the line of a daily summary."""

from __future__ import annotations

import pytest

from riskwatch_lambda.alerting import held_text
from riskwatch_lambda.alerting.budget import Limits
from riskwatch_lambda.episodes.episode import Change, Episode
from riskwatch_lambda.episodes.openings import HeldOpening
from riskwatch_lambda.paging_rule import COOLING, EXHAUSTED, FAMILIAR, PAGED, Opening, Signature
from tests.support.world import DAY_MS, HALF_AN_HOUR, HOUR_MS, NOON, NOW, PAGING_CPU, World, row


def held(since_ms=NOW, outcome=FAMILIAR, direction="up", **why):
    opening = Opening(Signature("disk_used_percent", direction), since_ms, since_ms, 1.1, 0.0, outcome)
    return HeldOpening("web-1", "shop", "", opening, 1.2, **why)


@pytest.mark.parametrize(
    ("opening", "what", "why"),
    [
        (held(days=2, is_by_hour=True), "above normal", "on 2 of the last 7 days at about this time"),
        (
            held(days=3, direction="down"),
            "below normal",
            "on 3 of the last 3 days at different times",
        ),
        (held(outcome=COOLING, direction=EXHAUSTED), "exhausted", "less than 6 hours before"),
    ],
)
def test_the_reason_names_the_days_or_the_cooldown(opening, what, why):
    assert held_text.what(opening) == f"disk used percent {what}"
    assert held_text.why(opening).endswith(why)


@pytest.mark.parametrize(
    ("numbers", "line"),
    [
        ({}, ""),
        ({FAMILIAR: 1}, "1 opening was held: 1 familiar, 0 in cool-down"),
        ({FAMILIAR: 2, COOLING: 3}, "5 openings were held: 2 familiar, 3 in cool-down"),
    ],
)
def test_a_daily_summary_counts_them_in_one_line(numbers, line):
    assert held_text.summary_line(numbers) == line


def test_the_daily_summary_counts_the_openings_of_its_day_that_did_not_page():
    # GIVEN openings of the last day that were held, one that paged later, and an older one
    world = World(limits=Limits(service=1, fleet=2, daily_summary_hour=12))
    openings = [
        held(NOON - HOUR_MS),
        held(NOON - 2 * HOUR_MS, COOLING),
        held(NOON - 3 * HOUR_MS, PAGED),
        held(NOON - DAY_MS - HOUR_MS),
    ]
    world.outputs.repository.write(Change(None, Episode("web-9", "shop"), held=tuple(openings)))

    # WHEN a second page of a service is beyond its limit, and the summary is due
    world.send(row(PAGING_CPU))
    world.send(row(PAGING_CPU, HALF_AN_HOUR, "web-2"))
    world.tick(NOON)

    # THEN the summary counts two of them, in the text and for programs
    summary = world.sns.messages[-1]
    assert summary["event"] == "digest"
    assert summary["held"] == {FAMILIAR: 1, COOLING: 1}
    assert "2 openings were held: 1 familiar, 1 in cool-down." in summary["text"]

"""Rows and openings of an instance for the paging rule, around ten o'clock of a day."""

from __future__ import annotations

from typing import Any

from riskwatch_lambda.clock import DAY_MS, HOUR_MS
from riskwatch_lambda.episode_rule import Rule
from riskwatch_lambda.paging_rule import EXHAUSTED, PAGED, TRAINED, InstanceState, Opening, Row, Signature, follow_row

# 2026-11-22T10:00:00.000Z, the time of the rows under test.
TEN = 1_795_341_600_000
MINUTE_MS = 60_000
PERIOD_MS = 5 * MINUTE_MS
UP, DOWN, OTHER = Signature("cpu", "up"), Signature("cpu", "down"), Signature("net", "up")
FULL = Signature("disk", EXHAUSTED)
RULE = Rule()
HIGH = Rule(paging_threshold=2.0)


def opens(ms: int = TEN, strength: float = 1.1, signature: Signature = UP, **more: Any) -> Row:
    """Give a row that opens."""
    return Row(ms, strength, strength, True, signature=signature, **more)


def exhausts(ms: int = TEN, strength: float = 0.2) -> Row:
    """Give a row that exhausts a metric."""
    return Row(ms, strength, strength, True, True, FULL)


def quiet(ms: int, **more: Any) -> Row:
    """Give a row that does not open."""
    return Row(ms, 0.1, 0.1, False, **more)


def past(
    ago_ms: int, minutes: int = 10, peak: float = 1.1, signature: Signature = UP, outcome: str = TRAINED
) -> Opening:
    """Give an opening that began so long before ten."""
    since_ms = TEN - ago_ms
    return Opening(signature, since_ms, since_ms + minutes * MINUTE_MS, peak, 0.0, outcome)


def remembering(*openings: Opening) -> InstanceState:
    """Give an instance with these openings."""
    return InstanceState(openings=tuple(sorted(openings, key=lambda opening: opening.since_ms)))


def cooled(what: str = PAGED, end_ms: int = TEN, peak: float = 1.1, signature: Signature = UP) -> InstanceState:
    """Give an instance with an opening that ended at a time."""
    return InstanceState(openings=(Opening(signature, end_ms - HOUR_MS, end_ms, peak, 0.0, what),))


def follow(state: InstanceState, *rows: Row, rule: Rule = RULE) -> tuple[InstanceState, list[str]]:
    """Apply rows; give what each does: page, the reason why it is held, close, alert or nothing."""
    happened = []
    for row in rows:
        step = follow_row(state, row, rule)
        state = step.state
        assert step.opened <= step.alert
        other = "close" if step.closed else "alert" if step.alert else ""
        happened.append("page" if step.opened else step.held or other)
    return state, happened


def outcome(state: InstanceState, row: Row, rule: Rule = RULE) -> str:
    """Give what one row does."""
    return follow(state, row, rule=rule)[1][0]


# Openings on two days, at this hour, as severe as the rows under test.
USUAL = remembering(past(DAY_MS), past(2 * DAY_MS))

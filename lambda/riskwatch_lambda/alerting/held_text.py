"""Texts about held openings: why one is held, and one line for a daily summary."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from riskwatch_lambda.clock import HOUR_MS
from riskwatch_lambda.paging_rule import ANY_SPAN_DAYS, COOLDOWN_MS, EXHAUSTED, FAMILIAR, HOUR_SPAN_DAYS, PAGED

if TYPE_CHECKING:
    from collections.abc import Iterable

    from riskwatch_lambda.episodes.openings import HeldOpening

WORDS = {"up": "above normal", "down": "below normal", EXHAUSTED: "exhausted"}


def what(held: HeldOpening) -> str:
    """Return the metric of a held opening and its direction: ``cpu utilization above normal``."""
    metric, direction = held.opening.signature
    return f"{metric.replace('_', ' ')} {WORDS.get(direction, direction)}"


def why(held: HeldOpening) -> str:
    """Return the reason for which an opening is held."""
    if held.days:
        if held.is_by_hour:
            return f"familiar: on {held.days} of the last {HOUR_SPAN_DAYS} days at about this time"
        return f"familiar: on {held.days} of the last {ANY_SPAN_DAYS} days at different times"
    return f"in cool-down: the same ended less than {COOLDOWN_MS // HOUR_MS} hours before"


def counts(held: Iterable[HeldOpening]) -> dict[str, int]:
    """Return the number of held openings by reason: familiar and cooldown; those that paged later do not count."""
    return dict(Counter(opening.opening.outcome for opening in held if opening.opening.outcome != PAGED))


def summary_line(numbers: dict[str, int]) -> str:
    """Return the line of a daily summary about held openings, empty without any; ``numbers`` are by reason."""
    total = sum(numbers.values())
    if not total:
        return ""
    familiar = numbers.get(FAMILIAR, 0)
    openings = "opening was" if total == 1 else "openings were"
    return f"{total} {openings} held: {familiar} familiar, {total - familiar} in cool-down"

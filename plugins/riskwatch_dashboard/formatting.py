"""Values as people read them: numbers, ages, moments (UTC) and the reasons of a verdict."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from riskwatch_lambda.alerting.text import SHARE_WORTH_TELLING

if TYPE_CHECKING:
    from datetime import datetime, timedelta

_STEPS = ((86_400, "d"), (3_600, "h"), (60, "min"))


def number(value: float | None) -> str:
    """Write a number with about four significant digits and never an exponent a reader has to decode; None as –."""
    if value is None:
        return "–"
    size = abs(value)
    if size < 0.0005:
        return "0"
    if size >= 1000 or value == int(value):
        return f"{value:,.0f}"
    text = f"{value:.{3 if size < 1 else 2 if size < 100 else 1}f}"
    return text.rstrip("0").rstrip(".")


def age(span: timedelta) -> str:
    """Write how long ago something was with its two largest units, e.g. 2 h 5 min."""
    left = int(span.total_seconds())
    if left < 60:
        return "less than a minute"
    parts = []
    for seconds, unit in _STEPS:
        count, left = divmod(left, seconds)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])


def moment(value: datetime) -> str:
    """Write a moment to the minute, in UTC, without saying so: the page does once."""
    return f"{value:%Y-%m-%d %H:%M}"


def reasons(text: str | None, *, beyond: bool = False) -> tuple[str, ...]:
    """Write the reasons of a labelled row, stored as JSON text, most important first; what is no reason is left out.

    Reasons with a share too small for an alert message are left out here too, with `beyond` also values that lie in
    their expected range.
    """
    try:
        found = json.loads(text or "[]")
    except (TypeError, ValueError):
        return ()
    items = [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []
    told = [item for item in items if (_number(item, "share") or 0) >= SHARE_WORTH_TELLING]
    return tuple(_reason(item) for item in told if not (beyond and _within(item)))


def episode(episode_id: str | None) -> str:
    """Write that a row lies in an episode; the id ends in the moment at which it opened."""
    since = (episode_id or "").rpartition("@")[2]
    return f"in an episode since {since[:16].replace('T', ' ')}" if since else "in an episode"


def _reason(item: dict[str, Any]) -> str:
    feature = item.get("feature")
    value, low, high = (_number(item, name) for name in ("value", "low", "high"))
    if low is None or high is None:
        return f"{feature} {number(value)}"
    span = f"{number(low)} to {number(high)}"
    if value is None:
        return f"{feature} missing, expected {span}"
    if _within(item):
        return f"{feature} {number(value)}, within {span}, unusual pattern"
    return f"{feature} {number(value)}, expected {span}"


def _within(item: dict[str, Any]) -> bool:
    value, low, high = (_number(item, name) for name in ("value", "low", "high"))
    return value is not None and low is not None and high is not None and low <= value <= high


def _number(item: dict[str, Any], name: str) -> float | None:
    value = item.get(name)
    return value if isinstance(value, int | float) and math.isfinite(value) else None

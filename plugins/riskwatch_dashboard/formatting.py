"""Format values for people: numbers, ages, times (UTC) and reasons of verdicts."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from riskwatch_lambda.scoring.reasons import SHARE_WORTH_SHOWING, reason_text

if TYPE_CHECKING:
    from datetime import datetime, timedelta

_STEPS = ((86_400, "d"), (3_600, "h"), (60, "min"))


def number(value: float | None) -> str:
    """Format a number with about four significant digits, no exponent; None as –."""
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
    """Format an age in its two largest units, e.g. 2 h 5 min."""
    rest_s = int(span.total_seconds())
    if rest_s < 60:
        return "less than a minute"
    parts = []
    for seconds, unit in _STEPS:
        count, rest_s = divmod(rest_s, seconds)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])


def moment(value: datetime) -> str:
    """Format a time (UTC) to the minute, without a time zone: the view names it once."""
    return f"{value:%Y-%m-%d %H:%M}"


def reasons(text: str | None, *, beyond: bool = False) -> tuple[str, ...]:
    """Format the reasons of a labelled row, the most important first.

    `text` is the JSON text of the row; items that are not reasons are skipped. Reasons with a share too small for an
    alert message are skipped too, and with `beyond` also values within their expected range.
    """
    items = [item for item in _items(text) if isinstance(item, dict)]
    important = [item for item in items if (_number(item, "share") or 0) >= SHARE_WORTH_SHOWING or _beyond(item)]
    return tuple(_reason(item) for item in important if not (beyond and _within(item)))


def missing(text: str | None) -> tuple[str, ...] | None:
    """Return the missing metrics of a labelled row from its JSON text.

    None means that the row does not name them, because an earlier release wrote it.
    """
    return tuple(map(str, _items(text))) if isinstance(text, str) else None


def refused_values(text: str | None) -> tuple[str, ...]:
    """Return the reasons for which values of a labelled row were refused, from its JSON text."""
    return tuple(str(item.get("reason")) for item in _items(text) if isinstance(item, dict))


def _items(text: str | None) -> list[Any]:
    """Return the items of a JSON list; none of any other text."""
    try:
        document = json.loads(text or "[]")
    except (TypeError, ValueError):
        return []
    return document if isinstance(document, list) else []


def episode(episode_id: str | None) -> str:
    """Say that a row lies in an episode; the id ends with the time of its start."""
    since = (episode_id or "").rpartition("@")[2]
    return f"in an episode since {since[:16].replace('T', ' ')}" if since else "in an episode"


def _reason(item: dict[str, Any]) -> str:
    feature = item.get("feature")
    value, low, high = (_number(item, name) for name in ("value", "low", "high"))
    if low is None or high is None:
        return f"{feature} {number(value)}"
    if text := reason_text(str(feature), item):
        return text
    span = f"{number(low)} to {number(high)}"
    if value is None:
        return f"{feature} missing, expected {span}"
    return f"{feature} {number(value)}, within {span}, unusual pattern"


def _within(item: dict[str, Any]) -> bool:
    value, low, high = (_number(item, name) for name in ("value", "low", "high"))
    return value is not None and low is not None and high is not None and low <= value <= high


def _beyond(item: dict[str, Any]) -> bool:
    return reason_text("", item) is not None


def _number(item: dict[str, Any], name: str) -> float | None:
    value = item.get(name)
    return value if isinstance(value, int | float) and math.isfinite(value) else None

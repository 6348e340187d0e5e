"""Items of the table, each parsed on its own: a damaged or foreign one is reported and skipped.

The function logs a damaged item and counts it in the metric ``ItemsDamaged``; commands and views report it themselves.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from riskwatch_lambda.logs import count_one

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from riskwatch_lambda.table import Attributes

    Report = Callable[["DamagedItem"], None]

T = TypeVar("T")

ITEMS_DAMAGED = "ItemsDamaged"
# The last millisecond of the year 9999: no later time can be written as text.
LATEST_MS = 253_402_300_799_999
# Characters of a key or a reason in a message.
SHOWN = 120


class DamagedItem(NamedTuple):
    """Key of an item that cannot be read, and the reason; each at most ``SHOWN`` characters."""

    pk: str
    sk: str
    reason: str

    def __str__(self) -> str:
        """Return key and reason as one text."""
        return f"pk {self.pk!r}, sk {self.sk!r}: {self.reason}"


class DamagedItemError(ValueError):
    """An attribute of an item is absent, has another type or is impossible."""


def log_damaged(item: DamagedItem) -> None:
    """Log a damaged item and count it."""
    now_ms = round(time.time() * 1000)
    count_one(now_ms, ITEMS_DAMAGED, "ERROR", "item damaged", pk=item.pk, sk=item.sk, reason=item.reason)


def parse_items(
    items: Iterable[Attributes], parse: Callable[[Attributes], T], report: Report = log_damaged
) -> Iterator[T]:
    """Yield the parsed items; report those that cannot be parsed."""
    for item in items:
        parsed = parse_item(item, parse, report)
        if parsed is not None:
            yield parsed


def parse_item(item: Attributes, parse: Callable[[Attributes], T], report: Report = log_damaged) -> T | None:
    """Return the parsed item; report it and return None if it cannot be parsed."""
    try:
        return parse(item)
    except DamagedItemError as error:
        reason = str(error)
    except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError, RecursionError) as error:
        reason = f"{type(error).__name__}: {error}"
    report(DamagedItem(_shown(item, "pk"), _shown(item, "sk"), reason[:SHOWN]))
    return None


def required(item: Attributes, name: str) -> str:
    """Return a text of an item; raises DamagedItemError if it is absent or no text."""
    value = _content(item, name, "S")
    if value is None:
        raise DamagedItemError(f"{name} is absent")
    return value


def optional(item: Attributes, name: str) -> str:
    """Return a text of an item, empty if it is absent; raises DamagedItemError if it is no text."""
    return _content(item, name, "S") or ""


def choice(item: Attributes, name: str, words: Iterable[str]) -> str:
    """Return a text of an item; raises DamagedItemError if it is none of the words."""
    value = optional(item, name)
    if value not in words:
        raise DamagedItemError(f"{name} is {value[:SHOWN]!r}, an unknown word")
    return value


def moment(item: Attributes, name: str) -> int | None:
    """Return a time of an item in epoch milliseconds, None if it is absent; raises DamagedItemError."""
    return count(item, name, LATEST_MS)


def count(item: Attributes, name: str, largest: int) -> int | None:
    """Return a whole number from 0 to ``largest``, None if it is absent; raises DamagedItemError."""
    content = _content(item, name, "N")
    if content is None:
        return None
    is_whole = content.isascii() and content.isdigit() and len(content) <= len(str(largest))
    if not (is_whole and int(content) <= largest):
        raise DamagedItemError(f"{name} is {content[:SHOWN]}, expected a whole number from 0 to {largest}")
    return int(content)


def real(item: Attributes, name: str) -> float | None:
    """Return a number of an item, None if it is absent; raises DamagedItemError if it is no number."""
    content = _content(item, name, "N")
    return None if content is None else float(content)


def _content(item: Attributes, name: str, kind: str) -> str | None:
    """Return the content of an attribute of one kind, None if it is absent."""
    value: object = item.get(name)
    if value is None:
        return None
    content = value.get(kind) if isinstance(value, Mapping) else None
    if not isinstance(content, str):
        raise DamagedItemError(f"{name} is no {'text' if kind == 'S' else 'number'}")
    return content


def _shown(item: Attributes, name: str) -> str:
    return str(item.get(name, {}).get("S", ""))[:SHOWN]

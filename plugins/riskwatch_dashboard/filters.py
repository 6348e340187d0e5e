"""The filters of a view: parse the query of its URL, check it, write it for links."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from riskwatch_lambda.scoring.labelled_row import RISKS
from riskwatch_ml.core import clock

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SIZE, LARGEST = 200, 1000


@dataclass(frozen=True)
class Selection:
    """The rows that are read: those of some instances with since <= timestamp < until.

    `instance` is a part of a name, in any case, or with `exact` the whole name. An empty text or None does not limit;
    a view then shows the last 24 hours.
    """

    instance: str = ""
    exact: bool = False
    since: datetime | None = None
    until: datetime | None = None

    def matches(self, name: str) -> bool:
        """Return whether rows of the instance of this name are selected."""
        return name == self.instance if self.exact else self.instance.casefold() in name.casefold()


EVERYTHING = Selection()


@dataclass(frozen=True)
class Filters:
    """The rows that a view shows; an empty text, None or False does not filter.

    `kind` is a kind of resource. `instance`, `exact`, `since` and `until` are those of `Selection`. `low` and `high`
    bound the metric inclusively. `page` counts from 1; each page has `size` rows.
    """

    risk: str = ""
    instance: str = ""
    metric: str = ""
    low: float | None = None
    high: float | None = None
    abnormal: bool = False
    page: int = 1
    size: int = SIZE
    exact: bool = False
    since: datetime | None = None
    until: datetime | None = None
    kind: str = ""

    @property
    def selection(self) -> Selection:
        """The part of the filters that limits what is read."""
        return Selection(self.instance, self.exact and bool(self.instance), self.since, self.until)

    @property
    def active(self) -> bool:
        """Whether the filters can exclude a row."""
        limited = self.low is not None or self.high is not None or self.selection != EVERYTHING
        return bool(self.risk or self.kind or self.abnormal or limited)

    def query(self, **changes: object) -> str:
        """Return the query string of these filters, with `changes` applied.

        Values at their defaults are omitted.
        """
        changed = replace(self, **changes)  # type: ignore[arg-type]
        pairs = {
            "risk": changed.risk,
            "kind": changed.kind,
            "instance": changed.instance,
            "exact": "1" if changed.exact and changed.instance else "",
            "since": "" if changed.since is None else clock.iso(changed.since),
            "until": "" if changed.until is None else clock.iso(changed.until),
            "metric": changed.metric,
            "min": _plain(changed.low),
            "max": _plain(changed.high),
            "abnormal": "1" if changed.abnormal else "",
            "page": "" if changed.page == 1 else str(changed.page),
            "size": "" if changed.size == SIZE else str(changed.size),
        }
        return "?" + urlencode({name: text for name, text in pairs.items() if text})


def parse(query: Mapping[str, str], metrics: Sequence[str], kinds: Sequence[str] = ()) -> tuple[Filters, list[str]]:
    """Parse the parameters of a query, and return the filters and the problems found.

    A problem is a sentence for the user. A parameter with a problem keeps its default, so that the form can be shown
    again. Unknown parameters are ignored. `metrics` and `kinds` are those of the rows; if one is empty, there are no
    such rows yet and anything is accepted.
    """
    text = {name: value.strip() for name, value in query.items()}
    problems: list[str] = []
    risk = text.get("risk", "")
    if risk and risk not in RISKS:
        problems.append(f"risk is {risk!r}: use one of {', '.join(RISKS)}.")
        risk = ""
    metric = text.get("metric", "")
    if metric and metrics and metric not in metrics:
        problems.append(f"metric is {metric!r}: use one of {', '.join(metrics)}.")
        metric = ""
    kind = text.get("kind", "")
    if kind and kinds and kind not in kinds:
        problems.append(f"kind is {kind!r}: use one of {', '.join(kinds)}.")
        kind = ""
    low, high = (_number(name, text.get(name, ""), problems) for name in ("min", "max"))
    if (low is not None or high is not None) and not metric:
        problems.append("min and max limit the values of a metric: choose one.")
        low = high = None
    if low is not None and high is not None and low > high:
        problems.append(f"min {_plain(low)} is above max {_plain(high)}: swap them.")
        low = high = None
    page = _whole("page", text.get("page", ""), 1, 1_000_000, problems)
    size = _whole("size", text.get("size", ""), SIZE, LARGEST, problems)
    abnormal, exact = (text.get(name, "") not in ("", "0") for name in ("abnormal", "exact"))
    since, until = (_time(name, text.get(name, ""), problems) for name in ("since", "until"))
    if since is not None and until is not None and since >= until:
        problems.append(f"since {clock.iso(since)} is not before until {clock.iso(until)}: swap them.")
        since = until = None
    instance = text.get("instance", "")
    return Filters(risk, instance, metric, low, high, abnormal, page, size, exact, since, until, kind), problems


def _time(name: str, text: str, problems: list[str]) -> datetime | None:
    if not text:
        return None
    try:
        value = datetime.fromisoformat(text)
        value = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except (ValueError, OverflowError):
        value = datetime.min.replace(tzinfo=UTC)
    if not 2000 <= value.year < 2100:
        problems.append(f"{name} is {text[:40]!r}: use a time in UTC, e.g. 2026-11-22T11:00Z.")
        return None
    return value


def _number(name: str, text: str, problems: list[str]) -> float | None:
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        problems.append(f"{name} is {text!r}: use a number, e.g. 80 or 0.5.")
        return None
    return value


def _whole(name: str, text: str, default: int, largest: int, problems: list[str]) -> int:
    if not text:
        return default
    # ASCII digits only; the length limit avoids parsing huge numbers.
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and 1 <= int(text) <= largest):
        problems.append(f"{name} is {text[:40]!r}: use a whole number from 1 to {largest}.")
        return default
    return int(text)


def _plain(value: float | None) -> str:
    return "" if value is None else f"{value:.15g}"

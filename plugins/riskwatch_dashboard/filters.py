"""The filters of a page, which are its address: read from the query, checked, and written back for links."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from riskwatch_lambda.scoring.labelled_row import RISKS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SIZE, LARGEST = 200, 1000


@dataclass(frozen=True)
class Filters:
    """Which rows are asked for; an empty text, None or False asks for all.

    `instance` is a part of a name, whatever its case. `low` and `high` bound the metric, both included. `page` counts
    from 1 and holds `size` rows.
    """

    risk: str = ""
    instance: str = ""
    metric: str = ""
    low: float | None = None
    high: float | None = None
    abnormal: bool = False
    page: int = 1
    size: int = SIZE

    @property
    def active(self) -> bool:
        """Whether any row may be left out."""
        return bool(self.risk or self.instance or self.abnormal or self.low is not None or self.high is not None)

    def query(self, **changes: object) -> str:
        """Write the query that asks for these filters, some of them changed; values at their defaults are left out."""
        wanted = replace(self, **changes)  # type: ignore[arg-type]
        pairs = {
            "risk": wanted.risk,
            "instance": wanted.instance,
            "metric": wanted.metric,
            "min": _plain(wanted.low),
            "max": _plain(wanted.high),
            "abnormal": "1" if wanted.abnormal else "",
            "page": "" if wanted.page == 1 else str(wanted.page),
            "size": "" if wanted.size == SIZE else str(wanted.size),
        }
        return "?" + urlencode({name: text for name, text in pairs.items() if text})


def parse(query: Mapping[str, str], metrics: Sequence[str]) -> tuple[Filters, list[str]]:
    """Read filters from a query and say in words what cannot be used; unknown parameters are ignored.

    What cannot be used is left at its default, so that the form can be shown again. `metrics` are the metrics that the
    rows have; none at all means that there are no rows yet, and then any is accepted.
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
    low, high = (_number(name, text.get(name, ""), problems) for name in ("min", "max"))
    if (low is not None or high is not None) and not metric:
        problems.append("min and max bound a metric: choose one.")
        low = high = None
    if low is not None and high is not None and low > high:
        problems.append(f"min {_plain(low)} is above max {_plain(high)}: exchange them.")
        low = high = None
    page = _whole("page", text.get("page", ""), 1, 1_000_000, problems)
    size = _whole("size", text.get("size", ""), SIZE, LARGEST, problems)
    abnormal = text.get("abnormal", "") not in ("", "0")
    return Filters(risk, text.get("instance", ""), metric, low, high, abnormal, page, size), problems


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
    # Not every digit of Unicode, and not more of them than a number that is compared needs.
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and 1 <= int(text) <= largest):
        problems.append(f"{name} is {text[:40]!r}: use a whole number from 1 to {largest}.")
        return default
    return int(text)


def _plain(value: float | None) -> str:
    return "" if value is None else f"{value:.15g}"

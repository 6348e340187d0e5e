"""Daily page budget: counters for the fleet and for each service.

There is one item per counter and UTC day. Keys: pk ``budget#<day>``, sk ``fleet`` or ``service#<name>``. The day is
that of the episode, so past rows that arrive late use the budget of their own day. A damaged counter is reported and
begins again at 0: it must not mute the pages of its day.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from riskwatch_lambda.clock import DAY_MS, iso
from riskwatch_lambda.episodes.paging_settings import read_fuse
from riskwatch_lambda.items import count, log_damaged, parse_item
from riskwatch_lambda.table import EXPIRES, ConflictError, Table, update

if TYPE_CHECKING:
    from riskwatch_lambda.items import Report
    from riskwatch_lambda.table import Attributes, Update

KEPT_MS = 30 * DAY_MS
LARGEST = 2**53


class Limits(NamedTuple):
    """Pages allowed per UTC day, and the UTC hour of the daily summary.

    With 0, the fuse of the fleet counts: three times its budget of pages. The daily summary reports the episodes that
    were not paged.
    """

    service: int = 0
    fleet: int = 0
    daily_summary_hour: int = 8


class Budget:
    """The page counters in the table."""

    def __init__(self, table: Table, limits: Limits, report: Report = log_damaged) -> None:
        self._table = table
        self._report = report
        self.limits = limits

    def take(self, service: str, moment_ms: int) -> bool:
        """Count one page of a service and of the fleet, if both budgets allow it.

        Returns False without a change if either budget is used up. ``moment_ms`` (epoch ms) selects the day. Raises
        TableError if the table cannot be read or written.
        """
        limits = self._limits()
        for _ in range(2):
            try:
                self._table.update(*_counters(service, moment_ms, 1, limits))
            except ConflictError:
                if not self._restart(service, moment_ms):
                    return False
            else:
                return True
        return False

    def give_back(self, service: str, moment_ms: int) -> None:
        """Return a page to the budget after its message failed.

        Raises TableError if the counters cannot be written.
        """
        self._table.update(*_counters(service, moment_ms, -1))

    def _limits(self) -> Limits:
        if self.limits.service and self.limits.fleet:
            return self.limits
        fuse = read_fuse(self._table, self._report)
        return self.limits._replace(service=self.limits.service or fuse, fleet=self.limits.fleet or fuse)

    def _restart(self, service: str, moment_ms: int) -> bool:
        """Set the damaged ones of both counters to 0; return whether one was damaged.

        Raises TableError, also if another invocation is faster.
        """
        keys = [counter["Key"] for counter in _counters(service, moment_ms, 0)]
        damaged = [item for item in self._table.get(keys) if parse_item(item, _pages, self._report) is None]
        for item in damaged:
            key: Attributes = {"pk": item["pk"], "sk": item["sk"]}
            self._table.update(update(key, {"pages": {"N": "0"}}, {"pages": item.get("pages")}))
        return bool(damaged)


def _pages(item: Attributes) -> int:
    return count(item, "pages", LARGEST) or 0


def _counters(service: str, moment_ms: int, pages: int, limits: Limits | None = None) -> tuple[Update, Update]:
    """Return the updates that add pages to both counters, within limits if given."""
    day, expires_s = iso(moment_ms)[:10], (moment_ms + KEPT_MS) // 1000
    fleet_limit, service_limit = (limits.fleet, limits.service) if limits else (None, None)
    return (
        _more(day, "fleet", pages, fleet_limit, expires_s),
        _more(day, f"service#{service}", pages, service_limit, expires_s),
    )


def _more(day: str, name: str, pages: int, limit: int | None, expires_s: int) -> Update:
    """Return the update that adds pages to one counter, if it is below the limit."""
    more: Update = {
        "Key": {"pk": {"S": f"budget#{day}"}, "sk": {"S": name}},
        "UpdateExpression": "SET #pages = if_not_exists(#pages, :zero) + :more, #expires = :expires",
        "ExpressionAttributeNames": {"#pages": "pages", "#expires": EXPIRES},
        "ExpressionAttributeValues": {
            ":zero": {"N": "0"},
            ":more": {"N": str(pages)},
            ":expires": {"N": str(expires_s)},
        },
    }
    if limit is not None:
        more["ConditionExpression"] = "attribute_not_exists(#pages) OR #pages < :limit"
        more["ExpressionAttributeValues"][":limit"] = {"N": str(limit)}
    return more

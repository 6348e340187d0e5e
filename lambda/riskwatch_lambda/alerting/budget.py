"""The daily budget of pages: counters of a UTC day for the fleet and for each service, raised under a condition.

pk ``budget#<day>``, sk ``fleet`` or ``service#<name>``. The day is that of the episode, so that a replay of the past
has the budget that it would have had live.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from riskwatch_lambda.clock import DAY_MS, iso
from riskwatch_lambda.table import EXPIRES, ConflictError, Table

if TYPE_CHECKING:
    from riskwatch_lambda.table import Update

KEPT_MS = 30 * DAY_MS


class Limits(NamedTuple):
    """How many pages may go out on a UTC day, and the UTC hour at which the digest tells the rest."""

    service: int = 20
    fleet: int = 100
    digest_hour: int = 8


class Budget:
    """The counters in a table."""

    def __init__(self, table: Table, limits: Limits) -> None:
        self._table = table
        self.limits = limits

    def take(self, service: str, moment_ms: int) -> bool:
        """Take one page of a service's and the fleet's budget of a day; False where either is used up.

        Raises RegistryError when the counters cannot be written.
        """
        if not (self.limits.service and self.limits.fleet):
            return False
        try:
            self._table.update(*_counters(service, moment_ms, 1, self.limits))
        except ConflictError:
            return False
        return True

    def give_back(self, service: str, moment_ms: int) -> None:
        """Return a page that was taken and did not go out; raises RegistryError when the counters cannot be written."""
        self._table.update(*_counters(service, moment_ms, -1))


def _counters(service: str, moment_ms: int, pages: int, limits: Limits | None = None) -> tuple[Update, Update]:
    """Give the updates that add pages to the fleet's counter of a day and to the service's, within limits if given."""
    day, expires_s = iso(moment_ms)[:10], (moment_ms + KEPT_MS) // 1000
    of_fleet, of_service = (limits.fleet, limits.service) if limits else (None, None)
    return (
        _more(day, "fleet", pages, of_fleet, expires_s),
        _more(day, f"service#{service}", pages, of_service, expires_s),
    )


def _more(day: str, name: str, pages: int, limit: int | None, expires_s: int) -> Update:
    made: Update = {
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
        made["ConditionExpression"] = "attribute_not_exists(#pages) OR #pages < :limit"
        made["ExpressionAttributeValues"][":limit"] = {"N": str(limit)}
    return made

"""The daily budget of pages: counters of a UTC day for the fleet and for each service, raised under a condition.

pk ``budget#<day>``, sk ``fleet`` or ``service#<name>``. The day is that of the episode, so that a replay of the past
has the budget that it would have had live.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

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
        day = iso(moment_ms)[:10]
        expires = (moment_ms + KEPT_MS) // 1000
        of_fleet = _one_more(day, "fleet", self.limits.fleet, expires)
        of_service = _one_more(day, f"service#{service}", self.limits.service, expires)
        try:
            self._table.update(of_fleet, of_service)
        except ConflictError:
            return False
        return True


def _one_more(day: str, name: str, limit: int, expires_s: int) -> Update:
    values: dict[str, Any] = {":zero": {"N": "0"}, ":one": {"N": "1"}, ":limit": {"N": str(limit)}}
    return {
        "Key": {"pk": {"S": f"budget#{day}"}, "sk": {"S": name}},
        "UpdateExpression": "SET #pages = if_not_exists(#pages, :zero) + :one, #expires = :expires",
        "ConditionExpression": "attribute_not_exists(#pages) OR #pages < :limit",
        "ExpressionAttributeNames": {"#pages": "pages", "#expires": EXPIRES},
        "ExpressionAttributeValues": {**values, ":expires": {"N": str(expires_s)}},
    }

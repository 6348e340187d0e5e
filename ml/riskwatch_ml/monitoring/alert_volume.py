"""The number of episodes and messages of a day, from the episode table."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

from riskwatch_lambda.episodes.attributes import list_partition
from riskwatch_lambda.episodes.episode import SENT
from riskwatch_lambda.items import DamagedItem, optional, parse_items, required

if TYPE_CHECKING:
    from riskwatch_lambda.table import Attributes

_log = logging.getLogger(__name__)


class AlertVolume(TypedDict):
    """Counts of episodes and messages, and of episodes by service."""

    episodes: int
    messages: int
    by_service: dict[str, int]


class _Listed(NamedTuple):
    """Service of an episode, and the id of its message; empty if it was not paged."""

    service: str
    message_id: str


def count(dynamodb_client: Any, table: str, days: list[str]) -> AlertVolume:
    """Count the episodes that began on some days and the messages sent for them.

    ``days`` are UTC days as ``YYYY-MM-DD``. Episodes of one message share its id, so the message counts once. An item
    that cannot be read is logged and does not count.
    """
    by_service: dict[str, int] = {}
    messages: set[str] = set()
    paginator = dynamodb_client.get_paginator("query")
    for day in days:
        for page in paginator.paginate(
            TableName=table,
            KeyConditionExpression="pk = :day",
            ExpressionAttributeValues={":day": {"S": list_partition(day)}},
        ):
            for service, message_id in parse_items(page.get("Items", ()), _listed, _warn):
                by_service[service] = by_service.get(service, 0) + 1
                messages.update([message_id] if message_id else ())
    return {
        "episodes": sum(by_service.values()),
        "messages": len(messages),
        "by_service": dict(sorted(by_service.items())),
    }


def _listed(item: Attributes) -> _Listed:
    is_paged = optional(item, "notified") == SENT
    return _Listed(required(item, "service"), required(item, "message_id") if is_paged else "")


def _warn(item: DamagedItem) -> None:
    _log.warning("an episode of the table cannot be read and does not count: %s", item)

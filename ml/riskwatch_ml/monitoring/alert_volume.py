"""How many episodes and messages a day had, by the episode table."""

from __future__ import annotations

from typing import Any

from riskwatch_lambda.episodes.lifecycle import SENT
from riskwatch_lambda.episodes.repository import list_partition


def count(dynamodb_client: Any, table: str, days: list[str]) -> dict[str, Any]:
    """Count the episodes that began on the given UTC days (``YYYY-MM-DD``) and the messages sent for them.

    Episodes that one message told of share its id.

    Returns
    -------
    dict
        ``episodes``, ``messages``, and ``by_service``: episodes by service.
    """
    by_service: dict[str, int] = {}
    messages: set[str] = set()
    pages = dynamodb_client.get_paginator("query")
    for day in days:
        for page in pages.paginate(
            TableName=table,
            KeyConditionExpression="pk = :day",
            ExpressionAttributeValues={":day": {"S": list_partition(day)}},
        ):
            for item in page.get("Items", ()):
                service = item["service"]["S"]
                by_service[service] = by_service.get(service, 0) + 1
                if item.get("notified", {}).get("S") == SENT:
                    messages.add(item["message_id"]["S"])
    return {
        "episodes": sum(by_service.values()),
        "messages": len(messages),
        "by_service": dict(sorted(by_service.items())),
    }

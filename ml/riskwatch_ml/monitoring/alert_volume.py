"""The number of episodes and messages of a day, from the episode table."""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple, NotRequired, TypedDict

from riskwatch_lambda.episodes.attributes import list_partition
from riskwatch_lambda.episodes.episode import SENT
from riskwatch_lambda.items import DamagedItem, optional, parse_items, required

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from riskwatch_lambda.table import Attributes

_log = logging.getLogger(__name__)


class KindVolume(TypedDict):
    """Counts of the episodes of one kind of resource, and of the messages that have some of them."""

    episodes: int
    messages: int


class AlertVolume(TypedDict):
    """Counts of episodes and messages, and of episodes by service.

    `kinds` has the counts of each kind if an installation has several. A message about episodes of several kinds counts
    in each of them.
    """

    episodes: int
    messages: int
    by_service: dict[str, int]
    kinds: NotRequired[dict[str, KindVolume]]  # one kind


class _Listed(NamedTuple):
    """Service and kind of an episode, and the id of its message.

    The kind is empty for the first kind if the model did not name it, the id if the episode was not paged.
    """

    service: str
    message_id: str
    kind: str


def count(dynamodb_client: Any, table: str, days: list[str], kinds: Sequence[str] = ()) -> AlertVolume:
    """Count the episodes that began on some days and the messages sent for them.

    ``days`` are UTC days as ``YYYY-MM-DD``, ``kinds`` those of the installation, the first one first. Episodes of one
    message share its id, so the message counts once. An item that cannot be read is logged and does not count.
    """
    listed = list(_read(dynamodb_client, table, days))
    by_service = Counter(episode.service for episode in listed)
    total = _volume(listed)
    volume: AlertVolume = {
        "episodes": total["episodes"],
        "messages": total["messages"],
        "by_service": dict(sorted(by_service.items())),
    }
    if len(kinds) > 1:
        of_kind: dict[str, list[_Listed]] = {kind: [] for kind in kinds}
        for episode in listed:
            of_kind.setdefault(episode.kind or kinds[0], []).append(episode)
        volume["kinds"] = {kind: _volume(episodes) for kind, episodes in of_kind.items()}
    return volume


def _read(dynamodb_client: Any, table: str, days: list[str]) -> Iterator[_Listed]:
    paginator = dynamodb_client.get_paginator("query")
    for day in days:
        for page in paginator.paginate(
            TableName=table,
            KeyConditionExpression="pk = :day",
            ExpressionAttributeValues={":day": {"S": list_partition(day)}},
        ):
            yield from parse_items(page.get("Items", ()), _listed, _warn)


def _volume(listed: Iterable[_Listed]) -> KindVolume:
    ids = [episode.message_id for episode in listed]
    return {"episodes": len(ids), "messages": len({*ids} - {""})}


def _listed(item: Attributes) -> _Listed:
    is_paged = optional(item, "notified") == SENT
    message_id = required(item, "message_id") if is_paged else ""
    return _Listed(required(item, "service"), message_id, optional(item, "resource_kind"))


def _warn(item: DamagedItem) -> None:
    _log.warning("an episode of the table cannot be read and does not count: %s", item)

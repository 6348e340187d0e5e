"""The episode table: reads what is stored about instances and writes changes under optimistic conditions.

Two kinds of items. The state, one an instance: pk ``instance#<id>``, sk ``current``. The list, one an episode: pk
``episodes#<day of since>``, sk ``<since>#<instance>``. A list item is only ever updated in the attributes named here,
so what others add to it stays.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from riskwatch_lambda.clock import iso
from riskwatch_lambda.episodes import EpisodeState
from riskwatch_lambda.tracking import PENDING, SENT, Change, Episode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

Attributes = dict[str, dict[str, Any]]
Changes = dict[str, dict[str, Any] | None]

READ_LIMIT = 100
TRANSACTION_LIMIT = 100
READ_ROUNDS = 6
FIRST_PAUSE_S = 0.05
OPEN, CLOSED = "open", "closed"
CONFLICT_CODES = {"ConditionalCheckFailed", "TransactionConflict"}


class RegistryError(RuntimeError):
    """The episode table could not be read or written; trying again later may help."""


class ConflictError(RegistryError):
    """The stored episode is not the one that was read: read it again and decide anew."""


class Registry:
    """The episode table ``table`` through a DynamoDB client; ``pause`` waits for a number of seconds."""

    def __init__(self, client: Any, table: str, pause: Callable[[float], None] = time.sleep) -> None:
        self._client = client
        self._table = table
        self._pause = pause

    def read(self, instance_ids: Iterable[str]) -> dict[str, Episode]:
        """Give the stored episode of each instance that has one; raises RegistryError when a read stays unanswered."""
        found: dict[str, Episode] = {}
        names = iter(dict.fromkeys(instance_ids))
        while chunk := list(islice(names, READ_LIMIT)):
            for item in self._read_chunk(chunk):
                episode = _episode(item)
                found[episode.instance_id] = episode
        return found

    def _read_chunk(self, instance_ids: Sequence[str]) -> Iterator[Attributes]:
        request: Mapping[str, Any] = {
            self._table: {"Keys": [_state_key(name) for name in instance_ids], "ConsistentRead": True}
        }
        for attempt in range(READ_ROUNDS):
            if attempt:
                self._pause(FIRST_PAUSE_S * 2 ** (attempt - 1))
            try:
                response = self._client.batch_get_item(RequestItems=request)
            except (ClientError, BotoCoreError) as error:
                raise RegistryError(f"cannot read episodes from table {self._table}: {error}") from error
            yield from response.get("Responses", {}).get(self._table, [])
            request = response.get("UnprocessedKeys") or {}
            if not request:
                return
        left = len(request[self._table]["Keys"])
        raise RegistryError(
            f"table {self._table} left {left} keys unread after {READ_ROUNDS} requests: its capacity is used up"
        )

    def unfinished(self, day: str) -> list[Episode]:
        """Give the listed episodes of a UTC day, ``YYYY-MM-DD``, that are open or wait to be told.

        The day is that of their opening; peak and newest row are those of the opening until an episode closes. Raises
        RegistryError when a page cannot be read.
        """
        return self._listed(
            day,
            FilterExpression="notified = :pending OR #status = :open",
            # A reserved word, which an expression takes only under another name.
            ExpressionAttributeNames={"#status": "status"},
            values={":pending": {"S": PENDING}, ":open": {"S": OPEN}},
        )

    def opened(self, day: str) -> list[Episode]:
        """Give all episodes that opened on a UTC day, as ``unfinished`` does."""
        return self._listed(day)

    def _listed(self, day: str, *, values: Attributes | None = None, **filters: Any) -> list[Episode]:
        query: dict[str, Any] = {
            "TableName": self._table,
            "KeyConditionExpression": "pk = :day",
            "ExpressionAttributeValues": {":day": {"S": _list_partition(day)}, **(values or {})},
            "ConsistentRead": True,
            **filters,
        }
        found: list[Episode] = []
        while True:
            try:
                page = self._client.query(**query)
            except (ClientError, BotoCoreError) as error:
                raise RegistryError(f"cannot read the episodes of {day} from table {self._table}: {error}") from error
            found.extend(_episode(item) for item in page.get("Items", []))
            if not page.get("LastEvaluatedKey"):
                return found
            query["ExclusiveStartKey"] = page["LastEvaluatedKey"]

    def write(self, change: Change) -> None:
        """Write a change if the stored state is still the one it was decided on.

        The state is written last and together with the list items it belongs to. Raises ConflictError when the stored
        state has moved, RegistryError when the table cannot be written.
        """
        after = change.after
        if after is None:
            return
        state = self._state_update(change.before, after, after.episode_id in change.opened)
        items = [self._list_update(episode, episode.episode_id in change.opened) for episode in change.listed]
        if not items:
            self._call("update_item", **state)
            return
        # The last chunk leaves room for the state; the earlier ones only repeat what a second try would write again.
        room = TRANSACTION_LIMIT - 1
        chunks = [items[start : start + room] for start in range(0, len(items), room)]
        chunks[-1].append(state)
        for chunk in chunks:
            self._call("transact_write_items", TransactItems=[{"Update": item} for item in chunk])

    def mark_sent(self, episode: Episode, message_id: str, now_ms: int) -> None:
        """Note in list and state that the message about an episode went out; raises RegistryError.

        Episodes that one message told of share its id.
        """
        sent = _notification(replace(episode, notified=SENT, notified_ms=now_ms))
        key, instance = _state_key(episode.instance_id), {"instance_id": {"S": episode.instance_id}}
        listed = sent | {"message_id": {"S": message_id}}
        self._call("update_item", **_update(self._table, _list_key(episode), listed))
        try:
            guard = {"episode_id": {"S": episode.episode_id}}
            self._call("update_item", **_update(self._table, key, sent, guard))
        except ConflictError:
            # A newer episode has taken the place: whether that one is told is its own matter, the time is not.
            self._call("update_item", **_update(self._table, key, {"notified_ms": _number(now_ms)}, instance))

    def _state_update(self, before: Episode | None, after: Episode, is_new: bool) -> dict[str, Any]:
        values: Changes = {
            **_facts(after),
            "recent": {"S": "".join("1" if pages else "0" for pages in after.state.recent)},
            "told_since_ms": _number(after.told_since_ms),
        }
        if before is None or is_new:
            values |= _notification(after)
        guard = None
        if before is not None:
            guard = {
                "last_ms": {"N": str(before.state.last_ms)},
                "status": {"S": OPEN if before.state.is_open else CLOSED},
                "notified": {"S": before.notified},
            }
        return _update(self._table, _state_key(after.instance_id), values, guard, absent=before is None)

    def _list_update(self, episode: Episode, is_new: bool) -> dict[str, Any]:
        values = _facts(episode) | (_notification(episode) if is_new else {})
        return _update(self._table, _list_key(episode), values)

    def _call(self, operation: str, **arguments: Any) -> None:
        try:
            getattr(self._client, operation)(**arguments)
        except ClientError as error:
            if _is_conflict(error):
                raise ConflictError(f"an episode in table {self._table} was changed by someone else") from error
            raise RegistryError(f"cannot write episodes to table {self._table}: {error}") from error
        except BotoCoreError as error:
            raise RegistryError(f"cannot write episodes to table {self._table}: {error}") from error


def _is_conflict(error: ClientError) -> bool:
    code = error.response.get("Error", {}).get("Code")
    if code == "TransactionCanceledException":
        reasons = error.response.get("CancellationReasons", [])
        return any(reason.get("Code") in CONFLICT_CODES for reason in reasons)
    return code in ("ConditionalCheckFailedException", "TransactionConflictException")


def _update(
    table: str, key: Attributes, values: Changes, guard: Attributes | None = None, *, absent: bool = False
) -> dict[str, Any]:
    """Give an update that sets ``values``, if the attributes in ``guard`` are equal, or if the item is absent.

    An attribute whose value is None is removed.
    """
    names = {f"#{name}": name for name in values}
    arguments = {f":{name}": value for name, value in values.items() if value is not None}
    unset = [f"#{name}" for name, value in values.items() if value is None]
    expression = "SET " + ", ".join(f"#{name[1:]} = {name}" for name in arguments)
    update: dict[str, Any] = {
        "TableName": table,
        "Key": key,
        "UpdateExpression": f"{expression} REMOVE {', '.join(unset)}" if unset else expression,
    }
    if guard is not None:
        names |= {f"#{name}": name for name in guard}
        arguments |= {f":was_{name}": value for name, value in guard.items()}
        update["ConditionExpression"] = " AND ".join(f"#{name} = :was_{name}" for name in guard)
    elif absent:
        update["ConditionExpression"] = "attribute_not_exists(pk)"
    return {**update, "ExpressionAttributeNames": names, "ExpressionAttributeValues": arguments}


def _state_key(instance_id: str) -> Attributes:
    return {"pk": {"S": f"instance#{instance_id}"}, "sk": {"S": "current"}}


def _list_partition(day: str) -> str:
    return f"episodes#{day}"


def _list_key(episode: Episode) -> Attributes:
    since = iso(episode.state.since_ms or 0)
    return {"pk": {"S": _list_partition(since[:10])}, "sk": {"S": f"{since}#{episode.instance_id}"}}


def _facts(episode: Episode) -> Changes:
    """Give the attributes that say what happened."""
    state = episode.state
    return {
        "instance_id": {"S": episode.instance_id},
        "service": {"S": episode.service},
        "episode_id": {"S": episode.episode_id},
        "status": {"S": OPEN if state.is_open else CLOSED},
        "since_ms": _number(state.since_ms),
        "last_ms": _number(state.last_ms),
        "closed_ms": _number(state.closed_ms),
        "below": _number(state.below),
        "peak": {"N": f"{state.peak:.6f}"},
        "level": {"S": episode.level},
        "reasons": {"S": json.dumps(episode.reasons, separators=(",", ":"))},
        "model_id": {"S": episode.model_id},
        "model_version": {"S": episode.model_version},
    }


def _notification(episode: Episode) -> Changes:
    """Give the attributes that say who was told."""
    return {
        "notified": {"S": episode.notified},
        "notified_ms": _number(episode.notified_ms),
        "claimed_ms": _number(episode.claimed_ms),
    }


def _number(value: int | None) -> dict[str, Any] | None:
    return None if value is None else {"N": str(value)}


def _whole(item: Attributes, name: str) -> int | None:
    text = item.get(name, {}).get("N")
    return None if text is None else int(text)


def _episode(item: Attributes) -> Episode:
    """Read an item of either kind."""
    state = EpisodeState(
        is_open=item["status"]["S"] == OPEN,
        since_ms=_whole(item, "since_ms"),
        last_ms=_whole(item, "last_ms"),
        closed_ms=_whole(item, "closed_ms"),
        below=_whole(item, "below") or 0,
        peak=float(item["peak"]["N"]),
        recent=tuple(flag == "1" for flag in item.get("recent", {}).get("S", "")),
    )
    return Episode(
        instance_id=item["instance_id"]["S"],
        service=item["service"]["S"],
        state=state,
        level=item["level"]["S"],
        reasons=tuple(json.loads(item["reasons"]["S"])),
        model_id=item["model_id"]["S"],
        model_version=item["model_version"]["S"],
        notified=item["notified"]["S"],
        notified_ms=_whole(item, "notified_ms"),
        claimed_ms=_whole(item, "claimed_ms"),
        told_since_ms=_whole(item, "told_since_ms"),
    )

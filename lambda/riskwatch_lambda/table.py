"""The DynamoDB table of episodes, maintenance windows and budgets: calls that raise our errors, and update expressions.

Every write is an update under a condition, so that a caller who decided on something outdated is told so.
"""

from __future__ import annotations

import time
from itertools import islice
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

Attributes = dict[str, dict[str, Any]]
Changes = dict[str, dict[str, Any] | None]
Update = dict[str, Any]

READ_LIMIT = 100
TRANSACTION_LIMIT = 100
READ_ROUNDS = 6
# Of a write that meets another one of the same item: the other is over in milliseconds.
WRITE_ROUNDS = 4
FIRST_PAUSE_S = 0.05
# The attribute after which DynamoDB removes an item by itself, in epoch seconds.
EXPIRES = "expires_s"
REFUSED, BUSY = "ConditionalCheckFailed", "TransactionConflict"


class RegistryError(RuntimeError):
    """The table could not be read or written; trying again later may help."""


class ConflictError(RegistryError):
    """A condition did not hold, what is stored is not what was read: read it again and decide anew."""


class Table:
    """The table ``name`` through a DynamoDB client; ``pause`` waits for a number of seconds."""

    def __init__(self, client: Any, name: str, pause: Callable[[float], None] = time.sleep) -> None:
        self._client = client
        self.name = name
        self._pause = pause

    def get(self, keys: Iterable[Attributes]) -> Iterator[Attributes]:
        """Give the items that exist of some different keys; raises RegistryError when a read stays unanswered."""
        rest = iter(keys)
        while chunk := list(islice(rest, READ_LIMIT)):
            yield from self._get_chunk(chunk)

    def _get_chunk(self, keys: Sequence[Attributes]) -> Iterator[Attributes]:
        request: Mapping[str, Any] = {self.name: {"Keys": keys, "ConsistentRead": True}}
        for attempt in range(READ_ROUNDS):
            if attempt:
                self._pause(FIRST_PAUSE_S * 2 ** (attempt - 1))
            try:
                response = self._client.batch_get_item(RequestItems=request)
            except (ClientError, BotoCoreError) as error:
                raise RegistryError(f"cannot read table {self.name}: {error}") from error
            yield from response.get("Responses", {}).get(self.name, [])
            request = response.get("UnprocessedKeys") or {}
            if not request:
                return
        left = len(request[self.name]["Keys"])
        raise RegistryError(
            f"table {self.name} left {left} keys unread after {READ_ROUNDS} requests: its capacity is used up"
        )

    def find(self, attribute: str, value: str, index: str | None = None) -> Iterator[Attributes]:
        """Give the items whose partition key is ``value``, in the table or an index; raises RegistryError."""
        query: dict[str, Any] = {
            "TableName": self.name,
            "KeyConditionExpression": "#key = :value",
            "ExpressionAttributeNames": {"#key": attribute},
            "ExpressionAttributeValues": {":value": {"S": value}},
            # An index is always read as it was a moment ago.
            **({"ConsistentRead": True} if index is None else {"IndexName": index}),
        }
        while True:
            try:
                page = self._client.query(**query)
            except (ClientError, BotoCoreError) as error:
                raise RegistryError(f"cannot read {value} from table {self.name}: {error}") from error
            yield from page.get("Items", [])
            if not page.get("LastEvaluatedKey"):
                return
            query["ExclusiveStartKey"] = page["LastEvaluatedKey"]

    def update(self, *updates: Update) -> None:
        """Make one update, or up to 100 in a transaction; raises ConflictError and RegistryError."""
        named = [{"TableName": self.name, **each} for each in updates]
        if len(named) == 1:
            self._call("update_item", **named[0])
        else:
            self._call("transact_write_items", TransactItems=[{"Update": each} for each in named])

    def _call(self, operation: str, **arguments: Any) -> None:
        for attempt in range(WRITE_ROUNDS):
            if attempt:
                self._pause(FIRST_PAUSE_S * 2 ** (attempt - 1))
            try:
                getattr(self._client, operation)(**arguments)
            except ClientError as error:
                codes = _codes(error)
                if REFUSED in codes:
                    raise ConflictError(f"an item of table {self.name} was changed by someone else") from error
                if BUSY not in codes:
                    raise RegistryError(f"cannot write table {self.name}: {error}") from error
            except BotoCoreError as error:
                raise RegistryError(f"cannot write table {self.name}: {error}") from error
            else:
                return
        raise RegistryError(f"table {self.name} was being written by others at {WRITE_ROUNDS} tries")


def update(key: Attributes, values: Changes, guard: Changes | None = None, *, count: str | None = None) -> Update:
    """Give an update that sets ``values`` if the attributes in ``guard`` are as they are given there.

    A value of None removes the attribute, and in a guard asks that it is absent. ``count`` names a number to raise
    by one.
    """
    names = {f"#{name}": name for name in (*values, *(guard or {}), *([count] if count else []))}
    arguments = {f":{name}": value for name, value in values.items() if value is not None}
    assignments = [f"#{name[1:]} = {name}" for name in arguments]
    if count:
        assignments.append(f"#{count} = if_not_exists(#{count}, :zero) + :one")
        arguments |= {":zero": {"N": "0"}, ":one": {"N": "1"}}
    unset = [f"#{name}" for name, value in values.items() if value is None]
    expression = f"SET {', '.join(assignments)}" + (f" REMOVE {', '.join(unset)}" if unset else "")
    made: Update = {"Key": key, "UpdateExpression": expression}
    if guard:
        wanted = {name: value for name, value in guard.items() if value is not None}
        arguments |= {f":was_{name}": value for name, value in wanted.items()}
        clauses = [f"#{name} = :was_{name}" if name in wanted else f"attribute_not_exists(#{name})" for name in guard]
        made["ConditionExpression"] = " AND ".join(clauses)
    return {**made, "ExpressionAttributeNames": names, "ExpressionAttributeValues": arguments}


def number(value: int | None) -> dict[str, Any] | None:
    """Give a whole number as DynamoDB takes it; None where there is none."""
    return None if value is None else {"N": str(value)}


def whole(item: Attributes, name: str) -> int | None:
    """Read a whole number of an item; None where it is absent."""
    text = item.get(name, {}).get("N")
    return None if text is None else int(text)


def text(item: Attributes, name: str) -> str:
    """Read a text of an item; empty where it is absent."""
    return str(item.get(name, {}).get("S", ""))


def _codes(error: ClientError) -> set[str]:
    """Give why a write did not happen, for a transaction the reasons of its parts."""
    code = str(error.response.get("Error", {}).get("Code", ""))
    if code == "TransactionCanceledException":
        return {str(reason.get("Code")) for reason in error.response.get("CancellationReasons", [])}
    return {code.removesuffix("Exception")}

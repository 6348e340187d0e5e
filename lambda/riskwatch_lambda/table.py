"""DynamoDB table: reads, conditional updates, typed errors.

It stores episodes, maintenance windows, page budgets and the newest rows of instances. A write is an update, with a
condition if other writers may be faster. A caller that decided on outdated data gets a ConflictError.
"""

from __future__ import annotations

import time
from itertools import islice
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import NotRequired, TypedDict

    class AttributeValue(TypedDict, total=False):
        """A DynamoDB value: a string, a number as text, or bytes."""

        S: str
        N: str
        B: bytes

    Attributes = dict[str, AttributeValue]
    # None removes an attribute; in a condition it requires that the attribute is absent.
    Changes = dict[str, AttributeValue | None]

    class Update(TypedDict):
        """An update of one item, as DynamoDB takes it, without the table name."""

        Key: Attributes
        UpdateExpression: str
        ConditionExpression: NotRequired[str]
        ExpressionAttributeNames: dict[str, str]
        ExpressionAttributeValues: Attributes


READ_LIMIT = 100
TRANSACTION_LIMIT = 100
READ_ROUNDS = 6
# Tries of a write that meets another write of the same item, which takes milliseconds.
WRITE_ROUNDS = 4
FIRST_PAUSE_S = 0.05
# The time-to-live attribute, in epoch seconds: DynamoDB deletes the item after it.
EXPIRES = "expires_s"
REFUSED, BUSY = "ConditionalCheckFailed", "TransactionConflict"
# In a transaction: an attribute to count up is no number.
UNSUITABLE = "ValidationError"


class TableError(RuntimeError):
    """The table cannot be read or written. A later try may succeed."""


class ConflictError(TableError):
    """A condition failed because the stored item has changed or is damaged.

    Read it again and repeat the decision.
    """


class Table:
    """The table ``name``, accessed through a DynamoDB client.

    ``pause`` waits for a number of seconds.
    """

    def __init__(self, client: Any, name: str, pause: Callable[[float], None] = time.sleep) -> None:
        self._client = client
        self.name = name
        self._pause = pause

    def get(self, keys: Iterable[Attributes]) -> Iterator[Attributes]:
        """Yield the existing items of some distinct keys.

        Raises TableError if a read fails or DynamoDB leaves keys unread.
        """
        remaining = iter(keys)
        while chunk := list(islice(remaining, READ_LIMIT)):
            yield from self._get_chunk(chunk)

    def _get_chunk(self, keys: Sequence[Attributes]) -> Iterator[Attributes]:
        request: Mapping[str, Any] = {self.name: {"Keys": keys, "ConsistentRead": True}}
        for attempt in range(READ_ROUNDS):
            if attempt:
                self._pause(FIRST_PAUSE_S * 2 ** (attempt - 1))
            try:
                response = self._client.batch_get_item(RequestItems=request)
            except (ClientError, BotoCoreError) as error:
                raise TableError(f"cannot read table {self.name}: {error}") from error
            yield from response.get("Responses", {}).get(self.name, [])
            request = response.get("UnprocessedKeys") or {}
            if not request:
                return
        unread = len(request[self.name]["Keys"])
        raise TableError(
            f"table {self.name} left {unread} keys unread after {READ_ROUNDS} requests: its capacity is used up"
        )

    def find(self, attribute: str, value: str, index: str | None = None) -> Iterator[Attributes]:
        """Yield the items with the partition key ``value``, from the table or an index.

        Raises TableError.
        """
        query: dict[str, Any] = {
            "TableName": self.name,
            "KeyConditionExpression": "#key = :value",
            "ExpressionAttributeNames": {"#key": attribute},
            "ExpressionAttributeValues": {":value": {"S": value}},
            # DynamoDB offers no consistent read of an index.
            **({"ConsistentRead": True} if index is None else {"IndexName": index}),
        }
        while True:
            try:
                page = self._client.query(**query)
            except (ClientError, BotoCoreError) as error:
                raise TableError(f"cannot read {value} from table {self.name}: {error}") from error
            yield from page.get("Items", [])
            if not page.get("LastEvaluatedKey"):
                return
            query["ExclusiveStartKey"] = page["LastEvaluatedKey"]

    def update(self, *updates: Update) -> None:
        """Apply one update, or up to 100 in one transaction.

        Raises ConflictError if a condition fails, TableError if the table cannot be written.
        """
        requests = [{"TableName": self.name, **one} for one in updates]
        if len(requests) == 1:
            self._call("update_item", **requests[0])
        else:
            self._call("transact_write_items", TransactItems=[{"Update": request} for request in requests])

    def _call(self, operation: str, **arguments: Any) -> None:
        for attempt in range(WRITE_ROUNDS):
            if attempt:
                self._pause(FIRST_PAUSE_S * 2 ** (attempt - 1))
            try:
                getattr(self._client, operation)(**arguments)
            except ClientError as error:
                codes = _codes(error)
                if {REFUSED, UNSUITABLE} & codes:
                    raise ConflictError(f"an item of table {self.name} was changed by someone else") from error
                if BUSY not in codes:
                    raise TableError(f"cannot write table {self.name}: {error}") from error
            except BotoCoreError as error:
                raise TableError(f"cannot write table {self.name}: {error}") from error
            else:
                return
        raise TableError(f"table {self.name} was being written by others at {WRITE_ROUNDS} tries")


def update(key: Attributes, values: Changes, guard: Changes | None = None, *, count: str | None = None) -> Update:
    """Return an update that sets ``values`` under the condition ``guard``.

    The stored attributes must equal those in ``guard``. A value of None removes the attribute; in ``guard`` it requires
    that the attribute is absent. ``count`` names a number attribute to increase by one.
    """
    names = {f"#{name}": name for name in (*values, *(guard or {}), *([count] if count else []))}
    arguments = {f":{name}": value for name, value in values.items() if value is not None}
    assignments = [f"#{name[1:]} = {name}" for name in arguments]
    if count:
        assignments.append(f"#{count} = if_not_exists(#{count}, :zero) + :one")
        arguments |= {":zero": {"N": "0"}, ":one": {"N": "1"}}
    unset = [f"#{name}" for name, value in values.items() if value is None]
    expression = f"SET {', '.join(assignments)}" + (f" REMOVE {', '.join(unset)}" if unset else "")
    request: Update = {
        "Key": key,
        "UpdateExpression": expression,
        "ExpressionAttributeNames": names,
        "ExpressionAttributeValues": arguments,
    }
    if guard:
        expected = {name: value for name, value in guard.items() if value is not None}
        request["ExpressionAttributeValues"] |= {f":was_{name}": value for name, value in expected.items()}
        clauses = [f"#{name} = :was_{name}" if name in expected else f"attribute_not_exists(#{name})" for name in guard]
        request["ConditionExpression"] = " AND ".join(clauses)
    return request


def number(value: int | None) -> AttributeValue | None:
    """Return a whole number as a DynamoDB value, None for None."""
    return None if value is None else {"N": str(value)}


def _codes(error: ClientError) -> set[str]:
    """Return the error code of a failed write.

    For a transaction, these are the codes of its parts.
    """
    code = str(error.response.get("Error", {}).get("Code", ""))
    if code == "TransactionCanceledException":
        return {str(reason.get("Code")) for reason in error.response.get("CancellationReasons", [])}
    return {code.removesuffix("Exception")}

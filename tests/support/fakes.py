"""In-memory S3, DynamoDB and SNS with the parts and the conditions that the function uses, and errors as botocore's."""

# The arguments have the names that botocore gives them.
# ruff: noqa: N803

from __future__ import annotations

import copy
import gzip
import json
import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from tests.support.contract import imitates

if TYPE_CHECKING:
    from collections.abc import Callable

Item = dict[str, dict[str, Any]]
# Of the table and its index.
KEYS = ("pk", "sk", "unfinished")


def client_error(code: str, operation: str, **more: Any) -> ClientError:
    """Make an error as a botocore client raises it."""
    return ClientError({"Error": {"Code": code, "Message": code}, **more}, operation)


def stored(value: dict[str, Any]) -> dict[str, Any]:
    """Give a value as DynamoDB gives it back: numbers lose the zeros at their end."""
    kind, content = next(iter(value.items()))
    return {kind: format(Decimal(content).normalize(), "f") if kind == "N" else copy.deepcopy(content)}


@imitates("s3")
class FakeS3:
    """Objects by key; honours IfNoneMatch; the next ``failing`` puts fail."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.failing = 0

    def put_object(self, *, Bucket: str, Key: str, Body: bytes, ContentType: str, IfNoneMatch: str) -> None:
        assert (Bucket, IfNoneMatch, ContentType) == ("bucket", "*", "application/gzip")
        if self.failing:
            self.failing -= 1
            raise client_error("SlowDown", "PutObject")
        if Key in self.objects:
            raise client_error("PreconditionFailed", "PutObject")
        self.objects[Key] = Body

    def lines(self, prefix: str) -> list[dict[str, Any]]:
        """Give the JSON lines of all objects under a prefix."""
        bodies = [gzip.decompress(body) for key, body in sorted(self.objects.items()) if key.startswith(prefix)]
        return [json.loads(line) for body in bodies for line in body.splitlines()]


@imitates("dynamodb")
class FakeDynamoDB:
    """Items by key; evaluates the conditions and the SET and REMOVE expressions of single and transactional updates.

    ``before_write`` runs once before the next write, to play a writer who comes in between; ``unprocessed`` is the
    number of next reads that answer only their first key; the next ``failing`` writes and ``failing_reads`` reads are
    throttled, the next ``busy`` writes meet another one. ``stale_index`` are items as
    they were, for the index to read, which lags behind. A page of a query has ``page_size`` items.
    """

    def __init__(self) -> None:
        self.items: dict[tuple[str, str], Item] = {}
        self.before_write: Callable[[], None] | None = None
        self.unprocessed = 0
        self.failing = 0
        self.failing_reads = 0
        self.busy = 0
        self.stale_index: dict[tuple[str, str], Item] | None = None
        self.writes = 0
        self.queries = 0
        self.page_size = 100

    def batch_get_item(self, *, RequestItems: dict[str, Any]) -> dict[str, Any]:
        keys = RequestItems["table"]["Keys"]
        assert 1 <= len(keys) <= 100
        assert len({json.dumps(key) for key in keys}) == len(keys), "AWS refuses a key that comes twice"
        assert RequestItems["table"]["ConsistentRead"] is True
        self._fail_read("BatchGetItem")
        answered, left = keys, []
        if self.unprocessed:
            self.unprocessed -= 1
            answered, left = keys[:1], keys[1:]
        found = [copy.deepcopy(self.items[self._key(key)]) for key in answered if self._key(key) in self.items]
        return {
            "Responses": {"table": found},
            "UnprocessedKeys": {"table": {"Keys": left, "ConsistentRead": True}} if left else {},
        }

    def query(
        self,
        *,
        TableName: str,
        KeyConditionExpression: str,
        ExpressionAttributeNames: dict[str, str],
        ExpressionAttributeValues: Item,
        ConsistentRead: bool = False,
        IndexName: str | None = None,
        ExclusiveStartKey: Item | None = None,
    ) -> dict[str, Any]:
        assert (TableName, KeyConditionExpression) == ("table", "#key = :value")
        attribute = ExpressionAttributeNames["#key"]
        assert (IndexName, ConsistentRead) in (("unfinished", False), (None, True)), "AWS refuses consistent indexes"
        assert attribute == (IndexName or "pk")
        self.queries += 1
        self._fail_read("Query")
        wanted = ExpressionAttributeValues[":value"]
        items = self.items if IndexName is None or self.stale_index is None else self.stale_index
        after = ("", "") if ExclusiveStartKey is None else self._key(ExclusiveStartKey)[::-1]
        # An index has only the items that have its attribute; both are sorted by sk.
        keys = sorted(key[::-1] for key, item in items.items() if item.get(attribute) == wanted)
        keys = [key[::-1] for key in keys if key > after]
        page = [items[key] for key in keys[: self.page_size]]
        answer: dict[str, Any] = {"Items": copy.deepcopy(page)}
        if len(keys) > len(page):
            answer["LastEvaluatedKey"] = {name: page[-1][name] for name in ("pk", "sk")}
        return answer

    def update_item(self, **update: Any) -> None:
        self._start("UpdateItem")
        if not self._holds(update):
            raise client_error("ConditionalCheckFailedException", "UpdateItem")
        if not self._counts(update):
            raise client_error("ValidationException", "UpdateItem")
        self._apply(update)

    def transact_write_items(self, *, TransactItems: list[dict[str, Any]]) -> None:
        self._start("TransactWriteItems")
        assert 1 <= len(TransactItems) <= 100
        updates = [item["Update"] for item in TransactItems]
        keys = [self._key(update["Key"]) for update in updates]
        assert len(set(keys)) == len(keys), "AWS refuses two operations on one item"
        held = [self._holds(update) for update in updates]
        if not all(held):
            reasons = [{"Code": "None" if held_ else "ConditionalCheckFailed"} for held_ in held]
            raise client_error("TransactionCanceledException", "TransactWriteItems", CancellationReasons=reasons)
        if not all(map(self._counts, updates)):
            reasons = [{"Code": "None" if self._counts(update) else "ValidationError"} for update in updates]
            raise client_error("TransactionCanceledException", "TransactWriteItems", CancellationReasons=reasons)
        for update in updates:
            self._apply(update)

    def hold_index(self) -> None:
        """Let the index stay as it is now."""
        self.stale_index = copy.deepcopy(self.items)

    def state(self, instance_id: str) -> dict[str, Any]:
        """Give the plain values of an instance's state item."""
        return self._plain(self.items[f"instance#{instance_id}", "current"])

    def listed(self) -> list[dict[str, Any]]:
        """Give the plain values of the list items, in key order."""
        return [self._plain(item) for (pk, _), item in sorted(self.items.items()) if pk.startswith("episodes#")]

    def set(self, instance_id: str, **values: dict[str, Any]) -> None:
        """Change attributes of a state item as another writer would."""
        item = self.items[f"instance#{instance_id}", "current"]
        item |= {"revision": {"N": str(int(item["revision"]["N"]) + 1)}, **values}

    def _fail_read(self, operation: str) -> None:
        if self.failing_reads:
            self.failing_reads -= 1
            raise client_error("ProvisionedThroughputExceededException", operation)

    def _start(self, operation: str) -> None:
        self.writes += 1
        if self.failing:
            self.failing -= 1
            raise client_error("ProvisionedThroughputExceededException", operation)
        if self.busy:
            self.busy -= 1
            if operation == "UpdateItem":
                raise client_error("TransactionConflictException", operation)
            reasons = [{"Code": "TransactionConflict"}]
            raise client_error("TransactionCanceledException", operation, CancellationReasons=reasons)
        hook, self.before_write = self.before_write, None
        if hook is not None:
            hook()

    def _holds(self, update: dict[str, Any]) -> bool:
        item = self.items.get(self._key(update["Key"]), {})
        condition = update.get("ConditionExpression")
        if condition is None:
            return True
        return any(
            all(self._clause(update, item, clause) for clause in either.split(" AND "))
            for either in condition.split(" OR ")
        )

    @staticmethod
    def _clause(update: dict[str, Any], item: Item, clause: str) -> bool:
        names, values = update["ExpressionAttributeNames"], update["ExpressionAttributeValues"]
        absent = re.fullmatch(r"attribute_not_exists\((#\w+)\)", clause)
        if absent:
            return names[absent[1]] not in item
        compared = re.fullmatch(r"(#\w+) ([=<]) (:\w+)", clause)
        assert compared, f"this fake does not know the condition {clause!r}"
        found, wanted = item.get(names[compared[1]]), values[compared[3]]
        if compared[2] == "=":
            return found == stored(wanted)
        # A comparison of another type is false.
        return found is not None and "N" in found and float(found["N"]) < float(wanted["N"])

    def _counts(self, update: dict[str, Any]) -> bool:
        """Give whether the attributes that an update counts up are numbers."""
        item, names = self.items.get(self._key(update["Key"]), {}), update["ExpressionAttributeNames"]
        counted = re.findall(r"if_not_exists\((#\w+), :\w+\) \+ ", update["UpdateExpression"])
        return all("N" in item.get(names[name], {"N": "0"}) for name in counted)

    def _apply(self, update: dict[str, Any]) -> None:
        assert update["TableName"] == "table"
        names, values = update["ExpressionAttributeNames"], update["ExpressionAttributeValues"]
        expression = update["UpdateExpression"]
        assert expression.startswith("SET ")
        used = set(re.findall(r"[#:]\w+", expression + " " + update.get("ConditionExpression", "")))
        assert used == {*names, *values}, "AWS refuses names and values that no expression uses"
        item = self.items.setdefault(self._key(update["Key"]), copy.deepcopy(update["Key"]))
        assignments, _, removals = expression.removeprefix("SET ").partition(" REMOVE ")
        for name in filter(None, removals.split(", ")):
            item.pop(names[name], None)
        for assignment in re.split(r", (?=#\w+ = )", assignments):
            name, value = assignment.split(" = ")
            counted = re.fullmatch(r"if_not_exists\((#\w+), (:\w+)\) \+ (:\w+)", value)
            if counted:
                before = item.get(names[counted[1]], values[counted[2]])
                item[names[name]] = {"N": str(int(before["N"]) + int(values[counted[3]]["N"]))}
            else:
                assert names[name] not in KEYS or values[value] != {"S": ""}, "AWS refuses an empty text in a key"
                item[names[name]] = stored(values[value])

    @staticmethod
    def _key(key: Item) -> tuple[str, str]:
        return key["pk"]["S"], key["sk"]["S"]

    @staticmethod
    def _plain(item: Item) -> dict[str, Any]:
        read = {"S": str, "N": float}
        kinds = ((name, kind, value) for name, typed in item.items() for kind, value in typed.items())
        return {name: read[kind](value) for name, kind, value in kinds if kind in read}


@imitates("sns")
class FakeSNS:
    """Published messages; refuses what SNS refuses; the next ``failing`` ones fail."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.failing = 0

    def publish(
        self, *, TopicArn: str, Subject: str, Message: str, MessageStructure: str, MessageAttributes: dict[str, Any]
    ) -> dict[str, str]:
        assert (TopicArn, MessageStructure) == ("topic", "json")
        assert len(Subject) < 100
        assert re.fullmatch(r"[\x20-\x7e]+", Subject)
        assert len(Message.encode()) + len(json.dumps(MessageAttributes)) <= 256 * 1024
        if self.failing:
            self.failing -= 1
            raise client_error("Throttled", "Publish")
        attributes = {name: value["StringValue"] for name, value in MessageAttributes.items()}
        assert all(attributes.values()), "AWS refuses an empty attribute"
        forms = json.loads(Message)
        assert forms.keys() == {"default", "email", "sms", "https"}
        self.messages.append(
            {"subject": Subject, "attributes": attributes, "forms": forms, **json.loads(forms["default"])}
        )
        return {"MessageId": f"message-{len(self.messages)}"}

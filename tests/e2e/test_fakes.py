"""The fakes of S3 and DynamoDB beside the embedded AWS: the same calls have the same answers and refusals."""

import boto3
import pytest
from botocore.exceptions import ClientError

from tests.support.bucket import Bucket
from tests.support.fakes import FakeDynamoDB

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

KEYS = [{"AttributeName": name, "KeyType": kind} for name, kind in (("pk", "HASH"), ("sk", "RANGE"))]
STRINGS = [{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk")]


@pytest.fixture(scope="module")
def bucket(aws):
    """A client of S3 with an empty bucket."""
    client = boto3.client("s3")
    client.create_bucket(Bucket="bucket")
    return client


@pytest.fixture(scope="module")
def table(aws):
    """A client of DynamoDB with an empty table."""
    client = boto3.client("dynamodb")
    client.create_table(TableName="table", KeySchema=KEYS, AttributeDefinitions=STRINGS, BillingMode="PAY_PER_REQUEST")
    return client


def outcome(call, **asked):
    """Return the answer of a call, or the code of its refusal and why each part of a transaction was refused."""
    try:
        return call(**asked) or {}
    except ClientError as error:
        reasons = error.response.get("CancellationReasons", ())
        return error.response["Error"]["Code"], [reason["Code"] for reason in reasons]


def objects(client):
    """Write, read, list and delete under conditions; return what came of each."""
    put = [
        {"Key": "a", "Body": b"1", "IfNoneMatch": "*"},
        {"Key": "a", "Body": b"2", "IfNoneMatch": "*"},
        {"Key": "a", "Body": b"2", "IfMatch": '"00"'},
        {"Key": "gone", "Body": b"2", "IfMatch": '"00"'},
        {"Key": "b/c", "Body": b"3"},
    ]
    seen = [isinstance(found := outcome(client.put_object, Bucket="bucket", **each), dict) or found for each in put]
    held = client.get_object(Bucket="bucket", Key="a")
    seen += [held["Body"].read(), held["Body"].read(), held["ETag"]]
    seen.append(isinstance(outcome(client.put_object, Bucket="bucket", Key="a", Body=b"4", IfMatch=held["ETag"]), dict))
    seen.append(outcome(client.get_object, Bucket="bucket", Key="gone"))
    client.delete_object(Bucket="bucket", Key="gone")
    for prefix in ("b/", "none/"):
        pages = client.get_paginator("list_objects_v2").paginate(Bucket="bucket", Prefix=prefix)
        listed = [item for page in pages for item in page.get("Contents", ())]
        seen.append([(item["Key"], item["LastModified"].tzinfo) for item in listed])
    return seen


def test_the_bucket_in_memory_answers_as_s3(bucket):
    assert objects(Bucket()) == objects(bucket)


def update(sk, value, condition=None):
    """Set v of an item, under a condition on it."""
    was = {":was": {"N": "7.0"}} if condition and ":was" in condition else {}
    return {
        "TableName": "table",
        "Key": {"pk": {"S": "p"}, "sk": {"S": sk}},
        "UpdateExpression": "SET #v = :v",
        "ExpressionAttributeNames": {"#v": "v"},
        "ExpressionAttributeValues": {":v": {"N": value}, **was},
        **({"ConditionExpression": condition} if condition else {}),
    }


def items(client):
    """Write and read under conditions; return what came of each."""
    fresh, same, less = "attribute_not_exists(#v)", "#v = :was", "#v < :was"
    singles = [update("a", "1.50", fresh), update("a", "2", fresh), update("a", "7", less), update("a", "8.0", same)]
    seen = [isinstance(found := outcome(client.update_item, **each), dict) or found for each in singles]
    parts = [update("a", "9", same), update("b", "10", fresh)]
    seen.append(outcome(client.transact_write_items, TransactItems=[{"Update": each} for each in parts]))
    seen.append(isinstance(outcome(client.update_item, **parts[1]), dict))
    wanted = [update(sk, "0")["Key"] for sk in ("b", "none")]
    answer = client.batch_get_item(RequestItems={"table": {"Keys": wanted, "ConsistentRead": True}})
    seen += [answer["Responses"], answer["UnprocessedKeys"]]
    query = {
        "KeyConditionExpression": "#key = :value",
        "ExpressionAttributeNames": {"#key": "pk"},
        "ExpressionAttributeValues": {":value": {"S": "p"}},
    }
    return [*seen, client.query(TableName="table", ConsistentRead=True, **query)["Items"]]


def test_the_table_in_memory_answers_as_dynamodb(table):
    assert items(FakeDynamoDB()) == items(table)

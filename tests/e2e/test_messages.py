"""Episodes and messages on the deployed stack's own table and topic: what DynamoDB, SNS and SQS do with them."""

import json

import boto3
import pytest

from riskwatch_lambda.alerting.budget import Budget, Limits
from riskwatch_lambda.alerting.maintenance import MaintenanceWindows
from riskwatch_lambda.alerting.notifier import Notifier
from riskwatch_lambda.alerting.sinks import Publisher
from riskwatch_lambda.episodes.repository import EpisodeRepository
from riskwatch_lambda.episodes.seen import SeenRows
from riskwatch_lambda.events.batch import Outputs
from riskwatch_lambda.storage import Objects
from riskwatch_lambda.table import ConflictError, Table
from tests.support.world import (
    AN_HOUR,
    DONE,
    ELEVEN,
    HALF_AN_HOUR,
    HOUR_MS,
    PAGING_CPU,
    QUIET_CPU,
    World,
    incidents,
    row,
)

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


@pytest.fixture
def world(stack):
    """A function with a tiny model, on the stack's bucket, table and topic, with room for two pages a day."""
    made = World()
    table = Table(boto3.client("dynamodb"), stack.table)
    repository, made.windows = EpisodeRepository(table), MaintenanceWindows(table)
    publisher = Publisher(boto3.client("sns"), stack.topic_arn)
    notifier = Notifier(repository, made.windows, Budget(table, Limits(2, 100, 12)), publisher, "https://link")
    made.outputs = Outputs(Objects(boto3.client("s3"), stack.bucket), repository, SeenRows(table), lambda: notifier)
    return made


def received(stack):
    """Empty the queue: the messages' bodies."""
    client, found = boto3.client("sqs"), []
    while answer := client.receive_message(
        QueueUrl=stack.alert_queue_url, MaxNumberOfMessages=10, WaitTimeSeconds=1
    ).get("Messages"):
        for message in answer:
            found.append(json.loads(message["Body"]))
            client.delete_message(QueueUrl=stack.alert_queue_url, ReceiptHandle=message["ReceiptHandle"])
    return sorted(found, key=lambda body: body["event"])


def test_the_life_of_episodes_on_a_real_table(stack, world):
    # GIVEN an incident that is paged, one that the cool-down holds, one in a window, and one that goes on
    window = world.window("instance", "web-3", ELEVEN, ELEVEN + HOUR_MS)
    assert world.send(*incidents(0, HALF_AN_HOUR), row(PAGING_CPU, 0, "web-3"), row(PAGING_CPU, 1, "web-2")) == DONE
    assert [[each["instance_id"] for each in body["opened"]] for body in received(stack)] == [["web-1", "web-2"]]

    held = world.outputs.repository.held("2026-11-22")
    assert [(opening.instance_id, opening.opening.outcome) for opening in held] == [("web-1", "cooldown")]

    # WHEN ticks come at 11:40, at noon, when the window and the digest are due, and once more
    answers = [
        world.tick(moment, [["web-9", "shop", ELEVEN]])
        for moment in (ELEVEN + 40 * 60_000, ELEVEN + HOUR_MS, ELEVEN + HOUR_MS + 1)
    ]

    # THEN silence takes the second page of the day, so that what outlasts its window waits for the next digest
    assert [answer["open"] for answer in answers] == [3, 3, 3]
    bodies = received(stack)
    assert [body["event"] for body in bodies] == ["opened", "resolved"]
    page, ends = bodies
    assert [each["kind"] for each in page["opened"]] == ["silent"]
    assert [each["instance_id"] for each in ends["resolved"]] == ["web-1"]
    # AND the index holds what is still open, and nothing else
    assert {episode.instance_id for episode in world.outputs.repository.unfinished()} == {"web-2", "web-3", "web-9"}
    # AND a window that is removed twice is refused by the condition
    world.windows.remove(window, ELEVEN + 1, "ada")
    with pytest.raises(ConflictError):
        world.windows.remove(window, ELEVEN + 2, "ada")

    # WHEN everything ends
    world.send(*(row(QUIET_CPU, AN_HOUR + n, name) for n in (0, 1) for name in ("web-2", "web-3")))
    for hours in (2, 26):
        world.tick(ELEVEN + hours * HOUR_MS, [])

    # THEN what waited and every end is told once, and the index is empty
    bodies = received(stack)
    assert [each["instance_id"] for body in bodies for each in body["opened"]] == ["web-3"]
    ended = [each["instance_id"] for body in bodies for each in body["resolved"]]
    assert sorted(ended) == ["web-2", "web-3", "web-9"]
    assert world.outputs.repository.unfinished() == []


def test_the_table_forgets_by_itself_what_says_when(stack):
    # GIVEN / WHEN / THEN
    described = boto3.client("dynamodb").describe_time_to_live(TableName=stack.table)["TimeToLiveDescription"]
    assert described.get("AttributeName", "expires_s") == "expires_s"

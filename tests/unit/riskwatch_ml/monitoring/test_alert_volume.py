"""How many episodes and messages a day had."""

from riskwatch_ml.monitoring import alert_volume
from tests.support.contract import imitates


@imitates("dynamodb", pages="query")
class Table:
    """A DynamoDB query by partition, two items a page."""

    def __init__(self, items: dict[str, list[dict]]) -> None:
        self.items = items

    def get_paginator(self, name):
        assert name == "query"
        return self

    def paginate(self, **given):
        found = self.items.get(given["ExpressionAttributeValues"][":day"]["S"], [])
        for start in range(0, max(1, len(found)), 2):
            yield {"Items": found[start : start + 2]}


def episode(service: str, instance: str, notified: str, message_id: str | None = None, kind: str = "") -> dict:
    item = {"sk": {"S": f"t#{instance}"}, "service": {"S": service}, "notified": {"S": notified}}
    more = {"message_id": message_id, "resource_kind": kind}
    return item | {name: {"S": value} for name, value in more.items() if value}


def test_episodes_announced_together_are_one_message():
    # GIVEN three episodes of the shop in one message, one in another, one in cool-down; one of billing a day earlier
    table = Table(
        {
            "episodes#2026-11-22": [
                episode("shop", "web-1", "sent", "m-1"),
                episode("shop", "web-2", "sent", "m-1"),
                episode("shop", "web-3", "sent", "m-1"),
                episode("shop", "web-1", "sent", "m-2"),
                episode("shop", "web-2", "cooldown"),
            ],
            "episodes#2026-11-21": [episode("billing", "db-1", "sent", "m-3")],
        }
    )
    # THEN six episodes made three messages; a day without episodes counts nothing
    volume = alert_volume.count(table, "t", ["2026-11-20", "2026-11-21", "2026-11-22"])
    assert volume == {"episodes": 6, "messages": 3, "by_service": {"billing": 1, "shop": 5}}


def test_episodes_and_messages_are_counted_for_each_kind():
    # GIVEN a message about an instance and a database of the shop, one about the instance alone, a database in
    # cool-down, and an episode of a kind that was removed since
    table = Table(
        {
            "episodes#2026-11-22": [
                episode("shop", "web-1", "sent", "m-1"),
                episode("shop", "rds/orders", "sent", "m-1", "rds"),
                episode("shop", "web-1", "sent", "m-2", "ec2"),
                episode("shop", "rds/carts", "cooldown", kind="rds"),
                episode("shop", "sqs/jobs", "sent", "m-3", "sqs"),
            ]
        }
    )

    # WHEN they are counted THEN an episode without a kind is of the first one, and the message of two kinds is of both
    volume = alert_volume.count(table, "t", ["2026-11-22"], ["ec2", "rds", "alb"])
    assert (volume["episodes"], volume["messages"]) == (5, 3)
    assert volume["kinds"] == {
        "ec2": {"episodes": 2, "messages": 2},
        "rds": {"episodes": 2, "messages": 1},
        "alb": {"episodes": 0, "messages": 0},
        "sqs": {"episodes": 1, "messages": 1},
    }
    # AND an installation with one kind has no counts of kinds
    assert "kinds" not in alert_volume.count(table, "t", ["2026-11-22"], ["ec2"])


def test_a_damaged_episode_is_named_and_does_not_count(caplog):
    # GIVEN a foreign item, and a paged episode without the id of its message, beside a sound one
    foreign = {"pk": {"S": "episodes#2026-11-22"}, "sk": {"S": "t#foreign"}}
    items = [foreign, episode("shop", "web-1", "sent"), episode("shop", "web-2", "sent", "m-1")]

    # WHEN they are counted THEN the sound one counts, and the others are in the log
    volume = alert_volume.count(Table({"episodes#2026-11-22": items}), "t", ["2026-11-22"])
    assert volume == {"episodes": 1, "messages": 1, "by_service": {"shop": 1}}
    assert [record.message.partition(": ")[2] for record in caplog.records] == [
        "pk 'episodes#2026-11-22', sk 't#foreign': service is absent",
        "pk '', sk 't#web-1': message_id is absent",
    ]

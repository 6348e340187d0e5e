"""A batch from its Kinesis event to objects, episodes and messages, against in-memory services with real conditions."""

from __future__ import annotations

import base64
import json
import math
from typing import TYPE_CHECKING, Any

import pytest

from riskwatch_lambda import handler
from riskwatch_lambda.batch import DeliveryError, Outputs
from riskwatch_lambda.registry import Registry, RegistryError
from riskwatch_lambda.sinks import Objects, Publisher
from tests.unit.lambda_ import tiny
from tests.unit.lambda_.fakes import FakeDynamoDB, FakeS3, FakeSNS
from tests.unit.lambda_.tiny import CPU, NET, PERIOD_MS, TEN

if TYPE_CHECKING:
    from riskwatch_lambda.model import Model

QUIET_CPU = CPU
# A score of 2, with the paging threshold at 1.5.
PAGING_CPU = CPU + math.e**2 - 1
NOW = TEN + 3_660_000
HOUR_MS = 3_600_000
ELEVEN = TEN + HOUR_MS
INSTANCES = {"instances": {"web-1": 2, "web-2": 2, "web-3": 2}, "roles": {"web": 1}, "fleet": 0}
EPISODE = "web-1@2026-11-22T11:00:00.000Z"


class World:
    """A function with a model and fake services."""

    def __init__(self, model: Model | None = None) -> None:
        self.s3, self.dynamodb, self.sns = FakeS3(), FakeDynamoDB(), FakeSNS()
        self.pauses: list[float] = []
        self.model = model or tiny.model(baselines=INSTANCES)
        self.outputs = Outputs(
            Objects(self.s3, "bucket"),
            Registry(self.dynamodb, "table", pause=self.pauses.append),
            Publisher(self.sns, "topic"),
            "https://link",
        )
        self.sequence = 100

    def event(self, *datas: Any) -> dict[str, Any]:
        """Give a Kinesis event with records that are dictionaries or raw text."""
        records = []
        for data in datas:
            self.sequence += 1
            text = data if isinstance(data, str) else base64.b64encode(json.dumps(data).encode()).decode()
            kinesis = {
                "sequenceNumber": str(self.sequence),
                "partitionKey": "shop",
                "approximateArrivalTimestamp": (NOW - 1500) / 1000,
                "data": text,
            }
            records.append({"eventID": f"shardId-000000000000:{self.sequence}", "kinesis": kinesis})
        return {"Records": records}

    def handle(self, event: dict[str, Any], now: int = NOW) -> dict[str, Any]:
        """Run the function on an event at a time."""
        return handler.answer(event, self.model, lambda: self.outputs, "7", now)

    def send(self, *datas: Any, now: int = NOW) -> dict[str, Any]:
        """Run the function on a batch of records."""
        return self.handle(self.event(*datas), now)

    def tick(self, now: int, *instances: str) -> dict[str, Any]:
        """Run the function on a tick."""
        return self.handle({"tick": {"now": now, "instances": list(instances or INSTANCES["instances"])}})

    def tick_of_nobody(self, now: int) -> dict[str, Any]:
        """Run the function on a tick that names no instance."""
        return self.handle({"tick": {"now": now, "instances": []}})


def row(cpu: float, at: int = 0, instance: str = "web-1", service: str = "shop") -> dict[str, Any]:
    """Give a record of one row, ``at`` periods after 11:00."""
    return tiny.stream_record([[cpu, NET]], instance, service=service, last_ms=ELEVEN + at * PERIOD_MS)


def incidents(*starts: int) -> list[dict[str, Any]]:
    """Give the rows of one page and the two quiet rows that close it, for each start in periods after 11:00."""
    return [row(cpu, at + n) for at in starts for n, cpu in enumerate([PAGING_CPU, QUIET_CPU, QUIET_CPU])]


def backlogged() -> World:
    """Give a world whose normal values are the same at every hour."""
    return World(tiny.model({"center": [tiny.baseline(50, 500), tiny.baseline(30, 300), tiny.baseline(CPU, NET)]}))


def told(world: World) -> list[list[str]]:
    """Give the episodes that each message told of."""
    return [[each["episode_id"] for each in message["opened"]] for message in world.sns.messages]


@pytest.fixture
def world() -> World:
    return World()


DONE = {"batchItemFailures": []}
# Periods of five minutes.
HALF_AN_HOUR, AN_HOUR, TWO_HOURS = 6, 12, 24
TWO_HOURS_LATER = "web-1@2026-11-22T13:00:00.000Z"


def test_every_record_is_labelled_or_quarantined(world, capsys):
    # GIVEN a quiet row, a paging row and data that is no record
    # WHEN they come in one batch
    answer = world.send(row(QUIET_CPU, instance="web-2"), row(PAGING_CPU), "bad!")

    # THEN one object holds the labels, with who is critical
    assert answer == DONE
    name = "dt=2026-11-22/hh=11/shardId-000000000000-101-103.json.gz"
    assert sorted(world.s3.objects) == [f"labelled/arrived/{name}", f"quarantine/records/{name}"]
    quiet, paging = world.s3.lines("labelled/")
    assert (quiet["instance_id"], quiet["risk"], quiet["alert"], quiet["episode_id"]) == (
        "web-2",
        "Normal",
        False,
        None,
    )
    assert (paging["risk"], paging["level"], paging["alert"], paging["episode_id"]) == (
        "Critical",
        "Normal",
        True,
        EPISODE,
    )
    assert (paging["score"], paging["model_version"], paging["arrived"]) == (2.0, "7", "2026-11-22T11:00:58.500Z")
    # AND another one the refused record as it came, with the reason
    (refused,) = world.s3.lines("quarantine/")
    assert (refused["data"], refused["sequence_number"], refused["truncated"]) == ("bad!", "103", False)
    assert refused["reason"].startswith("data is not base64")
    # AND the metrics count three rows in, and no payload is printed
    printed = capsys.readouterr().out
    (metrics,) = [json.loads(line) for line in printed.splitlines()]
    assert (metrics["RowsLabelled"], metrics["RowsQuarantined"], metrics["OldestArrival"]) == (2, 1, 1500)
    assert (metrics["EpisodesOpened"], metrics["MessagesSent"], metrics["RowsAlert"]) == (1, 1, 1)
    named = {metric["Name"] for metric in metrics["_aws"]["CloudWatchMetrics"][0]["Metrics"]}
    assert named == set(metrics) - {"_aws", "ModelVersion"}
    assert "bad!" not in printed


def test_an_episode_opens_goes_on_and_closes_over_batches(world):
    # GIVEN a row a batch: page, quiet, page with a higher score, quiet, quiet
    for at, cpu in enumerate([PAGING_CPU, QUIET_CPU, CPU + math.e**3 - 1, QUIET_CPU, QUIET_CPU]):
        assert world.send(row(cpu, at)) == DONE

    # THEN alert holds from the opening row until before the closing one
    assert [label["alert"] for label in world.s3.lines("labelled/")] == [True] * 4 + [False]
    # AND state and list item tell the same of the closed episode
    state, (listed,) = world.dynamodb.state("web-1"), world.dynamodb.listed()
    assert (state["status"], state["episode_id"], state["peak"], state["below"]) == ("closed", EPISODE, 3.0, 2)
    assert (state["since_ms"], state["closed_ms"]) == (ELEVEN, ELEVEN + 4 * PERIOD_MS)
    assert (listed["pk"], listed["sk"]) == ("episodes#2026-11-22", "2026-11-22T11:00:00.000Z#web-1")
    same = set(listed) - {"pk", "sk", "message_id"}
    assert same == set(state) - {"pk", "sk", "recent", "told_since_ms"}
    assert {name: listed[name] for name in same} == {name: state[name] for name in same}
    # AND one message went out, for the opening
    assert len(world.sns.messages) == 1


def test_a_batch_that_comes_again_leaves_one_object_and_one_message(world):
    # GIVEN a batch that opened and closed an episode and opened another one
    rows = [row(cpu, at) for at, cpu in enumerate([PAGING_CPU, QUIET_CPU, QUIET_CPU, PAGING_CPU])]
    event = world.event(*rows)
    world.handle(event)
    objects, items = dict(world.s3.objects), json.dumps(list(world.dynamodb.items.values()))

    # WHEN it comes again a minute later
    assert world.handle(event, NOW + 60_000) == DONE

    # THEN nothing differs
    assert world.s3.objects == objects
    assert json.dumps(list(world.dynamodb.items.values())) == items
    assert len(world.sns.messages) == 1


def test_rows_of_one_batch_count_in_event_order_and_once(world):
    # GIVEN the rows of an episode out of order, one of them twice
    cpus = [PAGING_CPU, QUIET_CPU, QUIET_CPU]
    shuffled = [row(cpus[at], at) for at in (2, 1, 0, 1)]

    # WHEN they come in one batch
    world.send(*shuffled)

    # THEN the episode covers the first two times
    assert [label["alert"] for label in world.s3.lines("labelled/")] == [False, True, True, True]
    assert world.dynamodb.state("web-1")["closed_ms"] == ELEVEN + 2 * PERIOD_MS


def test_two_incidents_of_an_instance_two_hours_apart_in_one_batch_are_both_told():
    # GIVEN a backlog with two incidents of an instance
    world = backlogged()
    event = world.event(*incidents(0, TWO_HOURS))

    # WHEN it comes, and comes again
    world.handle(event)
    items = json.dumps(list(world.dynamodb.items.values()))
    world.handle(event, NOW + 60_000)

    # THEN each has its own message, once, and both are marked
    assert told(world) == [[EPISODE], [TWO_HOURS_LATER]]
    assert [item["notified"] for item in world.dynamodb.listed()] == ["sent", "sent"]
    state = world.dynamodb.state("web-1")
    assert (state["episode_id"], state["notified"], state["notified_ms"]) == (TWO_HOURS_LATER, "sent", NOW)
    assert json.dumps(list(world.dynamodb.items.values())) == items
    # AND nothing is left for a tick
    assert world.tick(NOW + HOUR_MS)["resent"] == 0


def test_two_incidents_of_an_instance_half_an_hour_apart_in_one_batch_give_one_message(world):
    # GIVEN a backlog with two incidents within the cool-down, WHEN it comes
    world.send(*incidents(0, HALF_AN_HOUR))

    # THEN the first is told and the second is quiet, and the state knows when the message went out
    assert told(world) == [[EPISODE]]
    assert [item["notified"] for item in world.dynamodb.listed()] == ["sent", "cooldown"]
    state = world.dynamodb.state("web-1")
    assert (state["notified"], state["notified_ms"], state["told_since_ms"]) == ("cooldown", NOW, ELEVEN)


@pytest.mark.parametrize("crash", [False, True])
def test_the_tick_sends_an_older_message_that_failed_though_a_newer_one_went_out(crash):
    # GIVEN two incidents in one batch, of which the first message fails
    world = backlogged()
    world.sns.failing = 1
    world.send(*incidents(0, TWO_HOURS))
    assert told(world) == [[TWO_HOURS_LATER]]
    assert [item["notified"] for item in world.dynamodb.listed()] == ["pending", "sent"]
    if crash:
        # AND the process ended before it could mark the second
        key = next(key for key in world.dynamodb.items if key[1].startswith("2026-11-22T13"))
        for item in (world.dynamodb.items[key], world.dynamodb.items["instance#web-1", "current"]):
            item["notified"] = {"S": "pending"}

    # WHEN ticks come after exactly five minutes, a moment later, and again, in the morning after
    answers = [world.tick(NOW + 300_000 + late)["resent"] for late in (0, 1, 24 * HOUR_MS)]

    # THEN the second tick sends what is pending, each episode once, and no item stays pending
    assert answers == [0, 1 + crash, 0]
    assert told(world)[1:] == [[EPISODE], [TWO_HOURS_LATER]][: 1 + crash]
    assert [item["notified"] for item in world.dynamodb.listed()] == ["sent", "sent"]
    state = world.dynamodb.state("web-1")
    assert (state["episode_id"], state["notified"], state["notified_ms"]) == (TWO_HOURS_LATER, "sent", NOW + 300_001)


@pytest.mark.parametrize(("days", "resent"), [(1, 1), (2, 0)])
def test_the_tick_looks_for_older_messages_on_the_two_newest_days(days, resent):
    # GIVEN three incidents, of which the message of the second failed, on pages that hold one item each
    world = backlogged()
    world.dynamodb.page_size = 1
    world.send(*incidents(0))
    world.sns.failing = 1
    world.send(*incidents(TWO_HOURS, 2 * TWO_HOURS))
    assert [item["notified"] for item in world.dynamodb.listed()] == ["sent", "pending", "sent"]

    # WHEN the tick comes on a later day, of another instance, THEN it sends the message until the end of the next one
    assert world.tick(ELEVEN + days * 24 * HOUR_MS, "web-9")["resent"] == resent


def test_an_instance_without_a_baseline_of_its_own_is_labelled_and_calls_nobody(world):
    # GIVEN an instance of a known role, far beyond what its role does
    world.send(row(99.0, instance="new-1"))

    # THEN it is unusual, and there is neither episode nor message
    (label,) = world.s3.lines("labelled/")
    assert (label["unusual"], label["alert"], label["risk"]) == (True, False, "High Load")
    assert (world.dynamodb.items, world.sns.messages) == ({}, [])


def test_episodes_of_a_service_that_open_together_share_a_message(world):
    # GIVEN two instances of a service 10 minutes apart, one 20 minutes after the first, and one of another service
    world.model = tiny.model(
        baselines={"instances": {"web-1": 2, "web-2": 2, "web-3": 2, "db-1": 2}, "roles": {}, "fleet": 0}
    )

    # WHEN they open in one batch
    world.send(
        row(PAGING_CPU, 0),
        row(PAGING_CPU, 2, "web-2"),
        row(PAGING_CPU, 4, "web-3"),
        row(PAGING_CPU, 0, "db-1", service="store"),
    )

    # THEN the first two share a message; the one beyond 15 minutes and the other service have their own
    shared = [
        (message["service"], [each["instance_id"] for each in message["opened"]]) for message in world.sns.messages
    ]
    assert shared == [("shop", ["web-1", "web-2"]), ("shop", ["web-3"]), ("store", ["db-1"])]
    assert [message["subject"] for message in world.sns.messages] == [
        "Riskwatch: shop: 2 instances behave unusually",
        "Riskwatch: shop: web-3 behaves unusually",
        "Riskwatch: store: db-1 behaves unusually",
    ]
    assert {item["notified"] for item in world.dynamodb.listed()} == {"sent"}


def test_the_message_says_what_when_and_why(world):
    # GIVEN an episode, WHEN its message goes out
    world.send(row(PAGING_CPU))

    # THEN it carries what the contract names
    (message,) = world.sns.messages
    assert message["attributes"] == {"service": "shop", "risk": "Critical"}
    assert message["version"] == 1
    assert (message["model_id"], message["model_version"], message["link"]) == ("tiny-1", "7", "https://link")
    (opened,) = message["opened"]
    assert (opened["episode_id"], opened["since"], opened["score"]) == (EPISODE, "2026-11-22T11:00:00.000Z", 2.0)
    assert opened["reasons"][0] == {
        "feature": "cpu",
        "value": 16.39,
        "low": 7.0,
        "high": 13.0,
        "share": 1.0,
        "direction": "up",
    }
    assert "cpu 16.39, expected 7 to 13 (100%)" in message["text"]


def test_an_episode_within_the_cooldown_is_written_and_not_told():
    # GIVEN an episode told of at NOW and closed
    world = backlogged()
    world.send(*incidents(0))

    # WHEN the instance opens again 55 minutes after that opening, and once more after an hour
    world.send(row(PAGING_CPU, AN_HOUR - 1), now=NOW + 10 * HOUR_MS)
    within = world.dynamodb.state("web-1")
    world.send(row(QUIET_CPU, AN_HOUR), row(QUIET_CPU, AN_HOUR + 1), row(PAGING_CPU, AN_HOUR + 2))

    # THEN the second is kept quiet whatever the clock says, still remembering the message before it, and the third,
    # an hour and more after the first, is told
    assert (within["status"], within["notified"], within["notified_ms"]) == ("open", "cooldown", NOW)
    assert [item["notified"] for item in world.dynamodb.listed()] == ["sent", "cooldown", "sent"]
    assert len(world.sns.messages) == 2


def test_a_message_that_fails_stays_pending_and_the_tick_sends_it(world):
    # GIVEN a topic that fails once
    world.sns.failing = 1
    assert world.send(row(PAGING_CPU)) == DONE
    assert (world.dynamodb.state("web-1")["notified"], world.sns.messages) == ("pending", [])

    # WHEN ticks come after exactly five minutes, a moment later, and again
    answers = [world.tick(NOW + 300_000 + late) for late in (0, 1, 2)]

    # THEN the second sends it, once, and state and list say so
    assert answers == [{"resent": sent, "expired": 0, "open": 1} for sent in (0, 1, 0)]
    assert [each["episode_id"] for each in world.sns.messages[0]["opened"]] == [EPISODE]
    state, (listed,) = world.dynamodb.state("web-1"), world.dynamodb.listed()
    assert state["notified"] == listed["notified"] == "sent"
    assert state["notified_ms"] == NOW + 300_001


def test_a_message_that_never_went_out_keeps_the_next_episode_quiet_and_is_sent(world):
    # GIVEN an episode whose message failed, closed since, and another one within the cool-down
    world.sns.failing = 1
    for each in [*incidents(0), row(PAGING_CPU, 3)]:
        world.send(each)
    assert told(world) == []
    assert [item["notified"] for item in world.dynamodb.listed()] == ["pending", "cooldown"]

    # WHEN a tick comes, THEN it tells of the older one alone
    assert world.tick(NOW + HOUR_MS)["resent"] == 1
    assert told(world) == [[EPISODE]]
    assert [item["notified"] for item in world.dynamodb.listed()] == ["sent", "cooldown"]
    assert world.dynamodb.state("web-1")["notified"] == "cooldown"


def test_the_tick_closes_episodes_that_have_gone_silent(world):
    # GIVEN an open episode whose newest row is of 11:00, and a verdict that an operator added to its list item
    world.send(row(PAGING_CPU))
    key = next(key for key in world.dynamodb.items if key[0].startswith("episodes#"))
    world.dynamodb.items[key]["verdict"] = {"S": "useful"}

    # WHEN ticks come 24 hours after it, and a moment later
    day = 24 * HOUR_MS
    answers = [world.tick(ELEVEN + day), world.tick(ELEVEN + day + 1)]

    # THEN the second closes it, and what the operator added stays
    assert answers == [{"resent": 0, "expired": 0, "open": 1}, {"resent": 0, "expired": 1, "open": 0}]
    state, (listed,) = world.dynamodb.state("web-1"), world.dynamodb.listed()
    assert state["status"] == listed["status"] == "closed"
    assert state["closed_ms"] == ELEVEN + day + 1
    assert listed["verdict"] == "useful"


def test_the_tick_finds_the_open_episodes_of_two_days_by_itself(world):
    # GIVEN two open episodes of 11:00, on pages that hold one item each; a quiet row follows in one of them at 12:00
    world.dynamodb.page_size = 1
    world.send(row(PAGING_CPU), row(PAGING_CPU, instance="web-2"))
    world.send(row(QUIET_CPU, AN_HOUR, instance="web-2"))
    day = 24 * HOUR_MS

    # WHEN ticks come that name nobody, 24 hours after 11:00, a moment later, and at 12:00 and a moment
    answers = [world.tick_of_nobody(ELEVEN + day + late) for late in (0, 1, HOUR_MS + 1)]

    # THEN each closes a day after its newest row, which the state knows and the list does not; open are all found
    assert [(each["expired"], each["open"]) for each in answers] == [(0, 2), (1, 1), (1, 0)]
    assert world.dynamodb.state("web-1")["closed_ms"] == ELEVEN + day + 1
    assert world.dynamodb.state("web-2")["closed_ms"] == ELEVEN + day + HOUR_MS + 1
    assert [item["status"] for item in world.dynamodb.listed()] == ["closed", "closed"]


def test_an_episode_that_opened_long_ago_is_found_through_its_instance(world):
    # GIVEN an episode that opened six days ago and had its newest row on the fifth day
    world.send(row(PAGING_CPU))
    day = 24 * HOUR_MS
    world.dynamodb.set("web-1", last_ms={"N": str(ELEVEN + 5 * day)})

    # WHEN ticks come a day and a moment after that row, THEN the one that names the instance closes it
    assert world.tick_of_nobody(ELEVEN + 6 * day + 1) == {"resent": 0, "expired": 0, "open": 0}
    assert world.tick(ELEVEN + 6 * day + 1) == {"resent": 0, "expired": 1, "open": 0}


@pytest.mark.parametrize("tick", [None, {}, {"now": 1.5, "instances": []}, {"now": 1, "instances": ["a", 2]}])
def test_a_tick_that_is_not_understood_is_refused(world, tick):
    # GIVEN a tick without time or instances, WHEN it comes, THEN it is an error
    with pytest.raises(ValueError, match="tick"):
        world.handle({"tick": tick})


@pytest.mark.parametrize("service", ["s3", "dynamodb"])
def test_a_failed_write_reports_the_first_record_and_the_next_try_completes(world, service, capsys):
    # GIVEN a service that fails once
    getattr(world, service).failing = 1
    event = world.event(row(PAGING_CPU), row(QUIET_CPU, instance="web-2"), "bad!")

    # WHEN the batch comes, and comes again
    first, second = world.handle(event), world.handle(event)

    # THEN the first answer asks for everything from its first record on, and nothing is lost or doubled
    assert first == {"batchItemFailures": [{"itemIdentifier": "101"}]}
    assert second == DONE
    assert len(world.s3.lines("labelled/")) == 2
    assert len(world.s3.lines("quarantine/")) == 1
    assert len(world.sns.messages) == 1
    assert json.loads(capsys.readouterr().out.splitlines()[0])["event"] == "batch not stored"


def test_a_conflict_is_decided_anew_on_what_is_stored(world):
    # GIVEN an open episode, and a writer who closes it just before the batch writes
    world.send(row(PAGING_CPU))

    def close() -> None:
        world.dynamodb.set("web-1", status={"S": "closed"}, closed_ms={"N": str(ELEVEN + 1)})

    world.dynamodb.before_write = close

    # WHEN the next paging row comes
    assert world.send(row(PAGING_CPU, 1)) == DONE

    # THEN it has opened a new episode instead of going on with the closed one
    state = world.dynamodb.state("web-1")
    assert (state["status"], state["since_ms"], state["notified"]) == ("open", ELEVEN + PERIOD_MS, "cooldown")


def test_endless_conflicts_become_a_failure_of_the_batch(world):
    # GIVEN a writer who always comes in between
    world.send(row(PAGING_CPU))

    def meddle() -> None:
        last = int(world.dynamodb.state("web-1")["last_ms"]) + 1
        world.dynamodb.set("web-1", last_ms={"N": str(last)})
        world.dynamodb.before_write = meddle

    world.dynamodb.before_write = meddle
    before = world.dynamodb.writes

    # WHEN the next row comes, THEN three tries are made and the batch is reported
    assert world.send(row(PAGING_CPU, 1)) == {"batchItemFailures": [{"itemIdentifier": "102"}]}
    assert world.dynamodb.writes - before == 3


def test_reads_that_come_back_in_part_are_asked_again(world):
    # GIVEN three open episodes and a table that answers one key at a time
    world.send(*[row(PAGING_CPU, instance=name) for name in INSTANCES["instances"]])
    world.dynamodb.unprocessed = 2

    # WHEN a tick reads them, THEN all are found; and a table that never answers fully is an error, not an empty answer
    assert world.tick(NOW)["open"] == 3
    assert world.pauses == [0.05, 0.1]
    world.dynamodb.unprocessed = 99
    with pytest.raises(RegistryError, match="left 53 keys unread"):
        world.tick(NOW, *(f"web-{number}" for number in range(1, 60)))


def test_a_backlog_with_more_episodes_than_a_transaction_holds_is_written_whole():
    # GIVEN 120 episodes of one instance, three rows each, WHEN they come in one batch
    world = backlogged()
    assert world.send(*incidents(*range(0, 360, 3))) == DONE

    # THEN all are listed as closed, and every fourth, an hour after the last told one, has its message
    listed = world.dynamodb.listed()
    assert [item["status"] for item in listed] == ["closed"] * 120
    assert [item["notified"] for item in listed] == ["sent", "cooldown", "cooldown", "cooldown"] * 30
    assert told(world) == [[item["episode_id"]] for item in listed[::4]]


def test_more_than_a_hundred_instances_are_read_in_several_requests(world):
    # GIVEN 150 instances of one service that open at once
    names = [f"web-{number}" for number in range(150)]
    world.model = tiny.model(baselines={"instances": dict.fromkeys(names, 2), "roles": {}, "fleet": 0})

    # WHEN they come, THEN they share one message that lists 50 and counts the rest
    assert world.send(*[row(PAGING_CPU, instance=name) for name in names]) == DONE
    (message,) = world.sns.messages
    assert (len(message["opened"]), message["more"]) == (50, 100)
    assert {item["notified"] for item in world.dynamodb.listed()} == {"sent"}


def test_a_service_name_of_any_letters_gives_a_subject_that_sns_accepts(world):
    # GIVEN a long service name that is not ASCII, WHEN it is told of, THEN the subject is cut and plain
    world.send(row(PAGING_CPU, service="ü" * 120))
    assert world.sns.messages[0]["subject"].startswith("Riskwatch: ????")
    assert len(world.sns.messages[0]["subject"]) == 100


def test_oversized_data_is_quarantined_truncated(world):
    # GIVEN data of 70,000 characters, WHEN it comes, THEN the first 65,536 are kept
    world.send("A" * 70_000)
    (refused,) = world.s3.lines("quarantine/")
    assert (len(refused["data"]), refused["truncated"]) == (65_536, True)


def test_an_empty_batch_and_another_source_are_told_apart(world):
    # GIVEN no records, and one that is not from Kinesis, WHEN they come, THEN one is nothing to do, the other an error
    assert world.handle({"Records": []}) == DONE
    with pytest.raises(DeliveryError, match="kinesis"):
        world.handle({"Records": [{"messageId": "1", "body": "{}"}]})


def test_with_two_of_three_the_first_page_is_remembered_between_batches():
    # GIVEN a rule of 2 of 3 rows
    rule = {**tiny.DOCUMENT["rule"], "m": 2, "n": 3}
    world = World(tiny.model(baselines=INSTANCES, rule=rule))

    # WHEN a page, a quiet row and a page come in three batches
    for at, cpu in enumerate([PAGING_CPU, QUIET_CPU, PAGING_CPU]):
        world.send(row(cpu, at))

    # THEN the episode opens at the third
    assert [label["alert"] for label in world.s3.lines("labelled/")] == [False, False, True]
    assert len(world.sns.messages) == 1

"""A batch from its Kinesis event to objects, episodes and messages, against in-memory services with real conditions."""

from __future__ import annotations

import json
import math

import pytest

from riskwatch_lambda.events.batch import DeliveryError
from riskwatch_lambda.table import RegistryError
from tests.support import tiny
from tests.support.tiny import CPU, PERIOD_MS
from tests.support.world import (
    AN_HOUR,
    DONE,
    ELEVEN,
    EPISODE,
    HALF_AN_HOUR,
    HOUR_MS,
    INSTANCES,
    NOW,
    PAGING_CPU,
    QUIET_CPU,
    TWO_HOURS,
    TWO_HOURS_LATER,
    World,
    backlogged,
    incidents,
    row,
    told,
)


@pytest.fixture
def world() -> World:
    return World()


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
    # AND one line of metrics counts three rows in, by risk, and no payload is printed
    printed = capsys.readouterr().out
    (metrics,) = [json.loads(line) for line in printed.splitlines()]
    assert (metrics["RowsLabelled"], metrics["RowsQuarantined"]) == (2, 1)
    risks = {name: metrics[f"Rows{name}"] for name in ("Idle", "Normal", "HighLoad", "Critical")}
    assert risks == {"Idle": 0, "Normal": 1, "HighLoad": 0, "Critical": 1}
    assert (metrics["EpisodesOpened"], metrics["MessagesSent"]) == (1, 1)
    named = {metric["Name"] for metric in metrics["_aws"]["CloudWatchMetrics"][0]["Metrics"]}
    assert named == set(metrics) - {"_aws", "ModelVersion", "batch", "records"}
    assert (metrics["batch"], metrics["records"]) == ("shardId-000000000000-101-103", 3)
    assert "bad!" not in printed
    # AND says how long the batch took since its put 1.5 s ago, and since the end of the period at 11:05
    assert 1_500 <= metrics["PutToDone"] < 60_000
    assert metrics["DatapointToDone"] == 0


def test_the_delay_is_counted_from_the_end_of_the_newest_rows_period(world, capsys):
    # GIVEN rows of 11:00 and of 10:30 in five-minute periods, WHEN they come at 11:08
    world.send(row(QUIET_CPU), row(QUIET_CPU, -6, instance="web-2"), now=ELEVEN + 8 * 60_000)

    # THEN the newest was ready to be seen for three minutes, whatever has been sent late on purpose
    (metrics,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert 180_000 <= metrics["DatapointToDone"] < 240_000


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
    same = set(listed) - {"pk", "sk", "message_id", "unfinished"}
    assert same == set(state) - {"pk", "sk", "recent", "revision"}
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
    # AND no opening is left for a tick, only that both are over
    assert world.tick(NOW + HOUR_MS)["sent"] == 1
    assert told(world, "resolved") == [[EPISODE, TWO_HOURS_LATER]]


def test_two_incidents_of_an_instance_half_an_hour_apart_in_one_batch_give_one_message(world):
    # GIVEN a backlog with two incidents within the cool-down, WHEN it comes
    world.send(*incidents(0, HALF_AN_HOUR))

    # THEN the first is told and the second is quiet, and the state knows which one was told
    assert told(world) == [[EPISODE]]
    assert [item["notified"] for item in world.dynamodb.listed()] == ["sent", "cooldown"]
    state = world.dynamodb.state("web-1")
    assert (state["notified"], state["told_since_ms"]) == ("cooldown", ELEVEN)


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
    assert message["attributes"] == {"event": "opened", "service": "shop", "risk": "Critical"}
    assert (message["version"], message["event"], message["service"]) == (1, "opened", "shop")
    assert (message["model_id"], message["model_version"]) == ("tiny-1", "7")
    assert message["link"] == "https://link/riskwatch/?instance=web-1"
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

    # THEN the second is kept quiet whatever the clock says, still remembering the one that was told, and the third,
    # an hour and more after the first, is told
    assert (within["status"], within["notified"], within["told_since_ms"]) == ("open", "cooldown", ELEVEN)
    assert [item["notified"] for item in world.dynamodb.listed()] == ["sent", "cooldown", "sent"]
    assert len(world.sns.messages) == 2


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
    # AND the log names the batch, and nothing of what was in it
    line = json.loads(capsys.readouterr().out.splitlines()[0])
    assert (line["event"], line["batch"]) == ("batch not stored", "shardId-000000000000-101-103")
    assert set(line) == {"level", "event", "batch", "records", "rows", "reason"}


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
        world.tick(NOW, [[f"web-{number}", "shop", ELEVEN] for number in range(1, 57)])


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
    assert len(world.sns.messages[0]["subject"]) == 99


def test_oversized_data_is_quarantined_truncated(world):
    # GIVEN data of more than a MB, WHEN it comes, THEN the first MB is kept
    world.send("A" * 1_100_000)
    (refused,) = world.s3.lines("quarantine/")
    assert (len(refused["data"]), refused["truncated"], refused["rows"]) == (1_048_576, True, 1)


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

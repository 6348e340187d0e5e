"""A batch from its Kinesis event to objects, metrics and retries, against in-memory services."""

from __future__ import annotations

import json

import pytest

from riskwatch_lambda.events.delivery import DeliveryError
from riskwatch_lambda.table import TableError
from tests.support.world import (
    DONE,
    ELEVEN,
    EPISODE,
    INSTANCES,
    NOW,
    PAGING_CPU,
    QUIET_CPU,
    World,
    row,
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


def test_a_batch_that_comes_again_leaves_one_object_and_one_message(world):
    # GIVEN a batch that opened and closed an episode and opened another one
    rows = [row(cpu, at) for at, cpu in enumerate([PAGING_CPU, QUIET_CPU, QUIET_CPU, PAGING_CPU])]
    event = world.event(*rows)
    world.handle(event)
    objects, items = dict(world.s3.objects), repr(list(world.dynamodb.items.values()))

    # WHEN it comes again a minute later
    assert world.handle(event, NOW + 60_000) == DONE

    # THEN nothing differs
    assert world.s3.objects == objects
    assert repr(list(world.dynamodb.items.values())) == items
    assert len(world.sns.messages) == 1


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
    with pytest.raises(TableError, match="left 53 keys unread"):
        world.tick(NOW, [[f"web-{number}", "shop", ELEVEN] for number in range(1, 57)])


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

"""The reader of shards: batches by count and window, checkpoints, taking over a mapping, discard messages."""

import json
import threading
import time
from datetime import UTC, datetime

import pytest

from riskwatch_local.lambda_host.environment import Answer
from riskwatch_local.lambda_host.event_source import EventSourceError, Settings
from riskwatch_local.lambda_host.kinesis_source import Clients, KinesisSource, take_over
from tests.support.contract import imitates

STREAM = "arn:aws:kinesis:eu-west-1:123456789012:stream/metrics"
ARRIVED = datetime(2026, 11, 22, 10, tzinfo=UTC)


class ExpiredIteratorError(Exception):
    """What botocore raises for an iterator that was not used for five minutes."""


@imitates("kinesis")
class FakeKinesis:
    """Shards as lists; an iterator is a shard and a place, and the next ``expired`` of them are too old."""

    class exceptions:  # noqa: N801 - botocore's name
        ExpiredIteratorException = ExpiredIteratorError

    def __init__(self, *shards):
        self.shards = {f"shard-{number}": list(held) for number, held in enumerate(shards)}
        self.expired = 0
        self.reads = 0

    def list_shards(self, *, StreamARN):  # noqa: N803
        assert StreamARN == STREAM
        return {"Shards": [{"ShardId": name} for name in self.shards]}

    def get_shard_iterator(self, *, StreamARN, ShardId, ShardIteratorType, StartingSequenceNumber=None):  # noqa: N803
        held = self.shards[ShardId]
        start = {"TRIM_HORIZON": 0, "LATEST": len(held)}.get(ShardIteratorType)
        if start is None:
            assert ShardIteratorType == "AFTER_SEQUENCE_NUMBER"
            start = sum(number <= int(StartingSequenceNumber) for number in held)
        return {"ShardIterator": f"{ShardId}/{start}"}

    def get_records(self, *, ShardIterator, Limit):  # noqa: N803
        self.reads += 1
        if self.expired:
            self.expired -= 1
            raise ExpiredIteratorError
        name, _, start = ShardIterator.partition("/")
        page = self.shards[name][int(start) :][:Limit]
        records = [
            {"SequenceNumber": str(n), "PartitionKey": "p", "Data": b"", "ApproximateArrivalTimestamp": ARRIVED}
            for n in page
        ]
        return {"Records": records, "NextShardIterator": f"{name}/{int(start) + len(page)}"}


@imitates("sqs")
class FakeSqs:
    def __init__(self):
        self.messages = []

    def get_queue_url(self, *, QueueName):  # noqa: N803
        return {"QueueUrl": f"url of {QueueName}"}

    def send_message(self, *, QueueUrl, MessageBody):  # noqa: N803
        self.messages.append((QueueUrl, json.loads(MessageBody)))


class Function:
    """Notes the batches; fails while `failing` is above 0."""

    def __init__(self):
        self.batches = []
        self.failing = 0

    def __call__(self, event):
        self.batches.append([int(record["kinesis"]["sequenceNumber"]) for record in event["Records"]])
        if self.failing:
            self.failing -= 1
            return Answer(None, "Unhandled", "r", "1")
        return Answer(None, None, "r", "1")


def source(kinesis, function, sqs=None, after=None, **changes):
    settings = Settings(**{"stream_arn": STREAM, "function_arn": "f", "batch_size": 3, **changes})
    return KinesisSource(Clients(None, kinesis, sqs), settings, function, after)


def test_draining_delivers_every_shard_in_order_and_in_full_batches():
    # GIVEN two shards WHEN they are drained THEN each is delivered in order
    kinesis, function = FakeKinesis(range(1, 8), [21]), Function()
    draining = source(kinesis, function)
    draining.drain()
    assert function.batches == [[1, 2, 3], [4, 5, 6], [7], [21]]
    assert draining.checkpoints == {"shard-0": "7", "shard-1": "21"}
    # AND what comes later is delivered by the next call
    kinesis.shards["shard-0"].append(8)
    draining.drain()
    assert function.batches[4:] == [[8]]


def test_a_source_continues_after_the_given_checkpoints():
    for options, expected in (
        ({"after": {"shard-0": "2"}}, [[3, 4]]),
        ({"starting_position": "LATEST"}, []),
        ({}, [[1, 2, 3], [4]]),
    ):
        function = Function()
        source(FakeKinesis([1, 2, 3, 4]), function, **options).drain()
        assert function.batches == expected


def test_an_expired_iterator_is_replaced_after_the_last_record_read():
    # GIVEN a shard of which some was delivered
    kinesis, function = FakeKinesis([1, 2]), Function()
    draining = source(kinesis, function)
    draining.drain()
    # WHEN the iterator expires meanwhile
    kinesis.shards["shard-0"].append(3)
    kinesis.expired = 1
    draining.drain()
    draining.drain()
    # THEN nothing is left out or read twice
    assert function.batches == [[1, 2], [3]]


def test_a_running_source_fills_batches_within_the_window_and_can_be_stopped():
    # GIVEN a window far longer than the test, and seven records of a batch size of three
    kinesis, function = FakeKinesis(range(1, 8)), Function()
    running = source(kinesis, function, window_s=3600)
    thread = threading.Thread(target=running.run)
    thread.start()
    # WHEN it has looked for more twice THEN the two full batches went out at once, and the rest waits for its window
    while kinesis.reads < 3:
        time.sleep(0.01)
    running.stop()
    thread.join(10)
    assert not thread.is_alive()
    assert function.batches == [[1, 2, 3], [4, 5, 6]]
    assert running.checkpoints == {"shard-0": "6"}


def test_a_running_source_without_a_window_waits_for_nothing():
    function, answered = Function(), threading.Event()

    def invoke(event):
        answered.set()
        return function(event)

    running = source(FakeKinesis([1]), invoke)
    thread = threading.Thread(target=running.run)
    thread.start()
    assert answered.wait(10)
    running.stop()
    thread.join(10)
    assert function.batches == [[1]]


def test_an_error_of_a_running_source_is_raised():
    def broken(event):
        raise OSError("no process")

    with pytest.raises(OSError, match="no process"):
        source(FakeKinesis([1], []), broken).run()


def test_discarded_records_are_reported_to_the_queue_of_the_mapping():
    # GIVEN a function that fails WHEN its tries are used up
    sqs, function = FakeSqs(), Function()
    function.failing = 1
    source(FakeKinesis([1, 2]), function, sqs, retries=0, destination="arn:aws:sqs:eu-west-1:1:dead").drain()
    # THEN the letter lies in the queue
    ((url, letter),) = sqs.messages
    assert url == "url of dead"
    assert letter["KinesisBatchInfo"]["batchSize"] == 2


@imitates("lambda")
class FakeLambda:
    def __init__(self, *mappings):
        self.mappings = mappings
        self.updated = []

    def list_event_source_mappings(self, *, FunctionName):  # noqa: N803
        assert FunctionName == "inference:live"
        return {"EventSourceMappings": list(self.mappings)}

    def update_event_source_mapping(self, **changes):
        self.updated.append(changes)


UUID = "6f0e1c52-4b7a-4f0e-9d0b-3a4f1e2d5c6b"
MAPPING = {"UUID": UUID, "EventSourceArn": STREAM, "FunctionArn": "f", "BatchSize": 500}


def test_taking_over_reads_the_mapping_and_turns_it_off():
    functions = FakeLambda(MAPPING)
    assert take_over(Clients(functions, None, None), "inference", "live").batch_size == 500
    assert functions.updated == [{"UUID": UUID, "Enabled": False}]


@pytest.mark.parametrize("mappings", [[], [MAPPING, MAPPING]])
def test_a_function_with_no_mapping_or_two_is_refused(mappings):
    with pytest.raises(EventSourceError, match=f"has {len(mappings)} event source mappings"):
        take_over(Clients(FakeLambda(*mappings), None, None), "inference", "live")

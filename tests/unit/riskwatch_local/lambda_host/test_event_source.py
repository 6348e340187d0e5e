"""The event source: order, splitting, tries, age, partial answers, and its messages about discarded records."""

import base64
import json

import pytest

from riskwatch_local.lambda_host.environment import PAYLOAD_LIMIT, Answer
from riskwatch_local.lambda_host.event_source import (
    Delivery,
    EventSourceError,
    Record,
    Settings,
    event_record,
    full_batch,
)

SHARD = "shardId-000000000000"
STREAM = "arn:aws:kinesis:eu-west-1:123456789012:stream/metrics"
FUNCTION = "arn:aws:lambda:eu-west-1:123456789012:function:inference:live"
QUEUE = "arn:aws:sqs:eu-west-1:123456789012:dead"
NOW = 1_795_345_200.0
DONE: dict[str, list[object]] = {"batchItemFailures": []}


def settings(**changes):
    return Settings(**{"stream_arn": STREAM, "function_arn": FUNCTION, "destination": QUEUE, **changes})


def records(*numbers, arrived=NOW):
    return [Record(str(number), "shop", b"%d" % number, arrived) for number in numbers]


class World:
    """A function with prepared answers that records its invocations."""

    def __init__(self, answer=lambda numbers: DONE, stop_after=None, **changes):
        self.calls, self.letters, self.pauses = [], [], []
        self.answer = answer
        self.stop_after = stop_after
        self.delivery = Delivery(
            settings(**changes), SHARD, self._invoke, self.letters.append, self._pause, lambda: NOW
        )

    def _invoke(self, event):
        numbers = [int(base64.b64decode(record["kinesis"]["data"])) for record in event["Records"]]
        self.calls.append(numbers)
        answer = self.answer(numbers)
        failed = isinstance(answer, Exception)
        return Answer({"errorMessage": str(answer)} if failed else answer, "Unhandled" if failed else None, "r1", "7")

    def _pause(self, seconds):
        self.pauses.append(seconds)
        return len(self.pauses) == self.stop_after


def failing_on(*bad):
    """A function that fails for a batch with one of these records in it."""
    return lambda numbers: ValueError("bad") if set(bad) & set(numbers) else DONE


def reporting(*bad):
    """A function that reports these records, the last one first."""
    return lambda numbers: {"batchItemFailures": [{"itemIdentifier": str(n)} for n in reversed(numbers) if n in bad]}


def test_a_record_stands_in_the_event_as_lambda_puts_it():
    (record,) = records(42)
    assert event_record(record, SHARD, settings()) == {
        "kinesis": {
            "kinesisSchemaVersion": "1.0",
            "partitionKey": "shop",
            "sequenceNumber": "42",
            "data": "NDI=",
            "approximateArrivalTimestamp": NOW,
        },
        "eventSource": "aws:kinesis",
        "eventVersion": "1.0",
        "eventID": f"{SHARD}:42",
        "eventName": "aws:kinesis:record",
        "awsRegion": "eu-west-1",
        "eventSourceARN": STREAM,
    }


def test_a_batch_that_goes_through_is_delivered_once():
    world = World()
    assert world.delivery.deliver(records(1, 2, 3))
    assert world.calls == [[1, 2, 3]]
    assert (world.delivery.checkpoint, world.pauses, world.letters) == ("3", [], [])


def test_a_function_that_fails_is_tried_again_with_growing_pauses_and_nothing_overtakes():
    # GIVEN a function that fails three times
    world = World(lambda numbers: ValueError("bad") if len(world.calls) < 4 else DONE)
    # WHEN two batches are delivered THEN the second waits for the first
    for batch in (records(1, 2), records(3)):
        assert world.delivery.deliver(batch)
    assert world.calls == [[1, 2]] * 4 + [[3]]
    assert world.pauses == pytest.approx([0.1, 0.2, 0.4])


def test_pauses_stop_growing():
    # GIVEN a function that fails two thousand times WHEN it is waited for THEN no pause is longer than half a minute
    world = World(lambda numbers: ValueError("bad") if len(world.calls) < 2000 else DONE)
    assert world.delivery.deliver(records(1))
    assert max(world.pauses) == pytest.approx(25.6)


def test_tries_are_limited_and_the_letter_says_which_records_were_given_up():
    # GIVEN two retries and a function that always fails
    world = World(failing_on(1), retries=2)
    # WHEN a batch is delivered THEN it is tried three times and given up, and the next one goes on
    assert world.delivery.deliver(records(1, 2, arrived=NOW - 5))
    assert world.delivery.deliver(records(3))
    assert world.calls == [[1, 2]] * 3 + [[3]]
    assert (world.delivery.discarded, world.delivery.checkpoint) == (2, "3")
    assert world.letters == [
        {
            "requestContext": {
                "requestId": "r1",
                "functionArn": FUNCTION,
                "condition": "RetryAttemptsExhausted",
                "approximateInvokeCount": 3,
            },
            "responseContext": {"statusCode": 200, "executedVersion": "7", "functionError": "Unhandled"},
            "version": "1.0",
            "timestamp": "2026-11-22T11:00:00.000Z",
            "KinesisBatchInfo": {
                "shardId": SHARD,
                "startSequenceNumber": "1",
                "endSequenceNumber": "2",
                "approximateArrivalOfFirstRecord": "2026-11-22T10:59:55.000Z",
                "approximateArrivalOfLastRecord": "2026-11-22T10:59:55.000Z",
                "batchSize": 2,
                "streamArn": STREAM,
            },
        }
    ]


def test_bisecting_isolates_the_bad_record_and_costs_no_try():
    # GIVEN no retries at all, and one bad record of eight
    world = World(failing_on(6), bisects=True, retries=0)
    # WHEN the batch is delivered THEN halves are tried until the bad one is alone, and only it is given up
    assert world.delivery.deliver(records(*range(1, 9)))
    assert world.calls == [[1, 2, 3, 4, 5, 6, 7, 8], [1, 2, 3, 4], [5, 6, 7, 8], [5, 6], [5], [6], [7, 8]]
    assert world.delivery.discarded == 1
    assert world.letters[0]["KinesisBatchInfo"]["startSequenceNumber"] == "6"
    assert world.delivery.checkpoint == "8"


def test_the_next_attempt_begins_at_the_lowest_reported_record():
    # GIVEN a function that reports 3 and 5 the first time
    world = World(lambda numbers: reporting(3, 5)(numbers) if len(world.calls) == 1 else DONE, reports_failures=True)
    # WHEN the batch is delivered THEN all from 3 on comes again, also what was done
    assert world.delivery.deliver(records(1, 2, 3, 4, 5, 6))
    assert world.calls == [[1, 2, 3, 4, 5, 6], [3, 4, 5, 6]]


@pytest.mark.parametrize("bisects", [False, True])
def test_a_record_that_always_fails_is_discarded_with_the_rest_of_its_batch(bisects):
    # GIVEN one retry, and a function that always reports 3
    world = World(reporting(3), reports_failures=True, retries=1, bisects=bisects)
    # WHEN the batch is delivered THEN 1 and 2 are done, and the tries are counted from where splitting left off
    assert world.delivery.deliver(records(1, 2, 3, 4))
    assert world.calls == [[1, 2, 3, 4]] + [[3, 4]] * (2 if bisects else 1)
    assert world.delivery.discarded == 2
    assert world.letters[0]["responseContext"]["functionError"] is None


@pytest.mark.parametrize("answer", [None, {}, {"batchItemFailures": []}, {"batchItemFailures": None}, {"other": 1}])
def test_answers_without_a_failure_are_success(answer):
    world = World(lambda numbers: answer, reports_failures=True)
    assert world.delivery.deliver(records(1, 2))
    assert world.calls == [[1, 2]]


@pytest.mark.parametrize(
    "answer",
    [
        {"batchItemFailures": [{"itemIdentifier": ""}]},
        {"batchItemFailures": [{"itemIdentifier": None}]},
        {"batchItemFailures": [{"wrong": "2"}]},
        {"batchItemFailures": [{"itemIdentifier": "99"}]},
        {"batchItemFailures": ["2"]},
        {"batchItemFailures": 1},
        "done",
    ],
)
def test_a_report_that_names_no_record_of_the_batch_is_one_about_all_of_it(answer):
    world = World(lambda numbers: answer if len(world.calls) == 1 else DONE, reports_failures=True)
    assert world.delivery.deliver(records(1, 2))
    assert world.calls == [[1, 2], [1, 2]]


def test_reports_are_ignored_unless_the_mapping_enables_them():
    world = World(reporting(1))
    assert world.delivery.deliver(records(1, 2))
    assert world.calls == [[1, 2]]


def test_records_beyond_the_age_are_given_up_before_the_function_sees_them():
    # GIVEN an age of an hour, and two of three records that are older
    world = World(record_age_s=3600)
    # WHEN they are delivered THEN the third alone reaches the function
    assert world.delivery.deliver([*records(1, 2, arrived=NOW - 3601), *records(3)])
    assert world.calls == [[3]]
    (letter,) = world.letters
    assert letter["requestContext"]["condition"] == "RecordAgeExceeded"
    assert letter["KinesisBatchInfo"]["endSequenceNumber"] == "2"
    assert "responseContext" not in letter


def test_a_batch_that_grows_too_old_while_it_is_tried_is_given_up():
    # GIVEN a clock that runs an hour with each pause, and a function that always fails
    world = World(failing_on(1), record_age_s=2 * 3600)
    world.delivery._now = lambda: NOW + 3600 * len(world.pauses)
    # WHEN it is delivered THEN it is tried for as long as it is young enough
    assert world.delivery.deliver(records(1))
    assert world.calls == [[1], [1], [1]]
    assert world.letters[0]["requestContext"]["condition"] == "RecordAgeExceeded"


def test_a_stop_ends_the_attempts_and_leaves_the_checkpoint_unchanged():
    world = World(reporting(3), reports_failures=True, stop_after=2)
    assert not world.delivery.deliver(records(1, 2, 3))
    assert world.calls == [[1, 2, 3], [3]]
    assert world.delivery.checkpoint == "2"
    assert world.letters == []


def test_without_a_destination_nothing_is_written():
    world = World(failing_on(1), retries=0, destination=None)
    assert world.delivery.deliver(records(1))
    assert (world.delivery.discarded, world.letters) == (1, [])


def test_a_batch_is_full_by_count():
    assert full_batch(records(1, 2, 3), SHARD, settings(batch_size=4)) is None
    assert full_batch(records(1, 2, 3, 4), SHARD, settings(batch_size=4)) == 4
    assert full_batch(records(1, 2, 3, 4, 5), SHARD, settings(batch_size=4)) == 4


def test_a_batch_is_full_when_one_more_record_would_not_fit_an_event():
    # GIVEN eight records of 750 KB, a million characters each in base64
    large = [Record(str(n), "shop", bytes(750_000), NOW) for n in range(8)]
    # WHEN a batch is cut THEN six fit, and a seventh would not
    length = full_batch(large, SHARD, settings(batch_size=100))
    assert length == 6

    def size(count):
        event = {"Records": [event_record(record, SHARD, settings()) for record in large[:count]]}
        return len(json.dumps(event, separators=(",", ":")))

    assert size(6) <= PAYLOAD_LIMIT < size(7)


DESCRIBED = {"EventSourceArn": STREAM, "FunctionArn": FUNCTION}


def test_a_mapping_has_lambdas_defaults():
    assert Settings.of(DESCRIBED) == Settings(stream_arn=STREAM, function_arn=FUNCTION)
    assert Settings.of(DESCRIBED).retries == -1


@pytest.mark.parametrize(
    "change",
    [
        {"EventSourceArn": "arn:aws:sqs:eu-west-1:123456789012:queue"},
        {"ParallelizationFactor": 2},
        {"TumblingWindowInSeconds": 30},
        {"FilterCriteria": {"Filters": [{"Pattern": "{}"}]}},
    ],
)
def test_settings_that_are_not_played_are_refused(change):
    with pytest.raises(EventSourceError, match=r"queue|2|30|Pattern"):
        Settings.of({**DESCRIBED, **change})

"""Whatever fails on the way: every row sent is labelled or quarantined, every episode is told, and few are told twice.

The promoted zip runs under AWS's runtime client; its calls to S3, DynamoDB and SNS go through a proxy that fails on
demand; batches come from Kinesis with the settings of the stack.
"""

import json
import threading
import time

import pytest

from riskwatch_local.lambda_host.event_source import Delivery, Record, Settings
from tests.support.rig import HOSTILE_NAMES, PERIOD_MS, record, wait_until, with_flipped_bit
from tests.support.world import PAGING_CPU, QUIET_CPU

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

HANG = 60_000


def test_batches_come_with_the_settings_of_the_stack(rig):
    arn, queue = rig.settings.stream_arn, rig.settings.destination
    assert (arn.rpartition("/")[2], queue.rpartition(":")[2]) == ("riskwatch-metrics", "riskwatch-dead-letters")
    assert rig.settings == Settings(
        stream_arn=arn,
        function_arn=rig.settings.function_arn,
        batch_size=500,
        window_s=1,
        retries=-1,
        record_age_s=23 * 3600,
        bisects=True,
        reports_failures=True,
        starting_position="TRIM_HORIZON",
        destination=queue,
    )


def test_a_batch_that_is_delivered_twice_has_the_effect_of_one(rig, shared_runtime):
    # GIVEN a batch that was delivered WHEN it is delivered again
    experiment = rig.experiment()
    experiment.deliver(experiment.hour(), shared_runtime)
    again = experiment.source(shared_runtime)
    again.drain()
    # THEN not even an object more is there
    assert again.deliveries[0].invocations == 1
    experiment.settle("delivered twice")


def test_a_batch_that_is_cut_elsewhere_when_it_comes_again(rig, shared_runtime):
    # GIVEN an hour of rows, delivered in batches of 25
    experiment = rig.experiment()
    experiment.deliver(experiment.hour(), shared_runtime, batch_size=25)
    # WHEN all of it comes again in batches of 7
    experiment.source(shared_runtime, batch_size=7).drain()
    # THEN every row stands there twice, for whoever reads them to keep the first, and nobody was told twice
    experiment.settle("cut elsewhere", twice=60)


def test_poison_between_good_records_is_quarantined(rig, shared_runtime):
    # GIVEN good records with three between them that nobody can read
    experiment = rig.experiment()
    datas = experiment.hour()
    for place, poison in ((7, b"\x00\xff"), (20, b"not json"), (41, b'{"v": 99}')):
        datas.insert(place, experiment.bad(poison))
    # WHEN they are delivered THEN one invocation does: poison is neither tried again nor in the way
    assert experiment.deliver(datas, shared_runtime).deliveries[0].invocations == 1
    experiment.settle("poison record")


def test_throttling_is_absorbed_by_one_invocation(rig, shared_runtime):
    # GIVEN each of the three services throttles
    experiment = rig.experiment()
    rig.faults(
        {"service": "s3", "operation": "PutObject", "times": 2, "error": {"code": "SlowDown"}},
        {"service": "dynamodb", "times": 2, "error": {"code": "ProvisionedThroughputExceededException"}},
        {"service": "sns", "operation": "Publish", "times": 1, "error": {"code": "ThrottledException", "status": 429}},
    )
    # WHEN a batch is delivered THEN the clients' own retries are enough
    source = experiment.deliver(experiment.hour(), shared_runtime)
    assert rig.fired() == 5
    assert source.deliveries[0].invocations == 1
    experiment.settle("throttled")


@pytest.mark.parametrize(
    "rule",
    [
        {"service": "s3", "operation": "PutObject", "error": {"code": "InternalError", "status": 500}},
        {"service": "dynamodb", "error": {"code": "InternalServerError", "status": 500}},
        {"service": "dynamodb", "operation": "TransactWriteItems", "reset": True},
    ],
    ids=["s3", "dynamodb", "dynamodb writes"],
)
def test_a_store_that_is_down_delays_the_batch(rig, shared_runtime, rule):
    # GIVEN a store that fails all four tries of an invocation
    experiment = rig.experiment()
    rig.faults({**rule, "times": 4})
    # WHEN a batch is delivered, poison in it, THEN it is reported, and comes again
    source = experiment.deliver([*experiment.hour(), experiment.bad(b"[]")], shared_runtime)
    assert rig.fired() == 4
    assert source.deliveries[0].invocations == 2
    experiment.settle(f"{rule['service']} down")


def test_an_answer_that_is_lost_after_the_write(rig, shared_runtime):
    # GIVEN writes that go through while their answers do not come back
    experiment = rig.experiment()
    rig.faults(
        {"service": "s3", "operation": "PutObject", "times": 1, "response": {"abort_bytes": 0}},
        {"service": "dynamodb", "operation": "TransactWriteItems", "times": 1, "response": {"abort_bytes": 0}},
    )
    # WHEN a batch is delivered, and a tick comes
    experiment.deliver(experiment.hour(), shared_runtime)
    experiment.tick()
    # THEN the second try finds what the first wrote
    assert rig.fired() == 2
    experiment.settle("answer lost")


def test_a_topic_that_is_down_delays_the_message(rig, shared_runtime):
    # GIVEN a topic that takes nothing
    experiment = rig.experiment()
    rig.faults(
        {"service": "sns", "operation": "Publish", "times": 4, "error": {"code": "InternalError", "status": 500}}
    )
    # WHEN a batch is delivered THEN its rows are labelled at once
    source = experiment.deliver(experiment.hour(), shared_runtime)
    assert (rig.fired(), source.deliveries[0].invocations) == (4, 1)
    # AND the next tick sends the message
    experiment.tick()
    experiment.settle("sns down")


@pytest.mark.parametrize(
    ("rule", "repeated"),
    [
        ({"service": "sns", "operation": "Publish"}, 0),
        ({"service": "dynamodb", "body": "contains(to_string(@), 'message_id')"}, 1),
    ],
    ids=["before the message", "after the message"],
)
def test_a_crash_between_claim_and_mark(rig, rule, repeated):
    # GIVEN a function that hangs after it has claimed a message: before sending it, or before noting its id
    experiment = rig.experiment()
    datas = experiment.hour()
    with rig.runtime() as runtime:
        runtime.invoke({"selftest": {}})
        rig.faults({**rule, "times": 1, "timeout_ms": HANG})
        experiment.put(datas)
        source = experiment.source(runtime)
        draining = threading.Thread(target=source.drain)
        draining.start()
        wait_until(lambda: rig.fired() == 1)
        # WHEN its process is killed there
        runtime.kill()
        # THEN the batch comes again, in halves, and the next tick sends what was claimed
        draining.join(60)
        experiment.tick()
        assert runtime.starts == 2
    experiment.settle(f"crash at {rule['service']}", duplicates=repeated, twice=60)


def test_a_crash_between_writes_and_a_batch_that_is_cut_elsewhere(rig):
    # GIVEN a source that has delivered one of its batches when function and source die in the second
    experiment = rig.experiment()
    experiment.put(experiment.hour())
    with rig.runtime() as runtime:
        runtime.invoke({"selftest": {}})
        first = experiment.source(runtime, batch_size=20)
        rig.faults({"service": "dynamodb", "operation": "TransactWriteItems", "times": 1, "timeout_ms": HANG})
        draining = threading.Thread(target=first.drain)
        draining.start()
        wait_until(lambda: rig.fired("TransactWriteItems") == 1)
        first.stop()
        runtime.kill()
        draining.join(60)
        # WHEN another source goes on after the checkpoint with batches of another size
        experiment.source(runtime, after=first.checkpoints, batch_size=33).drain()
        experiment.tick()
    # THEN only the batch that had been stored, and not been followed by its episodes, is there twice
    experiment.settle("crash and cut elsewhere", twice=20)


def test_two_batches_that_update_one_episode_at_once(rig):
    # GIVEN two environments, and a table so slow that both read before either writes
    experiment = rig.experiment()
    name = experiment.instances[0]
    with rig.runtime() as one, rig.runtime() as other:
        for runtime in (one, other):
            runtime.invoke({"selftest": {}})
        rig.faults({"service": "dynamodb", "operation": "TransactWriteItems", "times": 2, "latency": 1_000})
        # WHEN each labels a row of the same instance, as while a shard is being split
        threads = []
        for number, runtime in enumerate((one, other)):
            delivery = Delivery(rig.settings, f"shardId-00000000000{number}", runtime.invoke, print, bool, time.time)
            row = Record(f"4{number}", experiment.service, experiment.row(name, 3 + number, PAGING_CPU), time.time())
            threads.append(threading.Thread(target=delivery.deliver, args=[[row]]))
            threads[-1].start()
        for thread in threads:
            thread.join(60)
        assert rig.fired() == 2
    # THEN one episode is there, and one message
    table = rig.dynamodb.scan(TableName=rig.stack.table)["Items"]
    listed = [item for item in table if item["pk"]["S"].startswith("episodes#") and item["instance_id"]["S"] == name]
    experiment.pages = {item["episode_id"]["S"] for item in listed}
    assert len(experiment.pages) == 1
    experiment.settle("two batches, one episode")


@pytest.mark.parametrize("hours", [-2, 2])
def test_a_clock_that_is_two_hours_off(rig, hours):
    # GIVEN a function whose clock is two hours off, and a topic that fails its first message
    experiment = rig.experiment()
    with rig.runtime(clock_off_s=hours * 3600) as runtime:
        rig.faults({"service": "sns", "operation": "Publish", "times": 4, "reset": True})
        # WHEN rows come whose own clock is right, and some whose clock is two hours off as well
        name, shift_ms = experiment.instances[4], hours * 3_600_000 + PERIOD_MS // 2
        other = [experiment.row(name, at, shift_ms=shift_ms) for at in range(12 if hours < 0 else 1)]
        # Those of the future are refused: at least 12 minutes ahead, at a limit of ten.
        ahead = [experiment.begin_ms + at * PERIOD_MS + shift_ms for at in range(4, 12) if hours > 0]
        other += [experiment.bad(record(experiment.service, name, [ts], QUIET_CPU)) for ts in ahead]
        experiment.deliver([*experiment.hour(), *other], runtime)
    # THEN a tick of a function whose clock is right sends what was claimed, now or when two hours have passed
    experiment.tick(hours_later=max(0, hours))
    experiment.settle(f"clock {hours:+d} h")


def test_hostile_names(rig, shared_runtime):
    # GIVEN instances with names that are printable and meant to harm, and some that no key may hold
    experiment = rig.experiment()
    datas = [experiment.page(name, 3) for name in HOSTILE_NAMES]
    unprintable = ("", "a\nb", "\x1b[31mred", "n" * 256, "\u202eevil", "tab\t", "nul\x00")
    datas += [
        experiment.bad(record(experiment.service, name, [experiment.begin_ms], QUIET_CPU)) for name in unprintable
    ]
    # WHEN they are delivered THEN the former are labelled and told under their names, the latter quarantined
    experiment.deliver(datas, shared_runtime)
    experiment.settle("hostile names")


def test_a_batch_of_six_megabytes(rig):
    # GIVEN records of nearly 48 KB, the largest that the function reads, more than one event of Lambda holds
    experiment = rig.experiment()
    with rig.runtime() as runtime:
        sizes = []
        invoke = runtime.invoke
        runtime.invoke = lambda event: sizes.append(len(json.dumps(event, separators=(",", ":")))) or invoke(event)
        # WHEN they are delivered
        datas = [experiment.row(experiment.instances[n % 5], n // 5, least_bytes=46_500) for n in range(110)]
        experiment.deliver(datas, runtime)
        memory = runtime.peak_memory_mb()
    # THEN the first batch fills Lambda's 6 MB, and is labelled within the function's memory
    print(f"largest event {max(sizes):,} bytes, peak memory {memory:.0f} MB")
    assert 5.9 * 2**20 < sizes[0] <= 6 * 2**20
    assert len(sizes) == 2
    assert memory < rig.function.memory_mb
    experiment.settle("6 MB batch")


def test_an_artifact_with_one_bit_flipped(rig, shared_runtime):
    # GIVEN code whose model has one bit that is not as it was packed
    experiment = rig.experiment()
    with rig.runtime(with_flipped_bit(rig.function.code)) as runtime:
        # WHEN it is invoked THEN it does not start, and says why
        answer = runtime.invoke({"selftest": {}})
        assert answer.function_error
        assert "the sha256 of model.bin is not the one" in answer.payload["errorMessage"]
        # AND the batch is tried again until it is 23 hours old: its clock jumps a day after the next start
        source = experiment.source(runtime, now=lambda: time.time() + 24 * 3600 * (runtime.starts > 1))
        experiment.put(experiment.hour())
        source.drain()
        assert source.deliveries[0].discarded == 60
    # AND the messages in the dead-letter queue lead to the records, which an intact function labels
    letters = experiment.dead_letters()
    assert {letter["requestContext"]["condition"] for letter in letters} == {"RecordAgeExceeded"}
    assert sum(letter["KinesisBatchInfo"]["batchSize"] for letter in letters) == 60
    experiment.source(shared_runtime).drain()
    experiment.settle("one bit flipped")

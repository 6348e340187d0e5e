"""Tasks of stream_metrics over in-memory AWS: what the live function asks for is what it gets."""

import logging
from datetime import UTC, datetime, timedelta

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from botocore.exceptions import ClientError

from riskwatch_airflow.hooks.cloudwatch import CloudWatchMetricsHook
from riskwatch_airflow.tasks import stream
from riskwatch_ml.core import clock
from riskwatch_ml.ingest.reader import ForbiddenError
from riskwatch_ml.storage import keys
from riskwatch_ml.streaming.live_model import LiveError
from riskwatch_ml.streaming.packs import StreamError
from tests.support import runs
from tests.unit.riskwatch_airflow.conftest import FakeCloudWatch

TEN = datetime(2026, 11, 22, 10, tzinfo=UTC)
LIVE = {
    "model_id": "m-1",
    "features": ["disk_read_mb", "cpu_utilization"],
    "context_rows": 3,
    "max_gap_s": 1800,
    "period_s": 300,
}


@pytest.fixture
def live(aws):
    """A promoted model and an hour of an instance, until ten past ten; the clock stands at 10:07:30."""
    aws.function.answers = {"selftest": LIVE, "tick": {"sent": 0, "expired": 0, "open": 1}}
    aws.cloudwatch.fill("CPUUtilization", "a", TEN - timedelta(hours=1), 14, 50.0)
    aws.cloudwatch.fill("EBSReadBytes", "a", TEN - timedelta(hours=1), 14, 3e6)
    aws.store.put_bytes("config/inventory.json", b'{"instances": {"a": {"role": "web", "service": "shop"}}}')
    return aws


@pytest.fixture
def at(monkeypatch):
    """Sets the clock to so many minutes after ten."""
    return lambda passed: monkeypatch.setattr(clock, "now", lambda: TEN + timedelta(minutes=passed))


def streamed(aws):
    """Return the rows that were to be labelled, in minutes after ten, in order."""
    return [moment for entry in entries(aws) for moment in minutes(entry)[-entry["newest"] :]]


def entries(aws):
    """Return the instances of all packs."""
    return [entry for pack in aws.kinesis.records for entry in pack["instances"]]


def minutes(entry):
    return [round(moment / 1000 - TEN.timestamp()) / 60 for moment in entry["ts"]]


def test_the_newest_settled_period_with_its_context(live, context):
    # GIVEN 10:07:30 and 180 s to settle: 10:04:30, so the newest full period is 9:55 to 10:00
    # WHEN
    told = stream.publish(context)

    # THEN one row in the model's features, with two of context
    (pack,) = live.kinesis.records
    (entry,) = pack["instances"]
    assert (minutes(entry), entry["newest"]) == ([-15, -10, -5], 1)
    assert (pack["features"], entry["columns"]) == (LIVE["features"], [[3.0] * 3, [50.0] * 3])
    assert (pack["service"], entry["role"]) == ("shop", "web")
    assert (told["start"], told["end"]) == ("2026-11-22T09:55:00.000Z", "2026-11-22T10:00:00.000Z")
    assert (told["rows"], told["records"], told["instances"], told["model_id"]) == (1, 1, 1, "m-1")
    assert live.function.events == [("risk", "live", {"selftest": {}})]


def test_delayed_and_skipped_runs_leave_no_hole_and_double_nothing(live, context, at):
    # GIVEN an hour of datapoints more, and a first run at 10:07:30 that streams the newest period
    live.cloudwatch.fill("CPUUtilization", "a", TEN + timedelta(minutes=10), 12, 50.0)
    stream.publish(context)
    assert live.store.get_json(keys.STREAM_MARK) == {"end": "2026-11-22T10:00:00.000Z"}

    # WHEN runs come at 10:07:48, 10:13 and, after a pause, 10:43:12
    told = []
    for passed in (7.8, 13, 43.2):
        at(passed)
        told.append(stream.publish(context))

    # THEN each begins where the last ended: nothing yet, two periods, six periods
    assert [each["rows"] for each in told] == [0, 2, 6]
    assert [each["records"] for each in told] == [0, 1, 1]
    assert streamed(live) == [-5, 0, 5, 10, 15, 20, 25, 30, 35]
    assert live.store.get_json(keys.STREAM_MARK) == {"end": "2026-11-22T10:40:00.000Z"}


def test_periods_shorter_than_the_schedule_are_all_streamed(live, context, at):
    # GIVEN a model of one-minute rows, and runs every five minutes
    live.function.answers["selftest"] = {**LIVE, "period_s": 60}
    live.cloudwatch.values.clear()
    live.cloudwatch.fill("CPUUtilization", "a", TEN - timedelta(minutes=30), 60, step=timedelta(minutes=1))

    # WHEN
    for passed in (10, 15, 20):
        at(passed)
        stream.publish(context)

    # THEN one row at first, then five a run, until three minutes ago
    assert streamed(live) == [6, *range(7, 12), *range(12, 17)]


def test_a_period_longer_than_the_schedule_is_streamed_once(live, context, at):
    # GIVEN a model of hourly rows, and runs every five minutes
    live.function.answers["selftest"] = {**LIVE, "period_s": 3600, "max_gap_s": 6 * 3600}
    live.cloudwatch.values.clear()
    live.cloudwatch.fill("CPUUtilization", "a", TEN - timedelta(hours=5), 7, step=timedelta(hours=1))

    # WHEN / THEN
    for passed in (5, 10, 15):
        at(passed)
        assert stream.publish(context)["end"] == "2026-11-22T10:00:00.000Z"
    assert streamed(live) == [-60]


def test_the_mark_moves_only_after_the_put(live, context, at, monkeypatch):
    # GIVEN a run that has streamed until ten, and one that fails before anything is through
    stream.publish(context)
    at(13)
    with monkeypatch.context() as failing:

        def refuse(**asked):
            raise StreamError("throttled")

        failing.setattr(live.kinesis, "put_records", refuse)
        with pytest.raises(StreamError):
            stream.publish(context)

    # WHEN the next run comes, THEN it sends what the failed one owed
    at(18)
    assert stream.publish(context)["start"] == "2026-11-22T10:00:00.000Z"
    assert streamed(live) == [-5, 0, 5]


def test_what_is_longer_ago_than_the_catch_up_is_named(live, context, caplog):
    # GIVEN a mark of nine hours ago, and an instance that had data until two hours before the newest period
    live.store.put_json(keys.STREAM_MARK, {"end": "2026-11-22T01:00:00.000Z"})
    live.cloudwatch.values.clear()
    live.cloudwatch.fill("CPUUtilization", "gone", TEN - timedelta(hours=9), 12 * 5)

    # WHEN
    with caplog.at_level(logging.WARNING):
        told = stream.publish(context)

    # THEN six hours are caught up, with the instance that is not recently active, and the rest is told to be by hand
    assert (told["start"], told["end"]) == ("2026-11-22T04:00:00.000Z", "2026-11-22T10:00:00.000Z")
    assert told["left_out"] == [["2026-11-22T01:00:00.000Z", "2026-11-22T04:00:00.000Z"]]
    assert "[2026-11-22T01:00:00.000Z, 2026-11-22T04:00:00.000Z)" in caplog.text
    assert streamed(live) == list(range(-360, -240, 5))


def test_a_catch_up_that_one_run_cannot_send_goes_on_in_the_next(live, context, at, monkeypatch):
    # GIVEN room for four rows a run, one instance, and an hour to catch up
    monkeypatch.setattr(stream, "MOST_ROWS", 4)
    live.store.put_json(keys.STREAM_MARK, {"end": "2026-11-22T09:00:00.000Z"})

    # WHEN / THEN each run sends 20 minutes from where the one before ended, none twice
    ends = [stream.publish(context)["end"][11:16] for _ in range(4)]
    assert ends == ["09:20", "09:40", "10:00", "10:00"]
    assert streamed(live) == list(range(-60, 0, 5))


@pytest.mark.parametrize(
    "mark",
    [
        b"no json",
        b"[]",
        b"{}",
        b'{"end": "yesterday"}',
        b'{"end": 5}',
        b'{"end": "2026-11-22T09:00:00Z", "shards": []}',
    ],
)
def test_a_damaged_mark_is_named(live, context, mark):
    # GIVEN / WHEN / THEN
    live.store.put_bytes(keys.STREAM_MARK, mark)
    with pytest.raises(AirflowFailException, match=r"stream/mark\.json cannot be read .* delete it"):
        stream.publish(context)


def test_a_mark_ahead_of_the_clock_does_not_stop_the_stream(live, context):
    # GIVEN a mark that a wrong clock has left
    live.store.put_json(keys.STREAM_MARK, {"end": "2027-01-01T00:00:00.000Z"})

    # WHEN / THEN
    stream.publish(context)
    assert streamed(live) == [-5]
    assert live.store.get_json(keys.STREAM_MARK) == {"end": "2026-11-22T10:00:00.000Z"}


def test_context_may_lie_as_far_back_as_the_longest_gap_allows(live, context):
    # GIVEN rows only every half hour
    live.cloudwatch.values.clear()
    live.cloudwatch.fill("CPUUtilization", "a", TEN - timedelta(minutes=65), 3, step=timedelta(minutes=30))

    # WHEN
    stream.publish(context)

    # THEN
    (entry,) = entries(live)
    assert minutes(entry) == [-65, -35, -5]
    assert entry["columns"] == [[None] * 3, [1.0] * 3]


def test_a_stretch_by_hand(live, context):
    # GIVEN
    context["params"] = {"start": "2026-11-22T09:10:00Z", "end": "2026-11-22T09:30:00Z"}

    # WHEN
    told = stream.publish(context)

    # THEN four rows in one pack, with the context from before the stretch
    (entry,) = entries(live)
    assert (minutes(entry), entry["newest"]) == ([-60, -55, -50, -45, -40, -35], 4)
    assert (told["rows"], told["records"]) == (4, 1)
    # AND the mark is not touched
    assert live.store.get_json(keys.STREAM_MARK) is None


def test_a_stretch_by_hand_that_is_too_long_is_refused_with_one_that_is_not(live, context, monkeypatch):
    # GIVEN room for four rows, and five asked for
    monkeypatch.setattr(stream, "MOST_ROWS", 4)
    context["params"] = {"start": "2026-11-22T09:10:00Z", "end": "2026-11-22T09:35:00Z"}

    # WHEN / THEN
    with pytest.raises(AirflowFailException, match=r"at most 0\.333333 hours, the first one until 2026-11-22T09:30:00"):
        stream.publish(context)
    assert live.kinesis.records == []


def test_no_model_is_a_skip(live, context):
    # GIVEN
    live.function.answers["selftest"] = {"model_id": None}

    # WHEN / THEN
    with pytest.raises(AirflowSkipException, match="no model is promoted yet"):
        stream.publish(context)
    assert live.kinesis.records == []


def test_a_feature_that_the_catalogue_lost_is_named(live, context):
    # GIVEN
    live.function.answers["selftest"] = {**LIVE, "features": ["cpu_utilization", "gpu"]}

    # WHEN / THEN
    with pytest.raises(AirflowFailException, match="needs gpu, which the catalogue does not have"):
        stream.publish(context)


def test_a_function_that_raises_is_an_error_with_its_words(live, context):
    # GIVEN
    live.function.answers["selftest"] = {"errorMessage": "damaged", "errorType": "ModelError"}

    # WHEN / THEN
    with pytest.raises(LiveError, match=r"risk:live raised on selftest: .*damaged"):
        stream.publish(context)


def ticked(aws):
    """Return the ticks that were sent."""
    return [event["tick"] for _, _, event in aws.function.events if "tick" in event]


def test_the_tick_names_those_of_the_inventory_that_are_silent(live, context, at):
    # GIVEN an inventory with two instances that report and one that stopped at 9:25, and a stranger that stopped then
    for name in ("silent", "stranger"):
        live.cloudwatch.fill("CPUUtilization", name, TEN - timedelta(hours=1), 6)
    live.cloudwatch.fill("CPUUtilization", "b", TEN - timedelta(hours=1), 14)
    live.store.put_bytes(
        "config/inventory.json", b'{"instances": {"a": {}, "b": {}, "silent": {"role": "db", "service": "shop"}}}'
    )
    live.store.put_json(keys.STREAM_MARK, {"end": "2026-11-22T09:00:00.000Z"})

    # WHEN a run has streamed from nine to ten
    published = runs.handed_on(stream.publish(context))
    answer = runs.handed_on(stream.tick(published))

    # THEN the tick has the end of the stretch, and the one instance with its service and its last row
    (tick,) = ticked(live)
    last = round((TEN - timedelta(minutes=35)).timestamp() * 1000)
    assert tick == {"now": round(TEN.timestamp() * 1000), "overdue": [["silent", "shop", last]]}
    assert answer["open"] == 1


def test_after_a_stretch_by_hand_nobody_is_called_silent(live, context):
    # GIVEN a stretch of the past, in which nobody of today's inventory reports
    live.store.put_bytes("config/inventory.json", b'{"instances": {"new": {}}}')
    context["params"] = {"start": "2026-11-22T09:10:00Z", "end": "2026-11-22T09:30:00Z"}

    # WHEN it is streamed, THEN the tick says nothing about silence, and no row of it counts as seen
    stream.tick(stream.publish(context), digest=True)
    assert ticked(live) == [{"now": round((TEN - timedelta(minutes=30)).timestamp() * 1000), "digest": True}]
    assert live.store.get_json("stream/seen.json") is None


@pytest.fixture
def regions(live, monkeypatch):
    """Two regions with a host of 10:05 each, in the inventory; `broken` are those that refuse, and how."""
    fakes = {"eu-west-1": FakeCloudWatch(), "us-east-1": FakeCloudWatch()}
    live.broken = {}
    for name, fake in fakes.items():
        fake.fill("CPUUtilization", "host", TEN - timedelta(hours=1), 24, 50.0)
        for method in ("paginate", "get_metric_data"):
            monkeypatch.setattr(fake, method, _breaking(live.broken, name, method, getattr(fake, method)))
    monkeypatch.setattr(CloudWatchMetricsHook, "conn", property(lambda hook: fakes[hook.shard.region]))
    live.use(regions=tuple(fakes))
    named = {f"{name}:host": {"role": "web", "service": "shop"} for name in fakes}
    live.store.put_json("config/inventory.json", {"instances": named})
    return live


def _breaking(broken, name, method, answer):
    def call(**asked):
        if broken.get(name) == method:
            raise ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, method)
        return answer(**asked)

    return call


@pytest.mark.parametrize("method", ["paginate", "get_metric_data"])
def test_a_region_that_fails_stops_no_other_and_catches_up(regions, context, at, method):
    # GIVEN both regions streamed until ten
    stream.tick(stream.publish(context))
    regions.kinesis.records.clear()

    # WHEN the second one cannot be read for half an hour, a run every five minutes
    regions.broken["us-east-1"] = method
    for passed in range(13, 43, 5):
        at(passed)
        published = runs.handed_on(stream.publish(context))
        answered = stream.tick(published)

        # THEN the first is streamed, the tick comes, nobody is silent, and the run ends in an error that names it
        assert answered["open"] == 1
        with pytest.raises(
            AirflowFailException, match=r"us-east-1 were not streamed.*is not allowed.*next runs catch up"
        ):
            stream.complete(published)
    assert {entry["id"] for entry in entries(regions)} == {"eu-west-1:host"}
    assert streamed(regions) == list(range(0, 35, 5))
    assert [tick["overdue"] for tick in ticked(regions)] == [[]] * 7
    assert regions.store.get_json(keys.STREAM_MARK) == {
        "end": "2026-11-22T10:35:00.000Z",
        "shards": {"us-east-1": "2026-11-22T10:00:00.000Z"},
    }

    # AND when it can be read again, nothing of it is lost
    regions.kinesis.records.clear()
    regions.broken.clear()
    at(43)
    published = stream.publish(context)
    stream.complete(published)
    assert published["end"] == "2026-11-22T10:40:00.000Z"
    own = {entry["id"]: minutes(entry)[-entry["newest"] :] for entry in entries(regions)}
    assert own == {"us-east-1:host": list(range(0, 40, 5)), "eu-west-1:host": [35]}
    assert regions.store.get_json(keys.STREAM_MARK) == {"end": "2026-11-22T10:40:00.000Z"}


def test_where_no_region_can_be_read_the_run_fails_and_the_mark_stays(regions, context, at):
    # GIVEN
    stream.publish(context)
    regions.broken.update({"eu-west-1": "paginate", "us-east-1": "get_metric_data"})

    # WHEN / THEN
    at(13)
    with pytest.raises(ForbiddenError, match="is not allowed"):
        stream.publish(context)
    assert regions.store.get_json(keys.STREAM_MARK) == {"end": "2026-11-22T10:00:00.000Z"}


def test_a_stretch_by_hand_names_the_region_that_failed(regions, context):
    # GIVEN
    regions.broken["eu-west-1"] = "get_metric_data"
    context["params"] = {"start": "2026-11-22T09:10:00Z", "end": "2026-11-22T09:30:00Z"}

    # WHEN
    published = stream.publish(context)

    # THEN
    assert published["rows"] == 4
    with pytest.raises(AirflowFailException, match=r"rows of eu-west-1 were not streamed.*run it by hand again"):
        stream.complete(published)

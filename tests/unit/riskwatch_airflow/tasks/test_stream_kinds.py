"""Tasks of stream_metrics for an installation with two kinds of resources."""

from datetime import timedelta

import pytest
from airflow.sdk.exceptions import AirflowFailException

from riskwatch_airflow.tasks import stream
from riskwatch_ml.core import clock, settings
from tests.support import runs
from tests.support.streaming import LIVE, TEN, entries, ticked

DATABASES = {**LIVE, "model_id": "m-2", "features": ["cpu_utilization", "latency_ms"], "context_rows": 2}


@pytest.fixture
def two_kinds(live, monkeypatch):
    """A database beside the instance, and a live model of both kinds."""
    config = settings.Settings(**{**vars(settings.load()), "catalogue": ("ec2", "rds")})
    monkeypatch.setattr(settings, "load", lambda: config)
    live.cloudwatch.databases.add("orders")
    live.cloudwatch.fill("CPUUtilization", "orders", TEN - timedelta(hours=1), 24, 30.0)
    live.cloudwatch.fill("ReadLatency", "orders", TEN - timedelta(hours=1), 24, 0.002)
    live.function.answers["selftest"] = {**LIVE, "resource_kind": "ec2", "kinds": {"rds": DATABASES}}
    return live


def test_each_kind_is_packed_with_the_features_of_its_own_part(two_kinds, context):
    # GIVEN / WHEN
    published = stream.publish(context)

    # THEN one call reads both, and the pack of the further kind names it
    assert len(two_kinds.cloudwatch.calls) == 1
    packs = {pack.get("kind"): pack for pack in two_kinds.kinesis.records}
    assert set(packs) == {None, "rds"}
    (entry,) = packs["rds"]["instances"]
    assert (entry["id"], entry["newest"], packs["rds"]["features"]) == ("rds/orders", 1, DATABASES["features"])
    assert entry["columns"] == [[30.0] * 2, [2.0] * 2]
    assert (published["rows"], published["instances"], published["model_id"]) == (2, 2, "m-1")


def test_a_kind_without_a_part_is_not_streamed(two_kinds, context, caplog):
    # GIVEN a model that was trained before the second catalogue came
    two_kinds.function.answers["selftest"] = LIVE
    caplog.set_level("INFO")

    # WHEN
    stream.publish(context)

    # THEN
    assert [entry["id"] for entry in entries(two_kinds)] == ["a"]
    assert "no part of this period for the kind rds" in caplog.text


def test_no_row_is_expected_of_a_kind_without_a_part(two_kinds, context):
    # GIVEN a database of the inventory, and a model of the first kind alone
    two_kinds.store.put_json("config/inventory.json", {"instances": {"a": {}, "rds/orders": {}}})
    two_kinds.function.answers["selftest"] = LIVE

    # WHEN
    stream.publish(context)

    # THEN it is never overdue
    assert list(two_kinds.store.get_json("stream/seen.json")["last"]) == ["a"]


def test_a_model_of_other_kinds_is_an_error(two_kinds, context):
    two_kinds.function.answers["selftest"] = {**LIVE, "resource_kind": "sqs"}
    with pytest.raises(AirflowFailException, match="of the live model is sqs, that of the setting catalogue ec2"):
        stream.publish(context)


def test_an_idle_function_is_not_reported_as_without_data(two_kinds, context):
    # GIVEN an instance and a function without rows for hours
    two_kinds.use(catalogue=("ec2", "lambda"))
    inventory = {name: {"service": "shop"} for name in ("a", "b", "lambda/checkout")}
    two_kinds.store.put_json("config/inventory.json", {"instances": inventory})
    published = runs.handed_on(stream.publish(context))
    state = two_kinds.store.get_json("stream/seen.json")
    late = {name: clock.epoch_ms(TEN - timedelta(hours=3)) for name in ("b", "lambda/checkout")}
    two_kinds.store.put_json("stream/seen.json", {**state, "last": {**state["last"], **late}})
    two_kinds.function.answers["tick"] = {}

    # WHEN
    stream.tick(published)

    # THEN CloudWatch has nothing of a function that does not run: its silence says nothing
    (tick,) = ticked(two_kinds)
    assert [name for name, *_ in tick["overdue"]] == ["b"]


def test_a_tick_names_the_kind_of_overdue_instances(two_kinds, context, at):
    # GIVEN databases and instances of the inventory, one of each kind silent for long
    inventory = {name: {"service": "shop"} for name in ("a", "b", "c", "rds/orders", "rds/users")}
    two_kinds.store.put_json("config/inventory.json", {"instances": inventory})
    seen = {name: clock.epoch_ms(TEN - timedelta(minutes=1)) for name in ("a", "c", "rds/orders")}
    late = {name: clock.epoch_ms(TEN - timedelta(hours=3)) for name in ("b", "rds/users")}
    published = runs.handed_on(stream.publish(context))
    state = two_kinds.store.get_json("stream/seen.json")
    two_kinds.store.put_json("stream/seen.json", {**state, "last": {**seen, **late}})
    two_kinds.function.answers["tick"] = {}

    # WHEN
    stream.tick(published)

    # THEN
    (tick,) = ticked(two_kinds)
    assert {name for name, *_ in tick["overdue"]} == {"b", "rds/users"}
    assert tick["kinds"] == {"rds/users": "rds"}

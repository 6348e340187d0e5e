"""Task measure of watch_model for an installation with two kinds of resources."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from riskwatch_airflow import past_episodes
from riskwatch_airflow.assets import RETRAIN_REQUEST
from riskwatch_airflow.tasks import watch
from riskwatch_ml.artifact import archive
from riskwatch_ml.core import clock
from riskwatch_ml.features.left_out import PastEpisode
from riskwatch_ml.monitoring import alert_volume
from riskwatch_ml.registry import serving
from riskwatch_ml.schema import catalogue
from riskwatch_ml.storage import keys, labelled_rows
from tests.support import kinds, runs, tiny
from tests.support.labelled import arrive, row
from tests.support.serving import agreeing
from tests.support.trainings import CHAMPION
from tests.unit.riskwatch_airflow.conftest import stand_in

RUN = datetime(2026, 11, 22, 10, 5, tzinfo=UTC)
EVEN = {"levels": {"Idle": 0.5, "Normal": 0.5}, "unusual": 0.0}
ARRIVED = "2026-11-22T09:50:00.000Z"
NORMAL = {"levels": {"Normal": 1.0}, "unusual": 0.0}
EC2, RDS = catalogue.load_all(("ec2", "rds"))


def labelled(kind, model_id, levels=("Normal",), instance="a"):
    """Return rows of the 23 hours before the run, six minutes apart."""
    times = pd.date_range(RUN - timedelta(hours=23), periods=230, freq="6min", tz="UTC", unit="ms")
    named = {"instance_id": instance, "unusual": False, "model_id": model_id, "resource_kind": kind}
    return pd.DataFrame({"timestamp": times, "level": (list(levels) * 230)[:230], **named})


def validated(store, metrics, hours=1):
    """Put rows of an hour into the layer of a kind, so many hours before the run."""
    store.put_bytes(keys.hour_key(keys.of_kind(keys.VALIDATED, metrics), RUN - timedelta(hours=hours)), b"rows")


@pytest.fixture
def two_kinds(aws, context, monkeypatch):
    """A model of two kinds whose parts have one id, as if one training had made both, and rows of both as learned."""
    aws.use(catalogue=("ec2", "rds"))
    aws.rows = pd.concat([labelled(None, "m"), labelled("rds", "m", ["Idle", "Normal"], "rds/orders")])
    aws.document = {
        "resource_kind": "ec2",
        "model_id": "m",
        "reference": NORMAL,
        "kinds": {"rds": {"model_id": "m", "reference": EVEN}},
    }
    aws.episodes, aws.asked = [], []
    for name in ("read", "read_without_mlflow"):
        stand_in(monkeypatch, serving, name, lambda *given: agreeing(replace(CHAMPION, digest="d")))
    stand_in(monkeypatch, archive, "unpack", lambda zip_bytes: (aws.document, {}))
    stand_in(monkeypatch, past_episodes, "read", lambda config, start, end: aws.episodes)

    def recent(store, start, end, columns):
        inside = (aws.rows["timestamp"] >= start) & (aws.rows["timestamp"] < end)
        return aws.rows.loc[inside, ["timestamp", *columns]]

    def count(client, table, days, kinds):
        aws.asked.append(kinds)
        return {"episodes": 1, "kinds": {kind: {"episodes": 1, "messages": 0} for kind in kinds}}

    stand_in(monkeypatch, labelled_rows, "recent", recent)
    stand_in(monkeypatch, alert_volume, "count", count)
    aws.store.put_bytes("artifacts/d.zip", b"zip")
    context["dag_run"] = runs.run(RUN)
    return aws


def violated(store, hours, *, first=False, rds=False, asked=False):
    """Put a report of an earlier run into the bucket."""
    at = clock.iso(RUN - timedelta(hours=hours))
    parts = [
        {"model_id": "m", "distribution": {"violated": value}, "retrain": asked and value} for value in (first, rds)
    ]
    store.put_json(f"watch/{at}.json", {"at": at, **parts[0], "kinds": {"rds": parts[1]}})


def opened(name, hours):
    return PastEpisode(name, clock.epoch_ms(RUN - timedelta(hours=hours)), True, f"{name}.1")


def requested(context, summary):
    watch.request(context, summary)
    return context["outlet_events"][RETRAIN_REQUEST].extra


def test_each_part_is_measured_by_its_own_rows_and_reference(two_kinds, context):
    # GIVEN / WHEN
    recorded = runs.handed_on(watch.measure(context))

    # THEN the first kind is the top level as before, and no part is far from its training
    report = two_kinds.store.get_json(recorded["key"])
    assert (report["rows"], report["distribution"]["levels"]["Normal"]) == (230, 1.0)
    assert list(report["kinds"]) == ["rds"]
    databases = report["kinds"]["rds"]
    assert (databases["rows"], databases["distribution"]["levels"]["Idle"]) == (230, 0.5)
    assert [part["distribution"]["violated"] for part in (report, databases)] == [False, False]
    # AND alerts are those of all kinds, and of each
    assert two_kinds.asked == [["ec2", "rds"]]
    assert (report["alerts"]["episodes"], list(report["alerts"]["kinds"])) == (1, ["ec2", "rds"])
    # AND nothing is requested, nor a kind named
    assert (recorded["retrain"], recorded["findings"], recorded["refresh"]) == (False, [], [])
    assert "resource_kinds" not in recorded


def test_drift_of_a_kind_asks_for_that_kind_once_a_day(two_kinds, context):
    # GIVEN databases that are all Normal, in the report before too, and a request for the first kind this morning
    two_kinds.document["kinds"]["rds"]["reference"] = NORMAL
    violated(two_kinds.store, 3, first=True, asked=True)
    violated(two_kinds.store, 1, first=True, rds=True)

    # WHEN the run measures, and the next one
    extra = requested(context, watch.measure(context))
    context["dag_run"] = runs.run(RUN + timedelta(hours=1))
    following = watch.measure(context)

    # THEN the request names the kind, and stands in the report of the kind alone
    assert (extra["resource_kinds"], extra["reason"]) == (["rds"], "label distribution of rds")
    assert "kind" not in extra
    assert "refresh_kinds" not in extra
    report = two_kinds.store.get_json(extra["key"])
    assert (report["retrain"], report["kinds"]["rds"]["retrain"]) == (False, True)
    assert (following["retrain"], "resource_kinds" in following) == (False, False)


def test_a_kind_is_not_judged_by_the_reports_of_another(two_kinds, context):
    # GIVEN databases that drift for the first time, after reports in which the first kind did
    two_kinds.document["kinds"]["rds"]["reference"] = NORMAL
    violated(two_kinds.store, 2, first=True)
    violated(two_kinds.store, 1, first=True)

    # WHEN / THEN
    assert watch.measure(context)["retrain"] is False


def test_an_operator_asks_for_all_kinds(two_kinds, context):
    # GIVEN / WHEN
    context["params"] = {"retrain": True}
    extra = requested(context, watch.measure(context))

    # THEN no kind is named, and every kind has made its request of the day
    assert (extra["reason"], "resource_kinds" in extra) == ("asked for by an operator", False)
    report = two_kinds.store.get_json(extra["key"])
    assert (report["retrain"], report["kinds"]["rds"]["retrain"]) == (True, True)


def test_an_episode_is_learned_at_the_end_of_the_rows_of_its_kind(two_kinds, context):
    # GIVEN episodes that are 13 hours old, rows of the first kind until now, and of databases until three hours ago
    two_kinds.episodes = [opened("b", 13), opened("rds/orders", 13), opened("a", 13), opened("rds/users", 16)]
    validated(two_kinds.store, EC2)
    validated(two_kinds.store, RDS, hours=4)

    # WHEN
    summary = watch.measure(context)
    extra = requested(context, summary)

    # THEN a training of databases would still leave out the one that is not old enough at the end of their rows
    report = two_kinds.store.get_json(summary["key"])
    assert (report["to_learn"], report["kinds"]["rds"]["to_learn"]) == (["a.1", "b.1"], ["rds/users.1"])
    assert extra["kind"] == "refresh"
    assert extra["resource_kinds"] == ["ec2", "rds"]
    assert extra["reason"] == "open for long enough to be learned as normal (ec2, rds): a.1, b.1, rds/users.1"

    # WHEN the rows of databases go on, an hour later THEN a refresh of them alone is requested
    validated(two_kinds.store, RDS, hours=0)
    context["dag_run"] = runs.run(RUN + timedelta(hours=1))
    extra = requested(context, watch.measure(context))
    assert (extra["kind"], extra["resource_kinds"]) == ("refresh", ["rds"])


def test_one_run_asks_for_a_contest_of_one_kind_and_a_refresh_of_another(two_kinds, context):
    # GIVEN databases that drift, and long episodes of both kinds
    two_kinds.document["kinds"]["rds"]["reference"] = NORMAL
    violated(two_kinds.store, 1, rds=True)
    two_kinds.episodes = [opened("a", 13), opened("rds/orders", 13)]
    validated(two_kinds.store, EC2)
    validated(two_kinds.store, RDS)

    # WHEN
    extra = requested(context, watch.measure(context))

    # THEN the contest of databases learns their episode too
    assert "kind" not in extra
    assert (extra["resource_kinds"], extra["refresh_kinds"]) == (["rds"], ["ec2"])


def test_a_part_of_a_removed_kind_asks_for_nothing(two_kinds, context):
    # GIVEN drift of databases, which the settings no longer have
    two_kinds.use(catalogue=("ec2",))
    two_kinds.document["kinds"]["rds"]["reference"] = NORMAL
    violated(two_kinds.store, 1, rds=True)

    # WHEN / THEN it is measured still
    summary = watch.measure(context)
    assert summary["retrain"] is False
    assert two_kinds.store.get_json(summary["key"])["kinds"]["rds"]["distribution"]["violated"] is True


def test_a_model_of_one_part_asks_for_its_kind_alone(two_kinds, context):
    # GIVEN a model of the first kind, of an earlier release, in an installation with two
    two_kinds.document = {"model_id": "m", "reference": EVEN}
    two_kinds.rows = labelled(None, "m")
    violated(two_kinds.store, 1, first=True)

    # WHEN
    extra = requested(context, watch.measure(context))

    # THEN
    assert extra["resource_kinds"] == ["ec2"]
    assert "kinds" not in two_kinds.store.get_json(extra["key"])


def test_parts_and_rows_are_read_as_they_are_stored(aws, context, monkeypatch):
    # GIVEN an artifact of two kinds, and rows: of an earlier release, which name no kind, and of both kinds
    aws.use(catalogue=("ec2", "rds"))
    changed = {"resource_kind": "ec2", "model_id": "m-1", "reference": NORMAL}
    document = tiny.document(**changed, kinds={"rds": {**kinds.DOCUMENT, "model_id": "d-1", "reference": EVEN}})
    arrays = {**tiny.ARRAYS, **{f"rds/{name}": values for name, values in kinds.ARRAYS.items()}}
    zip_bytes = archive.pack(document, {name: np.array(values, np.float32) for name, values in arrays.items()})
    aws.store.put_bytes("artifacts/d.zip", zip_bytes)
    for name in ("read", "read_without_mlflow"):
        stand_in(monkeypatch, serving, name, lambda *given: agreeing(replace(CHAMPION, digest="d")))
    arrive(aws.s3, "1", [row("a", 5, ARRIVED, hour=8, model_id="old"), row("a", 10, ARRIVED, hour=8)], hour=9)
    databases = {"resource_kind": "rds", "model_id": "d-1", "connections": 41.0}
    arrive(aws.s3, "2", [row("rds/orders", 5, ARRIVED, hour=9, **databases)], hour=9)
    arrive(aws.s3, "3", [row("a", 5, ARRIVED, hour=9, resource_kind="ec2")], hour=9)
    labelled_rows.compact(aws.store, RUN)
    oldest = keys.hour_key(keys.LABELLED_ROWS, RUN.replace(hour=8, minute=0))
    aws.store.put_frame(oldest, aws.store.get_frame(oldest).drop(columns="resource_kind"))
    stand_in(monkeypatch, alert_volume, "count", lambda client, table, days, kinds: {"episodes": 0})
    context["dag_run"] = runs.run(RUN)

    # WHEN
    report = aws.store.get_json(watch.measure(context)["key"])

    # THEN
    databases = report["kinds"]["rds"]
    assert (report["model_id"], report["rows"], databases["model_id"], databases["rows"]) == ("m-1", 2, "d-1", 1)
    assert databases["distribution"]["reference_levels"]["Idle"] == 0.5


@pytest.mark.parametrize(
    ("rows", "exported", "finding"),
    [
        ([labelled(None, "m")], [], ""),  # no database reports
        ([labelled(None, "m")], [(RDS, 26)], ""),  # the last one reported the day before yesterday
        ([labelled(None, "m")], [(RDS, 2)], "of rds: model m, which serves as function version 3, has labelled no row"),
        ([labelled(None, "m"), labelled("rds", "old")], [], "(230 by old)"),
        ([labelled("rds", "m")], [], ""),  # no instance reports
        ([labelled("rds", "m")], [(EC2, 2)], "of ec2: model m"),
        ([], [], "of ec2: model m"),  # nothing is labelled at all
    ],
)
def test_a_part_without_rows_is_a_finding_if_its_kind_reports(two_kinds, context, rows, exported, finding):
    # GIVEN labelled rows, and exported ones
    two_kinds.rows = pd.concat(rows) if rows else two_kinds.rows.iloc[:0]
    for metrics, hours in exported:
        validated(two_kinds.store, metrics, hours)

    # WHEN
    findings = watch.measure(context)["findings"]

    # THEN
    assert len(findings) == (1 if finding else 0)
    assert all(finding in text for text in findings)

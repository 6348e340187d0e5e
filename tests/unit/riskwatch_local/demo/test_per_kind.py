"""The figures of each kind, the checks of them, and their lines in the summary."""

import copy
import io
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest
from rich.console import Console

from riskwatch_local.demo import checks, per_kind, summary
from riskwatch_local.demo.publish import KindRows
from riskwatch_ml.schema import catalogue
from riskwatch_ml.storage import keys
from riskwatch_ml.storage.bucket import Store
from tests.support.bucket import Bucket

TEN = datetime(2026, 11, 22, 10, tzinfo=UTC)
ELEVEN = TEN + timedelta(hours=1)
EC2, RDS = KINDS = catalogue.load_all(["ec2", "rds"])
VALUES = {"received": 3, "kept": 2, "refused": 1, "refused_alone": 1}


def rows(name, count, **values):
    times = pd.date_range(TEN, periods=count, freq="5min").as_unit("ms")
    return pd.DataFrame({"instance_id": name, "timestamp": times, **values})


def test_rows_are_counted_in_the_layers_of_their_kind():
    # GIVEN two rows of an instance, and three of a database of which one was refused
    store = Store(Bucket(), "bucket")
    store.write_hours(keys.RAW, rows("web-1", 2, cpu_utilization=1.0), TEN, ELEVEN)
    store.write_hours(keys.VALIDATED, rows("web-1", 2, cpu_utilization=1.0), TEN, ELEVEN)
    store.write_hours("raw/kind=rds", rows("rds/orders", 3, latency_ms=1.0), TEN, ELEVEN)
    store.write_hours("validated/kind=rds", rows("rds/orders", 2, latency_ms=1.0), TEN, ELEVEN)
    store.write_hours("quarantine/kind=rds", rows("rds/orders", 1, latency_ms=1.0, reasons="why"), TEN, ELEVEN)

    # WHEN
    counts = [per_kind.exported(store, metrics, TEN, ELEVEN) for metrics in KINDS]

    # THEN
    assert counts == [
        {"exported": 2, "validated": 2, "quarantined": 0},
        {"exported": 3, "validated": 2, "quarantined": 1},
    ]
    assert per_kind.total(counts) == {"exported": 5, "validated": 4, "quarantined": 1}


def test_streamed_rows_are_counted_by_the_kind_that_the_function_stored():
    # GIVEN a row of the first kind, which names none, and two of a database; a record of the latter is refused
    newest = [
        KindRows(EC2, rows("web-1", 1, cpu_utilization=1.0)),
        KindRows(RDS, rows("rds/orders", 2, latency_ms=1.0, cpu_utilization=[1.0, None])),
    ]
    labelled = [
        {"resource_kind": None, "cpu_utilization": 1.0, "refused_values": []},
        {"resource_kind": "rds", "cpu_utilization": 1.0, "latency_ms": 1.0, "refused_values": []},
    ]
    refused = [{"resource_kind": "rds", "rows": 1, "values": 1}]

    # WHEN
    streams = per_kind.streamed(newest, {"ec2": 1, "rds": 2}, labelled, refused)

    # THEN
    assert streams["ec2"] == {
        "sent": 1,
        "labelled": 1,
        "quarantined": 0,
        "values": {"received": 1, "kept": 1, "refused": 0, "refused_alone": 0},
    }
    assert streams["rds"] == {
        "sent": 2,
        "labelled": 1,
        "quarantined": 1,
        "values": {"received": 3, "kept": 2, "refused": 1, "refused_alone": 0},
    }


def test_incidents_are_counted_by_the_kind_of_their_instance():
    # GIVEN
    matched = {"list": [{"instance_id": name, "met": met} for name, met in (("web-1", True), ("rds/orders", False))]}

    # WHEN / THEN
    assert per_kind.incidents(matched, KINDS) == {"ec2": {"made": 1, "met": 1}, "rds": {"made": 1, "met": 0}}
    assert per_kind.incidents(None, KINDS) == {"ec2": None, "rds": None}
    assert per_kind.instances(["web-1", "rds/orders", "rds/orders"], KINDS) == {"ec2": 1, "rds": 2}


@pytest.fixture
def figures():
    """The figures of a demo with two kinds, in which everything holds."""
    part = {
        "rows": {"exported": 4, "validated": 3, "quarantined": 1},
        "values": VALUES,
        "family": "kmeans",
        "stream": {"sent": 2, "labelled": 2, "quarantined": 0, "values": VALUES},
        "episodes": 1,
        "incidents": {"made": 2, "met": 1},
    }
    promoted = {"selftest": "12 rows, 0 differences", "kinds": {"rds": "m-rds"}}
    return {
        "kinds": {"ec2": copy.deepcopy(part), "rds": copy.deepcopy(part)},
        "rows": {"exported": 8, "validated": 6, "quarantined": 2},
        "values": VALUES,
        "candidates": [{"family": "kmeans", "figures": {}, "verdict": "promoted"}] * 5,
        "promoted": {"version": "2", "family": "kmeans", "digest": "0" * 64, "model_id": "m", **promoted},
        "stream": {
            **{"sent": 4, "labelled": 4, "quarantined": 0, "values": VALUES, "risk": {"Idle": 4}},
            **{"run_s": 1.0, "records": 1, "calls": 1},
        },
        "alerts": {"messages": 1, "episodes": 2, "list": []},
        "incidents": None,
        "delay": {},
        "watch": {"compacted_rows": 4, "distance": 0.1, "limit": 0.2, "violated": False},
    }


def test_all_checks_hold_and_each_kind_has_its_own(figures):
    results = checks.loop(figures)
    assert all(results.values())
    assert {"ec2: rows sent are labelled or quarantined", "rds: values exported are kept or refused"} <= set(results)


@pytest.mark.parametrize(
    ("damage", "failed"),
    [
        (lambda kind: kind["rows"].update(validated=2), "rds: rows exported are validated or quarantined"),
        (lambda kind: kind["stream"].update(labelled=1), "rds: rows sent are labelled or quarantined"),
        (lambda kind: kind["stream"].update(labelled=0, quarantined=2), "rds: rows sent are labelled or quarantined"),
        (lambda kind: kind["stream"].update(values={**VALUES, "kept": 1}), "rds: values sent are kept or refused"),
    ],
)
def test_a_kind_that_lost_something_is_named(figures, damage, failed):
    damage(figures["kinds"]["rds"])
    assert [name for name, holds in checks.loop(figures).items() if not holds] == [failed]


def test_a_kind_without_a_model_in_service_fails(figures):
    figures["promoted"]["kinds"] = {}
    assert not checks.loop(figures)["every kind has a model in service"]


def test_one_kind_has_the_checks_of_the_whole_alone(figures):
    del figures["kinds"]["rds"]
    assert not [name for name in checks.loop(figures) if ":" in name or "every kind" in name]


def test_the_summary_has_a_line_for_each_kind(figures):
    # GIVEN
    console = Console(record=True, width=160, file=io.StringIO())

    # WHEN
    summary.show(console, {**figures, "source": "fleet", "addresses": {}})

    # THEN
    text = console.export_text()
    assert "rds: kmeans" in text
    assert text.count("exported 4 = 3 validated + 1 quarantined; streamed 2 = 2 labelled + 0 quarantined;") == 2
    assert "1 episodes; 1 of 2 incidents met" in text
    assert "8 = 6 validated + 2 quarantined" in text

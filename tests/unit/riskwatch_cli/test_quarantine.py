"""`riskwatch quarantine list` and `replay`: their output and effects."""

import base64
import gzip
import json
from datetime import UTC, datetime

import pytest
from typer.testing import CliRunner

from riskwatch_cli.main import app
from riskwatch_ml.core import settings
from riskwatch_ml.schema import catalogue

HEAD = "timestamp,CPUUtilization,Latency_ms\n"
ROWS = HEAD + "2/17/2025 0:00,20,5\n2/17/2025 0:05,150,\n2/17/2025 0:10,-3,\n"
VALUES = "2/17/2025 0:15,151,5\n2/17/2025 0:20,-4,5\n"
DAY = datetime(2025, 2, 17, tzinfo=UTC), datetime(2025, 2, 18, tzinfo=UTC)
SPAN = ("--start", "2025-02-17", "--end", "2025-02-18")
PACK = {
    "v": 2,
    "service": "web",
    "features": ["cpu_utilization", "latency_ms"],
    "instances": [{"id": "web", "role": "default", "newest": 1, "ts": [1739750400000], "columns": [[70.0], [5.0]]}],
}


@pytest.fixture
def bad(cloud, run):
    """Put two rows and two values of an import and one record of the stream into quarantine."""
    run("import", ROWS + VALUES)
    record = {
        "reason": "latency_ms is 5, above its upper bound 1",
        "rows": 1,
        "partition_key": "web",
        "truncated": False,
        "data": base64.b64encode(json.dumps(PACK).encode()).decode(),
    }
    key = "quarantine/records/dt=2025-02-17/hh=00/s-1.json.gz"
    cloud.s3.objects[key] = gzip.compress(json.dumps(record).encode())
    return cloud


def quarantine(*options):
    return CliRunner().invoke(app, ["quarantine", *options])


def test_list_counts_reasons_and_names_rows(bad):
    # WHEN
    result = quarantine("list", *SPAN, "--limit", "1")

    # THEN
    assert result.output.splitlines() == [
        "2 metric rows in quarantine, 2025-02-17 00:00 to 2025-02-18 00:00 UTC",
        "  2: cpu_utilization outside [0, 100] %",
        "  2: most values are impossible",
        "  2025-02-17 00:10 'web' (csv): most values are impossible; cpu_utilization outside [0, 100] %",
        "2 refused values of validated rows in the same interval",
        "  2: cpu_utilization outside [0, 100] %",
        "  2025-02-17 00:20 'web' (csv): cpu_utilization -4",
        "1 rows in 1 refused stream records that arrived in this interval",
        "  1: latency_ms is 5, above its upper bound 1",
    ]


def test_a_replay_after_the_bound_was_corrected(bad, monkeypatch):
    # GIVEN a catalogue with another upper bound
    corrected = catalogue.dumps(catalogue.load()).replace("upper = 100.0", "upper = 200.0")
    path = bad.folder / "catalogue.toml"
    path.write_text(corrected, encoding="utf-8")
    config = settings.Settings(**{**vars(settings.load()), "catalogue": (str(path),)})
    monkeypatch.setattr(settings, "load", lambda: config)

    # WHEN
    result = quarantine("replay", *SPAN)

    # THEN the row within the new bound is validated, and the record went to the live model
    assert result.output.splitlines() == [
        "2 metric rows = 1 validated + 1 left in quarantine",
        "  1: cpu_utilization outside [0, 200] %",
        "  1: most values are impossible",
        "2 refused values = 1 returned to their rows + 1 left",
        "  1: cpu_utilization outside [0, 100] %",
        "1 refused rows of the stream = 1 sent again + 0 left",
    ]
    assert bad.store.read_hours("validated", *DAY)["cpu_utilization"].fillna(-1).tolist() == [
        *(20, 150, 151),
        -1,
    ]
    assert bad.function.records == [PACK]
    # AND a second replay changes nothing
    before = dict(bad.s3.objects)
    second = quarantine("replay", *SPAN)
    assert second.output.splitlines()[0] == "1 metric rows = 0 validated + 1 left in quarantine"
    assert bad.s3.objects == before


def test_rows_and_records_can_be_replayed_alone(bad):
    assert quarantine("replay", *SPAN, "--no-records").output.splitlines() == [
        "2 metric rows = 0 validated + 2 left in quarantine",
        "  2: cpu_utilization outside [0, 100] %",
        "  2: most values are impossible",
        "2 refused values = 0 returned to their rows + 2 left",
        "  2: cpu_utilization outside [0, 100] %",
    ]
    assert bad.function.records == []
    assert quarantine("replay", *SPAN, "--no-rows").output == ("1 refused rows of the stream = 1 sent again + 0 left\n")


def test_an_interval_the_wrong_way_round_is_refused(cloud):
    result = quarantine("list", "--start", "2025-02-18", "--end", "2025-02-17")
    assert result.exit_code == 2
    assert "is not before the end" in result.output


def test_an_unreadable_object_is_one_message(bad):
    bad.s3.objects["quarantine/records/dt=2025-02-17/hh=00/s-1.json.gz"] = b"no gzip"
    result = quarantine("replay", *SPAN)
    assert result.exit_code == 1
    assert "s-1.json.gz holds no refused records" in result.stderr

"""`riskwatch import` and `riskwatch stream`: their results, output and exit codes."""

import base64
import gzip
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest
from typer.testing import CliRunner

from riskwatch_cli.csv import stream_rows
from riskwatch_cli.main import app
from riskwatch_expectations.pipeline import TAKEN
from riskwatch_ml.core import clock
from riskwatch_ml.schema.catalogue import Catalogue
from riskwatch_ml.schema.inventory import Instance
from riskwatch_ml.schema.metric import metric_without_entry
from riskwatch_ml.streaming import packs as stream

HEAD = "timestamp,CPUUtilization,Latency_ms\n"
DAY = datetime(2025, 2, 17, tzinfo=UTC), datetime(2025, 2, 18, tzinfo=UTC)


def rows(*values, head=HEAD, hour=0):
    """Return CSV text with these CPU values, five minutes apart."""
    return head + "".join(f"2/17/2025 {hour}:{5 * index:02d},{cpu},5\n" for index, cpu in enumerate(values))


def layers(cloud):
    read = {layer: cloud.store.read_hours(layer, *DAY) for layer in ("raw", "validated", "quarantine")}
    return {layer: len(frame) for layer, frame in read.items()}


def test_an_import_splits_the_rows_and_counts_them(cloud, run):
    # GIVEN seven rows: one with an impossible value, one with no other, one repeated, one off the grid
    content = rows(20, 288, 30) + "2/17/2025 0:10,31,5\n2/17/2025 0:11,31,5\n2/17/2025 0:15,-1,-2\n2/17/2025 0:20,,5\n"

    # WHEN
    result = run("import", content)

    # THEN
    assert result.exit_code == 0
    assert layers(cloud) == {"raw": 7, "validated": 4, "quarantine": 3}
    assert sorted(cloud.store.read_hours("quarantine", *DAY)["reasons"]) == [
        "a second row of the same instance and time",
        "most values are impossible; cpu_utilization outside [0, 100] %; latency_ms outside [0, inf] ms",
        "timestamp off the grid of 300 s",
    ]
    assert result.output.splitlines() == [
        "web.csv: 7 rows of 1 instance, 2025-02-17 00:00 to 2025-02-17 00:20 UTC",
        "7 rows = 4 validated + 3 quarantined",
        "  quarantined 1: a second row of the same instance and time",
        "  quarantined 1: cpu_utilization outside [0, 100] %",
        "  quarantined 1: latency_ms outside [0, inf] ms",
        "  quarantined 1: most values are impossible",
        "  quarantined 1: timestamp off the grid of 300 s",
        "13 values = 6 kept + 7 refused",
        "  refused 1: cpu_utilization outside [0, 100] %",
    ]
    validated = cloud.store.read_hours("validated", *DAY)
    assert validated["cpu_utilization"].fillna(-1).tolist() == [20, -1, 30, -1]
    refused = cloud.store.read_hours("quarantine/values", *DAY)
    assert refused[["instance_id", "metric", "value"]].to_numpy().tolist() == [["web", "cpu_utilization", 288.0]]


def test_an_import_again_replaces_the_instances_of_the_file_and_nothing_else(cloud, run):
    # GIVEN two files, and the first of them corrected and shorter in the middle
    run("import", rows(20, 21, 22), "--instance", "a")
    run("import", rows(50, 51, 52), "--instance", "b")
    corrected = HEAD + "2/17/2025 0:00,70,5\n2/17/2025 0:10,72,5\n"

    # WHEN
    first = run("import", corrected, "--instance", "a")
    once = dict(cloud.s3.objects)
    run("import", corrected, "--instance", "a")

    # THEN
    validated = cloud.store.read_hours("validated", *DAY)
    assert "2 rows = 2 validated + 0 quarantined" in first.output
    assert validated.groupby("instance_id")["cpu_utilization"].apply(list).to_dict() == {
        "a": [70, 72],
        "b": [50, 51, 52],
    }
    assert cloud.s3.objects == once


def test_a_row_that_the_export_has_validated_is_not_validated_twice(cloud, run):
    # GIVEN an exported row of the instance
    run("import", rows(20), "--instance", "a")
    exported = cloud.store.read_hours("validated", *DAY)
    cloud.s3.objects.clear()
    cloud.store.write_hours("raw", exported, *DAY)
    cloud.store.write_hours("validated", exported, *DAY)

    # WHEN a file brings it too, and one more
    result = run("import", rows(20, 21), "--instance", "a")

    # THEN training finds each of them once
    assert f"quarantined 1: {TAKEN}" in result.output
    assert not cloud.store.read_hours("validated", *DAY).duplicated(["instance_id", "timestamp"]).any()
    assert layers(cloud)["validated"] == 2


def test_rows_years_apart_are_not_searched_for_hour_by_hour(cloud, run):
    # GIVEN two rows, twenty years apart WHEN they are imported THEN nothing but their hours is touched
    result = run("import", HEAD + "2/17/2005 0:00,20,5\n2/17/2025 0:00,21,5\n")
    assert "2 rows = 2 validated + 0 quarantined" in result.output
    assert len(cloud.s3.objects) == 4


def test_an_import_of_which_nothing_passes_is_a_failure(cloud, run):
    # GIVEN / WHEN
    result = run("import", rows(288, 290).replace(",5", ",-5"))

    # THEN the rows are in quarantine, and the exit code says it
    assert result.exit_code == 1
    assert layers(cloud) == {"raw": 2, "validated": 0, "quarantine": 2}
    assert "no row of web.csv passed" in result.stderr


MALFORMED = {
    "empty": b"",
    "no header": "2/17/2025 0:00,20,5\n",
    "wrong delimiter": rows(20, 21).replace(",", ";"),
    "mixed dates": HEAD + "2/17/2025 0:00,20,5\n18/2/2025 0:00,20,5\n",
    "text in a number": rows(20, "hot"),
    "10 MB line": rows(20, "9" * 10_000_000),
    "UTF-16 without a mark": rows(20, 21).encode("utf-16-le"),
    "duplicate columns": rows(20, head="timestamp,CPUUtilization,CPUUtilization\n"),
    "no known column": rows(20, head="timestamp,load,wait\n"),
    "only nulls": HEAD + "2/17/2025 0:00,,\n",
    "unsorted": HEAD + "".join(f"2/17/2025 0:{37 * index % 60:02d},20,5\n" for index in range(120)),
    "cut mid-row": rows(20, 21)[:-4],
}


@pytest.mark.parametrize("command", ["import", "stream"])
@pytest.mark.parametrize("content", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_file_ends_in_one_message_and_leaves_nothing(cloud, run, command, content):
    # GIVEN / WHEN
    result = run(command, content)

    # THEN
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("riskwatch: web.csv: ")
    assert len(result.stderr.splitlines()) == 1
    assert "line " in result.stderr or "column" in result.stderr
    assert cloud.s3.objects == {}
    assert cloud.function.records == []
    assert [item.name for item in cloud.folder.iterdir()] == ["web.csv"]


def test_a_stream_reports_the_outcome_of_every_row(cloud, run):
    # GIVEN seven rows: an impossible one, a repeated one and one without a value of the model's features
    content = HEAD.replace("\n", ",MemoryUtilization\n") + "".join(
        f"2025-02-17T00:{minute:02d}:00Z,{cpu},,50\n"
        for minute, cpu in ((0, 20), (5, 60), (10, 288), (15, 61), (15, 62), (20, ""), (25, 63))
    )

    # WHEN
    result = run("stream", content)

    # THEN
    assert result.exit_code == 0
    assert result.output.splitlines()[1:] == [
        "7 rows = 4 labelled + 1 quarantined + 1 of the same instance and time as another (not sent) "
        "+ 1 without any value (not sent); model m-1",
        "level: Idle 0, Normal 1, High Load 3",
        "risk:  Idle 0, Normal 1, High Load 3, Critical 0",
        "  quarantined 1: cpu_utilization is above its upper bound 100",
    ]
    # all of them went in one pack, which has no context to bring
    (document,) = cloud.function.records
    (entry,) = document["instances"]
    assert (entry["newest"], entry["columns"][0]) == (5, [20, 60, 288, 61, 63])


def test_a_pack_that_was_refused_whole_answers_for_all_its_rows(cloud, run, monkeypatch):
    # GIVEN a function with a model that does not know the features of the pack any more
    def refuse(**asked):
        refused = [
            {"reason": "features has no gpu", "rows": 2, "data": base64.b64encode(item["Data"]).decode()}
            for item in asked["Records"]
        ]
        key = f"quarantine/records/dt={clock.now():%Y-%m-%d}/hh={clock.now():%H}/shard.json.gz"
        cloud.s3.objects[key] = gzip.compress("\n".join(map(json.dumps, refused)).encode())
        return {"Records": [{"SequenceNumber": "1"} for _ in asked["Records"]]}

    monkeypatch.setattr(cloud.function, "put_records", refuse)

    # WHEN
    result = run("stream", rows(20, 21))

    # THEN
    assert "2 rows = 0 labelled + 2 quarantined" in result.stdout
    assert "  quarantined 2: features has no gpu" in result.stdout


def test_verdicts_of_an_earlier_stream_do_not_count(cloud, run, monkeypatch):
    # GIVEN a file streamed once, and a function that now loses the first row
    run("stream", rows(20, 21))
    cloud.function.loses = 3
    monkeypatch.setattr(stream_rows, "PATIENCE_S", -1.0)

    # WHEN
    result = run("stream", rows(20, 21))

    # THEN what is missing is named
    assert result.exit_code == 1
    assert "2 rows = 1 labelled + 0 quarantined" in result.stdout
    assert (
        "1 of 2 rows are neither labelled nor quarantined, the first is web at 2025-02-17T00:00:00.000Z"
        in result.stderr
    )


def test_without_a_model_nothing_is_sent(cloud, run):
    # GIVEN
    cloud.function.model_id = None

    # WHEN
    result = run("stream", rows(20))

    # THEN
    assert result.exit_code == 1
    assert "no model is promoted yet" in result.stderr
    assert cloud.function.records == []


def test_rate_and_speed_exclude_each_other(run):
    # GIVEN / WHEN / THEN
    result = run("stream", rows(20), "--rate", "5", "--speed", "2")
    assert result.exit_code == 2
    assert "not both" in result.output


class Time:
    """A clock that only waiting moves."""

    def __init__(self):
        self.at = 100.0

    def now(self):
        return self.at

    def wait(self, seconds):
        self.at += seconds


@pytest.mark.parametrize(
    ("pace", "expected"),
    [
        ({"rate": 2.0}, [(100.0, 2), (101.0, 2), (102.0, 2)]),
        ({"speed": 300.0}, [(100.0, 2), (101.0, 2), (103.0, 2)]),
        ({}, [(100.0, 6)]),
    ],
)
def test_rows_go_when_they_are_due(pace, expected):
    # GIVEN two instances of one service at three times, five and ten minutes apart
    time, sent, progress = Time(), [], []

    class Client:
        def put_records(self, **asked):
            packs = [json.loads(item["Data"]) for item in asked["Records"]]
            sent.append((time.at, sum(entry["newest"] for pack in packs for entry in pack["instances"])))
            return {"Records": [{} for _ in asked["Records"]]}

    stamps = pd.DatetimeIndex([DAY[0] + timedelta(minutes=passed) for passed in (0, 5, 15)] * 2).as_unit("ms")
    frame = pd.DataFrame({"instance_id": ["a"] * 3 + ["b"] * 3, "timestamp": stamps, "cpu": 1.0})
    inventory = {name: Instance(name, "web", "shop") for name in "ab"}
    packer = stream.Packer(frame, inventory, 2, 1800, Catalogue((metric_without_entry("cpu", "Test"),)))

    # WHEN
    keys = stream_rows.row_keys(frame)
    count = stream_rows.send(
        Client(), "metrics", packer, keys, wait=time.wait, now=time.now, progress=progress.append, **pace
    )

    # THEN no row before it is due, those of one time together
    assert count == 6
    assert sent == expected
    assert progress[-1] == 6


def test_an_error_of_the_outside_is_one_message_with_the_details_in_a_file(cloud, run, monkeypatch):
    # GIVEN a bucket that cannot be reached
    def refuse(**asked):
        raise ConnectionError("no answer")

    monkeypatch.setattr(cloud.s3, "put_object", refuse)

    # WHEN
    result = run("import", rows(20))

    # THEN
    assert result.exit_code == 1
    assert result.stderr == "riskwatch: ConnectionError: no answer\n  (details: .riskwatch/error.log)\n"
    assert "Traceback" in (cloud.folder / ".riskwatch" / "error.log").read_text()


def test_missing_settings_are_named(monkeypatch, tmp_path):
    # GIVEN no settings at all
    from riskwatch_ml.core import settings

    settings.load.cache_clear()
    for name in ("RISKWATCH_CONFIG", "RISKWATCH_BUCKET"):
        monkeypatch.delenv(name, raising=False)

    # WHEN / THEN
    result = CliRunner().invoke(app, ["import", "--csv", str(tmp_path / "a.csv")])
    assert result.exit_code == 1
    assert "bucket is missing: set RISKWATCH_BUCKET" in result.stderr


def test_an_import_needs_no_airflow():
    # GIVEN / WHEN what an import uses is loaded in a process of its own
    code = (
        "import sys, riskwatch_cli.main, riskwatch_cli.csv.import_rows, riskwatch_cli.csv.stream_rows;"
        "import riskwatch_expectations.suites.rows, riskwatch_ml.streaming.live_model;"
        "print([name for name in ('airflow', 'mlflow', 'sklearn') if name in sys.modules])"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    # THEN
    assert output.strip() == "[]"

"""A CSV file of four fleets appended to each other: imported, learnt from, and streamed, without an option.

Only the embedded AWS runs. The file has what such files hold in practice: repeated times, CPU up to 288 %, negative
latencies, and rows of a broken agent.
"""

import gzip
import json
from collections import Counter
from datetime import datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from riskwatch_cli.main import app
from riskwatch_local.services import system
from riskwatch_local.services.supervisor import Supervisor
from riskwatch_ml.artifact import archive
from riskwatch_ml.core import aws
from riskwatch_ml.model.fit import Recipe
from riskwatch_ml.registry import release
from riskwatch_ml.schema import catalogue
from riskwatch_ml.selection.candidate import fit_candidate

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

METRICS = {  # feature = slope * CPU + base
    "CPUUtilization": (1.0, 0.0),
    "MemoryUtilization": (0.5, 30.0),
    "DiskReadBytes_MB": (0.2, 1.0),
    "DiskWriteBytes_MB": (0.16, 1.0),
    "NetworkIn_MB": (1.0, 2.0),
    "NetworkOut_MB": (1.4, 2.0),
    "Latency_ms": (2.0, 20.0),
    "DiskQueueLength": (0.05, 0.1),
    "RunningProcesses": (1.0, 90.0),
    "ActiveConnections": (5.0, 10.0),
}
CPU = [25, 47, 80, 8]
ROWS = 4033
LEVELS = {"Idle": 0, "Normal": 1, "High Load": 2}
BROKEN = 2  # rows of each fleet in which most values are impossible
VALUES = len(METRICS) * ROWS * len(CPU)


def write_fleets(path):
    """Write four regimes of 4,033 rows with the same times; return how many values of each alone are impossible."""
    rng = np.random.default_rng(7)
    start = datetime(2025, 2, 17)
    times = [start + timedelta(minutes=5 * place) for place in range(ROWS)]
    impossible = []
    with path.open("w") as file:
        file.write(f"Timestamp,{','.join(METRICS)},Region\n")
        for mean in CPU:
            # A day's rhythm that keeps the busiest fleet below 100 %, then a few values that no instance can have.
            cpu = mean * (1 + 0.12 * np.sin(np.arange(ROWS) / 288 * 2 * np.pi)) + rng.normal(0, 0.02 * mean, ROWS)
            table = {name: cpu * slope + base + rng.normal(0, 0.3, ROWS) for name, (slope, base) in METRICS.items()}
            table = {name: np.clip(values, 0, None) for name, values in table.items()}
            table["CPUUtilization"] = np.clip(cpu, 0, 100)
            spoiled = rng.choice(ROWS, 30 + BROKEN, replace=False)
            table["CPUUtilization"][spoiled[:20]] = rng.uniform(101, 288, 20)
            table["Latency_ms"][spoiled[20:30]] = rng.uniform(-40, -1, 10)
            for name in list(METRICS)[:6]:
                table[name][spoiled[30:]] = -1.0
            impossible.append(30)
            columns = list(table.values())
            for place, moment in enumerate(times):
                values = ",".join(f"{column[place]:.4f}" for column in columns)
                file.write(f"{moment.month}/{moment.day}/{moment.year} {moment.hour}:{moment.minute:02d},{values},eu\n")
    return impossible


@pytest.fixture(scope="module")
def story(tmp_path_factory, restored_environment):
    """Import, train one family, promote it, stream; what the commands said and what they left behind."""
    folder = tmp_path_factory.mktemp("csv")
    path = folder / "fleets.csv"
    impossible = write_fleets(path)
    with system.state_folder(folder / "state") as state, Supervisor() as supervisor:
        metrics = catalogue.load()
        running = system.start(supervisor, state, [metrics], {})
        imported = CliRunner().invoke(app, ["import", "--csv", str(path)])
        rows = running.store.read_hours("validated", datetime_utc(2025, 2, 1), datetime_utc(2025, 3, 31))
        refused = running.store.read_hours("quarantine", datetime_utc(2025, 2, 1), datetime_utc(2025, 3, 31))
        values = running.store.read_hours("quarantine/values", datetime_utc(2025, 2, 1), datetime_utc(2025, 3, 31))
        fitted = fit_candidate(rows, metrics, {}, Recipe("kmeans"), "csv")
        packed = archive.pack(fitted.document, fitted.arrays)
        release.promote(aws.client("lambda"), running.outputs.function, "live", packed, approved_by="test")
        streamed = CliRunner().invoke(app, ["stream", "--csv", str(path)])
        yield {
            "impossible": impossible,
            "features": list(metrics.names),
            "imported": imported,
            "validated": rows,
            "refused": refused,
            "refused_values": values,
            "streamed": streamed,
            "labelled": pd.DataFrame(lines(running.store, "labelled/arrived/")),
            "quarantined": lines(running.store, "quarantine/records/"),
        }


def datetime_utc(*parts):
    return pd.Timestamp(*parts, tz="UTC").to_pydatetime()


def lines(store, prefix):
    return [
        json.loads(line)
        for key in store.keys(prefix)
        for line in gzip.decompress(store.get_bytes(key)).split(b"\n")
        if line
    ]


def test_both_commands_say_what_they_found(story):
    for result in (story["imported"], story["streamed"]):
        assert result.exit_code == 0, result.output
        assert "16,132 rows of 4 instances" in result.output
        assert "found four sequences, treated as four instances" in result.output
        assert "ignored, as no metric: column Region" in result.output


def test_every_imported_row_is_validated_or_quarantined_with_its_reason(story):
    assert len(story["validated"]) + len(story["refused"]) == 4 * ROWS
    assert len(story["refused"]) == 4 * BROKEN
    assert story["refused"]["reasons"].str.startswith("most values are impossible; cpu_utilization outside").all()
    assert "16,132 rows = 16,124 validated + 8 quarantined" in story["imported"].output


def test_every_imported_value_is_kept_or_refused_with_its_reason(story):
    # GIVEN / WHEN / THEN an impossible value costs that value: its row is validated without it
    values = story["refused_values"]
    assert len(values) == sum(story["impossible"]) == 120
    reasons = {"cpu_utilization outside [0, 100] %": 80, "latency_ms outside [0, inf] ms": 40}
    assert Counter(values["reason"]) == reasons
    validated = story["validated"].set_index(["instance_id", "timestamp"])
    for value in values.itertuples():
        assert np.isnan(validated.loc[(value.instance_id, value.timestamp), value.metric])
    kept = VALUES - 120 - 4 * BROKEN * len(METRICS)
    assert f"{VALUES:,} values = {kept:,} kept + {VALUES - kept:,} refused" in story["imported"].output


def test_every_streamed_row_is_labelled_or_quarantined_with_its_reason(story):
    labelled, quarantined = story["labelled"], story["quarantined"]
    assert len(labelled.drop_duplicates(["instance_id", "timestamp"])) == len(labelled) == 16_124
    assert len(quarantined) == 4 * BROKEN
    assert all("bound" in record["reason"] for record in quarantined)
    assert "16,132 rows = 16,124 labelled + 8 quarantined" in story["streamed"].output


def test_a_streamed_row_with_one_impossible_value_is_labelled_without_it(story):
    # GIVEN the rows of which a value was refused
    labelled = story["labelled"]
    spoiled = labelled[labelled["refused_values"].map(len) > 0]

    # WHEN / THEN each lacks that value, says so, and has a level
    assert len(spoiled) == 120
    for row in spoiled.to_dict("records"):
        (value,) = row["refused_values"]
        assert row["missing"] == [value["feature"]]
        assert np.isnan(row[value["feature"]])
        assert row["level"] in LEVELS
    output = story["streamed"].output
    assert "refused values of labelled rows 80: cpu_utilization is above its upper bound 100" in output
    # AND values in = values kept + values refused
    kept = int(labelled[story["features"]].notna().to_numpy().sum())
    assert kept + 120 + sum(record["values"] for record in story["quarantined"]) == VALUES


def test_the_level_rises_with_each_fleets_load(story):
    # GIVEN the fleets from the idlest to the busiest: the fourth, the first, the second, the third
    order = [f"fleets-{place + 1}" for place in np.argsort(CPU)]

    # WHEN
    level = (
        story["labelled"].assign(level=story["labelled"]["level"].map(LEVELS)).groupby("instance_id")["level"].mean()
    )

    # THEN
    means = [level[name] for name in order]
    assert means == sorted(means)
    assert means[0] < means[-1]

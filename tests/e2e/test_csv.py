"""A CSV file of four fleets appended to each other: imported, learnt from, and streamed, without an option.

Only the embedded AWS runs. The file has what such files hold in practice: repeated times, CPU up to 288 %, negative
latencies.
"""

import gzip
import json
import os
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
from riskwatch_ml.core import settings as configuration
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


def write_fleets(path):
    """Write four regimes of 4,033 rows with the same times; return how many rows of each hold something impossible."""
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
            spoiled = rng.choice(ROWS, 30, replace=False)
            table["CPUUtilization"][spoiled[:20]] = rng.uniform(101, 288, 20)
            table["Latency_ms"][spoiled[20:]] = rng.uniform(-40, -1, 10)
            impossible.append(len(spoiled))
            columns = list(table.values())
            for place, moment in enumerate(times):
                values = ",".join(f"{column[place]:.4f}" for column in columns)
                file.write(f"{moment.month}/{moment.day}/{moment.year} {moment.hour}:{moment.minute:02d},{values},eu\n")
    return impossible


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """Import, train one family, promote it, stream; what the commands said and what they left behind."""
    folder = tmp_path_factory.mktemp("csv")
    path = folder / "fleets.csv"
    impossible = write_fleets(path)
    before = dict(os.environ)
    try:
        with system.state_folder(folder / "state") as state, Supervisor() as supervisor:
            metrics = catalogue.load()
            running = system.start(supervisor, state, metrics, {})
            imported = CliRunner().invoke(app, ["import", "--csv", str(path)])
            rows = running.store.read_hours("validated", datetime_utc(2025, 2, 1), datetime_utc(2025, 3, 31))
            refused = running.store.read_hours("quarantine", datetime_utc(2025, 2, 1), datetime_utc(2025, 3, 31))
            fitted = fit_candidate(rows, metrics, {}, Recipe("kmeans"), "csv")
            packed = archive.pack(fitted.document, fitted.arrays)
            release.promote(aws.client("lambda"), running.outputs.function, "live", packed, approved_by="test")
            streamed = CliRunner().invoke(app, ["stream", "--csv", str(path)])
            labelled = lines(running.store, "labelled/arrived/")
            quarantined = lines(running.store, "quarantine/records/")
            yield {
                "impossible": impossible,
                "imported": imported,
                "validated": rows,
                "refused": refused,
                "streamed": streamed,
                "labelled": pd.DataFrame(labelled),
                "quarantined": quarantined,
            }
    finally:
        os.environ.clear()
        os.environ.update(before)
        configuration.load.cache_clear()
        aws.forget()


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
    assert len(story["refused"]) == sum(story["impossible"])
    reasons = Counter(story["refused"]["reasons"])
    assert reasons == {"cpu_utilization outside [0, 100] %": 80, "latency_ms outside [0, inf] ms": 40}
    assert "16,132 rows = 16,012 validated + 120 quarantined" in story["imported"].output


def test_every_streamed_row_is_labelled_or_quarantined_with_its_reason(story):
    labelled, quarantined = story["labelled"], story["quarantined"]
    assert len(labelled.drop_duplicates(["instance_id", "timestamp"])) == len(labelled) == 16_012
    assert len(quarantined) == 120
    assert all("bound" in record["reason"] for record in quarantined)
    assert "16,132 rows = 16,012 labelled + 120 quarantined" in story["streamed"].output
    assert "quarantined 80: cpu_utilization is above its upper bound 100" in story["streamed"].output


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

"""The cost of serving.

    python -m bench.serving [--rows N] [--launches N] [--instances N] [--json FILE]

Models of all five families are trained on four days of the simulated fleet of twelve instances, as a training does it.
Ratios compare median CPU times of interleaved repetitions:

- cold starts against bare clients and against joblib with scikit-learn
- decoding, validating and scoring a row against decoding its base64 and JSON, and against scikit-learn row by row

Other figures are the sizes of the artifacts, label differences between training's scorer and the deployed zip, load
time, memory and size for a fleet of thousands, and the DynamoDB units of rows and openings.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
import zipfile
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench import coldstart, deployed, large_fleet, parity, table_units
from bench.rivals import Handler, dump
from riskwatch_lambda.model.document import Cuts, from_files
from riskwatch_local.demo.simulator import simulate
from riskwatch_ml.artifact import archive as artifact
from riskwatch_ml.families import FAMILIES
from riskwatch_ml.model.fit import Recipe
from riskwatch_ml.model.fleet_model import FleetModel
from riskwatch_ml.schema import catalogue
from riskwatch_ml.schema.inventory import Instance
from riskwatch_ml.selection.candidate import fit_candidate

if TYPE_CHECKING:
    import pandas as pd

TRAINED_DAYS = 4
BATCHES = (100, 1000)
REPETITIONS = 15
RIVAL_ROWS = 100
CENTROIDS = ("kmeans", "kmedoids")
# The limit of each figure, and its direction.
LIMITS = {
    "init": ("≤", 1.15),
    "cold start of joblib + scikit-learn over ours": ("≥", 4),
    "the same over the scorer alone": ("≥", 20),
    "row": ("≤", 14),
    "row of KMeans and KMedoids": ("≤", 10),
    "scikit-learn": ("≥", 8),
    "model KB of KMeans": ("≤", 60),
    "zip KB of KMeans": ("≤", 150),
    "zip KB": ("≤", 300),
    "differences": ("≤", 0),
}


def main() -> None:
    """Print a line for each figure beside its limit.

    With `--json`, all figures are written as JSON.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000, help="rows of each family compared for equal labels")
    parser.add_argument("--launches", type=int, default=11)
    parser.add_argument("--instances", type=int, default=10_000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()

    past, new, inventory = fleet(options.rows)
    zips: dict[str, bytes] = {}
    for family in FAMILIES:
        candidate = fit_candidate(past, catalogue.load(), inventory, Recipe(family), "bench")
        zips[family] = artifact.pack(candidate.document, candidate.arrays)
    data = {family: sample(content, new, inventory) for family, content in zips.items()}
    report: dict[str, Any] = {"sizes": {family: sizes(content) for family, content in zips.items()}}
    print_sizes(report["sizes"])
    report["rows"] = {family: measure_rows(zips[family], data[family]) for family in zips}
    print_rows(report["rows"])
    report["cold"] = measure_cold(zips["kmeans"], data["kmeans"][:100], options.launches)
    print_cold(report["cold"])
    report["large_fleet"] = large_fleet.measure(zips["kmeans"], options.instances)
    print(f"fleet of {options.instances:,}: " + ", ".join(f"{k} {v:,.4g}" for k, v in report["large_fleet"].items()))
    print("\n".join(table_units.lines()))
    report["parity"] = {}
    for family, content in zips.items():
        result = parity.differences(content, new, inventory, sys.executable)
        report["parity"][family] = result
        rows = f"{result['rows']:,} rows ({result['unseen']:,} unseen, {result['without_context']:,} without context)"
        line(f"label differences {family}, {rows}", sum(result["differences"].values()), "differences", "")
    if options.json:
        options.json.write_text(json.dumps(report, indent=1), encoding="utf-8")


def fleet(rows: int) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, Instance]]:
    """Return rows to train on, later rows to score, and the inventory.

    Some of the later rows belong to unseen instances.
    """
    per_day = 12 * 288
    days = TRAINED_DAYS + -(-rows * 11 // (per_day * 10))
    simulation = simulate(datetime(2026, 11, 20, tzinfo=UTC), days=days, stream_hours=24 * (days - TRAINED_DAYS))
    known = catalogue.load().metrics
    within = np.ones(len(simulation.rows), bool)
    for metric in known:
        values = simulation.rows[metric.name].to_numpy()
        within &= ~(values < (-np.inf if metric.lower is None else metric.lower))
        within &= ~(values > (np.inf if metric.upper is None else metric.upper))
    good = simulation.rows[within]
    cut = good["timestamp"].min() + np.timedelta64(TRAINED_DAYS, "D")
    past, new = good[good["timestamp"] < cut], good[good["timestamp"] >= cut].copy()
    # Two unseen instances: one with a known role, one without any information.
    new["instance_id"] = new["instance_id"].replace({"web-4": "web-new", "worker-3": "stranger"})
    inventory = {**simulation.inventory, "web-new": Instance("web-new", "web", "billing")}
    return past, parity.awkward(new, [metric.name for metric in known]), inventory


def sample(zip_bytes: bytes, rows: pd.DataFrame, inventory: dict[str, Instance]) -> list[str]:
    """Return base64 records of one day's rows, with context, in random order."""
    part = rows[rows["timestamp"] < rows["timestamp"].min() + np.timedelta64(1, "D")]
    records = deployed.one_row_records(FleetModel.load(*artifact.unpack(zip_bytes)), part, inventory)
    order = np.random.default_rng(0).permutation(len(records))
    return [records[index] for index in order[: max(BATCHES)]]


def sizes(zip_bytes: bytes) -> dict[str, float]:
    """Return the bytes of an artifact: the whole zip, the model's files, the code."""
    with zipfile.ZipFile(BytesIO(zip_bytes)) as archive:
        entries = archive.infolist()
    model = sum(entry.file_size for entry in entries if entry.filename.startswith("model/"))
    return {"zip": len(zip_bytes), "model": model, "code": sum(entry.file_size for entry in entries) - model}


def measure_rows(zip_bytes: bytes, data: list[str]) -> dict[str, Any]:
    """Return microseconds of CPU per row by batch size, and their ratios.

    The ratios are to the floor and to scikit-learn row by row.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        dump(FleetModel.load(*artifact.unpack(zip_bytes)), folder / "model.joblib")
        rival = Handler(folder / "model.joblib")
        figures: dict[str, Any] = {"prototypes": prototypes(from_files(artifact.model_files(zip_bytes)))}
        for size in BATCHES:
            us = deployed.times(zip_bytes, data[:size], folder / "task", REPETITIONS)
            us["sklearn"] = row_by_row(rival, data[:RIVAL_ROWS])
            figures[str(size)] = {**us, "ratio": us["ours"] / us["floor"], "rival": us["sklearn"] / us["ours"]}
    return figures


def row_by_row(rival: Handler, batch: list[str]) -> float:
    """Return the median microseconds of CPU per row of scikit-learn.

    The first round is not counted.
    """
    seconds = []
    for _ in range(REPETITIONS + 1):
        started = time.process_time()
        for text in batch:
            rival.score(text)
        seconds.append(time.process_time() - started)
    return statistics.median(seconds[1:]) / len(batch) * 1e6


def prototypes(served: Any) -> dict[str, int]:
    """Return the numbers of prototypes.

    They are those of the level map if there is one, of all members, and the maximum of the members that score one row.
    """
    size = {id(m): sum(len(stage.prototypes) for stage in m.map.stages) for m in served.members}
    groups = {m.group for m in served.members}
    return {
        "level": 0
        if isinstance(served.level, Cuts)
        else sum(len(stage.prototypes) for stage in served.level.map.stages),
        "members": sum(size.values()),
        "a row": max(sum(size[id(m)] for m in served.members if m.group == group) for group in groups),
    }


def measure_cold(zip_bytes: bytes, data: list[str], launches: int) -> coldstart.ColdStarts:
    """Return the figures of cold starts, scoring a first batch included."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        artifact.unzip(zip_bytes, folder / "task")
        (folder / "batch.txt").write_text("\n".join(data), encoding="ascii")
        dump(FleetModel.load(*artifact.unpack(zip_bytes)), folder / "model.joblib")
        return coldstart.measure(folder / "task", folder / "batch.txt", folder / "model.joblib", launches)


def print_sizes(found: dict[str, dict[str, float]]) -> None:
    """Print a line for each family."""
    for family, size in found.items():
        line(f"zip of 12 instances, {family}", size["zip"] / 1000, "zip KB", "KB")
    line("  of KMeans", found["kmeans"]["zip"] / 1000, "zip KB of KMeans", f"KB, code {found['kmeans']['code']:,} B")
    line("  model data of KMeans", found["kmeans"]["model"] / 1000, "model KB of KMeans", "KB")


def print_rows(found: dict[str, dict[str, Any]]) -> None:
    """Print two lines for each family and batch."""
    for family, by_batch in found.items():
        asked = "row of KMeans and KMedoids" if family in CENTROIDS else "row"
        for size in map(str, BATCHES):
            us = by_batch[size]
            of = f"{us['ours']:.0f} us, decode {us['decode']:.0f}, floor {us['floor']:.1f}; {by_batch['prototypes']}"
            line(f"a row of {size}, {family}", us["ratio"], asked, f"x floor ({of})")
            line("  scikit-learn row by row", us["rival"], "scikit-learn", f"x ours ({us['sklearn']:.0f} us)")


def print_cold(found: coldstart.ColdStarts) -> None:
    """Print the ratios and the CPU seconds behind them."""
    base = "boto3 and three clients" + (" after awslambdaric" if found["awslambdaric"] else ", without awslambdaric")
    line(f"init over {base}", found["init_ratio"], "init", "x")
    line("joblib + scikit-learn over ours, boto3 in both, first batch of 100", found["rival_over_handler"],
         "cold start of joblib + scikit-learn over ours", "x")  # fmt: skip
    line("  over the scorer alone", found["rival_over_scorer"], "the same over the scorer alone", "x")
    print(f"  both without boto3: {found['rival_without_boto3_over_scorer']:.1f} x")
    print("  CPU s: " + ", ".join(f"{name} {value:.3f}" for name, value in found["cpu_s"].items()))


def line(what: str, value: float, asked: str, unit: str) -> None:
    """Print a figure beside its limit."""
    sign, limit = LIMITS[asked]
    held = value <= limit if sign == "≤" else value >= limit
    print(f"{'ok    ' if held else 'MISSED'} {what}: {value:.4g} {unit} (asked: {sign} {limit:g})", flush=True)


if __name__ == "__main__":
    main()

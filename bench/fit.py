"""Time and memory of a fit, by family.

    python -m bench.fit [--rows N] [--features D] [--instances I] [--json FILE]

Every family is fitted to made-up rows of a fleet with a daily wave, in its own process, on one thread. A fit does the
work of a training: rows in a frame, baselines, maps, boundaries, threshold, guards, trial, figures, golden records.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import time
from pathlib import Path

import numpy as np
import pandas as pd

from riskwatch_ml.families import FAMILIES
from riskwatch_ml.features.table import MetricTable
from riskwatch_ml.features.training_set import training_table
from riskwatch_ml.model.fit import Recipe
from riskwatch_ml.schema.catalogue import Catalogue, load
from riskwatch_ml.schema.metric import Metric
from riskwatch_ml.selection.candidate import fit_table

PERIOD_S = 300
PERIOD_MS = PERIOD_S * 1000
MAX_CPU_S, MAX_MB = 60.0, 2_048.0


def main() -> None:
    """Print one line for each family; exit with 1 if one exceeds the limits."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--features", type=int, default=10)
    parser.add_argument("--instances", type=int, default=100)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    table = []
    print(f"{options.rows:,} rows x {options.features} features, {options.instances} instances")
    for family in FAMILIES:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            line = pool.apply(measure, (family, options.rows, options.features, options.instances))
        table.append(line)
        print(f"{family:14s} {line['cpu_s']:7.1f} CPU s {line['peak_mb']:8.0f} MB", flush=True)
    if options.json:
        options.json.write_text(json.dumps(table, indent=1), encoding="utf-8")
    if any(line["cpu_s"] > MAX_CPU_S or line["peak_mb"] > MAX_MB for line in table):
        raise SystemExit(f"a family exceeds {MAX_CPU_S:.0f} CPU s or {MAX_MB:.0f} MB")


def measure(family: str, rows: int, features: int, instances: int) -> dict[str, str | float]:
    """Return the CPU seconds of one fit and the peak memory of its process in MB.

    The memory includes the rows.
    """
    table = fleet(rows, features, instances)
    # The packaged catalogue comes first: its directions and bounds are part of the work.
    more = (Metric(name, "Bench", name) for name in table.features)
    catalogue = Catalogue((*load().metrics, *more)[:features])
    frame = pd.DataFrame(table.values, columns=list(catalogue.names))
    frame["instance_id"] = pd.Categorical.from_codes(table.code, list(table.instances))
    frame["timestamp"] = pd.to_datetime(table.ms, unit="ms", utc=True)
    del table
    started = time.process_time()
    table = training_table(frame, catalogue, PERIOD_S)
    del frame
    fit_table(table, catalogue, {}, Recipe(family, period_s=PERIOD_S), "bench")
    seconds = time.process_time() - started
    return {"family": family, "cpu_s": seconds, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def fleet(rows: int, features: int, instances: int, seed: int = 0) -> MetricTable:
    """Return rows of a fleet: four kinds of load, a daily wave, noise.

    All instances have the same number of rows.
    """
    rng = np.random.default_rng(seed)
    count = rows // instances
    moments = np.arange(count) * PERIOD_MS
    wave = np.sin(moments / 86_400_000 * 2 * np.pi)[:, None]
    parts = []
    for number in range(instances):
        base, swing = rng.normal(20 * (1 + number % 4), 3, features), rng.uniform(0, 6, features)
        parts.append(base + swing * wave + rng.gamma(1 + number % 3, 1.5, (count, features)))
    code = np.repeat(np.arange(instances), count)
    return MetricTable(
        tuple(f"metric_{number}" for number in range(features)),
        tuple(f"i-{number:05d}" for number in range(instances)),
        code,
        np.tile(moments, instances),
        code.copy(),
        np.concatenate(parts),
    )


if __name__ == "__main__":
    main()

"""The command `python -m bench.external`; see the package."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

import bench.external
from bench.external.folder import FolderError, read_detectors, read_series
from bench.external.report import compare, tables
from riskwatch_ml.backtest.replay import backtest
from riskwatch_ml.core.errors import UserInputError
from riskwatch_ml.selection.vus import runs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.external.folder import Series

AWS = "realAWSCloudwatch/*.csv"


def main(arguments: Sequence[str] | None = None) -> None:
    """Replay the chosen files and print a table for each profile.

    With `--json`, the figures and the rows of the pages are written as JSON.
    """
    parser = argparse.ArgumentParser(
        prog="python -m bench.external",
        description=bench.external.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--files", default=AWS, metavar="PATTERN", help="of <folder>/<file>.csv (default: %(default)s)")
    parser.add_argument("--family", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    try:
        _run(options)
    except UserInputError as error:
        raise SystemExit(f"external: {error}") from None


def _run(options: argparse.Namespace) -> None:
    series = read_series(options.folder, options.files)
    detectors, left_out = read_detectors(options.folder, series)
    pages = {}
    for number, one in enumerate(series, 1):
        pages[one.name] = pages_of(one, options.family, options.seed)
        print(f"{number}/{len(series)} {one.name}: {len(pages[one.name])} pages", file=sys.stderr)
    lines = compare(series, pages, detectors)
    print(f"{len(series)} files, family {options.family}, seed {options.seed}\n\n{tables(lines)}")
    for name, why in left_out.items():
        print(f"left out: {name}: {why}")
    if options.json:
        document = {
            "files": [one.name for one in series],
            "family": options.family,
            "seed": options.seed,
            "lines": [asdict(line) for line in lines],
            "pages": {name: rows.tolist() for name, rows in pages.items()},
            "left_out": left_out,
        }
        options.json.write_text(json.dumps(document, indent=1, allow_nan=False), encoding="utf-8")


def pages_of(series: Series, family: str, seed: int) -> np.ndarray:
    """Return the rows that open an episode, (n,), when a series is replayed as a fleet of one instance.

    The history is the probationary period. Of rows with the same time, as in a change of the clocks, the first counts.
    Raises FolderError if the series cannot be replayed.
    """
    rows = pd.DataFrame({"instance_id": series.name, "timestamp": series.times, "value": series.values})
    rows = rows.drop_duplicates("timestamp")
    replayed = rows.index >= series.probation
    try:
        result = backtest(rows[~replayed], rows[replayed], family=family, seed=seed)
    except UserInputError as error:
        raise FolderError(f"{series.name}: {error}") from None
    alert = result.rows["alert"].to_numpy(bool)
    # An episode that opens in the row after another ended is in the same run of alerts.
    opened = np.union1d(runs(alert)[0], [row for row in result.explanations if alert[row]]).astype(np.int64)
    times = result.rows["timestamp"].iloc[opened]
    return rows.index[pd.Index(rows["timestamp"]).get_indexer(times)].to_numpy(np.int64)


if __name__ == "__main__":
    main()

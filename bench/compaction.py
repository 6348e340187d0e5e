"""CPU time and memory of the compaction of labelled rows.

    python -m bench.compaction [--rows N] [--objects K] [--json FILE]

A folder behind the calls of the bucket has a day of labelled rows in the form that the function writes: gzip JSON
lines, one object per batch, many batches each five minutes. Of every hundred batches, one was delivered twice with
different verdicts, and one was cut differently at its second delivery, so that it overlaps its neighbour.

The first process compacts all of them (the backlog of a day). A second run must find nothing to do. A third run gets
late objects of one hour and must read only these. The result is compared with the first verdicts.
"""

from __future__ import annotations

import argparse
import gzip
import io
import itertools
import json
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from botocore.exceptions import ClientError

from riskwatch_ml.core import clock
from riskwatch_ml.schema import catalogue
from riskwatch_ml.storage import keys, labelled_rows
from riskwatch_ml.storage.bucket import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

# Instances, times and values are made up; a row has the form that the function writes.
START = datetime(2026, 11, 21, tzinfo=UTC)
MOMENTS, PERIOD = 288, timedelta(minutes=5)
MAX_CPU_S, MAX_MB = 120.0, 1024.0
FEATURES = catalogue.load().names
FIRST, LATER = "first", "later"


class Folder:
    """The S3 calls of the store on a folder; counts the reads."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.reads: list[str] = []

    def put_object(self, **asked: Any) -> None:
        """Write an object atomically."""
        path = self.root / asked["Key"]
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + "~")
        part.write_bytes(asked["Body"])
        part.replace(path)

    def get_object(self, **asked: Any) -> dict[str, Any]:
        """Read an object."""
        self.reads.append(asked["Key"])
        try:
            return {"ETag": "", "Body": io.BytesIO((self.root / asked["Key"]).read_bytes())}
        except FileNotFoundError:
            raise ClientError({"Error": {"Code": "NoSuchKey"}}, "GetObject") from None

    def delete_object(self, **asked: Any) -> None:
        """Remove an object."""
        (self.root / asked["Key"]).unlink(missing_ok=True)

    def get_paginator(self, _name: str) -> Folder:
        """Return the paginator that lists objects."""
        return self

    def paginate(self, **asked: Any) -> Iterator[dict[str, Any]]:
        """List the keys under a prefix that ends with a slash."""
        for folder, _, names in os.walk(self.root / asked["Prefix"]):
            below = Path(folder).relative_to(self.root)
            yield {"Contents": [{"Key": str(below / name)} for name in names]}


def main() -> None:
    """Print the figures; exit with 1 if one exceeds its limit or a verdict is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--objects", type=int, default=20_000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        table: dict[str, Any] = {"written": in_process(write, root, options.rows, options.objects)}
        for name, hours in (("backlog", 24), ("again", 25)):
            table[name] = in_process(run, root, hours)
            print(line(name, table[name]), flush=True)
        table["late"] = {"written": in_process(write_late, root), **in_process(run, root, 26)}
        print(line("late", table["late"]), flush=True)
        table["stands"] = in_process(stands, root)
    print(f"in the table: {table['stands']}")
    if options.json:
        options.json.write_text(json.dumps(table, indent=1), encoding="utf-8")
    wrong = list(problems(table))
    if wrong:
        raise SystemExit("; ".join(wrong))


def in_process(function: Any, *given: Any) -> Any:
    """Call a function in its own process, which has its own peak memory."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, given)


def line(name: str, figures: dict[str, Any]) -> str:
    """Return the figures of a run on one line."""
    return (
        f"{name:8s} {figures['objects']:6,} objects, {figures['rows_in']:9,} rows in, {figures['rows_out']:9,} new, "
        f"{figures['duplicates']:7,} duplicates: {figures['cpu_s']:6.1f} CPU s, {figures['peak_mb']:5.0f} MB, "
        f"{figures['arrived_reads']:,} arrived and {figures['hour_reads']:,} compacted objects read"
    )


def problems(table: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong with the figures."""
    written, backlog, again, late, stood = (table[name] for name in ("written", "backlog", "again", "late", "stands"))
    if backlog["cpu_s"] > MAX_CPU_S or backlog["peak_mb"] > MAX_MB:
        yield f"the backlog took more than {MAX_CPU_S:.0f} CPU s or {MAX_MB:.0f} MB"
    if (backlog["rows_in"], backlog["rows_out"]) != (written["rows"], written["distinct"]):
        yield f"{written['distinct']:,} of {written['rows']:,} rows were expected to remain"
    if again["arrived_reads"] or again["hour_reads"]:
        yield "a run without arrivals read rows again"
    if late["arrived_reads"] != late["written"]["objects"] or late["hour_reads"] != late["written"]["hours"]:
        yield "late objects caused reads of other hours"
    if stood != {"rows": written["distinct"] + late["written"]["distinct"], "first": 1.0, "sorted": True}:
        yield "the compacted rows are not the first verdicts"


def run(root: Path, hours: int) -> dict[str, Any]:
    """Compact the objects that have arrived, `hours` after the start.

    Arrow uses one thread.
    """
    import pyarrow as pa

    pa.set_cpu_count(1)
    folder = Folder(root)
    started = time.process_time()
    done = labelled_rows.compact(Store(folder, "bench"), START + timedelta(hours=hours))
    seconds = time.process_time() - started
    # The compaction reads an hour to merge it, and again to check that no other process has replaced it.
    reads = [key.split("/")[1] for key in dict.fromkeys(folder.reads)]
    return {
        **{name: getattr(done, name) for name in ("objects", "rows_in", "rows_out", "duplicates")},
        "cpu_s": round(seconds, 1),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "arrived_reads": reads.count("arrived"),
        "hour_reads": reads.count("rows"),
    }


def write(root: Path, rows: int, objects: int) -> dict[str, int]:
    """Write a day of batches and return their numbers of rows and objects.

    Of every hundred batches, the first is delivered twice and the second is cut differently at its second delivery.
    """
    size, batches = rows // objects, objects * 100 // 102 // MOMENTS
    rng = np.random.default_rng(0)
    written = {"rows": 0, "distinct": batches * size * MOMENTS, "objects": 0}
    for moment in range(MOMENTS):
        # All rows of one time, cut into batches: the instances are in order of the partition key.
        at = START + moment * PERIOD
        values = rng.gamma(2.0, 12.0, (batches * size, len(FEATURES))).round(3).tolist()
        lines = [_line(number, at, values[number], FIRST, 3) for number in range(batches * size)]
        for batch in range(batches):
            first, last = batch * size, (batch + 1) * size
            written["rows"] += _put(root, at, f"{moment * batches + batch:07d}", lines[first:last])
            written["objects"] += 1
            if batch % 100 > 1:
                continue
            # The second delivery came four minutes later, when another model served.
            shift = 0 if batch % 100 == 0 else size // 2
            numbers = [number for number in range(first - shift, last - shift) if number >= 0]
            other = [_line(number, at, values[number], LATER, 7) for number in numbers]
            written["rows"] += _put(root, at, f"{moment * batches + batch:07d}-again", other)
            written["objects"] += 1
    return written


def write_late(root: Path) -> dict[str, int]:
    """Write two late objects under an hour that was compacted already.

    They have rows of two hours, one of which is new.
    """
    values = [1.0] * len(FEATURES)
    at = START + timedelta(hours=10)
    old = [_line(number, at, values, LATER, 60) for number in range(50)]
    new = [_line(number, at + timedelta(minutes=7), values, FIRST, 60) for number in range(50)]
    _put(root, at, "late-1", old)
    _put(root, at, "late-2", [*new, _line(0, at + timedelta(hours=1, minutes=7), values, FIRST, 60)])
    return {"objects": 2, "hours": 2, "distinct": 51}


def stands(root: Path) -> dict[str, Any]:
    """Return the number of rows, the share of first verdicts, and their order.

    `sorted` says whether the keys ascend without repetition.
    """
    rows, first, ascending = 0, 0, True
    for path in sorted((root / keys.LABELLED_ROWS).rglob("*.parquet")):
        table = pq.read_table(path, columns=["instance_id", "timestamp", "model_version"])
        rows += len(table)
        first += pc.sum(pc.equal(table.column("model_version"), FIRST)).as_py()
        row_keys = list(zip(table.column(0).to_pylist(), table.column(1).to_pylist(), strict=True))
        ascending = ascending and all(one < other for one, other in itertools.pairwise(row_keys))
    return {"rows": rows, "first": first / rows, "sorted": ascending}


def _line(number: int, at: datetime, values: list[float], version: str, minutes: int) -> str:
    """Return a labelled row in the form that the function writes.

    It arrived `minutes` after its time. `version` identifies its verdict.
    """
    row = dict(zip(FEATURES, values, strict=True))
    largest = sorted(row, key=row.__getitem__)[-3:]
    document = {
        "instance_id": f"i-{number:017x}",
        "service": f"service-{number % 40}",
        "role": "web",
        "timestamp": clock.iso(at),
        **row,
        "score": round(sum(values) / 500, 6),
        "level": "Normal",
        "risk": "Normal",
        "unusual": False,
        "alert": False,
        "episode_id": None,
        "context": True,
        "model_id": "m-bench",
        "model_version": version,
        "reasons": [
            {
                "feature": name,
                "value": row[name],
                "low": round(row[name] / 3, 3),
                "high": round(row[name] * 2 / 3, 3),
                "share": 0.25,
                "direction": "up",
            }
            for name in largest
        ],
        "missing": [],
        "refused_values": [],
        "arrived": clock.iso(at + timedelta(minutes=minutes)),
    }
    return json.dumps(document, separators=(",", ":"))


def _put(root: Path, at: datetime, name: str, lines: list[str]) -> int:
    path = root / keys.hour_prefix(keys.ARRIVED, at) / f"shard-{name}.json.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress("".join(f"{text}\n" for text in lines).encode(), mtime=0))
    return len(lines)


if __name__ == "__main__":
    sys.exit(main())

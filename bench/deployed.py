"""An unzipped artifact, run by an interpreter that imports its files first."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from riskwatch_ml.artifact.archive import unzip
from riskwatch_ml.features.table import as_table
from riskwatch_ml.model.golden import record_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import pandas as pd

    from riskwatch_ml.model.fleet_model import FleetModel
    from riskwatch_ml.schema.inventory import Instance

OURS = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from riskwatch_lambda.model import document as model
from riskwatch_lambda.scoring import records, scorer
assert scorer.__file__.startswith(sys.argv[1]), scorer.__file__
served = model.load(Path(sys.argv[1]) / "model")
def label(text):
    return [scorer.verdicts(served, record) for record in records.decode(text, served.row_schema).records]
"""
VERDICTS = """
import json
for line in sys.stdin:
    [[verdict]] = label(line.strip())
    print(json.dumps({**verdict._asdict(), "reasons": [reason._asdict() for reason in verdict.reasons]}))
"""
# Median microseconds of CPU per row; the variants take turns, and the first round is not counted.
TIMES = """
import binascii, json, statistics, time
batch = [line.strip() for line in sys.stdin]
def floor(text):
    json.loads(binascii.a2b_base64(text))
def decode(text):
    records.decode(text, served.row_schema)
variants = {"floor": floor, "decode": decode, "ours": label}
spent = {name: [] for name in variants}
for repetition in range(int(sys.argv[2]) + 1):
    for name, run in variants.items():
        started = time.process_time()
        for text in batch:
            run(text)
        if repetition:
            spent[name].append(time.process_time() - started)
print(json.dumps({name: statistics.median(values) / len(batch) * 1e6 for name, values in spent.items()}))
"""


def verdicts(zip_bytes: bytes, data: Iterable[str], directory: Path, python: str = sys.executable) -> list[Any]:
    """Return the verdicts of a deployed artifact on base64 one-row records.

    A verdict is a JSON object.
    """
    unzip(zip_bytes, directory)
    return _run(python, OURS + VERDICTS, [str(directory)], data)


def times(zip_bytes: bytes, data: Iterable[str], directory: Path, repetitions: int) -> dict[str, float]:
    """Return microseconds of CPU per row.

    `floor` is base64 and JSON alone, `decode` the decoding, `ours` the labelling by a deployed artifact.
    """
    unzip(zip_bytes, directory)
    [medians] = _run(sys.executable, OURS + TIMES, [str(directory), str(repetitions)], data)
    return dict(medians)


def _run(python: str, program: str, arguments: list[str], data: Iterable[str]) -> list[Any]:
    """Run a program in an isolated interpreter; return the JSON of its lines."""
    command = [python, "-I", "-c", program, *arguments]
    done = subprocess.run(command, input="\n".join(data), capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def one_row_records(model: FleetModel, rows: pd.DataFrame, inventory: dict[str, Instance]) -> list[str]:
    """Return a base64 record for each row in the order of ``label_rows``.

    A record has the earlier rows that the model uses.
    """
    table = as_table(rows, model.features, model.max_gap_s)
    return [
        base64.b64encode(
            json.dumps(record_of(table, row, model.context_rows, inventory), separators=(",", ":")).encode()
        ).decode()
        for row in range(len(table))
    ]

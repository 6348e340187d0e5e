"""The keys of the bucket: spelled in one module, the same as ever, and taken apart as they were put together."""

import ast
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from riskwatch_lambda import keys as of_the_function
from riskwatch_ml.core import clock
from riskwatch_ml.storage import keys

ROOT = Path(__file__).parents[4]
TEN = datetime(2026, 11, 22, 10, tzinfo=UTC)
PREFIXES = (
    "artifacts", "candidates", "config", "contests", "docs", "inventory", "labelled", "ledger", "quarantine", "raw",
    "training", "validated", "watch",
)  # fmt: skip


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (keys.hour_key(keys.RAW, TEN, "eu-west-1"), "raw/dt=2026-11-22/hh=10/part-eu-west-1.parquet"),
        (keys.hour_key(keys.LABELLED_ROWS, TEN), "labelled/rows/dt=2026-11-22/hh=10/part-default.parquet"),
        (keys.day_prefix(keys.ARRIVED, TEN), "labelled/arrived/dt=2026-11-22/"),
        (keys.hour_prefix(keys.REFUSED, TEN), "quarantine/records/dt=2026-11-22/hh=10/"),
        (
            keys.resent("quarantine/records/dt=2026-11-22/hh=10/a.json.gz"),
            "quarantine/sent/dt=2026-11-22/hh=10/a.json.gz",
        ),
        (keys.tagged("default"), "inventory/default.json"),
        (keys.training_rows("T1"), "training/T1/rows.parquet"),
        (keys.candidate("T1", "kmeans"), "candidates/T1/kmeans.zip"),
        (keys.candidate_summary("candidates/T1/kmeans.zip"), "candidates/T1/kmeans.json"),
        (keys.ranking("T1"), "candidates/T1/ranking.json"),
        (keys.contest("T1"), "contests/T1.json"),
        (keys.artifact("ab" * 32), f"artifacts/{'ab' * 32}.zip"),
        (keys.ledger_entry(TEN, "promote", "ab" * 32), "ledger/2026-11-22T10:00:00.000Z-promote-abababab.json"),
        (keys.report(TEN), "watch/2026-11-22T10:00:00.000Z.json"),
        (keys.reports_of(TEN), "watch/2026-11-22"),
        (keys.data_docs(TEN, TEN, "default"), "docs/validation/2026-11-22T1000Z--2026-11-22T1000Z-default.html"),
    ],
)
def test_keys_are_spelled_as_ever(key, text):
    assert key == text


def test_what_the_function_writes_lies_where_it_is_looked_for():
    # GIVEN the key of a batch, WHEN / THEN it begins as the hour that is listed
    key = of_the_function.arrived(of_the_function.LABELLED, clock.epoch_ms(TEN), "s-1-2")
    assert key == f"{keys.hour_prefix(keys.ARRIVED, TEN)}s-1-2.json.gz"


def test_an_hour_is_read_as_it_was_written():
    assert keys.parse_hour(keys.hour_key(keys.LABELLED_ROWS, TEN, "csv")) == keys.HourKey("labelled/rows", TEN, "csv")
    assert keys.parse_hour("labelled/watermark.json") is None


def test_no_other_module_spells_a_key():
    # GIVEN all strings of the product that are no documentation
    spelled = []
    for folder in ("ml", "lambda", "plugins", "expectations", "cli", "local", "dags"):
        for path in (ROOT / folder).rglob("*.py"):
            if path.name == "keys.py":
                continue
            tree = ast.parse(path.read_text(encoding="utf-8"))
            texts = [
                node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)
            ]
            # WHEN / THEN none begins as a key does
            spelled += [f"{path.name}: {text}" for text in texts if re.match(rf"({'|'.join(PREFIXES)})/\S*$", text)]
    assert spelled == []


def test_shards_that_are_gone_leave_nothing():
    # GIVEN / WHEN / THEN
    stored = ["inventory/a.json", "inventory/b.json"]
    assert keys.leftover_tagged(stored, ["b"]) == ["inventory/a.json"]

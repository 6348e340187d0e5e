"""Parity by kind: in an artifact of two kinds, packs get the verdicts that training's scorer gives with each part."""

import base64
import zlib

import numpy as np
import pandas as pd
import pytest

from riskwatch_lambda.events import selftest
from riskwatch_lambda.model import document as served
from riskwatch_lambda.scoring import scorer
from riskwatch_lambda.scoring.records import decode
from riskwatch_ml.artifact import archive, parts
from riskwatch_ml.model import explain
from riskwatch_ml.model.fit import Recipe
from riskwatch_ml.schema import catalogue
from riskwatch_ml.schema.inventory import Instance
from riskwatch_ml.selection import candidate
from riskwatch_ml.streaming.packs import Packer

START = pd.Timestamp("2026-11-01", tz="UTC")
FLEETS = {"ec2": ("web-1", "web-2"), "rds": ("rds/orders", "rds/carts")}
INVENTORY = {name: Instance(name, kind, "shop") for kind, names in FLEETS.items() for name in names}


def fleet_rows(kind, names, rows, seed):
    """Give rows of a kind that follow the day, with the metrics of its catalogue."""
    rng = np.random.default_rng([seed, zlib.crc32(kind.encode())])
    frames = []
    for name in names:
        times = pd.date_range(START, periods=rows, freq="5min").as_unit("ms")
        wave = 40 + 25 * np.sin(np.arange(rows) * 2 * np.pi / 288) + rng.normal(0, 3, rows)
        columns = {metric: np.clip(wave + rng.normal(0, 2, rows), 0, 100) for metric in catalogue.load(kind).names}
        frames.append(pd.DataFrame({"instance_id": name, "timestamp": times} | columns))
    return pd.concat(frames, ignore_index=True)


@pytest.fixture(scope="module")
def artifact():
    """An artifact of two kinds, each with a model of a family and features of its own."""
    by_kind = {}
    for kind, family in (("ec2", "kmeans"), ("rds", "hierarchical")):
        metrics = catalogue.load(kind)
        fitted = candidate.fit_candidate(
            fleet_rows(kind, FLEETS[kind], 400, 0), metrics, INVENTORY, Recipe(family, seed=2), "t"
        )
        by_kind[kind] = parts.Part(fitted.document, fitted.arrays)
    return archive.pack(*parts.join(by_kind))


def test_the_function_agrees_with_training_on_the_golden_records_of_both(artifact):
    answer = selftest.run({}, served.from_files(archive.model_files(artifact)), "1")
    assert answer["golden"]["differences"] == 0
    assert answer["golden"]["rows"] == 10
    assert list(answer["kinds"]) == ["rds"]


@pytest.mark.parametrize("kind", list(FLEETS))
def test_packs_of_a_kind_get_the_verdicts_of_training(artifact, kind):
    # GIVEN rows of known instances and of one that no model knows, some values missing, some far out
    metrics = catalogue.load(kind)
    rows = fleet_rows(kind, (*FLEETS[kind], f"{kind}/new"), 150, 7)
    rng = np.random.default_rng(3)
    values = rows[list(metrics.names)].to_numpy(copy=True)
    values[rng.random(values.shape) < 0.05] = np.nan
    values[rng.random(len(values)) < 0.1, 0] = 100.0
    rows[list(metrics.names)] = values

    # WHEN the function scores their packs by kind, and training scores the table with the part of the kind
    model = served.from_files(archive.model_files(artifact))
    part = parts.split(*archive.unpack(artifact))[kind]
    packer = Packer(
        rows,
        INVENTORY,
        int(part.document["context_rows"]),
        int(part.document["max_gap_s"]),
        metrics,
        None if kind == "ec2" else kind,
    )
    packs = [pack for queue in packer.packs(START, START + pd.Timedelta(days=9)) for pack in queue]
    got = {}
    for pack in packs:
        decoded = decode(base64.b64encode(pack.data).decode(), model.row_schema, None, model.further_schemas)
        assert decoded.refused == ()
        for record in decoded.records:
            assert record.resource_kind == kind
            verdicts = scorer.verdicts(model.parts[kind], record)
            times = record.ts[-record.newest :]
            got |= {(record.instance_id, ms): verdict for ms, verdict in zip(times, verdicts, strict=True)}
    table = explain.label_rows(part.document, part.arrays, rows, INVENTORY)

    # THEN every verdict is the same
    assert len(got) == len(table) == len(rows)
    for want in table.itertuples():
        verdict = got[want.instance_id, int(want.timestamp.timestamp() * 1000)]
        assert verdict.score == pytest.approx(want.score, abs=1e-9, nan_ok=True)
        assert (verdict.level, verdict.unusual, verdict.opens) == (want.level, want.unusual, want.opens)
    assert sum(verdict.unusual for verdict in got.values()) > 10

"""The numpy scorer of training and the standard-library scorer of the Lambda must give the same verdicts."""

import sys

import numpy as np
import pandas as pd
import pytest

from bench.parity import awkward, differences
from riskwatch_lambda.model import document as served
from riskwatch_lambda.scoring import scorer
from riskwatch_lambda.scoring.records import parse
from riskwatch_ml.artifact import archive
from riskwatch_ml.families import FAMILIES
from riskwatch_ml.model.fit import Recipe
from riskwatch_ml.model.fleet_model import FleetModel
from riskwatch_ml.model.golden import expected
from riskwatch_ml.schema import catalogue
from riskwatch_ml.schema.inventory import Instance
from riskwatch_ml.selection import candidate as train

INVENTORY = {
    name: Instance(name, role, "shop") for name, role in [("web-1", "web"), ("web-2", "web"), ("web-9", "web")]
}


def fleet_rows(names, rows=600, seed=0):
    rng = np.random.default_rng(seed)
    metrics = catalogue.load().metrics
    frames = []
    for name in names:
        times = pd.date_range("2026-11-01", periods=rows, freq="5min", tz="UTC").as_unit("ms")
        wave = 40 + 25 * np.sin(np.arange(rows) * 2 * np.pi / 288 + len(name)) + rng.normal(0, 3, rows)
        columns = {m.name: np.clip(wave * rng.uniform(0.5, 1.5) + rng.normal(0, 2, rows), 0, 100) for m in metrics}
        frames.append(pd.DataFrame({"instance_id": name, "timestamp": times} | columns))
    return pd.concat(frames, ignore_index=True)


@pytest.fixture(scope="module")
def replay():
    """Rows with spikes, missing values, gaps, an unseen instance with a known role and one without any."""
    rows = fleet_rows(["web-1", "db-1", "web-9", "stranger"], rows=400, seed=7)
    return awkward(rows, list(catalogue.load().names))


@pytest.fixture(scope="module", params=list(FAMILIES))
def candidate(request):
    rows = fleet_rows(["web-1", "web-2", "db-1"])
    return train.fit_candidate(rows, catalogue.load(), INVENTORY, Recipe(request.param, seed=2), "t1")


def loaded(candidate):
    zip_bytes = archive.pack(candidate.document, candidate.arrays)
    return served.from_files(archive.model_files(zip_bytes)), *archive.unpack(zip_bytes)


def test_training_and_the_deployed_zip_label_alike(candidate, replay):
    # GIVEN a trained family, packed
    zip_bytes = archive.pack(candidate.document, candidate.arrays)
    # WHEN training's scorer labels a table, and the unzipped function the same rows one record at a time
    found = differences(zip_bytes, replay, INVENTORY, sys.executable)
    # THEN every verdict is the same, reasons included, and all the cases were there
    assert found["differences"] == dict.fromkeys(found["differences"], 0)
    assert set(found["differences"]) == {"level", "unusual", "pages", "context", "known", "score", "reasons"}
    assert found["rows"] == len(replay) > 1400
    assert found["unseen"] > 700
    assert min(found["unusual"], found["without_context"]) > 10


def test_a_difference_is_counted(replay, monkeypatch):
    # GIVEN a deployed artifact whose code takes another row for unusual than training does
    rows = fleet_rows(["web-1", "web-2"])
    candidate = train.fit_candidate(rows, catalogue.load(), INVENTORY, Recipe("kmeans"), "t1")
    contents = {name: b.replace(b"value>=UNUSUAL", b"value>=9") for name, b in archive._code().items()}
    monkeypatch.setattr(archive, "_code", lambda: contents)
    zip_bytes = archive.pack(candidate.document, candidate.arrays)

    # WHEN both label rows, THEN they differ in that and in nothing else
    found = differences(zip_bytes, replay, INVENTORY, sys.executable)["differences"]
    assert found.pop("unusual") > 10
    assert found == dict.fromkeys(found, 0)


def test_the_lambda_reproduces_the_golden_records(candidate):
    # GIVEN the golden records that travel with a model
    model, document, arrays = loaded(candidate)
    assert len(model.golden) == 12
    assert {record["role"] for record, _ in model.golden} >= {fleet.role for fleet in INVENTORY.values()}
    # WHEN the Lambda scores them, and training does once more
    got = []
    for record, want in model.golden:
        verdict = scorer.score(model, parse(record, model.layout))
        got.append({"score": round(verdict.score, 6), "level": verdict.level, "unusual": verdict.unusual})
        assert got[-1] == want
    # THEN all agree
    assert expected(FleetModel.load(document, arrays), document["golden"]["records"]) == got

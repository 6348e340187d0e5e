"""The numpy scorer of training and the standard-library scorer of the Lambda must give the same verdicts."""

import numpy as np
import pandas as pd
import pytest

from ml import artifact, catalogue, scoring, train
from ml.families import FAMILIES
from ml.golden import expected
from ml.inventory import Instance, lookup
from ml.scoring import FleetModel
from riskwatch_lambda import model as served
from riskwatch_lambda import scorer
from riskwatch_lambda.records import parse

INVENTORY = {
    name: Instance(name, role, "shop") for name, role in [("web-1", "web"), ("web-2", "web"), ("web-9", "web")]
}
SCORE = 1e-9


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
    rows = fleet_rows(["web-1", "db-1", "web-9", "stranger"], rows=80, seed=7)
    rng = np.random.default_rng(3)
    features = list(catalogue.load().names)
    values = rows[features].to_numpy(copy=True)
    values[rng.random(values.shape) < 0.08] = np.nan
    values[rng.random(len(values)) < 0.1, 0] = 100.0
    values[5] = np.nan
    rows[features] = values
    return rows[rng.random(len(rows)) > 0.25].reset_index(drop=True)


@pytest.fixture(scope="module", params=list(FAMILIES))
def candidate(request):
    rows = fleet_rows(["web-1", "web-2", "db-1"])
    return train.fit_candidate(rows, catalogue.load(), INVENTORY, request.param, training_id="t1", seed=2)


def loaded(candidate):
    zip_bytes = artifact.pack(candidate.document, candidate.arrays)
    return served.from_files(artifact.model_files(zip_bytes)), *artifact.unpack(zip_bytes)


def test_numpy_and_lambda_label_alike(candidate, replay):
    # GIVEN a trained family, packed and read back as the Lambda reads it
    model, document, arrays = loaded(candidate)
    # WHEN training's scorer labels a table and the Lambda's labels the same rows one record at a time
    table = scoring.label_rows(document, arrays, replay, INVENTORY)
    rows = replay.sort_values(["instance_id", "timestamp"]).reset_index(drop=True)
    # THEN every verdict is the same
    assert len(table) == len(rows)
    for place, want in enumerate(table.itertuples()):
        first = max(0, place - 4)
        part = rows.iloc[first : place + 1]
        part = part[part["instance_id"] == want.instance_id]
        instance = lookup(INVENTORY, want.instance_id)
        values = part[list(model.layout.features)].to_numpy().tolist()
        record = parse(
            {
                "v": 1,
                "service": instance.service,
                "role": instance.role,
                "instance_id": instance.instance_id,
                "ts": [int(ms) for ms in part["timestamp"].dt.as_unit("ms").astype("int64")],
                "rows": [[None if v != v else v for v in line] for line in values],
            },
            model.layout,
        )
        got = scorer.score(model, record)
        assert got.score == pytest.approx(want.score, abs=SCORE)
        assert (got.level, got.unusual, got.pages, got.context, got.known) == (
            want.level, want.unusual, want.pages, want.context, want.known,
        )  # fmt: skip
        assert [(r.feature, r.direction) for r in got.reasons] == [(r["feature"], r["direction"]) for r in want.reasons]
        for reason, listed in zip(got.reasons, want.reasons, strict=True):
            assert listed["value"] == (None if reason.value is None else pytest.approx(reason.value, rel=1e-3))
            assert listed["low"] == pytest.approx(reason.low, rel=1e-3)
            assert listed["high"] == pytest.approx(reason.high, rel=1e-3)
            assert listed["share"] == pytest.approx(reason.share, rel=1e-3)
    assert table["unusual"].any()
    assert not table["context"].all()
    assert table["score"].notna().all()


def test_the_lambda_reproduces_the_golden_records(candidate):
    # GIVEN the golden records that travel with a model
    model, document, arrays = loaded(candidate)
    assert len(model.golden) == 24
    # WHEN the Lambda scores them, and training does once more
    got = []
    for record, want in model.golden:
        verdict = scorer.score(model, parse(record, model.layout))
        got.append({"score": round(verdict.score, 6), "level": verdict.level, "unusual": verdict.unusual})
        assert got[-1] == want
    # THEN all agree
    assert expected(FleetModel.load(document, arrays), document["golden"]["records"]) == got

"""Rows that travel in packs get the verdicts of training's own path, however the packs are cut."""

import base64

import numpy as np
import pandas as pd
import pytest

from riskwatch_lambda.model import document as served
from riskwatch_lambda.scoring import scorer
from riskwatch_lambda.scoring.records import decode
from riskwatch_ml.artifact import archive
from riskwatch_ml.core.local_time import LocalTime
from riskwatch_ml.features import rolling
from riskwatch_ml.features.spaces import row_baselines
from riskwatch_ml.features.table import as_table
from riskwatch_ml.model import explain
from riskwatch_ml.model.fit import Recipe
from riskwatch_ml.model.fleet_model import FleetModel, score_rows
from riskwatch_ml.model.openings import opening_rows
from riskwatch_ml.schema import catalogue
from riskwatch_ml.schema.inventory import Instance
from riskwatch_ml.selection import candidate
from riskwatch_ml.streaming import packs as stream

START = pd.Timestamp("2026-11-01", tz="UTC")
INVENTORY = {name: Instance(name, "web", "shop") for name in ("web-1", "web-2", "web-9")}


def fleet_rows(names, rows, seed):
    rng = np.random.default_rng(seed)
    frames = []
    for name in names:
        times = pd.date_range(START, periods=rows, freq="5min").as_unit("ms")
        wave = 40 + 25 * np.sin(np.arange(rows) * 2 * np.pi / 288) + rng.normal(0, 3, rows)
        columns = {metric: np.clip(wave + rng.normal(0, 2, rows), 0, 100) for metric in catalogue.load().names}
        frames.append(pd.DataFrame({"instance_id": name, "timestamp": times} | columns))
    return pd.concat(frames, ignore_index=True)


@pytest.fixture(scope="module")
def trained():
    """A model as training holds it and as the function reads it."""
    rows = fleet_rows(["web-1", "web-2"], 400, 0)
    fitted = candidate.fit_candidate(rows, catalogue.load(), INVENTORY, Recipe("kmeans", seed=2), "t")
    zip_bytes = archive.pack(fitted.document, fitted.arrays)
    document, arrays = archive.unpack(zip_bytes)
    return document, arrays, served.from_files(archive.model_files(zip_bytes))


@pytest.mark.parametrize("pack_bytes", [stream.PACK_BYTES, 4_000])
def test_packs_get_the_verdicts_of_training(monkeypatch, trained, pack_bytes):
    # GIVEN a model, and rows with gaps, spikes, missing and impossible values, an unseen instance among them
    document, arrays, model = trained
    metrics = catalogue.load()
    rows = fleet_rows(["web-1", "web-9", "stranger"], 150, 7)
    rng = np.random.default_rng(3)
    features = list(metrics.names)
    values = rows[features].to_numpy(copy=True)
    values[rng.random(values.shape) < 0.05] = np.nan
    values[rng.random(len(values)) < 0.1, 0] = 100.0
    # Memory is exhausted in some rows, and nobody connects in others.
    values[rng.random(len(values)) < 0.03, features.index("memory_utilization")] = 99.0
    values[rng.random(len(values)) < 0.05, features.index("active_connections")] = 0.0
    lost = rng.random(len(values)) < 0.05
    values[lost, :6] = 1e16
    single = rng.random(values.shape) < 0.02
    values[single] = -1e16
    rows[features] = values
    keep = rng.random(len(rows)) > 0.2
    keep[60:75] = False
    rows, lost, single = rows[keep].reset_index(drop=True), lost[keep], single[keep]

    # WHEN they are packed and scored as the function does, and by training without what is impossible
    monkeypatch.setattr(stream, "PACK_BYTES", pack_bytes)
    packer = stream.Packer(rows, INVENTORY, document["context_rows"], document["max_gap_s"], metrics)
    packs = [pack for queue in packer.packs(START, START + pd.Timedelta(days=9)) for pack in queue]
    decoded = [decode(base64.b64encode(pack.data).decode(), model.row_schema) for pack in packs]
    got = {
        (record.instance_id, ms): verdict
        for part in decoded
        for record in part.records
        for ms, verdict in zip(record.ts[-record.newest :], scorer.verdicts(model, record), strict=True)
    }
    possible = rows.assign(**rows[features].mask(single))[~lost].reset_index(drop=True)
    table = explain.label_rows(document, arrays, possible, INVENTORY)
    openers = opening(document, arrays, possible)

    # THEN every row has the same verdict, but those that their impossible values cost were refused
    assert len(got) == len(table) == (~lost).sum()
    assert sum(part.rows for each in decoded for part in each.refused) == lost.sum() > 0
    assert single[~lost].any()
    for want in table.itertuples():
        verdict = got[want.instance_id, int(want.timestamp.timestamp() * 1000)]
        assert verdict.score == pytest.approx(want.score, abs=1e-9, nan_ok=True)
        assert (verdict.level, verdict.unusual, verdict.opens, verdict.context) == (
            want.level,
            want.unusual,
            want.opens,
            want.context,
        )
        seen = openers.row(want.Index)
        assert seen.strength == pytest.approx(verdict.strength, abs=1e-9, nan_ok=True)
        assert (seen.opens, seen.exhausted and seen.opens) == (verdict.opens, verdict.exhausted)
        assert (seen.signature, set(seen.metrics.decisive)) == (verdict.signature, set(verdict.decisive))
        assert set(seen.metrics.missing) == set(verdict.missing)
    assert sum(verdict.opens and bool(verdict.missing) for verdict in got.values()) > 5
    # AND many metrics open, in both directions, and some are exhausted
    signatures = {verdict.signature for verdict in got.values()}
    assert {direction for _, direction in signatures} >= {"up", "down", "exhausted"}


def test_a_model_with_day_types_and_local_time_gives_the_verdicts_of_training():
    # GIVEN a fleet in Berlin with weekends of its own, and a model of three weeks up to the change to winter time
    names = catalogue.load().names[:3]
    rng = np.random.default_rng(5)
    times = pd.date_range("2026-10-01", "2026-10-28", freq="15min", tz="UTC", inclusive="left").as_unit("ms")
    local = times.tz_convert("Europe/Berlin")
    frames = []
    for name in ("web-1", "web-2", "web-9"):
        load = (40 + 20 * np.sin(2 * np.pi * local.hour / 24)) * np.where(local.day_of_week >= 5, 0.4, 1.0)
        values = {metric: load + rng.normal(0, 2, len(times)) for metric in names}
        frames.append(pd.DataFrame({"instance_id": name, "timestamp": times} | values))
    rows = pd.concat(frames, ignore_index=True).reindex(columns=["instance_id", "timestamp", *catalogue.load().names])
    past = rows[(rows["timestamp"] < "2026-10-23") & (rows["instance_id"] != "web-9")]
    recipe = Recipe("kmeans", period_s=900, local_time=LocalTime("Europe/Berlin", {"web": "Europe/Berlin"}))
    fitted = candidate.fit_candidate(past, catalogue.load(), INVENTORY, recipe, "t")
    zip_bytes = archive.pack(fitted.document, fitted.arrays)
    document, arrays = archive.unpack(zip_bytes)
    model = served.from_files(archive.model_files(zip_bytes))
    assert document["seasons"]["zones"][0][1] == [int(pd.Timestamp("2026-10-25T01:00Z").timestamp()), 3600]
    assert arrays["center"].shape[1] == 54

    # WHEN the days around the change are scored by both
    later = rows[rows["timestamp"] >= "2026-10-23"].reset_index(drop=True)
    packer = stream.Packer(later, INVENTORY, document["context_rows"], document["max_gap_s"], catalogue.load())
    packs = [pack for queue in packer.packs(times[0], times[-1] + pd.Timedelta(days=1)) for pack in queue]
    records = [decode(base64.b64encode(pack.data).decode(), model.row_schema).records for pack in packs]
    got = {
        (record.instance_id, ms): verdict
        for part in records
        for record in part
        for ms, verdict in zip(record.ts[-record.newest :], scorer.verdicts(model, record), strict=True)
    }
    table = explain.label_rows(document, arrays, later, INVENTORY)

    # THEN they agree, and no weekend and no clock change is unusual
    assert len(got) == len(table) == len(later)
    for want in table.itertuples():
        verdict = got[want.instance_id, int(want.timestamp.timestamp() * 1000)]
        assert verdict.score == pytest.approx(want.score, abs=1e-9, nan_ok=True)
        assert (verdict.level, verdict.unusual, verdict.opens) == (want.level, want.unusual, want.opens)
    assert sum(verdict.opens for verdict in got.values()) < 0.02 * len(got)


def opening(document, arrays, rows):
    """The rows as the paging rule sees them."""
    model = FleetModel.load(document, arrays)
    table = as_table(rows, model.features, model.max_gap_s)
    baseline = row_baselines(model.baselines, table, INVENTORY)
    row_scores = score_rows(model, rolling.add_rolling_features(table, model.rolling_lengths), baseline)
    return opening_rows(model, table, baseline, row_scores)

import numpy as np
import pandas as pd
import pytest

from riskwatch_lambda.model import document as served
from riskwatch_lambda.scoring import rolling as twin
from riskwatch_lambda.scoring import scorer
from riskwatch_lambda.scoring.records import parse
from riskwatch_ml.artifact import archive
from riskwatch_ml.features.rolling import add_rolling_features, behaviour_width, by_metric, choose_lengths, context_rows
from riskwatch_ml.features.table import MetricTable
from riskwatch_ml.model import explain
from riskwatch_ml.model.fit import Recipe
from riskwatch_ml.schema.catalogue import Catalogue
from riskwatch_ml.schema.metric import Metric
from riskwatch_ml.selection import candidate as train

NAN = np.nan
CATALOGUE = Catalogue((Metric("load", "Test", "Load"), Metric("calls", "Test", "Calls", direction="up")))


def table(values, segment=None):
    values = np.asarray(values, float).reshape(len(values), -1)
    n, d = values.shape
    segment = np.zeros(n, np.int64) if segment is None else np.asarray(segment)
    return MetricTable(tuple("ab"[:d]), ("i",), np.zeros(n, np.int64), np.arange(n) * 300_000, segment, values)


def test_only_few_metrics_have_trails():
    assert choose_lengths(3, 300) == (12, 36)
    assert choose_lengths(4, 300) == ()
    assert choose_lengths(1, 60) == (60, 180)
    assert choose_lengths(1, 1) == (180,)
    assert choose_lengths(1, 3600) == ()
    assert context_rows(3, (12, 36)) == 38
    assert behaviour_width(2, (12, 36)) == 12
    assert behaviour_width(38, ()) == 38


def test_trailing_columns_by_hand():
    # GIVEN values 1, 3, 8, and after a gap 5, with a trail of two rows
    wide = add_rolling_features(table([1, 3, 8, 5], segment=[0, 0, 0, 1]), (2,))
    # THEN value, difference, mean and deviation; half of the trail is enough, and nothing crosses the gap
    assert wide.values[0].tolist() == pytest.approx([1, NAN, 1, 0], nan_ok=True)
    assert wide.values[1].tolist() == [3, 2, 2, 1]
    assert wide.values[2].tolist() == [8, 5, 5.5, 2.5]
    assert wide.values[3].tolist() == pytest.approx([5, NAN, 5, 0], nan_ok=True)


def test_a_missing_value_leaves_a_gap_in_what_follows_from_it():
    wide = add_rolling_features(table([1, NAN, 5, 7], segment=[0, 0, 0, 0]), (3,))
    assert wide.values[2].tolist() == pytest.approx([5, NAN, 3, 2], nan_ok=True)
    assert wide.values[1, 2:].tolist() == pytest.approx([NAN, NAN], nan_ok=True)


def test_columns_fold_back_to_their_metrics():
    assert by_metric(np.arange(8.0).reshape(1, 8), 2).tolist() == [[0 + 2 + 4 + 6, 1 + 3 + 5 + 7]]


def test_the_lambda_derives_the_same_columns():
    rng = np.random.default_rng(0)
    values = np.where(rng.random((60, 2)) < 0.2, NAN, rng.normal(1e9, 1e3, (60, 2)))
    rows = [tuple(None if v != v else v for v in line) for line in values.tolist()]
    wide = [twin.add_rolling_features(rows, 0, place, (4, 9)) for place in range(len(rows))]
    got = [[NAN if v is None else v for v in line] for line in wide]
    assert np.allclose(np.array(got), add_rolling_features(table(values), (4, 9)).values, rtol=1e-12, equal_nan=True)


def test_a_model_of_two_metrics_is_scored_alike_by_both():
    # GIVEN three instances with two metrics, and the last rows of one with missing values
    rng = np.random.default_rng(5)
    times = pd.date_range("2026-11-01", periods=500, freq="5min", tz="UTC").as_unit("ms")
    frames = [
        pd.DataFrame(
            {"instance_id": name, "timestamp": times, "load": rng.gamma(2, 3, 500), "calls": rng.normal(9, 2, 500)}
        )
        for name in ("a", "b", "c")
    ]
    candidate = train.fit_candidate(pd.concat(frames), CATALOGUE, {}, Recipe("kmeans"), "t")
    zip_bytes = archive.pack(candidate.document, candidate.arrays)
    document, arrays = archive.unpack(zip_bytes)
    model = served.from_files(archive.model_files(zip_bytes))
    assert (document["trails"], document["context_rows"], model.width) == ([12, 36], 38, 12)
    last = frames[1].tail(80).reset_index(drop=True)
    last.loc[60:65, "load"] = NAN
    last.loc[75, "calls"] = 40.0
    # WHEN both score them
    want = explain.label_rows(document, arrays, last)
    # THEN they agree on every row with its whole context
    for place in range(38, 80):
        part = last.iloc[place - 37 : place + 1]
        rows = [[None if v != v else v for v in line] for line in part[["load", "calls"]].to_numpy().tolist()]
        stamps = [int(ms) for ms in part["timestamp"].astype("int64")]
        record = {"v": 1, "service": "b", "role": "default", "instance_id": "b", "ts": stamps, "rows": rows}
        got = scorer.score(model, parse(record, model.row_schema))
        assert got.score == pytest.approx(want["score"][place], abs=1e-9)
        assert (got.unusual, got.opens, got.level) == tuple(want.loc[place, ["unusual", "opens", "level"]])
        assert [r.feature for r in got.reasons] == [r["feature"] for r in want["reasons"][place]]
    assert want["unusual"][75]

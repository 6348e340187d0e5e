"""One model small enough to work out by hand: one feature, one instance, one member of two rows and one of one row."""

import numpy as np
import pandas as pd
import pytest

from ml import features
from ml.features import as_table
from ml.scoring import FleetModel, exhausted_rows, label_rows, level_labels, measure, score_table, shares, short

E1 = np.e - 1  # squash(E1) = 1


def one_stage(prototypes, labels):
    return {"stages": [{"prototypes": prototypes, "labels": labels, "radius": None, "outside": None}], "table": None}


def document(direction="up", exhaustion=None, threshold=1.0):
    return {
        "features": ["a"],
        "bounds": [[0, None]],
        "directions": [direction],
        "exhaustion": [exhaustion],
        "baselines": {"instances": {"i": 0}, "roles": {}, "fleet": 1},
        "level": {"map": one_stage("level", [0, 1]), "names": ["Idle", "High Load"]},
        "members": [
            {"window": 2, "weight": 1.0, "boundary": "two", "map": one_stage("p2", [0])},
            {"window": 1, "weight": 3.0, "boundary": "one", "map": one_stage("p1", [0])},
        ],
        "rule": {"m": 1, "n": 1, "close_rows": 2, "paging_threshold": threshold, "cooldown_s": 3600, "group_s": 900},
        "context_rows": 2,
        "max_gap_s": 1800,
    }


ARRAYS = {
    "center": np.stack([np.full((24, 1), 10.0), np.full((24, 1), 0.0)]),
    "scale": np.ones((2, 24, 1)),
    "level_center": np.array([10.0]),
    "level_scale": np.array([1.0]),
    "level": np.array([[0.0], [1.0]]),
    "p2": np.array([[0.0, 0.0]]),
    "p1": np.array([[0.0]]),
    "two": np.array([0.5, 5.0]),
    "one": np.array([2.0, 5.0]),
}


def rows(values, instance="i", step="5min"):
    times = pd.date_range("2026-11-01", periods=len(values), freq=step, tz="UTC").as_unit("ms")
    return pd.DataFrame({"instance_id": instance, "timestamp": times, "a": values})


def test_scores_by_hand():
    # GIVEN the centre, then 10 + E1, whose squashed deviation is 1
    labelled = label_rows(document(), ARRAYS, rows([10.0, 10 + E1]))
    # THEN the first row has no context and lies at its centre; the second has (1 * 1/0.5 + 3 * 1/2) / 4
    assert labelled["score"].tolist() == pytest.approx([0.0, 0.875])
    assert labelled["context"].tolist() == [False, True]
    assert labelled["level"].tolist() == ["Idle", "High Load"]
    assert labelled["unusual"].tolist() == [False, False]
    # AND the row that is usual needs no reasons; the one that is nearly unusual has them
    assert [len(reasons) for reasons in labelled["reasons"]] == [0, 1]


def test_an_unusual_row_has_its_reasons():
    # GIVEN the centre, then 10 + E2, whose squashed deviation is 2, so that the score is 1.75
    labelled = label_rows(document(), ARRAYS, rows([10.0, 10 + np.e**2 - 1]))
    assert labelled["unusual"].tolist() == [False, True]
    reason = labelled["reasons"][1][0]
    assert reason == {"feature": "a", "value": 16.39, "low": 7.0, "high": 13.0, "share": 1.0, "direction": "up"}


def test_a_missing_value_lies_at_its_centre():
    labelled = label_rows(document(), ARRAYS, rows([np.nan, np.nan]))
    assert labelled["score"].tolist() == [0.0, 0.0]


def test_a_missing_value_can_be_a_reason():
    # GIVEN a value far from its centre, and none after it: both rows' windows are unusual
    labelled = label_rows(document(), ARRAYS, rows([1e6, np.nan]))
    assert labelled["unusual"].tolist() == [True, True]
    assert labelled["reasons"][1][0]["value"] is None


def test_a_gap_cuts_the_context():
    labelled = label_rows(document(), ARRAYS, rows([10.0, 10.0, 10.0], step="31min"))
    assert labelled["context"].tolist() == [False, False, False]


def test_only_the_harmful_direction_pages():
    # GIVEN a fall to 0, clearly unusual
    fall, want = rows([10.0, 0.0]), {"up": False, "down": True, "both": True}
    for direction, pages in want.items():
        labelled = label_rows(document(direction), ARRAYS, fall)
        assert labelled["unusual"].tolist() == [False, True]
        assert labelled["pages"].tolist() == [False, pages]


def test_the_paging_threshold_counts_and_the_unusual_flag_does_not_move():
    labelled = label_rows(document(threshold=9.0), ARRAYS, rows([10.0, 30.0]))
    assert labelled["unusual"].tolist() == [False, True]
    assert labelled["pages"].tolist() == [False, False]


def test_exhaustion_pages_at_any_score_unless_it_is_expected_there():
    # The expected range ends at 13: a bound of 13.5 is news, a bound of 12 is part of every day.
    high = rows([10.0, 13.6])
    assert label_rows(document(exhaustion=13.5, threshold=99.0), ARRAYS, high)["pages"].tolist() == [False, True]
    assert not label_rows(document(exhaustion=12.0, threshold=99.0), ARRAYS, high)["pages"].any()


def test_strangers_use_the_fleets_baseline_and_are_not_known():
    labelled = label_rows(document(), ARRAYS, rows([0.0], instance="x"))
    assert labelled["score"].tolist() == [0.0]
    assert labelled["known"].tolist() == [False]


def test_without_any_member_there_is_no_score():
    model = FleetModel.load({**document(), "members": document()["members"][:1]}, ARRAYS)
    table = as_table(rows([10.0]), ["a"], 1800)
    scored = score_table(model, table, np.zeros(1, int))
    assert np.isnan(scored.score[0])
    assert not scored.unusual[0]


def test_no_rows():
    assert len(label_rows(document(), ARRAYS, rows([]))) == 0


def test_short():
    assert [short(x) for x in (123456.0, 0.00123456, 0.0)] == [123500.0, 0.001235, 0.0]


def test_some_rows_are_explained_as_among_all():
    # GIVEN rows of which each member rates another part
    table = as_table(rows([10.0, 12.0, 9.0, 15.0, 11.0]), ["a"], 1800)
    model = FleetModel.load(document(), ARRAYS)
    baseline = np.zeros(len(table), np.int64)
    measured = measure(model, table, baseline)

    # WHEN
    some, everything = (shares(model, measured, baseline, np.array(of)) for of in ([0, 3, 4], range(5)))

    # THEN
    assert np.array_equal(some, everything[[0, 3, 4]])


def test_rows_in_many_blocks_get_the_labels_of_one_block(monkeypatch):
    # GIVEN rows of which some are idle and some beyond the exhaustion bound
    table = as_table(rows([10.0, 10.0 + E1, 40.0, 9.0, 90.0, 11.0, 95.0]), ["a"], 1800)
    model = FleetModel.load(document(exhaustion=50.0), ARRAYS)
    baseline = np.zeros(len(table), np.int64)
    expected = level_labels(model, table, baseline), exhausted_rows(model, table, baseline)
    assert [len(set(found.tolist())) for found in expected] == [2, 2]

    # WHEN / THEN
    monkeypatch.setattr(features, "BLOCK_ROWS", 2)
    assert np.array_equal(level_labels(model, table, baseline), expected[0])
    assert np.array_equal(exhausted_rows(model, table, baseline), expected[1])

"""Verdicts of a model small enough to compute by hand."""

import numpy as np

from riskwatch_ml.features import table as features
from riskwatch_ml.features.table import as_table
from riskwatch_ml.model.explain import exhausted_rows, label_rows, score_table, shares
from riskwatch_ml.model.fleet_model import FleetModel, score_rows
from tests.support.by_hand import ARRAYS, E1, document, rows


def test_only_a_row_that_is_nearly_unusual_needs_reasons():
    # GIVEN the centre, then 10 + E1, which scores 0.875
    labelled = label_rows(document(), ARRAYS, rows([10.0, 10 + E1]))
    # THEN
    assert labelled["level"].tolist() == ["Idle", "High Load"]
    assert labelled["unusual"].tolist() == [False, False]
    assert [len(reasons) for reasons in labelled["reasons"]] == [0, 1]


def test_an_unusual_row_has_its_reasons():
    # GIVEN the centre, then 10 + E2, whose squashed deviation is 2, so that the score is 1.75
    labelled = label_rows(document(), ARRAYS, rows([10.0, 10 + np.e**2 - 1]))
    assert labelled["unusual"].tolist() == [False, True]
    reason = labelled["reasons"][1][0]
    assert reason == {"feature": "a", "value": 16.39, "low": 7.0, "high": 13.0, "share": 1.0, "direction": "up"}


def test_a_missing_value_is_no_reason():
    # GIVEN a value far from its centre, and none after it: both rows' windows are unusual
    labelled = label_rows(document(), ARRAYS, rows([1e6, np.nan]))
    assert labelled["unusual"].tolist() == [True, True]
    assert [len(reasons) for reasons in labelled["reasons"]] == [1, 0]


def test_only_the_harmful_direction_opens():
    # GIVEN a fall to 0, clearly unusual
    fall, want = rows([10.0, 0.0]), {"up": False, "down": True, "both": True}
    for direction, opens in want.items():
        labelled = label_rows(document(direction), ARRAYS, fall)
        assert labelled["unusual"].tolist() == [False, True]
        assert labelled["opens"].tolist() == [False, opens]


def test_the_paging_threshold_moves_neither_the_unusual_flag_nor_what_opens():
    labelled = label_rows(document(threshold=9.0), ARRAYS, rows([10.0, 30.0]))
    assert labelled["unusual"].tolist() == [False, True]
    assert labelled["opens"].tolist() == [False, True]


def test_exhaustion_opens_at_any_score_unless_it_is_expected_there():
    # The expected range ends at 13: a bound of 13.5 is news, a bound of 12 is part of every day.
    high = rows([10.0, 13.6])
    assert label_rows(document("down", exhaustion=13.5), ARRAYS, high)["opens"].tolist() == [False, True]
    assert not label_rows(document("down", exhaustion=12.0), ARRAYS, high)["opens"].any()


def test_strangers_use_the_fleets_baseline():
    labelled = label_rows(document(), ARRAYS, rows([0.0], instance="x"))
    assert labelled["score"].tolist() == [0.0]


def test_no_rows():
    assert len(label_rows(document(), ARRAYS, rows([]))) == 0


def test_some_rows_are_explained_as_among_all():
    # GIVEN rows of which each member rates another part
    table = as_table(rows([10.0, 12.0, 9.0, 15.0, 11.0]), ["a"], 1800)
    model = FleetModel.load(document(), ARRAYS)
    baseline = np.zeros(len(table), np.int64)
    measured = score_rows(model, table, baseline)

    # WHEN
    some, everything = (shares(model, measured, baseline, np.array(of)) for of in ([0, 3, 4], range(5)))

    # THEN
    assert np.array_equal(some, everything[[0, 3, 4]])


def test_without_a_score_a_row_is_not_unusual():
    model = FleetModel.load({**document(), "members": document()["members"][:1]}, ARRAYS)
    scored = score_table(model, as_table(rows([10.0]), ["a"], 1800), np.zeros(1, int))
    assert scored.unusual.tolist() == [False]


def test_exhausted_rows_of_many_blocks_are_those_of_one_block(monkeypatch):
    # GIVEN rows of which some are beyond the exhaustion bound
    table = as_table(rows([10.0, 10.0 + E1, 40.0, 9.0, 90.0, 11.0, 95.0]), ["a"], 1800)
    model = FleetModel.load(document(exhaustion=50.0), ARRAYS)
    baseline = np.zeros(len(table), np.int64)
    expected = exhausted_rows(model, table, baseline)
    assert np.flatnonzero(expected).tolist() == [4, 6]

    # WHEN / THEN
    monkeypatch.setattr(features, "BLOCK_ROWS", 2)
    assert np.array_equal(exhausted_rows(model, table, baseline), expected)

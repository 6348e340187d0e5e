"""Scores and levels of a model small enough to compute by hand."""

import numpy as np
import pytest

from riskwatch_ml.features import table as features
from riskwatch_ml.features.table import as_table
from riskwatch_ml.model.fleet_model import FleetModel, level_labels, score_rows
from tests.support.by_hand import ARRAYS, E1, document, rows

OWN = np.zeros(7, np.int64)  # the instance's own baseline of as many rows


def tabled(values, **options):
    """Return the model, and a table of some values."""
    return FleetModel.load(document(), ARRAYS), as_table(rows(values, **options), ["a"], 1800)


def test_scores_by_hand():
    # GIVEN the centre, then 10 + E1, whose squashed deviation is 1
    model, table = tabled([10.0, 10 + E1])
    # WHEN
    measured = score_rows(model, table, OWN[:2])
    # THEN the first row has no context and lies at its centre; the second has (1 * 1/0.5 + 3 * 1/2) / 4
    assert measured.score.tolist() == pytest.approx([0.0, 0.875])
    assert measured.context.tolist() == [False, True]
    assert level_labels(model, table, OWN[:2]).tolist() == [0, 1]


def test_a_missing_value_lies_at_its_centre():
    model, table = tabled([np.nan, np.nan])
    assert score_rows(model, table, OWN[:2]).score.tolist() == [0.0, 0.0]


def test_a_gap_cuts_the_context():
    model, table = tabled([10.0, 10.0, 10.0], step="31min")
    assert score_rows(model, table, OWN[:3]).context.tolist() == [False, False, False]


def test_without_any_member_there_is_no_score():
    # GIVEN the member of two rows alone, and one row
    model = FleetModel.load({**document(), "members": document()["members"][:1]}, ARRAYS)
    scored = score_rows(model, as_table(rows([10.0]), ["a"], 1800), OWN[:1])
    assert np.isnan(scored.score[0])


def test_levels_of_many_blocks_are_those_of_one_block(monkeypatch):
    # GIVEN rows of which some are idle
    model, table = tabled([10.0, 10.0 + E1, 40.0, 9.0, 90.0, 11.0, 95.0])
    expected = level_labels(model, table, OWN)
    assert set(expected.tolist()) == {0, 1}

    # WHEN / THEN
    monkeypatch.setattr(features, "BLOCK_ROWS", 2)
    assert np.array_equal(level_labels(model, table, OWN), expected)

"""How the numbers of a labelled row are rounded."""

from math import nan

from riskwatch_lambda.scoring.labelled_row import rounded_score, significant


def test_numbers_of_reasons_have_four_significant_digits():
    assert [significant(x) for x in (123456.0, 0.00123456, 0.0)] == [123500.0, 0.001235, 0.0]


def test_scores_have_six_decimals():
    assert [rounded_score(x) for x in (1.23456789, nan)] == [1.234568, None]

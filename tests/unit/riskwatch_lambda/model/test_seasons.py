"""Seasons of a document: malformed ones are refused, and a model without them counts hours in UTC."""

import pytest

from riskwatch_lambda.model.document import ModelError
from riskwatch_lambda.model.seasons import SeasonError, Seasons
from tests.support import tiny


@pytest.mark.parametrize(
    "seasons",
    [
        [],
        {"zones": []},
        {"zones": [[]]},
        {"zones": [[[0, 0], [0, 3600]]]},
        {"zones": [[[5, 0], [0, 3600]]]},
        {"zones": [[[0, 90_000]]]},
        {"zones": [[[0, 0.5]]]},
        {"zones": [[[0, True]]]},
        {"zone_of": [0]},
        {"zone_of": [0, 1]},
        {"zone_of": [0, -1]},
        {"holidays": ["2026-12-25"]},
        {"holidays": 3},
    ],
)
def test_malformed_seasons_are_refused(seasons):
    with pytest.raises(SeasonError, match="seasons"):
        Seasons({"seasons": seasons}, 2)


def test_a_model_with_malformed_seasons_is_refused():
    with pytest.raises(ModelError, match=r"seasons\.holidays"):
        tiny.model(seasons={"holidays": [1.5]})


def test_a_document_without_seasons_counts_hours_in_utc():
    assert [Seasons({}, 1).slot(0, tiny.TEN + hours * 3_600_000, day_types=False) for hours in (0, 14)] == [
        (10, 1),
        (0, 1),
    ]


def test_the_local_hour_selects_the_profile():
    # GIVEN a model whose instance expects another value at ten, and a zone three hours ahead of UTC
    model = tiny.model(seasons={"zones": [[[0, 10_800]]]})

    # WHEN / THEN
    assert model.baselines.profile(2, tiny.TEN).usual[0][0] == tiny.CPU
    assert model.baselines.profile(2, tiny.TEN - 10_800_000).usual[0][0] == tiny.CPU_AT_TEN

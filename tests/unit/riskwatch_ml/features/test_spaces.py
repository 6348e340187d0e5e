"""The two vector spaces: the squash, and centre and scale of the level space."""

import numpy as np
import pytest

from riskwatch_ml.features.spaces import MIN_WITHIN, NEVER_SEEN_SCALE, fit_level_scaling, squash


def test_squash():
    assert squash(np.array([-(np.e - 1), 0.0, np.e - 1])) == pytest.approx([-1, 0, 1])


def test_the_level_scaling_by_hand():
    # GIVEN one instance: 0..100, the same with a wild value and a gap, a constant, an absent metric and one that is not
    # asked for
    steps = np.arange(101.0)
    wild = np.where(steps == 100, 1e9, steps)
    wild[50] = np.nan
    values = np.column_stack([steps, wild, np.full(101, 7.0), np.full(101, np.nan), steps])
    # WHEN
    center, scale = fit_level_scaling(values, np.zeros(101, int), [0, 1, 2, 3])
    # THEN deciles at 10 and 90 give 50 and 80 / 2.563 whatever lies beyond
    assert center[:3] == pytest.approx([50.0, 50.0, 7.0], abs=0.5)
    assert scale[:2] == pytest.approx([80 / 2.563] * 2, rel=0.02)
    assert scale[2] == pytest.approx((1e-3 * 7 + 1e-6) / MIN_WITHIN, rel=1e-6)
    assert scale[3:].tolist() == [np.float32(NEVER_SEEN_SCALE)] * 2


def test_a_metric_that_hardly_ever_moves_is_scaled_by_its_deviation():
    values = np.zeros((100, 1))
    values[:5] = 10.0
    assert fit_level_scaling(values, np.zeros(100, int), [0])[1] == pytest.approx([10 * np.sqrt(0.05 * 0.95)])


def test_a_metric_that_tells_instances_apart_weighs_less():
    # GIVEN two instances: the first metric moves alike on both, the second is of another size on one of them
    load = np.tile([0.0, 1.0, 2.0, 3.0], 50)
    code = np.repeat([0, 1], 100)
    values = np.column_stack([load, load + 30 * code])
    # WHEN
    alone = [fit_level_scaling(values[:, [column]], code, [0])[1][0] for column in (0, 1)]
    scale = fit_level_scaling(values, code, [0, 1])[1]
    # THEN the second one's scale grows by the share of its variance that lies within instances
    z = squash((values[:, 1] - 16.5) / alone[1])
    within = np.mean([z[code == 0].var(), z[code == 1].var()]) / z.var()
    assert within < 0.05
    assert scale[0] == pytest.approx(alone[0])
    assert scale[1] == pytest.approx(alone[1] / within, rel=1e-3)

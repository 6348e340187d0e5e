"""Condensing: prototypes repeat labels that means cannot separate."""

import numpy as np

from riskwatch_ml.families.condense import condense
from riskwatch_ml.families.prototype_map import nearest


def test_condensing_keeps_labels_that_no_mean_can_tell():
    # GIVEN a ring around a core: both have the same mean
    angle = np.linspace(0, 2 * np.pi, 300, endpoint=False)
    ring = 5 * np.column_stack([np.cos(angle), np.sin(angle)])
    core = np.random.default_rng(0).normal(0, 0.3, (300, 2))
    x, labels = np.concatenate([ring, core]), np.repeat([0, 1], 300)
    # WHEN
    prototypes, owner = condense(x, labels, 24, seed=0)
    # THEN
    assert len(prototypes) <= 24
    assert np.mean(owner[nearest(x, prototypes)[0]] == labels) > 0.99

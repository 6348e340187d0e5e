"""Random fleets, all families: the level never falls while CPU rises, and keeps to the anchors, as it is served."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from riskwatch_lambda.model.document import LEVELS
from riskwatch_lambda.scoring.scorer import score
from riskwatch_ml.families import FAMILIES
from riskwatch_ml.features.training_set import build_training_set
from riskwatch_ml.model.fit import Recipe, fit_level
from riskwatch_ml.model.level_rule import load_rule
from riskwatch_ml.schema import catalogue
from riskwatch_ml.schema.catalogue import Catalogue
from tests.support import tiny

EC2 = catalogue.load()
CPU = EC2.by_name["cpu_utilization"]
WATCHED = Catalogue((CPU, EC2.by_name["memory_utilization"]))
LOW, HIGH = CPU.never_high_below, CPU.never_idle_above
ROWS = 120

MODES = st.tuples(st.floats(0, 100), st.floats(0, 12), st.integers(1, 20))  # mean, deviation and weight of CPU
FLEETS = st.tuples(
    st.lists(MODES, min_size=1, max_size=4),
    st.sampled_from([(0, 100), (0, LOW - 0.01), (0, LOW + 5), (HIGH - 5, 100), (HIGH + 0.01, 100)]),
    st.integers(0, 3),  # decimals of a value: few values repeat often
    st.integers(0, 2**32 - 1),
)


def training_set_of(modes, limits, decimals, seed):
    """Return the training set of two instances with CPU of some modes within limits, a tenth of it missing."""
    rng = np.random.default_rng(seed)
    mean, deviation, weight = np.array(modes).T
    mode = rng.choice(len(modes), 2 * ROWS, p=weight / weight.sum())
    cpu = np.clip(rng.normal(mean[mode], deviation[mode]).round(decimals), *limits)
    cpu[1:][rng.random(2 * ROWS - 1) < 0.1] = np.nan
    times = pd.date_range("2026-11-01", periods=ROWS, freq="5min", tz="UTC").as_unit("ms")
    rows = pd.DataFrame(
        {
            "instance_id": np.repeat(["a", "b"], ROWS),
            "timestamp": np.tile(times, 2),
            "cpu_utilization": cpu,
            "memory_utilization": 50.0,
        }
    )
    return build_training_set(rows, WATCHED, {}, 300)


@pytest.mark.parametrize("family", list(FAMILIES))
@settings(max_examples=10)
@given(fleet=FLEETS)
def test_levels_hold(family, fleet):
    # GIVEN a fleet of any shape, within the whole scale or on one side of an anchor
    training_set = training_set_of(*fleet)
    reported = training_set.table.values[:, 0]
    reported = reported[np.isfinite(reported)]
    # WHEN its levels are asked about the whole scale and its own rows, as the backtest and as the function give them
    _, document, arrays = fit_level(training_set, Recipe(family))
    rule = load_rule(document, arrays)
    cpu = np.unique(np.concatenate([np.linspace(0, 100, 401), reported]))
    rank = np.array([LEVELS.index(rule.names[label]) for label in rule.labels(np.column_stack([cpu, cpu]))])
    served = tiny.model(level=json.loads(json.dumps(document)))
    for value, found in zip(cpu[::7], rank[::7], strict=True):
        assert score(served, tiny.record([[float(value), None]])).level == LEVELS[found]
    # THEN
    assert (np.diff(rank) >= 0).all()
    assert (rank[cpu < LOW] < LEVELS.index("High Load")).all()
    assert (rank[cpu >= HIGH] > LEVELS.index("Idle")).all()
    if reported.max() < LOW:
        assert set(rank[np.isin(cpu, reported)]) == {LEVELS.index("Idle")}

"""New instances against the baseline of their role: what a fit of real rows makes of them."""

import numpy as np
import pandas as pd
import pytest

from riskwatch_lambda.episode_rule import Rule
from riskwatch_ml.features import rolling
from riskwatch_ml.features.spaces import row_baselines
from riskwatch_ml.features.table import as_table
from riskwatch_ml.features.training_set import GAP_PERIODS, build_training_set
from riskwatch_ml.model.fit import Recipe, fit_model
from riskwatch_ml.model.fleet_model import score_rows
from riskwatch_ml.model.openings import follow, opening_rows
from riskwatch_ml.schema.inventory import Instance
from tests.support.fleets import CATALOGUE, rows

WEB = ("web-1", "web-2", "web-3", "web-4")
INVENTORY = {name: Instance(name, name.split("-")[0]) for name in (*WEB, "db-1", "db-2", "lab-1")}


@pytest.fixture(scope="module")
def model():
    """A model of three web instances and two databases, at quite another load."""
    past = rows((*WEB[:3], "db-1"))
    other = rows(("db-2",), seed=3)
    other[list(CATALOGUE.names)] *= 0.3
    return fit_model(
        build_training_set(pd.concat([past, other]), CATALOGUE, INVENTORY, 300), CATALOGUE, Recipe("kmeans")
    ).model


def paged(model, frame):
    """The share of the rows that are in an episode."""
    table = as_table(frame, CATALOGUE.names, GAP_PERIODS * 300)
    baseline = row_baselines(model.baselines, table, INVENTORY)
    scores = score_rows(model, rolling.add_rolling_features(table, model.rolling_lengths), baseline)
    followed = follow(opening_rows(model, table, baseline, scores), Rule.of(model.rule), {})
    return float(followed.alert.mean())


def slow(frame):
    """The same rows with four times the latency."""
    return frame.assign(latency_ms=frame["latency_ms"] * 4)


def test_a_new_instance_pages_for_what_its_role_never_does_and_not_for_an_ordinary_day(model):
    # GIVEN a day of a web instance that the model does not know
    day = rows(WEB[3:], n=288, seed=5)

    # WHEN it behaves as its role, and when its latency is four times as high
    # THEN only the second pages, for most of the day
    assert paged(model, day) < 0.01
    assert paged(model, slow(day)) > 0.5


def test_a_role_is_measured_by_its_own_instances(model):
    # GIVEN rows of a database under the name of a web instance, WHEN they are scored against the role web
    day = rows(("db-1",), n=288, seed=5).assign(instance_id="web-4")
    day[list(CATALOGUE.names)] *= 0.1

    # THEN they are unusual: a boundary that suits all roles would find nothing
    table = as_table(day, CATALOGUE.names, GAP_PERIODS * 300)
    baseline = row_baselines(model.baselines, table, INVENTORY)
    assert np.median(score_rows(model, table, baseline).score) > 1.4


def test_an_instance_of_an_unknown_role_or_of_none_pages_for_exhaustion_only(model):
    # GIVEN a day of an instance with a role that the model has not seen, far beyond the whole fleet
    day = slow(rows(("lab-1",), n=288, seed=5))
    assert paged(model, day) == 0

    # WHEN its memory is exhausted in its first row, THEN that pages, in this row and until the episode closes
    day.loc[0, "memory_utilization"] = 97.0
    assert 0 < paged(model, day) <= 2 / 288


def test_the_rows_of_a_new_instance_are_less_severe_by_the_factor_of_the_rule():
    # GIVEN a training set with twenty rows of a new instance, with a high latency, and a role of known ones
    few = slow(rows(WEB[3:], n=20, seed=5))
    training_set = build_training_set(pd.concat([rows(WEB[:3]), few]), CATALOGUE, INVENTORY, 300)
    fitted = fit_model(training_set, CATALOGUE, Recipe("kmeans"))

    # WHEN the calibration sees it
    rows_seen = opening_rows(fitted.model, training_set.table, training_set.baseline, fitted.row_scores)
    new = training_set.table.code == training_set.table.instances.index("web-4")

    # THEN its strengths are scores over the factor, those of known instances the scores
    factor = fitted.document["rule"]["new_instance_factor"]
    assert np.allclose(rows_seen.strength[new], fitted.row_scores.score[new] / factor, equal_nan=True)
    assert np.array_equal(rows_seen.strength[~new], fitted.row_scores.score[~new], equal_nan=True)

from dataclasses import replace

import numpy as np
import pytest

from riskwatch_ml.features.spaces import row_baselines
from riskwatch_ml.features.training_set import build_training_set
from riskwatch_ml.model.fit import Recipe, fit_model
from riskwatch_ml.model.fleet_model import score_rows
from riskwatch_ml.selection.holdout import MAX_INSTANCES, injected_vus_pr, make_holdout, rate
from tests.support.fleets import CATALOGUE, INVENTORY, rows


@pytest.fixture(scope="module")
def training_set():
    return build_training_set(rows(), CATALOGUE, INVENTORY, 300)


@pytest.fixture(scope="module")
def holdout(training_set):
    return make_holdout(training_set, CATALOGUE, INVENTORY, period_s=300, seed=0)


def test_the_candidate_sees_older_rows_only_and_is_asked_about_newer_ones(training_set, holdout):
    # GIVEN 864 rows of each of three instances
    cut = 864 - 172
    newest = np.sort(np.unique(training_set.table.ms))[cut]
    # THEN
    assert holdout.training_set.table.ms.max() < newest
    assert len(holdout.training_set.table) == 3 * cut
    assert (holdout.table.ms[holdout.rated] >= newest).all()
    assert holdout.rated.sum() == 3 * 172
    assert 0 < holdout.labels[holdout.rated].mean() < 0.3


def test_older_rows_have_their_own_incidents(training_set, holdout):
    older = holdout.training_set.table.values
    clean = training_set.table.values[np.isin(training_set.table.ms, holdout.training_set.table.ms)]
    assert 0.02 < (older != clean).any(axis=1).mean() < 0.25


def test_the_rating_is_one_for_the_truth_and_low_for_its_opposite(holdout):
    truth = holdout.labels.astype(float)
    assert rate(holdout, truth) > 0.9
    assert rate(holdout, -truth) < 0.3
    assert rate(holdout, truth) > rate(holdout, np.random.default_rng(0).random(len(truth)))


def test_a_family_finds_more_than_chance(holdout):
    found = injected_vus_pr(holdout, CATALOGUE, INVENTORY, Recipe("kmeans"))
    chance = rate(holdout, np.random.default_rng(0).random(len(holdout.labels)))
    assert found > 2 * chance


@pytest.mark.parametrize("level", [{}, {"clusters": 6}])
def test_the_level_map_changes_nothing(holdout, level):
    # GIVEN a model whose level map was chosen in full, or kept by a refresh
    model = fit_model(holdout.training_set, CATALOGUE, Recipe("kmeans", level=level, fast=True)).model
    measured = score_rows(model, holdout.wide, row_baselines(model.baselines, holdout.table, INVENTORY))
    # WHEN / THEN its rating is that of the trial, which chooses none
    found = injected_vus_pr(holdout, CATALOGUE, INVENTORY, Recipe("kmeans", level=level))
    assert found == rate(holdout, np.nan_to_num(measured.score))


def test_large_fleets_are_asked_by_a_sample():
    many = rows(names=[f"i{number:02d}" for number in range(30)], n=60)
    training_set = build_training_set(many, CATALOGUE, {}, 300)
    holdout = make_holdout(training_set, CATALOGUE, {}, period_s=300, seed=0)
    assert len(holdout.training_set.table.instances) == MAX_INSTANCES
    assert set(holdout.table.instances) <= set(training_set.table.instances)
    assert holdout.table.code.max() == MAX_INSTANCES - 1


def test_instances_without_rows_take_no_place():
    # GIVEN a fleet in whose list of names most have no rows yet
    training_set = build_training_set(rows(n=60), CATALOGUE, {}, 300)
    names = (*training_set.table.instances, *(f"later-{number:02d}" for number in range(60)))
    grown = replace(training_set, table=replace(training_set.table, instances=names))
    # WHEN
    now, then = (make_holdout(each, CATALOGUE, {}, period_s=300, seed=0) for each in (training_set, grown))
    # THEN
    assert then.table.instances == now.table.instances == training_set.table.instances
    np.testing.assert_array_equal(then.table.values, now.table.values)


def test_without_room_for_incidents_the_figure_is_zero():
    training_set = build_training_set(rows(n=40), CATALOGUE, INVENTORY, 300)
    holdout = make_holdout(training_set, CATALOGUE, INVENTORY, period_s=300, seed=0)
    assert rate(holdout, np.ones(len(holdout.labels))) == 0.0

from dataclasses import replace

import numpy as np
import pytest

from riskwatch_ml.features.spaces import row_baselines
from riskwatch_ml.features.training_set import build_space
from riskwatch_ml.model.fit import Recipe, fit_model
from riskwatch_ml.model.fleet_model import measure
from riskwatch_ml.selection.holdout import MOST_INSTANCES, injected_vus_pr, make_trial, rate
from tests.support.fleets import CATALOGUE, INVENTORY, rows


@pytest.fixture(scope="module")
def space():
    return build_space(rows(), CATALOGUE, INVENTORY, 300)


@pytest.fixture(scope="module")
def trial(space):
    return make_trial(space, CATALOGUE, INVENTORY, period_s=300, seed=0)


def test_the_candidate_sees_older_rows_only_and_is_asked_about_newer_ones(space, trial):
    # GIVEN 864 rows of each of three instances
    cut = 864 - 172
    newest = np.sort(np.unique(space.table.ms))[cut]
    # THEN
    assert trial.space.table.ms.max() < newest
    assert len(trial.space.table) == 3 * cut
    assert (trial.table.ms[trial.rated] >= newest).all()
    assert trial.rated.sum() == 3 * 172
    assert 0 < trial.labels[trial.rated].mean() < 0.3


def test_older_rows_have_their_own_incidents(space, trial):
    older = trial.space.table.values
    clean = space.table.values[np.isin(space.table.ms, trial.space.table.ms)]
    assert 0.02 < (older != clean).any(axis=1).mean() < 0.25


def test_the_rating_is_one_for_the_truth_and_low_for_its_opposite(trial):
    truth = trial.labels.astype(float)
    assert rate(trial, truth) > 0.9
    assert rate(trial, -truth) < 0.3
    assert rate(trial, truth) > rate(trial, np.random.default_rng(0).random(len(truth)))


def test_a_family_finds_more_than_chance(trial):
    found = injected_vus_pr(trial, CATALOGUE, INVENTORY, Recipe("kmeans"))
    chance = rate(trial, np.random.default_rng(0).random(len(trial.labels)))
    assert found > 2 * chance


@pytest.mark.parametrize("level", [{}, {"clusters": 6}])
def test_the_level_map_changes_nothing(trial, level):
    # GIVEN a model whose level map was chosen in full, or kept by a refresh
    model = fit_model(trial.space, CATALOGUE, Recipe("kmeans", level=level, rough=True)).model
    measured = measure(model, trial.wide, row_baselines(model.baselines, trial.table, INVENTORY))
    # WHEN / THEN its rating is that of the trial, which chooses none
    found = injected_vus_pr(trial, CATALOGUE, INVENTORY, Recipe("kmeans", level=level))
    assert found == rate(trial, np.nan_to_num(measured.score))


def test_large_fleets_are_asked_by_a_sample():
    many = rows(names=[f"i{number:02d}" for number in range(30)], n=60)
    space = build_space(many, CATALOGUE, {}, 300)
    trial = make_trial(space, CATALOGUE, {}, period_s=300, seed=0)
    assert len(trial.space.table.instances) == MOST_INSTANCES
    assert set(trial.table.instances) <= set(space.table.instances)
    assert trial.table.code.max() == MOST_INSTANCES - 1


def test_instances_without_rows_take_no_place():
    # GIVEN a fleet in whose list of names most have no rows yet
    space = build_space(rows(n=60), CATALOGUE, {}, 300)
    names = (*space.table.instances, *(f"later-{number:02d}" for number in range(60)))
    grown = replace(space, table=replace(space.table, instances=names))
    # WHEN
    now, then = (make_trial(each, CATALOGUE, {}, period_s=300, seed=0) for each in (space, grown))
    # THEN
    assert then.table.instances == now.table.instances == space.table.instances
    np.testing.assert_array_equal(then.table.values, now.table.values)


def test_without_room_for_incidents_the_figure_is_zero():
    space = build_space(rows(n=40), CATALOGUE, INVENTORY, 300)
    trial = make_trial(space, CATALOGUE, INVENTORY, period_s=300, seed=0)
    assert rate(trial, np.ones(len(trial.labels))) == 0.0

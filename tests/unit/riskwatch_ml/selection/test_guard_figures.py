from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from riskwatch_lambda.model.document import ARRAYS_FILE
from riskwatch_ml.artifact import archive
from riskwatch_ml.families import FAMILIES
from riskwatch_ml.families.base import Family, FamilyFit
from riskwatch_ml.families.prototype_map import PrototypeMap, make_stage
from riskwatch_ml.features.training_set import build_training_set
from riskwatch_ml.model.fit import Recipe, fit_model
from riskwatch_ml.model.level_rule import LevelMap
from riskwatch_ml.selection import guard_figures
from riskwatch_ml.selection.guards import vetoes
from tests.support import tiny
from tests.support.fleets import CATALOGUE, INVENTORY, rows


@pytest.fixture(scope="module")
def training_set():
    return build_training_set(rows(n=432), CATALOGUE, INVENTORY, 300)


@pytest.fixture(scope="module")
def fitted(training_set):
    return fit_model(training_set, CATALOGUE, Recipe("kmeans"))


def test_a_sound_candidate_passes_every_guard(fitted, training_set):
    assert vetoes(guard_figures.guard_figures(fitted, training_set, 0)) == []


def test_levels_drawn_by_lot_are_unstable_and_have_no_order(monkeypatch):
    # GIVEN a level space of all metrics, and a family whose clusters depend on the rows that it happened to see
    def lottery(x, params, seed):
        rng = np.random.default_rng(int(np.abs(x).sum() * 1e6) % 2**32)
        stage = make_stage(x[rng.choice(len(x), 200, replace=False)], rng.integers(0, 4, 200))
        labels = PrototypeMap((stage,)).assign(x).labels
        return FamilyFit(PrototypeMap((stage,)), np.arange(len(x)), labels, {"clusters": 4}, {"fidelity": 1.0})

    watched = replace(CATALOGUE, load_metrics=())
    training_set = build_training_set(rows(n=432), watched, INVENTORY, 300)
    fitted = fit_model(training_set, watched, Recipe("kmeans"))
    monkeypatch.setitem(FAMILIES, "kmeans", Family("kmeans", lottery))
    # WHEN
    stability, gap = guard_figures.split_half_stability(training_set, fitted, 0)
    # THEN
    reasons = vetoes(
        {**guard_figures.guard_figures(fitted, training_set, 0), "level_stability": stability, "severity_gap": gap}
    )
    assert {reason.split()[0] for reason in reasons} >= {"two", "neighbouring"}


def test_the_gap_is_in_deviations_and_negative_in_the_wrong_order():
    # GIVEN levels with means 0, 2, 6 and deviation 1 each
    busy = np.array([-1.0, 1.0, 1.0, 3.0, 5.0, 7.0])
    level = np.array([0, 0, 1, 1, 2, 2])
    # WHEN / THEN the least of 2 and 4; swapped levels are below zero; one level has no gap
    assert guard_figures.severity_gap(busy, level) == pytest.approx(2.0)
    assert guard_figures.severity_gap(busy, 2 - level) == pytest.approx(-4.0)
    assert guard_figures.severity_gap(busy, np.zeros(6, int)) == 0.0


def test_a_fleet_that_never_moves_lacks_no_gap_and_no_explanation():
    assert guard_figures.severity_gap(np.zeros(6), np.zeros(6, int)) == 1.0
    assert guard_figures.severity_explained(np.zeros(6), np.zeros(6, int)) == 1.0


def test_load_as_score_is_told_from_a_score_that_meets_busy_and_idle_rows_alike():
    # GIVEN how busy five rows are, a score that grows with it, one that grows either way from the middle, and a gap
    busy = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    # WHEN / THEN ranks alone count, rows without a score do not, and what never varies follows nothing
    assert guard_figures.load_correlation(busy**3, busy, 0) == pytest.approx(1.0)
    assert guard_figures.load_correlation(np.abs(busy - 3), busy, 0) == pytest.approx(0.0)
    assert guard_figures.load_correlation(np.array([0.1, 0.2, np.nan, 0.4, 0.3]), busy, 0) == pytest.approx(0.8)
    assert guard_figures.load_correlation(np.ones(5), busy, 0) == 0.0
    assert guard_figures.load_correlation(busy, np.ones(5), 0) == 0.0


def test_the_levels_explain_what_does_not_vary_within_them():
    # GIVEN a variance of 4.25, 0.25 of it within the levels
    busy = np.array([0.0, 1.0, 4.0, 5.0])
    assert guard_figures.severity_explained(busy, np.array([0, 0, 2, 2])) == pytest.approx(1 - 0.25 / 4.25)
    assert guard_figures.severity_explained(busy, np.ones(4, int)) == pytest.approx(0.0)


def test_the_least_faithful_slot_counts_by_the_rows_of_its_groups():
    # GIVEN a level map of 1.0; slot a with groups of 90 and 10 rows, slot b with a fallback group that labels no row
    parts = [("a", 1.0, 90), ("a", 0.8, 10), ("b", 1.0, 100), ("b", 0.0, 0)]

    def model(parts):
        return SimpleNamespace(
            level_fit=SimpleNamespace(figures={"fidelity": 1.0}),
            document={"members": [{"boundary": name} for name, _, _ in parts]},
            member_fits=[SimpleNamespace(figures={"fidelity": share}) for _, share, _ in parts],
            row_scores=SimpleNamespace(nearest=[(np.arange(rows), None) for _, _, rows in parts]),
        )

    # THEN (90 * 1.0 + 10 * 0.8) / 100; groups without a row count alike; no members leave the level map
    assert guard_figures.min_fidelity(model(parts)) == pytest.approx(0.98)
    assert guard_figures.min_fidelity(model([("a", 1.0, 0), ("a", 0.8, 0)])) == pytest.approx(0.9)
    assert guard_figures.min_fidelity(model([])) == 1.0


def test_noise_is_what_lies_outside_every_cluster():
    x = np.array([[0.0], [0.5], [3.0], [10.0]])
    near = make_stage(np.array([[0.0]]), [0], radius=1.0, outside=1)
    whole = make_stage(np.array([[0.0]]), [0])
    assert guard_figures.noise_share(PrototypeMap((near,)), x) == 0.5
    assert guard_figures.noise_share(PrototypeMap((whole,)), x) == 0.0
    assert guard_figures.noise_share(PrototypeMap((whole, near), {(0, 0): 0, (0, 1): 1}), x) == 0.5


def test_operations_count_the_level_map_and_the_costliest_group():
    # GIVEN a level map of 3 prototypes of 2 metrics; groups with 4 windows of 3 rows, and 10 and 1 rows, 5 columns wide
    def member(group, size, window):
        return SimpleNamespace(group=group, window=window, map=SimpleNamespace(size=size))

    model = SimpleNamespace(
        level=LevelMap(np.zeros(2), np.ones(2), PrototypeMap((make_stage(np.zeros((3, 2)), [0] * 3),)), ("Normal",)),
        baselines=SimpleNamespace(center=np.zeros((1, 24, 5))),
        members=(member(0, 4, 3), member(1, 10, 1), member(1, 1, 1)),
    )
    # THEN 3 * 2 + max(4 * 3 * 5, 11 * 5)
    assert guard_figures.row_operations(model) == 6 + 60


def test_bytes_are_those_that_the_artifact_holds():
    # GIVEN a packed model, whose profiles are counts on a grid rather than floats
    arrays = {name: np.array(values, np.float32) for name, values in tiny.ARRAYS.items()}
    files = archive.model_files(archive.pack(tiny.document(), arrays))
    # THEN
    assert guard_figures.model_bytes(arrays) == len(files[ARRAYS_FILE])


def test_halves_of_one_row_say_nothing(fitted, training_set):
    one = replace(
        training_set,
        table=training_set.table.take(np.array([0])),
        level=training_set.level[:1],
        baseline=training_set.baseline[:1],
    )
    assert guard_figures.split_half_stability(one, fitted, 0) == (1.0, 0.0)


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_rows_without_a_value_are_vetoed_without_a_warning():
    # GIVEN a fleet of whose metrics none was ever reported
    training_set = build_training_set(
        rows(n=300).assign(**dict.fromkeys(CATALOGUE.names, np.nan)), CATALOGUE, INVENTORY, 300
    )
    # WHEN
    figures = guard_figures.guard_figures(fit_model(training_set, CATALOGUE, Recipe("kmeans")), training_set, 0)
    # THEN
    assert any("one level cluster" in reason for reason in vetoes(figures))

"""Openings in a table: what opens is what opens in the function, and the paging rule is that of the function."""

from itertools import pairwise

import numpy as np
import pytest

from bench.parity import awkward
from riskwatch_lambda.clock import DAY_MS, HOUR_MS
from riskwatch_lambda.episode_rule import Metrics, Rule, close_expired
from riskwatch_lambda.model import document as served
from riskwatch_lambda.paging_rule import (
    EXHAUSTED,
    NEW_INSTANCE,
    InstanceState,
    Row,
    Signature,
    follow_row,
    read_trained,
)
from riskwatch_lambda.scoring import scorer
from riskwatch_lambda.scoring.records import Record
from riskwatch_ml.artifact import archive
from riskwatch_ml.features import rolling
from riskwatch_ml.features.spaces import row_baselines
from riskwatch_ml.features.table import as_table
from riskwatch_ml.model.fit import Recipe
from riskwatch_ml.model.fleet_model import FleetModel, score_rows
from riskwatch_ml.model.openings import Opener, OpeningRows, follow, going_on, opening_rows
from riskwatch_ml.schema import catalogue
from riskwatch_ml.selection.candidate import fit_candidate
from tests.support.openings import TEN, UP

NAMES = ("cpu", "net", "disk")
PERIOD_MS = 300_000
SIGNATURES = [UP, UP, Signature("cpu", "down"), Signature("net", "up"), Signature("disk", EXHAUSTED)]


def random_rows(seed, step_ms=PERIOD_MS, instances=3, n=300):
    """Give random rows of instances, with gaps of more than a day, missing metrics and rows without a score."""
    rng = np.random.default_rng(seed)
    total = instances * n
    gaps = np.where(rng.random(total) < 0.02, rng.choice([5 * HOUR_MS, DAY_MS + PERIOD_MS, 3 * DAY_MS], total), 0)
    ms = np.concatenate([TEN + np.cumsum(part + step_ms) for part in np.split(gaps, instances)])
    strength = np.where(rng.random(total) < 0.2, rng.choice([1.0, 1.1, 1.3, 1.7, 2.5], total), 0.4)
    absent = rng.random((total, 3)) < 0.2
    openers = {}
    for row in np.flatnonzero(strength >= 1).tolist():
        signature = SIGNATURES[rng.integers(len(SIGNATURES))]
        decisive = tuple(name for name, gone in zip(NAMES, absent[row], strict=True) if not gone)[:2]
        openers[row] = Opener(signature, signature.direction == EXHAUSTED, decisive)
        if signature.direction == EXHAUSTED and rng.random() < 0.3:
            strength[row] = 0.3
    return OpeningRows(np.repeat(np.arange(instances), n), ms, strength.copy(), strength, openers, absent, NAMES)


def row_by_row(rows, rule, states):
    """Apply the rule of the function to each row, as a batch of its own."""
    alert, opened, held = [], [], {}
    for position in range(len(rows.code)):
        code = int(rows.code[position])
        state = states.get(code, NEW_INSTANCE)
        row = rows.row(position)
        state = state._replace(episode=close_expired(state.episode, row.ts_ms))
        step = follow_row(state, row, rule)
        states[code] = step.state
        alert.append(step.alert)
        opened += [position] if step.opened else []
        held |= {position: step.held} if step.held else {}
    return alert, opened, held


@pytest.mark.parametrize("rule", [Rule(), Rule(paging_threshold=1.5), Rule(close_rows=1), Rule(m=2, n=3)], ids=str)
@pytest.mark.parametrize("step_ms", [PERIOD_MS, DAY_MS // 5])
def test_a_table_is_followed_as_the_function_follows_its_rows(rule, step_ms):
    # GIVEN random rows, and instances of which one remembers openings of its training rows
    rows = random_rows(rule.close_rows, step_ms)
    trained = [("cpu", "up", (TEN - days * DAY_MS) // 1000, 30, 1.2) for days in (2, 1)]
    states = {1: InstanceState(openings=read_trained(trained))}
    expected = dict(states)

    # WHEN both follow them
    followed = follow(rows, rule, states)
    alert, opened, held = row_by_row(rows, rule, expected)

    # THEN alerts, pages, held openings and states are the same
    assert followed.alert.tolist() == alert
    assert (followed.opened, followed.held) == (opened, held)
    assert states == expected
    assert len(opened) > 5
    assert rule.m > 1 or rule.paging_threshold > 1 or len(set(held.values())) >= 2


def test_the_openings_of_a_table_are_all_that_began_in_it():
    # GIVEN random rows, few enough for the memory of each instance
    rows = random_rows(5, n=60)

    # WHEN they are followed
    states = {}
    followed = follow(rows, Rule(), states)

    # THEN every page and every held opening has ended, with its end, or goes on
    ended, open_still = followed.openings, going_on(states)
    assert all(opening.end_ms is not None for _, opening in ended)
    began = {(int(rows.code[row]), int(rows.ms[row])) for row in followed.held}
    began |= {(int(rows.code[row]), int(rows.ms[row])) for row in followed.opened if row not in followed.held}
    # AND an opening that was held and pages later is one
    openings = {(code, opening.since_ms) for code, opening in (*ended, *open_still)}
    assert openings <= began
    assert {key for key in began if key not in openings} <= {
        (int(rows.code[row]), int(rows.ms[row])) for row in followed.opened
    }
    assert len(ended) + len(open_still) == len(openings) > 5


@pytest.mark.parametrize("seed", range(3))
def test_rows_that_come_in_parts_are_followed_as_those_of_one_table(seed):
    # GIVEN random rows, and random parts of time
    rows = random_rows(seed)
    whole_states, part_states = {}, {}
    whole = follow(rows, Rule(), whole_states)

    # WHEN the parts are followed one after the other
    bounds = [0, *sorted(np.random.default_rng(seed).integers(0, 300, 5)), 300]
    place = np.tile(np.arange(300), 3)
    parts = [follow(rows, Rule(), part_states, (place >= low) & (place < high)) for low, high in pairwise(bounds)]

    # THEN together they are the same
    assert np.array_equal(np.any([part.alert for part in parts], axis=0), whole.alert)
    assert sorted(row for part in parts for row in part.opened) == whole.opened
    assert sorted(opening for part in parts for opening in part.openings) == sorted(whole.openings)
    assert part_states == whole_states


def test_an_opening_ends_with_its_last_row_if_rows_stay_away():
    # GIVEN an episode after which no row comes for three days; in service, a tick ends it a day after its last row
    ms = TEN + np.array([0, PERIOD_MS, 3 * DAY_MS])
    openers = {row: Opener(UP, False, ("cpu",)) for row in range(3)}
    rows = OpeningRows(np.zeros(3, int), ms, np.full(3, 1.5), np.full(3, 1.5), openers, None, NAMES)

    # WHEN the next row opens, THEN it is no cool-down of the first: that one ended long ago
    followed = follow(rows, Rule(), {})
    assert followed.opened == [0, 2]
    assert followed.openings[0][1].end_ms - TEN <= DAY_MS + HOUR_MS


def test_a_row_names_what_it_lacks_and_what_opens():
    # GIVEN rows of which one opens for cpu without disk, and one is quiet without net
    openers = {0: Opener(UP, False, ("cpu",))}
    absent = np.array([[False, False, True], [False, True, False], [False, False, False]])
    score = np.array([1.5, 0.2, np.nan])
    rows = OpeningRows(np.zeros(3, int), TEN + np.arange(3), score, score / 1.4, openers, absent, NAMES)

    # WHEN / THEN
    first = Row(TEN, 1.5, 1.5 / 1.4, True, False, UP, Metrics(("disk",), ("cpu",)))
    assert rows.row(0) == first
    assert rows.row(1) == Row(TEN + 1, 0.2, 0.2 / 1.4, False, metrics=Metrics(("net",)))
    assert (rows.row(2).opens, rows.row(2).metrics) == (False, Metrics())
    assert rows.opens.tolist() == [True, False, False]


def test_what_opens_in_a_table_is_what_opens_in_the_function(fleet_rows, inventory):
    # GIVEN a model, and rows with spikes, falls, missing values, exhausted memory, gaps and unseen instances
    candidate = fit_candidate(fleet_rows(["web-1", "web-2"]), catalogue.load(), inventory, Recipe("kmeans"), "t")
    zip_bytes = archive.pack(candidate.document, candidate.arrays)
    document, arrays = archive.unpack(zip_bytes)
    rows = awkward(fleet_rows(["web-1", "web-9", "stranger"], rows=300, seed=7), list(catalogue.load().names))
    rng = np.random.default_rng(4)
    rows.loc[rng.random(len(rows)) < 0.03, "memory_utilization"] = 99.0
    rows.loc[rng.random(len(rows)) < 0.04, "active_connections"] = 0.0

    # WHEN both judge them
    model, function = FleetModel.load(document, arrays), served.from_files(archive.model_files(zip_bytes))
    table = as_table(rows, model.features, model.max_gap_s)
    baseline = row_baselines(model.baselines, table, inventory)
    row_scores = score_rows(model, rolling.add_rolling_features(table, model.rolling_lengths), baseline)
    seen = opening_rows(model, table, baseline, row_scores)
    judged = []
    for code, name in enumerate(table.instances):
        part = np.flatnonzero(table.code == code)
        values = tuple(tuple(None if value != value else value for value in row) for row in table.values[part].tolist())
        role = inventory[name].role if name in inventory else "default"
        record = Record("shop", role, name, tuple(table.ms[part].tolist()), values, newest=len(part))
        judged += scorer.verdicts(function, record)

    # THEN every row opens, or not, for the same, as severe, with the same metrics
    assert len(judged) == len(table) > 800
    for position, verdict in enumerate(judged):
        row = seen.row(position)
        assert row.strength == pytest.approx(verdict.strength, abs=1e-9, nan_ok=True)
        assert (row.opens, row.signature) == (verdict.opens, verdict.signature)
        assert row.exhausted == (verdict.opens and verdict.exhausted)
        assert set(row.metrics.decisive) == set(verdict.decisive)
        assert row.metrics.missing == verdict.missing
    # AND all directions occur, for known and for new instances
    directions = {(int(seen.code[row]), opener.signature.direction) for row, opener in seen.openers.items()}
    assert len({direction for _, direction in directions}) == 3
    assert len({code for code, _ in directions}) == 3

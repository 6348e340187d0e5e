import numpy as np
import pytest

from riskwatch_lambda.episode_rule import Rule, RuleError, replay
from riskwatch_ml.model.boundaries import (
    PagingRows,
    alert_rows,
    count_episodes,
    episodes_a_day,
    episodes_on_ordinary_days,
    fallback_boundary,
    own_boundaries,
    paging_threshold,
    rows_to_close,
)

RULE = {"m": 1, "n": 1, "close_rows": 2, "cooldown_s": 3600, "group_s": 900}
MINUTE = 60_000


def paging(score, code=None, exhausted=None):
    score = np.asarray(score, float)
    n = len(score)
    code = np.zeros(n, int) if code is None else code
    return PagingRows(
        score=score,
        harmful=np.ones(n, bool),
        exhausted=np.zeros(n, bool) if exhausted is None else exhausted,
        code=code,
        ms=np.arange(n) * 5 * MINUTE,
    )


def test_boundary_is_the_own_quantile_pulled_to_the_fleets_where_rows_are_few():
    # GIVEN 200 rows of one instance at distance 1, 9,800 of another at 4, and one without rows
    distance, baseline = np.repeat([1.0, 4.0], [200, 9800]), np.repeat([0, 1], [200, 9800])
    # WHEN
    boundary = own_boundaries(distance, baseline, 3)
    # THEN with 200 rows own and fleet weigh the same: sqrt(1 * 4)
    assert boundary == pytest.approx([2.0, 4.0, 4.0], rel=1e-6)


def test_boundaries_of_rows_that_never_move_are_above_zero():
    assert (own_boundaries(np.zeros(500), np.repeat([0, 1], 250), 2) > 0).all()
    assert fallback_boundary(np.zeros(10), 0.5) == 0.5


@pytest.mark.parametrize("close_rows", [1, 2, 3])
def test_alert_rows_follow_the_lambdas_episode_rule(close_rows):
    # GIVEN random paging rows of two instances
    rng = np.random.default_rng(close_rows)
    pages, code = rng.random(400) < 0.2, np.repeat([0, 1], 200)
    # WHEN the Lambda's rule is replayed over each
    rule = Rule(close_rows=close_rows)
    want = [
        flag
        for instance in (0, 1)
        for flag in replay(((t, bool(page), 1.0) for t, page in enumerate(pages[code == instance])), rule).alerts
    ]
    # THEN the vectorised rule marks the same rows
    assert alert_rows(pages, code, close_rows).tolist() == want


def test_episodes_are_counted_as_an_operator_meets_them():
    # GIVEN alerts at 0, 15 (same episode), 35 (another), then one of 65 minutes (counts twice), and another instance
    minutes = [0, 15, 35, *range(200, 270, 5), 0]
    code = np.array([0] * (len(minutes) - 1) + [1])
    assert count_episodes(np.ones(len(minutes), bool), code, np.array(minutes) * MINUTE) == 1 + 1 + 2 + 1
    assert count_episodes(np.zeros(3, bool), np.zeros(3, int), np.arange(3)) == 0


def test_threshold_is_the_smallest_that_keeps_the_budget():
    # GIVEN a day of rows with lone scores of 1.5, 2.5 and 3.5
    score = np.zeros(288)
    score[[20, 120, 220]] = [1.5, 2.5, 3.5]
    rows = paging(score)
    # THEN
    assert paging_threshold(rows, 3.0, RULE, 300) == 1.0
    assert paging_threshold(rows, 2.0, RULE, 300) == 1.5001
    assert paging_threshold(rows, 1.0, RULE, 300) == 2.5001
    assert paging_threshold(rows, 0.5, RULE, 300) == 3.5001
    assert episodes_a_day(rows, 2.5, RULE, 300) == 2.0


def test_the_busiest_fifth_of_the_days_costs_no_budget():
    # GIVEN five days of one instance with a lone alert on each, and nine more on the third
    score = np.zeros(5 * 288)
    score[[100 + 288 * day for day in range(5)]] = 2.0
    score[2 * 288 + 120 : 3 * 288 : 18] = 3.0
    rows = paging(score)
    # THEN the third day is left out: four alerts on four days
    assert episodes_a_day(rows, 1.0, RULE, 300) == (5 + 10) / 5
    assert episodes_on_ordinary_days(rows, 1.0, RULE, 300) == 1.0
    assert paging_threshold(rows, 1.0, RULE, 300) == 1.0
    assert paging_threshold(rows, 0.5, RULE, 300) == 2.0001


def test_instances_of_an_unknown_role_cost_no_budget():
    # GIVEN rows with any score, over the infinite factor of the fleet's baseline
    rows = paging(np.full(10, 5.0) / np.inf)
    # THEN none of them pages
    assert paging_threshold(rows, 1.0, RULE, 300) == 1.0
    assert episodes_a_day(rows, 1.0, RULE, 300) == 0.0


def test_exhaustion_over_the_budget_still_gives_a_threshold():
    exhausted = np.zeros(288, bool)
    exhausted[::20] = True
    rows = paging(np.linspace(0, 2, 288), exhausted=exhausted)
    assert 2.0 <= paging_threshold(rows, 1.0, RULE, 300) <= 2.001


def test_a_rule_that_one_row_does_not_open_is_refused():
    # GIVEN a rule of two rows in three, WHEN / THEN alerts are not counted as if one row were enough
    with pytest.raises(RuleError, match="not 2 of 3"):
        rows_to_close({**RULE, "m": 2, "n": 3})
    assert rows_to_close(RULE) == 2

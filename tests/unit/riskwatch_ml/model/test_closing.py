"""Rows that lack a metric which opened an episode: calibration applies the rule of the function."""

import numpy as np
import pytest

from riskwatch_lambda.clock import DAY_MS
from riskwatch_lambda.episode_rule import NO_EPISODE, Metrics, Rule, advance, close_expired
from riskwatch_ml.model.boundaries import PagingRows, alert_rows, episodes_a_day
from riskwatch_ml.model.closing import MetricGaps

NAMES = ("cpu", "net", "disk")
PERIOD_MS = 300_000


def names(bits):
    """Give the metrics of a mask of three bits."""
    return tuple(name for place, name in enumerate(NAMES) if bits >> place & 1)


def followed(pages, code, ms, missing, decisive, rule):
    """Apply the rule of the function row by row, as the backtest does."""
    alerts, states = [], {}
    for row in range(len(pages)):
        state = close_expired(states.get(code[row], NO_EPISODE), int(ms[row]))
        metrics = Metrics(names(missing[row]), names(decisive[row]))
        step = advance(state, int(ms[row]), bool(pages[row]), 1.0, rule, metrics)
        states[code[row]] = step.state
        alerts.append(step.alert)
    return alerts


@pytest.mark.parametrize("close_rows", [1, 2, 3])
@pytest.mark.parametrize("step_ms", [PERIOD_MS, DAY_MS // 5])
def test_alert_rows_follow_the_rule_of_the_function_where_metrics_are_missing(close_rows, step_ms):
    # GIVEN random paging rows of three instances, and random missing and decisive metrics
    rng = np.random.default_rng(close_rows)
    pages, code = rng.random(900) < 0.15, np.repeat([0, 1, 2], 300)
    ms = np.tile(np.arange(300), 3) * step_ms
    missing = np.where(rng.random(900) < 0.5, rng.integers(0, 8, 900), 0).tolist()
    decisive = np.where(pages, rng.integers(1, 8, 900), 0).tolist()

    # WHEN both follow them
    gaps = MetricGaps(np.arange(900), code, ms, missing, decisive)
    marked = alert_rows(pages, code, close_rows, gaps)

    # THEN the vectorised rule marks the same rows, and more of them than without the gaps
    assert marked.tolist() == followed(pages, code, ms, missing, decisive, Rule(close_rows=close_rows))
    assert marked.sum() > alert_rows(pages, code, close_rows).sum()


def test_only_the_rows_of_the_gaps_are_marked_otherwise():
    # GIVEN two instances with one page each; only the second has a gap after it
    pages = np.array([True, False, False, False] * 2)
    code, ms = np.repeat([0, 1], 4), np.tile(np.arange(4), 2) * PERIOD_MS
    gaps = MetricGaps(np.arange(4, 8), code[4:], ms[4:], [0, 1, 1, 1], [1, 0, 0, 0])

    # WHEN / THEN
    assert alert_rows(pages, code, 2, gaps).tolist() == [True, True, False, False, True, True, True, True]


def test_a_longer_episode_counts_for_longer():
    # GIVEN one page of a day of rows, after which its metric is missing for two hours
    pages = np.zeros(288, bool)
    pages[10] = True
    code, ms = np.zeros(288, int), np.arange(288) * PERIOD_MS
    missing, decisive = [0] * 288, [0] * 288
    decisive[10] = 1
    missing[11:35] = [1] * 24
    rows = PagingRows(np.where(pages, 2.0, 0.0), pages, np.zeros(288, bool), code, ms)
    rule = {"m": 1, "n": 1, "close_rows": 2}

    # WHEN / THEN the alert budget counts one more for each hour
    assert episodes_a_day(rows, 1.0, rule, 300) == 1
    gaps = MetricGaps(np.arange(288), code, ms, missing, decisive)
    assert episodes_a_day(PagingRows(**{**vars(rows), "gaps": gaps}), 1.0, rule, 300) == 3

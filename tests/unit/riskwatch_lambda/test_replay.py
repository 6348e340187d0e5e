"""Backtest and function open the same episodes at the same rows, and people read of each twice: it opens, it ends."""

from __future__ import annotations

from collections import Counter

import pytest

from riskwatch_lambda.alerting.budget import Limits
from riskwatch_lambda.alerting.notifier import SEVERE
from riskwatch_lambda.episodes.paging_settings import DEFAULT_FUSE
from tests.support import replaying


@pytest.fixture(scope="module")
def fleet() -> replaying.Fleet:
    """Two days to learn from and a day with incidents, of three instances."""
    return replaying.simulated(2, 1, ("web-1", "database-1", "cache-2"))


@pytest.fixture(scope="module")
def before(fleet) -> replaying.Backtested:
    """What the backtest says of them, with two models."""
    return replaying.backtested(fleet, refit_hours=12)


@pytest.mark.parametrize("limits", [Limits(), Limits(1, 1)], ids=["pages", "one a day"])
def test_every_episode_of_the_backtest_is_opened_and_told_once(fleet, before, limits):
    # GIVEN what the backtest opened, with a model and its refresh
    assert len(before.openings) >= 3
    assert len(before.models) == 2

    # WHEN the function labels the same rows
    world = replaying.labelled(fleet, before.models, limits)

    # THEN it opened the same, and each episode and its end was reported once
    replaying.check(fleet, before, world)
    # AND no day has more pages than the limit, but for severe ones
    thresholds = {item["episode_id"]: item["paging_threshold"] for item in world.dynamodb.listed()}
    pages = Counter(
        (message["service"], message["opened"][0]["since"][:10])
        for message in world.sns.messages
        if message["event"] == "opened"
        and not any(each["score"] >= SEVERE * thresholds[each["episode_id"]] for each in message["opened"])
    )
    assert max(pages.values(), default=0) <= (limits.service or DEFAULT_FUSE)


def test_rows_without_the_metrics_that_opened_an_episode_do_not_close_it_in_the_backtest_either():
    # GIVEN a day with incidents in which three of ten values are missing
    fleet = replaying.simulated(2, 1, ("web-1", "database-1", "cache-2"), holes=0.3)
    before = replaying.backtested(fleet, refit_hours=24)
    assert len(before.openings) >= 3

    # WHEN the function labels the same rows
    world = replaying.labelled(fleet, before.models, Limits())

    # THEN it opened and closed the same, and rows that did not page, with metrics missing, lie in episodes
    replaying.check(fleet, before, world)
    alerts = [row for row in world.s3.lines("labelled/") if row["alert"] and row["missing"] and not row["unusual"]]
    assert len(alerts) > 10

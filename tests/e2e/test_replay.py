"""Four simulated days of the whole fleet through the function, beside the backtest of the same days."""

import pytest

from riskwatch_lambda.alerting.budget import Limits
from tests.support import replaying

pytestmark = [pytest.mark.e2e, pytest.mark.story]


def test_four_days_are_opened_as_backtested_and_told_once():
    # GIVEN twelve instances, four days to learn from and four to replay, with a refresh a day and more of them
    # where an incident outlasts the hours after which it is learned
    fleet = replaying.simulated(4, 4)
    before = replaying.backtested(fleet, refit_hours=24)
    assert {(since - before.models[0][0]) / replaying.DAY_MS for since, _ in before.models} > {0.0, 1.0, 2.0, 3.0}

    # WHEN the function labels them as they would have come
    world = replaying.labelled(fleet, before.models, Limits())

    # THEN it opened every episode of the backtest at the same row, and told each once, and its end once
    replaying.check(fleet, before, world)
    kinds = [message["event"] for message in world.sns.messages]
    print(f"{len(before.openings)} episodes: { ({kind: kinds.count(kind) for kind in sorted(set(kinds))}) } messages")

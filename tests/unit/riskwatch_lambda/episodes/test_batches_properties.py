"""Rows in any batches, some of them again, give what they give one after the other: states are stored in between."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from riskwatch_lambda.clock import DAY_MS, HOUR_MS
from riskwatch_lambda.episode_rule import Rule
from riskwatch_lambda.episodes import lifecycle
from riskwatch_lambda.episodes.episode import Change, Episode, ModelContext, Scored
from riskwatch_lambda.episodes.repository import EpisodeRepository
from riskwatch_lambda.paging_rule import EXHAUSTED, NO_SIGNATURE, Opening, Signature
from riskwatch_lambda.scoring.records import Record
from riskwatch_lambda.scoring.scorer import Verdict
from riskwatch_lambda.table import Table
from tests.support.fakes import FakeDynamoDB
from tests.support.openings import PERIOD_MS, TEN, UP

if TYPE_CHECKING:
    from riskwatch_lambda.episodes.openings import HeldOpening

NAME = "web-1"
OPENS = [UP, UP, Signature("net", "down"), Signature("cpu", EXHAUSTED)]
SEVERITIES = [1.0, 1.05, 1.1234567, 1.2, 1.4, 2.0]
# Of three days of training: familiar at ten, and at any hour.
TRAINED = {
    NAME: [
        ("cpu", "up", (TEN - days * DAY_MS - 7 * at * HOUR_MS) // 1000, 20, 1.1) for days in (3, 2, 1) for at in (1, 0)
    ]
}
CONTEXT = ModelContext("m", "7", TEN, trained=TRAINED)

_ROW = st.tuples(
    # Periods since the row before: mostly one, at times a part of a day, or more than a day.
    st.sampled_from([1] * 12 + [13, 60, 84, 290, 400]),
    st.one_of(st.none(), st.none(), st.tuples(st.sampled_from(OPENS), st.sampled_from(SEVERITIES))),
    st.sampled_from([(), (), (), (), ("cpu",), ("net",), ("cpu", "net")]),
)


class Outcome(NamedTuple):
    """What a pass decided; alerts by time."""

    alerts: dict[int, str | None]
    openings: tuple[Opening, ...] | None
    held: list[HeldOpening]
    listed: list[tuple[str, bool]]
    state: Episode | None


def _scored(ms: int, opener: tuple[Signature, float] | None, missing: tuple[str, ...]) -> Scored:
    signature, strength = opener or (NO_SIGNATURE, 0.4)
    decisive = (signature.metric,) if opener and signature.metric not in missing else ()
    is_exhausted = signature.direction == EXHAUSTED
    verdict = Verdict(
        *(strength, strength >= 1, "Normal", True, (), bool(opener), is_exhausted, bool(opener)),
        *(strength, missing, decisive, signature),
    )
    return Scored(Record("shop", "web", NAME, (ms,), ((),)), verdict, ms + 1000)


def _pass(batches: list[list[Scored]], rule: Rule) -> Outcome:
    """Follow batches as the function does, with the state in the table between them."""
    dynamodb = FakeDynamoDB()
    repository = EpisodeRepository(Table(dynamodb, "table"))
    alerts: dict[int, str | None] = {}
    held: dict[int, HeldOpening] = {}
    listed: dict[str, bool] = {}
    for batch in batches:
        before = repository.read([NAME]).get(NAME)
        change: Change = lifecycle.follow(before, batch, rule, CONTEXT)
        if change.is_needed:
            repository.write(change)
        for scored, episode_id in zip(batch, change.episode_ids, strict=True):
            alerts.setdefault(scored.record.ts[-1], episode_id)
        held |= {one.opening.since_ms: one for one in change.held}
        listed |= {episode.episode_id: episode.state.is_open for episode in change.listed}
    after = repository.read([NAME]).get(NAME)
    days = sorted({key[0].partition("#")[2] for key in dynamodb.items if key[0].startswith("held#")})
    stored = [one for day in days for one in repository.held(day)]
    # The list rounds to millionths and does not say which strengths passed.
    assert stored == [one._replace(opening=one.opening._replace(passed=0.0)) for one in held.values()]
    return Outcome(alerts, None if after is None else after.openings, stored, sorted(listed.items()), after)


@settings(max_examples=150)
@given(st.data())
def test_batches_with_repeated_rows_decide_as_one_batch(data):
    # GIVEN random rows, and a threshold
    rows, ms = [], TEN - 2 * HOUR_MS
    for periods, opener, missing in data.draw(st.lists(_ROW, min_size=20, max_size=60)):
        ms += periods * PERIOD_MS
        rows.append(_scored(ms, opener, missing))
    rule = Rule(paging_threshold=data.draw(st.sampled_from([1.0, 1.3])))

    # WHEN they come in random batches, each with some rows from before
    bounds = sorted({0, len(rows), *data.draw(st.sets(st.integers(0, len(rows)), max_size=12))})
    batches = []
    for low, high in pairwise(bounds):
        first = data.draw(st.integers(max(0, low - 8), low))
        batches.append(rows[first:high])
    split = _pass(batches, rule)

    # THEN alerts, episodes, openings, and what is written to the lists are those of a single batch
    whole = _pass([rows], rule)
    assert split.alerts == whole.alerts
    assert split.openings == whole.openings
    assert split.held == whole.held
    assert split.listed == whole.listed
    # AND so is the state
    assert (split.state is None) == (whole.state is None)
    if split.state is not None and whole.state is not None:
        assert replace(split.state, revision=None) == replace(whole.state, revision=None)

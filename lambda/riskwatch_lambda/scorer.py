"""The scoring rule: a record and a model in, verdicts out. Pure, deterministic, standard library only.

Two questions are asked of a row. *How busy is it?* is answered in the level space, where absolute values of the whole
fleet share one scaling. *Is this how it behaves?* is answered by the score: the weighted mean, over the members of the
model, of the distance to the nearest prototype over the boundary of the instance's baseline; 1.0 and above is unusual.
"""

from __future__ import annotations

from itertools import chain
from math import log1p, nan
from operator import add, mul, sub
from typing import TYPE_CHECKING, NamedTuple

from riskwatch_lambda.clock import hour_of_day
from riskwatch_lambda.maps import locate
from riskwatch_lambda.trails import widen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from riskwatch_lambda.baselines import Profile
    from riskwatch_lambda.maps import Vector
    from riskwatch_lambda.model import Level, Model
    from riskwatch_lambda.records import Record, Row

UNUSUAL = 1.0
REASONS = 3
HARMFUL_SHARE = 0.2


class Reason(NamedTuple):
    """How much one feature contributes to a score, and what was expected of it at that hour, in catalogue units."""

    feature: str
    value: float | None
    low: float
    high: float
    share: float
    direction: str


class Verdict(NamedTuple):
    """What the model says of one row, on unrounded values.

    ``score`` is NaN, and nothing is unusual, when the row has too few rows before it for every member. ``context``: all
    members had their window. ``pages``: the row counts towards an episode. ``known``: the instance has its own
    baseline.
    """

    score: float
    unusual: bool
    level: str
    context: bool
    reasons: tuple[Reason, ...]
    harmful: bool
    exhausted: bool
    pages: bool
    known: bool


class Rated(NamedTuple):
    """The score of a row, whether every member had its window, and what each metric contributes, if any member had."""

    score: float
    context: bool
    contributions: Sequence[float]


def verdicts(model: Model, record: Record) -> tuple[Verdict, ...]:
    """Score the newest rows of a record, oldest first, each in the light of the rows before it."""
    baseline, known = model.baselines.find(record.instance_id, record.role)
    first = len(record.rows) - record.newest
    oldest = max(0, first - model.longest_window + 1)
    starts = _starts(record.ts, model.max_gap_s * 1000)
    profiles = [model.baselines.profile(baseline, hour_of_day(ts)) for ts in record.ts[oldest:]]
    behaviour = [
        _behaviour(widen(record.rows, starts[place], place, model.trails), profile)
        for place, profile in enumerate(profiles, oldest)
    ]
    found = []
    for place in range(first, len(record.rows)):
        history = behaviour[max(starts[place], oldest) - oldest : place - oldest + 1]
        found.append(_verdict(model, record.rows[place], history, profiles[place - oldest], baseline, known))
    return tuple(found)


def score(model: Model, record: Record) -> Verdict:
    """Score the newest row of a record."""
    return verdicts(model, record)[-1]


def _starts(times: Sequence[int], max_gap_ms: int) -> list[int]:
    """Give for each row the first one that it may look back to: a window never spans a gap."""
    starts, start, previous = [], 0, times[0]
    for place, time in enumerate(times):
        if time - previous > max_gap_ms:
            start = place
        starts.append(start)
        previous = time
    return starts


def _behaviour(row: Row, profile: Profile) -> Vector:
    """Give the squashed deviations sign(z) log(1 + |z|) of a row; a missing value lies at its center."""
    return tuple(
        [
            0.0 if value is None else log1p(z) if (z := (value - center) / scale) >= 0 else -log1p(-z)
            for value, center, scale in zip(row, profile.center, profile.scale, strict=True)
        ]
    )


def _verdict(
    model: Model, row: Row, history: Sequence[Vector], profile: Profile, baseline: int, known: bool
) -> Verdict:
    """Judge a row; ``history`` are the rows of its segment up to it in the behaviour space."""
    rated = _rate(model, history, baseline)
    reasons = _reasons(model, row, history[-1], profile, rated.contributions)
    harmful = any([_is_harmful(model, reason, place) for place, reason in enumerate(reasons)])
    exhausted = _is_exhausted(row, profile)
    return Verdict(
        score=rated.score,
        unusual=rated.score >= UNUSUAL,
        level=_level(model.level, row, profile),
        context=rated.context,
        reasons=reasons,
        harmful=harmful,
        exhausted=exhausted,
        pages=(rated.score >= model.rule.paging_threshold and harmful) or exhausted,
        known=known,
    )


def _rate(model: Model, history: Sequence[Vector], baseline: int) -> Rated:
    """Average the members' distance over boundary, and add up squared deviations from their nearest prototypes."""
    total, weights, context = 0.0, 0.0, True
    contributions: list[float] = []
    metrics = len(model.layout.features)
    for member in model.members_of(baseline):
        if len(history) < member.window:
            context = False
            continue
        vector = history[-1] if member.window == 1 else tuple(chain.from_iterable(history[-member.window :]))
        place = locate(member.map, vector)
        boundary = member.boundary[baseline]
        total += member.weight * place.distance / boundary
        weights += member.weight
        factor = member.weight / (boundary * boundary)
        added = [factor * part for part in _by_metric(vector, place.prototype, metrics)]
        contributions = list(map(add, contributions, added)) if contributions else added
    return Rated(total / weights if weights else nan, context, contributions)


def _by_metric(vector: Vector, prototype: Vector, metrics: int) -> list[float]:
    """Sum the squared deviations of each metric over the rows of a window and the blocks of trailing features."""
    deviations = list(map(sub, vector, prototype))
    squares = list(map(mul, deviations, deviations))
    sums = squares[:metrics]
    for start in range(metrics, len(squares), metrics):
        sums = list(map(add, sums, squares[start : start + metrics]))
    return sums


def _reasons(
    model: Model, row: Row, behaviour: Vector, profile: Profile, contributions: Sequence[float]
) -> tuple[Reason, ...]:
    """Give the features that contribute most, the first of equals first; none where no member rated the row."""
    total = sum(contributions)
    top = sorted(range(len(contributions)), key=contributions.__getitem__, reverse=True)[:REASONS]
    return tuple(
        [
            Reason(
                model.layout.features[position],
                row[position],
                profile.low[position],
                profile.high[position],
                contributions[position] / total if total > 0 else 0.0,
                "down" if behaviour[position] < 0 else "up",
            )
            for position in top
        ]
    )


def _is_harmful(model: Model, reason: Reason, place: int) -> bool:
    """Tell whether a reason moves the way that the catalogue calls harmful and is the first one or carries weight."""
    if place > 0 and reason.share < HARMFUL_SHARE:
        return False
    return model.harmful_direction[reason.feature] in ("both", reason.direction)


def _is_exhausted(row: Row, profile: Profile) -> bool:
    """Tell whether a metric has reached its exhaustion bound where that is not normal."""
    for position, bound in profile.exhaustible:
        value = row[position]
        if value is not None and value >= bound:
            return True
    return False


def _level(level: Level, row: Row, profile: Profile) -> str:
    """Name the load of a row: the label of its absolute values in the level map; a missing one is at its center.

    The profile may go on with trailing features, which the level does not ask for.
    """
    vector = tuple(
        [
            log1p(z) if (z := ((usual if value is None else value) - center) / scale) >= 0 else -log1p(-z)
            for value, usual, center, scale in zip(row, profile.center, level.center, level.scale, strict=False)
        ]
    )
    return level.names[locate(level.map, vector).label]

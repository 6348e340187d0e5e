"""The scoring rule: a record and a model in, verdicts out. Pure, deterministic, standard library only.

Two questions are asked of a row. *How busy is it?* is answered in the level space, where absolute values of the whole
fleet share one scaling. *Is this how it behaves?* is answered by the score: the weighted mean, over the members of the
model, of the distance to the nearest prototype over the boundary of the instance's baseline; 1.0 and above is unusual.
"""

from __future__ import annotations

from itertools import chain
from math import log1p, nan
from typing import TYPE_CHECKING, NamedTuple

from riskwatch_lambda.clock import HOUR_MS
from riskwatch_lambda.model.baselines import HOURS
from riskwatch_lambda.model.prototype_map import distance_to, label_of
from riskwatch_lambda.scoring.rolling import widen

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from riskwatch_lambda.model.baselines import Profile
    from riskwatch_lambda.model.document import Level, Member, Model
    from riskwatch_lambda.model.prototype_map import Vector
    from riskwatch_lambda.model.row_schema import Row
    from riskwatch_lambda.scoring.records import Record

    # A member that rated a row, and the index of the prototype nearest to it.
    Near = tuple[Member, int]

UNUSUAL = 1.0
EXPLAINED = 0.8  # why a row came close is asked when an incident was missed
REASONS = 3
HARMFUL_SHARE = 0.2  # the first reason counts whatever its share of the distance, the next two from this share on


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
    members had their window. ``reasons`` and ``harmful`` are told of rows that are unusual, nearly so, or exhausted.
    ``pages``: the row counts towards an episode. ``known``: the instance has its own baseline.
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


def verdicts(model: Model, record: Record) -> tuple[Verdict, ...]:
    """Score the newest rows of a record, oldest first, each in the light of the rows before it."""
    baseline, known = model.baselines.find(record.instance_id, record.role)
    first = len(record.rows) - record.newest
    oldest = max(0, first - model.longest_window + 1)
    starts = _starts(record.ts, model.max_gap_s * 1000)
    rows: Sequence[Row] = record.rows[oldest:]
    if model.trails:
        rows = [widen(record.rows, starts[place], place, model.trails) for place in range(oldest, len(starts))]
    profiles = [model.baselines.profile(baseline, ts // HOUR_MS % HOURS) for ts in record.ts[oldest:]]
    behaviour = list(map(_behaviour, rows, profiles))
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
            for value, (center, scale) in zip(row, profile.usual, strict=True)
        ]
    )


def _verdict(
    model: Model, row: Row, history: Sequence[Vector], profile: Profile, baseline: int, known: bool
) -> Verdict:
    """Judge a row; ``history`` are the rows of its segment up to it in the behaviour space."""
    value, context, near = _rate(model.members_of(baseline), history, baseline)
    exhausted = bool(profile.exhaustible) and _is_exhausted(row, profile)
    reasons: tuple[Reason, ...] = ()
    harmful = False
    # Why a row is as usual is of no use to anybody, and costs as much as finding that it is.
    if value >= EXPLAINED or exhausted:
        contributions = _contributions(near, history, baseline, len(row))
        reasons = _reasons(model, row, history[-1], profile, contributions) if near else ()
        harmful = _is_harmful(model.harmful_direction, reasons)
    pages = exhausted or (harmful and value >= model.rule.paging_threshold)
    level = _level(model.level, row, profile)
    return Verdict(value, value >= UNUSUAL, level, context, reasons, harmful, exhausted, pages, known)


def _rate(members: Sequence[Member], history: Sequence[Vector], baseline: int) -> tuple[float, bool, list[Near]]:
    """Average the members' distance over boundary.

    Gives the score, whether every member had its window, and the members that had, with the nearest prototype of each.
    """
    total, weights, context = 0.0, 0.0, True
    near: list[Near] = []
    vectors: dict[int, Vector] = {1: history[-1]}
    for member in members:
        window = member.window
        if len(history) < window:
            context = False
            continue
        vector = vectors.get(window)
        if vector is None:
            vector = vectors[window] = tuple(chain.from_iterable(history[-window:]))
        distance, index = distance_to(member.map, vector)
        total += member.weight * distance / member.boundary[baseline]
        weights += member.weight
        near.append((member, index))
    return (total / weights, context, near) if near else (nan, False, near)


def _contributions(near: Sequence[Near], history: Sequence[Vector], baseline: int, metrics: int) -> list[float]:
    """Add up, for each metric, the squared deviations from the nearest prototypes in the units of the score."""
    contributions = [0.0] * metrics
    for member, index in near:
        vector = tuple(chain.from_iterable(history[-member.window :]))
        factor = member.weight / member.boundary[baseline] ** 2
        # A vector holds the metrics over and over: for each row of the window, and block of trailing features.
        for position, (value, expected) in enumerate(zip(vector, member.map.stages[0].prototypes[index], strict=True)):
            contributions[position % metrics] += factor * (value - expected) ** 2
    return contributions


def _reasons(
    model: Model, row: Row, behaviour: Vector, profile: Profile, contributions: Sequence[float]
) -> tuple[Reason, ...]:
    """Give the features that contribute most, the first of equals first."""
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


def _is_harmful(harmful_direction: Mapping[str, str], reasons: Sequence[Reason]) -> bool:
    """Tell whether the first reason, or another that carries weight, moves the way that the catalogue calls harmful."""
    for place, reason in enumerate(reasons):
        if (not place or reason.share >= HARMFUL_SHARE) and (
            harmful_direction[reason.feature] in ("both", reason.direction)
        ):
            return True
    return False


def _is_exhausted(row: Row, profile: Profile) -> bool:
    """Tell whether a metric has reached its exhaustion bound where that is not normal."""
    for position, bound in profile.exhaustible:
        value = row[position]
        if value is not None and value >= bound:
            return True
    return False


def _level(level: Level, row: Row, profile: Profile) -> str:
    """Name the load of a row: the label of its absolute values in the level map; a missing one is at its center."""
    vector = []
    for axis, center, scale in level.axes:
        value = row[axis]
        z = ((profile.usual[axis][0] if value is None else value) - center) / scale
        vector.append(log1p(z) if z >= 0 else -log1p(-z))
    return level.names[label_of(level.map, tuple(vector))]

"""The scoring rule: a record and a model in, a verdict out. Pure, deterministic, standard library only.

Two questions are asked of a row. *How busy is it?* is answered in the level space, where absolute values of the whole
fleet share one scaling. *Is this how it behaves?* is answered by the score: the weighted mean, over the members of the
model, of the distance to the nearest prototype over the boundary of the instance's baseline; 1.0 and above is unusual.
"""

from __future__ import annotations

from math import log1p, nan
from typing import TYPE_CHECKING, NamedTuple

from riskwatch_lambda.clock import hour_of_day
from riskwatch_lambda.maps import Place, locate
from riskwatch_lambda.trails import widen

if TYPE_CHECKING:
    from riskwatch_lambda.model import Member, Model, Profile
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
    """What the model says of the newest row of a record, on unrounded values.

    ``score`` is NaN, and nothing is unusual, when the record has too few rows for every member. ``context``: all
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


def verdicts(model: Model, record: Record) -> tuple[Verdict, ...]:
    """Score the rows of a record that are to be labelled, oldest first, each in the light of the rows before it."""
    reach = model.layout.context_rows
    found = []
    for end in range(len(record.ts) - record.newest + 1, len(record.ts) + 1):
        first = max(0, end - reach)
        found.append(score(model, record._replace(ts=record.ts[first:end], rows=record.rows[first:end], newest=1)))
    return tuple(found)


def score(model: Model, record: Record) -> Verdict:
    """Score the newest row of a record in the light of the rows before it."""
    index, known = model.baseline(record.instance_id, record.role)
    newest = record.rows[-1]
    profile = model.profile(index, hour_of_day(record.ts[-1]))
    history = _history(model, record, index)
    width = model.width
    total, weights, seen = 0.0, 0.0, 0
    contributions = [0.0] * len(newest)
    members = model.members_of(index)
    for member in members:
        size = member.window * width
        if len(history) < size:
            continue
        # A tuple: math.dist copies any other sequence on each of its calls.
        vector = tuple(history[-size:])
        place = locate(member.map, vector)
        boundary = member.boundary[index]
        total += member.weight * (place.distance / boundary)
        weights += member.weight
        seen += 1
        _add_contributions(contributions, vector, place, member, boundary)
    value = total / weights if seen else nan
    reasons = _reasons(model, newest, history, profile, contributions) if seen else ()
    harmful = any(_is_harmful(model, reason, place) for place, reason in enumerate(reasons))
    exhausted = _is_exhausted(newest, profile)
    return Verdict(
        score=value,
        unusual=value >= UNUSUAL,
        level=_level(model, newest, profile),
        context=seen == len(members),
        reasons=reasons,
        harmful=harmful,
        exhausted=exhausted,
        pages=(value >= model.rule.paging_threshold and harmful) or exhausted,
        known=known,
    )


def _history(model: Model, record: Record, index: int) -> list[float]:
    """Give the behaviour values of the usable rows, one row after the other, oldest first.

    A window never spans a gap, so rows before the newest gap are of no use.
    """
    first = len(record.ts) - 1
    while first > 0 and record.ts[first] - record.ts[first - 1] <= model.max_gap_s * 1000:
        first -= 1
    history: list[float] = []
    rows = record.rows[first:]
    # Rows older than the longest window are there for the trails of the others.
    oldest = max(0, len(rows) - model.longest_window)
    for ts, row in zip(record.ts[first + oldest :], widen(rows, oldest, model.trails), strict=True):
        profile = model.profile(index, hour_of_day(ts))
        history += _squashed(row, profile.center, profile.center, profile.scale)
    return history


def _squashed(row: Row, missing: tuple[float, ...], center: tuple[float, ...], scale: tuple[float, ...]) -> list[float]:
    """Give the squashed deviations sign(z) log(1 + |z|) of a row, with stand-ins for missing values."""
    values = []
    for present, absent, middle, size in zip(row, missing, center, scale, strict=True):
        z = ((absent if present is None else present) - middle) / size
        values.append(log1p(z) if z >= 0 else -log1p(-z))
    return values


def _add_contributions(
    contributions: list[float], vector: tuple[float, ...], place: Place, member: Member, boundary: float
) -> None:
    """Add, for each feature, the member's squared deviations from the nearest prototype over its window."""
    factor = member.weight / (boundary * boundary)
    width = len(contributions)
    for position, (value, expected) in enumerate(zip(vector, place.prototype, strict=True)):
        deviation = value - expected
        contributions[position % width] += factor * (deviation * deviation)


def _reasons(
    model: Model, newest: Row, history: list[float], profile: Profile, contributions: list[float]
) -> tuple[Reason, ...]:
    """Give the features that contribute most, the first of equals first."""
    total = sum(contributions)
    top = sorted(range(len(contributions)), key=lambda position: -contributions[position])[:REASONS]
    moves = history[-model.width :]
    return tuple(
        Reason(
            model.layout.features[position],
            newest[position],
            profile.low[position],
            profile.high[position],
            contributions[position] / total if total > 0 else 0.0,
            "down" if moves[position] < 0 else "up",
        )
        for position in top
    )


def _is_harmful(model: Model, reason: Reason, place: int) -> bool:
    """Tell whether a reason moves the way that the catalogue calls harmful and is the first one or carries weight."""
    if place > 0 and reason.share < HARMFUL_SHARE:
        return False
    return model.harmful_direction[reason.feature] in ("both", reason.direction)


def _is_exhausted(newest: Row, profile: Profile) -> bool:
    """Tell whether a metric has reached its exhaustion bound where that is not normal."""
    for position, bound in profile.exhaustible:
        value = newest[position]
        if value is not None and value >= bound:
            return True
    return False


def _level(model: Model, newest: Row, profile: Profile) -> str:
    """Name the load of a row: the label of its absolute values in the level map."""
    level = model.level
    vector = tuple(_squashed(newest, profile.center[: len(newest)], level.center, level.scale))
    return level.names[locate(level.map, vector).label]

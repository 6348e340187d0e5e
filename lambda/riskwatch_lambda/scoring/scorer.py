"""Scoring rule: a record and a model in, verdicts out.

It is pure, deterministic and uses the standard library only. A row gets a level and a score. The level is its load, by
two values of the metric that alone shows the load, else by the label of its absolute values in the level space, which
has one scaling for the whole fleet. The score measures how unusual its behaviour is: for each member of the model, the
distance to the nearest prototype is divided by the boundary of the instance's baseline, and the score is the weighted
mean of these quotients. A row is unusual from 1.0 on.
"""

from __future__ import annotations

from itertools import chain
from math import log1p, nan
from typing import TYPE_CHECKING, NamedTuple

from riskwatch_lambda.model.document import LEVELS, Cuts
from riskwatch_lambda.model.prototype_map import distance_to, label_of
from riskwatch_lambda.paging_rule import EXHAUSTED, NO_SIGNATURE, Signature
from riskwatch_lambda.scoring.reasons import DOWN, UP, Cause, find_reasons
from riskwatch_lambda.scoring.rolling import add_rolling_features

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from riskwatch_lambda.episode_rule import BaselineKind
    from riskwatch_lambda.model.baselines import Profile
    from riskwatch_lambda.model.document import Level, Member, Model
    from riskwatch_lambda.model.prototype_map import Vector
    from riskwatch_lambda.model.row_schema import Row
    from riskwatch_lambda.scoring.reasons import Reason
    from riskwatch_lambda.scoring.records import Record

    # A member that scored a row, and the index of its nearest prototype.
    Near = tuple[Member, int]

UNUSUAL = 1.0
EXPLAINED = 0.8  # rows below 1.0 have reasons, too: they help to analyse a missed incident
CAUSES = 3
HARMFUL_SHARE = 0.2  # the first cause counts with any share of the distance, the next two from this share on
MAIN_SHARE = 0.5  # causes are decisive until they carry more than this share of the distance


class Verdict(NamedTuple):
    """Verdict of the model on one row, from unrounded values.

    ``score`` is NaN, and the row not unusual, if too few rows precede it for all members. ``context``: every member had
    its window. Rows that are unusual, nearly unusual or exhausted have ``harmful`` and ``reasons``, see
    `riskwatch_lambda.scoring.reasons`. ``opens``: the row opens an episode if the paging rule lets it. ``strength`` is
    the score over the factor that the baseline of the instance has on the paging threshold.
    ``missing`` are the metrics without a value in the row. ``decisive`` are the metrics for which the row opens: those
    that are exhausted, and in an unusual row the first causes up to the larger part of the distance. ``signature`` is
    its main metric: the first that is exhausted, else the first cause.
    """

    score: float
    unusual: bool
    level: str
    context: bool
    reasons: tuple[Reason, ...]
    harmful: bool
    exhausted: bool
    opens: bool
    strength: float = 0.0
    missing: tuple[str, ...] = ()
    decisive: tuple[str, ...] = ()
    signature: Signature = NO_SIGNATURE


def verdicts(model: Model, record: Record) -> tuple[Verdict, ...]:
    """Return the verdicts on the newest rows of a record, oldest first.

    The rows before a row are its context.
    """
    baseline, kind = model.baselines.find(record.instance_id, record.role)
    first = len(record.rows) - record.newest
    oldest = max(0, first - model.longest_window + 1)
    starts = _starts(record.ts, model.max_gap_s * 1000)
    rows: Sequence[Row] = record.rows[oldest:]
    if model.rolling_lengths:
        rows = [
            add_rolling_features(record.rows, starts[index], index, model.rolling_lengths)
            for index in range(oldest, len(starts))
        ]
    profiles = [model.baselines.profile(baseline, ts) for ts in record.ts[oldest:]]
    behaviour = list(map(_behaviour, rows, profiles))
    results = []
    for index in range(first, len(record.rows)):
        history = behaviour[max(starts[index], oldest) - oldest : index - oldest + 1]
        here = index - oldest
        results.append(_verdict(model, record.rows[index], rows[here], history, profiles[here], baseline, kind))
    return tuple(results)


def score(model: Model, record: Record) -> Verdict:
    """Return the verdict on the newest row of a record."""
    return verdicts(model, record)[-1]


def _starts(times: Sequence[int], max_gap_ms: int) -> list[int]:
    """Return, for each row, the index of the first row after the last gap.

    A window never spans a gap.
    """
    starts, start, previous = [], 0, times[0]
    for index, time in enumerate(times):
        if time - previous > max_gap_ms:
            start = index
        starts.append(start)
        previous = time
    return starts


def _behaviour(row: Row, profile: Profile) -> Vector:
    """Return the squashed deviations sign(z) log(1 + |z|) of a row.

    A missing value counts as its center.
    """
    return tuple(
        [
            0.0 if value is None else log1p(z) if (z := (value - center) / scale) >= 0 else -log1p(-z)
            for value, (center, scale) in zip(row, profile.usual, strict=True)
        ]
    )


def _verdict(
    model: Model, row: Row, wide: Row, history: Sequence[Vector], profile: Profile, baseline: int, kind: BaselineKind
) -> Verdict:
    """Return the verdict on a row; ``wide`` is the row with its trailing features.

    ``history`` has the rows of its segment up to it in the behaviour space.
    """
    value, context, near = _rate(model.members_of(baseline), history, baseline)
    features = model.row_schema.features
    exhausted = _exhausted(features, row, profile) if profile.exhaustible else ()
    reasons: tuple[Reason, ...] = ()
    causes: tuple[Cause, ...] = ()
    harmful = False
    # Normal rows get no reasons: they have no reader and would double the cost.
    if value >= EXPLAINED or exhausted:
        contributions = _contributions(near, history, baseline, len(history[-1]))
        causes = find_causes(contributions, history[-1], len(features))
        harmful = _is_harmful(model.harmful_direction, features, causes) if near else False
        of_reasons = add_exhausted(causes, [features.index(name) for name in exhausted])
        reasons = find_reasons(
            *(model.row_schema, model.rolling_lengths, of_reasons, contributions, history[-1], wide, profile.usual)
        )
    strength = value / model.rule.factor(kind)
    opens = bool(exhausted) or (harmful and strength >= UNUSUAL)
    decisive = (*exhausted, *(_main(features, row, causes) if value >= UNUSUAL else ())) if opens else ()
    signature = _signature(features, exhausted, causes) if opens else NO_SIGNATURE
    missing = tuple([name for name, number in zip(features, row, strict=True) if number is None]) if None in row else ()
    level = _level(model.level, row, profile)
    return Verdict(
        *(value, value >= UNUSUAL, level, context, reasons, harmful, bool(exhausted)),
        *(opens, strength, missing, decisive, signature),
    )


def _signature(features: Sequence[str], exhausted: Sequence[str], causes: Sequence[Cause]) -> Signature:
    """Return the signature of a row that opens: an exhausted metric, else the first cause."""
    if exhausted:
        return Signature(exhausted[0], EXHAUSTED)
    return Signature(features[causes[0].position], UP if causes[0].rising else DOWN)


def add_exhausted(causes: Sequence[Cause], exhausted: Sequence[int]) -> tuple[Cause, ...]:
    """Return the causes with the exhausted metrics, by position: those that are not among them have no share."""
    known = {cause.position: cause for cause in causes}
    added = [known.get(position, Cause(position, 0.0, rising=True))._replace(exhausted=True) for position in exhausted]
    return (*added, *[cause for cause in causes if cause.position not in exhausted])


def _rate(members: Sequence[Member], history: Sequence[Vector], baseline: int) -> tuple[float, bool, list[Near]]:
    """Return the score, whether every member had its window, and the members that had.

    The score is the weighted mean of distance / boundary. Each member comes with the index of its nearest prototype.
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


def _contributions(near: Sequence[Near], history: Sequence[Vector], baseline: int, width: int) -> list[float]:
    """Return the contribution of each metric and each of its trailing features, in units of the score.

    It is the sum of squared deviations from the nearest prototypes.
    """
    contributions = [0.0] * width
    for member, index in near:
        vector = tuple(chain.from_iterable(history[-member.window :]))
        factor = member.weight / member.boundary[baseline] ** 2
        # A vector repeats the features for each row of the window.
        for position, (value, expected) in enumerate(zip(vector, member.map.stages[0].prototypes[index], strict=True)):
            contributions[position % width] += factor * (value - expected) ** 2
    return contributions


def find_causes(contributions: Sequence[float], behaviour: Sequence[float], metrics: int) -> tuple[Cause, ...]:
    """Return the metrics with the largest contributions; equal ones keep their order.

    The contribution of a metric is that of its value and of its trailing features.
    """
    of_metric = [sum(contributions[position::metrics]) for position in range(metrics)]
    total = sum(of_metric)
    top = sorted(range(metrics), key=of_metric.__getitem__, reverse=True)[:CAUSES]
    return tuple(
        [
            Cause(position, of_metric[position] / total if total > 0 else 0.0, behaviour[position] >= 0)
            for position in top
        ]
    )


def _is_harmful(harmful_direction: Mapping[str, str], features: Sequence[str], causes: Sequence[Cause]) -> bool:
    """Return whether a main cause deviates in its harmful direction.

    These are the first cause and others with enough share.
    """
    for index, cause in enumerate(causes):
        if (not index or cause.share >= HARMFUL_SHARE) and (
            harmful_direction[features[cause.position]] in ("both", UP if cause.rising else DOWN)
        ):
            return True
    return False


def _main(features: Sequence[str], row: Row, causes: Sequence[Cause]) -> tuple[str, ...]:
    """Return the metrics that carry the larger part of the distance, of those that have a value."""
    main, carried = [], 0.0
    for cause in causes:
        if carried > MAIN_SHARE:
            break
        carried += cause.share
        if row[cause.position] is not None:
            main.append(features[cause.position])
    return tuple(main)


def _exhausted(features: Sequence[str], row: Row, profile: Profile) -> tuple[str, ...]:
    """Return the metrics that have reached their exhaustion bound.

    Bounds that are normal for the baseline do not count.
    """
    return tuple(
        [
            features[position]
            for position, bound in profile.exhaustible
            if (value := row[position]) is not None and value >= bound
        ]
    )


def _level(level: Level | Cuts, row: Row, profile: Profile) -> str:
    """Return the load level of a row from its absolute values.

    A missing value counts as its center.
    """
    if isinstance(level, Cuts):
        load = row[level.metric]
        if load is None:
            load = profile.usual[level.metric][0]
        return LEVELS[(load >= level.idle_below) + (load >= level.high_from)]
    vector = []
    for axis, center, scale in level.axes:
        value = row[axis]
        z = ((profile.usual[axis][0] if value is None else value) - center) / scale
        vector.append(log1p(z) if z >= 0 else -log1p(-z))
    return level.names[label_of(level.map, tuple(vector))]

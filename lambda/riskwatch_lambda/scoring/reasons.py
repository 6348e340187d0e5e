"""Reasons: what is out of its usual range in a row, in catalogue units.

A cause is the part of a metric in the score. A reason says what of this metric is out of range: its value, its change
since the row before, or its mean or deviation over the last rows. The range is the expected range, 3 scales around the
center, or the part of it that the row leaves: 2 scales or 1. What lies within 1 scale is no reason, so a row can be
unusual without any: then its metrics are unusual together.
"""

from __future__ import annotations

from math import expm1, inf
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from riskwatch_lambda.model.row_schema import Bounds, Row, RowSchema

UP, DOWN = "up", "down"
TOGETHER = "no metric alone is out of its usual range: together they are unusual"
VALUE, CHANGE, MEAN, DEVIATION = "value", "change", "mean", "deviation"
# Ranges in scales around the center, the widest first.
RANGES = (3, 2, 1)
# A metric with a smaller share of the deviation is a reason only if it leaves its whole expected range.
SHARE_WORTH_SHOWING = 0.05


class Cause(NamedTuple):
    """The part of a metric, by its position, in the deviation of a row.

    ``rising`` says that its value is not below its center, ``exhausted`` that it has reached its exhaustion bound.
    """

    position: int
    share: float
    rising: bool
    exhausted: bool = False


class Reason(NamedTuple):
    """What is out of its range in a row: ``value`` lies outside of ``low`` to ``high``, in catalogue units.

    ``aspect`` is value, change, mean or deviation; the last two are over ``rows`` rows. ``share`` is the part of the
    metric in the whole deviation, ``direction`` is up or down.
    """

    feature: str
    value: float
    low: float
    high: float
    share: float
    direction: str
    aspect: str = VALUE
    rows: int = 0


def find_reasons(
    schema: RowSchema,
    rolling_lengths: Sequence[int],
    causes: Sequence[Cause],
    contributions: Sequence[float],
    behaviour: Sequence[float],
    wide: Row,
    usual: Sequence[tuple[float, float]],
) -> tuple[Reason, ...]:
    """Return the reasons of a row: exhausted metrics, then those furthest out of range, then by share.

    ``contributions``, ``behaviour`` (squashed deviations), ``wide`` (values) and ``usual`` (center and scale) have a
    value for each metric and each of its trailing features.
    """
    metrics, found = len(schema.features), []
    for cause in causes:
        columns = [cause.position] if cause.exhausted else range(cause.position, len(wide), metrics)
        scales, _, back = max([(_scales(behaviour[each]), contributions[each], -each) for each in columns])
        value = wide[-back]
        worth_telling = cause.exhausted or scales == RANGES[0] or (scales and cause.share >= SHARE_WORTH_SHOWING)
        if value is None or not worth_telling:
            continue
        aspect, rows = _aspect(-back // metrics, rolling_lengths)
        center, scale = usual[-back]
        lower, upper = _limits(aspect, schema.bounds[cause.position])
        # The baseline of a role can be so wide that an exhausted metric lies within: then its center is the end.
        low, high = max(center - max(scales, 1) * scale, lower), min(center + scales * scale, upper)
        if not low <= value <= high:  # else a rounding error at the very edge
            reason = Reason(
                schema.features[cause.position], value, low, high, cause.share, UP if value > high else DOWN
            )
            place = -1 if cause.exhausted else RANGES.index(scales)
            found.append((place, reason._replace(aspect=aspect, rows=rows)))
    return tuple([reason for place in range(-1, len(RANGES)) for at, reason in found if at == place])


def _scales(squashed: float) -> int:
    """Return the widest range in scales that a deviation leaves, 0 for none."""
    deviation = expm1(abs(squashed))
    return next((scales for scales in RANGES if deviation > scales), 0)


def _aspect(block: int, rolling_lengths: Sequence[int]) -> tuple[str, int]:
    """Return the aspect of a block of columns, and its length in rows.

    The blocks are values and changes, then mean and deviation of each length.
    """
    if block < 2:
        return (VALUE, CHANGE)[block], 0
    return (MEAN, DEVIATION)[block % 2], rolling_lengths[block // 2 - 1]


def _limits(aspect: str, bounds: Bounds) -> tuple[float, float]:
    """Return what an aspect can be, from the physical bounds of its metric."""
    lower, upper = (-inf if bounds[0] is None else bounds[0], inf if bounds[1] is None else bounds[1])
    if aspect == CHANGE:
        return lower - upper, upper - lower
    if aspect == DEVIATION:
        return 0.0, (upper - lower) / 2
    return lower, upper


def reason_text(name: str, reason: Mapping[str, object]) -> str | None:
    """Return a reason, as labelled rows store it, in words; ``name`` is that of its metric.

    None if the value is missing or within its range, as in reasons of earlier releases, or if a number is absent.
    """
    value, low, high = (_number(reason.get(key)) for key in ("value", "low", "high"))
    if value is None or low is None or high is None or low <= value <= high:
        return None
    what = {
        CHANGE: f"{name} changed by {value:g} since the row before",
        MEAN: f"mean of {name} over {reason.get('rows')} rows {value:g}",
        DEVIATION: f"deviation of {name} over {reason.get('rows')} rows {value:g}",
    }.get(str(reason.get("aspect")), f"{name} {value:g}")
    return f"{what}, {'above' if value > high else 'below'} the usual {low:g} to {high:g}"


def _number(value: object) -> float | None:
    return value if isinstance(value, (int, float)) and -inf < value < inf else None

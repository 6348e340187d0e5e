"""Profiles: centre and scale of the rows of one baseline by slot.

An hour-of-day profile is used to the extent that it predicts newer rows, and so are separate profiles of workdays and
days off. Few rows give little: what they cannot show comes from all days.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from riskwatch_lambda.model.seasons import DAY_SLOTS, EDGE_HOURS, HOURS
from riskwatch_ml.features.day_sums import ALL_DAYS, DAYS_OFF, WEEKENDS, WORKDAYS, DaySums, Sums

if TYPE_CHECKING:
    from collections.abc import Sequence

    from riskwatch_ml.core.arrays import FloatArray, IntArray

MIN_HOUR_ROWS = 6  # an hour of day with fewer rows has no mean
PROFILE_SPAN_MS = 47 * 3_600_000  # an hour-of-day profile needs each hour twice: once to fit it, once to test it
DAY_TYPE_SPAN_MS = 12 * 24 * 3_600_000  # day types need two weekends, for the same reason
MIN_DAY_TYPE_SHARE = 0.2  # day types that explain a smaller share of the variance of each metric are noise
# The hours of 27 that have slots of their own after a day of another type, and those edge hours.
IS_FIRST = np.arange(DAY_SLOTS) % HOURS < EDGE_HOURS
MIN_SCALE_DIFFERENCE = 0.15  # deviations of day types that differ less are alike
MAX_PREDICTION_ERROR = 2.0
SCALE_FLOOR = 0.3  # the smallest deviation of an instance, as a share of the fleet's typical deviation


class Profile(NamedTuple):
    """Centre and scale of some rows by slot or hour, both (slots, d), and their deviation (d,)."""

    center: FloatArray
    scale: FloatArray
    deviation: FloatArray


def make_profile(sums: DaySums) -> Profile:
    """Return the profile of some rows by slot; a metric without values gets NaN.

    Each day type has a profile of its own. Its weight in the result is what newer rows confirm of the difference.
    """
    whole = _hourly(sums, ALL_DAYS)
    of_center, of_scale = _day_type_trusts(sums)
    center, scale = (_with_edges(part) for part in (whole.center, whole.scale))
    if not of_scale.any():
        return Profile(np.tile(center, (2, 1)), np.tile(scale, (2, 1)), whole.deviation)
    shape = _shape(sums)
    workdays, off = (_hourly(sums, days, shape) for days in (WORKDAYS, DAYS_OFF))
    off = off._replace(center=_like_workdays(sums, workdays.center, off.center))
    types = [_day_type(sums, WORKDAYS, workdays), _day_type(sums, DAYS_OFF, off)]
    return Profile(
        np.concatenate([_blend(center, own.center, of_center) for own in types]),
        np.concatenate([_blend(scale, own.scale, of_scale) for own in types]),
        whole.deviation,
    )


def _hourly(sums: DaySums, days: slice, shape: FloatArray | None = None) -> Profile:
    """Return centre and scale by hour, both (24, d), and the deviation of the rows of some days.

    ``centre = mean + trust * (hour's mean - mean)``; the scale is computed in the same way from the deviations. With
    ``shape`` (24, d), the deviation of an hour is that within all hours times its shape.
    """
    both = sums.of_days(days).by_hour()
    mean, hour_mean = _means(both)
    rows = both.number.sum(axis=0)
    deviation = np.sqrt(_mean(rows, both.squares_about(mean).sum(axis=0)))
    trust = _trust(sums, days)
    squares = both.squares_about(hour_mean)
    within = np.sqrt(_mean(rows, squares.sum(axis=0)))
    hour_deviation = np.where(both.number >= MIN_HOUR_ROWS, np.sqrt(_mean(both.number, squares)), within)
    if shape is not None:
        hour_deviation = within * shape
    scale = deviation + trust * (hour_deviation - deviation)
    center = sums.shift + mean + trust * (hour_mean - mean)
    return Profile(center, np.maximum(scale, SCALE_FLOOR * deviation), deviation)


def _shape(sums: DaySums) -> FloatArray:
    """Return the deviation of each hour over that of all hours, (24, d), from the rows of all day types.

    There are too few days off for an own deviation of each of their hours.
    """
    parts = [sums.of_days(days).by_hour() for days in (WORKDAYS, DAYS_OFF)]
    squares = np.sum([part.squares_about(_means(part)[1]) for part in parts], axis=0)
    number = np.sum([part.number for part in parts], axis=0)
    within = np.sqrt(_mean(number.sum(axis=0), squares.sum(axis=0)))
    known = (number >= MIN_HOUR_ROWS) & (within > 0)
    return np.where(known, np.sqrt(_mean(number, squares)) / np.where(within > 0, within, 1.0), 1.0)


def _like_workdays(sums: DaySums, workdays: FloatArray, off: FloatArray) -> FloatArray:
    """Return the centre of days off by hour, (24, d), from that of workdays and from its own estimate.

    Few days off give a noisy mean of each hour. A linear function of the centre of workdays has two numbers only. What
    remains of the own means counts to the extent that newer rows confirm it.
    """
    older = [sums.halves(days)[0].by_hour() for days in (WORKDAYS, DAYS_OFF)]
    before = [_expected(part, _trust(sums, days)) for part, days in zip(older, (WORKDAYS, DAYS_OFF), strict=True)]
    newer = sums.halves(DAYS_OFF)[1].by_hour()
    trust = _confirmed([(newer, _linear(before[0], before[1], older[1].number), before[1])])
    linear = _linear(workdays, off, sums.of_days(DAYS_OFF).by_hour().number)
    return _blend(linear, off, trust)


def _linear(x: FloatArray, y: FloatArray, weight: FloatArray) -> FloatArray:
    """Return the weighted least-squares fit of ``y`` by a linear function of ``x``, all (24, d)."""
    total = np.maximum(weight.sum(axis=0), 1)
    x_mean, y_mean = ((weight * part).sum(axis=0) / total for part in (x, y))
    spread = (weight * (x - x_mean) ** 2).sum(axis=0)
    slope = (weight * (x - x_mean) * (y - y_mean)).sum(axis=0) / np.where(spread > 0, spread, 1.0)
    fitted: FloatArray = y_mean + slope * (x - x_mean)
    return fitted


def _day_type(sums: DaySums, days: slice, hourly: Profile) -> Profile:
    """Return the profile of a day type by hour and edge hour, both (27, d), from that by hour.

    The first hours of a day and the edge hours have means of their own to the extent that these predict newer rows.
    """
    center, scale = _with_edges(hourly.center), _with_edges(hourly.scale)
    both, trust = sums.of_days(days), _edge_trust(sums, days)
    own = _first_hours(both, center - sums.shift)
    deviation = np.where(both.number >= MIN_HOUR_ROWS, np.sqrt(_mean(both.number, both.squares_about(own))), scale)
    at = np.where(IS_FIRST[:, None], trust, 0.0)
    blended = np.maximum(_blend(scale, deviation, at), SCALE_FLOOR * hourly.deviation)
    n_days = sums.count_days(days)
    widening = np.where(at > 0, _prediction_error(n_days)[:, None], _prediction_error(n_days).min())
    return Profile(_blend(center, own + sums.shift, at), widening * np.where(at > 0, blended, scale), hourly.deviation)


def _prediction_error(n_days: IntArray) -> FloatArray:
    """Return the deviation of a new day from the mean of ``n_days`` over that of those days, in the shape of n_days.

    The variance of a new value about the mean of n is (n + 1) / n of the true one; that of the n is (n - 1) / n of it.
    """
    error: FloatArray = np.sqrt((n_days + 1) / np.maximum(n_days - 1, 0.5))
    return np.minimum(error, MAX_PREDICTION_ERROR)


def _first_hours(sums: Sums, center: FloatArray) -> FloatArray:
    """Return a centre (27, d) with the means of the first hours and of the edge hours, of six values or more."""
    has_mean = IS_FIRST[:, None] & (sums.number >= MIN_HOUR_ROWS)
    return np.where(has_mean, _mean(sums.number, sums.total), center)


def _with_edges(hours: FloatArray) -> FloatArray:
    """Return values by hour, (24, d), with those of the edge hours, (27, d)."""
    return np.concatenate([hours, hours[:EDGE_HOURS]])


def _blend(common: FloatArray, own: FloatArray, trust: FloatArray) -> FloatArray:
    """Return ``common + trust * (own - common)``; where the trust is 0, ``own`` may be unknown."""
    return common + np.where(trust > 0, trust * (own - common), 0.0)


def _mean(count: FloatArray, total: FloatArray) -> FloatArray:
    """Return ``total / count``; NaN if the count is 0."""
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _means(sums: Sums) -> tuple[FloatArray, FloatArray]:
    """Return the overall mean (d,) and the mean by hour of day (24, d).

    An hour with fewer than six values has the overall mean.
    """
    mean = _mean(sums.number.sum(axis=0), sums.total.sum(axis=0))
    return mean, np.where(sums.number >= MIN_HOUR_ROWS, _mean(sums.number, sums.total), mean)


def _trust(sums: DaySums, days: slice) -> FloatArray:
    """Return the share of the variance that the hour of day explains in the rows of some days, (d,).

    The share lies in 0..1. This is the out-of-sample R squared: the older half of the rows gives the hourly means, the
    newer half tests them. The overall mean of the older half would score 0. Rows that span less than two days get 0.
    """
    if sums.span_ms < PROFILE_SPAN_MS:
        return np.zeros(len(sums.shift))
    older, newer = (half.by_hour() for half in sums.halves(days))
    mean, hour_mean = _means(older)
    return _explained(newer.squares_about(hour_mean), newer.squares_about(mean))


def _day_type_trusts(sums: DaySums) -> tuple[FloatArray, FloatArray]:
    """Return the shares of the differences between day types that newer rows confirm, for centre and scale, both (d,).

    The older half of the rows gives the profiles, the newer half tests them, see ``_confirmed``. All are 0 if the rows
    span less than twelve days, or if day types explain less than a fifth of the variance of every metric. Holidays give
    no evidence.
    """
    nothing = np.zeros(len(sums.shift))
    if sums.span_ms < DAY_TYPE_SPAN_MS or not all(half.number.sum() for half in sums.halves(WEEKENDS)):
        return nothing, nothing
    common = _expected(sums.halves(ALL_DAYS)[0].by_hour(), _trust(sums, ALL_DAYS))
    tests, squares = [], []
    for days in (WORKDAYS, WEEKENDS):
        older, newer = (half.by_hour() for half in sums.halves(days))
        own = _expected(older, _trust(sums, days))
        tests.append((newer, common, own))
        hour_mean = _means(older)[1]
        squares.append([Sums(part.number, part.squares_about(hour_mean), part.number) for part in (older, newer)])
    unexplained = np.sum([newer.squares_about(own) for newer, _, own in tests], axis=0)
    total = np.sum([newer.squares_about(common) for newer, common, _ in tests], axis=0)
    if not (_explained(unexplained, total) >= MIN_DAY_TYPE_SHARE).any():
        return nothing, nothing
    of_center = _confirmed(tests)
    return of_center, np.maximum(of_center, _scale_trust(squares))


def _scale_trust(squares: Sequence[Sequence[Sums]]) -> FloatArray:
    """Return the share of the differences between the variances of day types that newer rows confirm, (d,).

    ``squares`` has the squared deviations of each day type in the older and in the newer half.
    """
    number, total = (
        np.array([[part[index].sum(axis=0) for part in halves] for halves in squares]) for index in (0, 1)
    )  # (types, halves, d)
    common = _mean(number[:, 0].sum(axis=0), total[:, 0].sum(axis=0))
    own = _mean(number[:, 0], total[:, 0])
    tests = [
        (Sums(number[index, 1:], total[index, 1:], total[index, 1:]), common, own[index]) for index in range(len(own))
    ]
    with np.errstate(invalid="ignore"):
        ratio = np.abs(np.sqrt(own / np.where(common > 0, common, np.nan)) - 1)
    return np.where((ratio >= MIN_SCALE_DIFFERENCE).any(axis=0), _confirmed(tests), 0.0)


def _edge_trust(sums: DaySums, days: slice) -> FloatArray:
    """Return the share of what the day before changes in the first hours that newer rows confirm, (d,)."""
    older, newer = sums.halves(days)
    common = _with_edges(_expected(older.by_hour(), _trust(sums, days)))
    return _confirmed([(newer, common, _first_hours(older, common))])


def _confirmed(tests: Sequence[tuple[Sums, FloatArray, FloatArray]]) -> FloatArray:
    """Return the weight in 0..1 with which ``common + weight * (own - common)`` fits newer rows best, (d,).

    Each test has the sums of newer rows and two centres that older rows gave, common and own. This is the coefficient
    of the least-squares regression of ``row - common`` on ``own - common`` without a constant.
    """
    along = np.nansum(
        [((newer.total - newer.number * common) * (own - common)).sum(axis=0) for newer, common, own in tests], axis=0
    )
    squares = np.nansum([(newer.number * (own - common) ** 2).sum(axis=0) for newer, common, own in tests], axis=0)
    return np.where(squares > 0, np.clip(along / np.where(squares > 0, squares, 1.0), 0.0, 1.0), 0.0)


def _expected(sums: Sums, trust: FloatArray) -> FloatArray:
    """Return the centre by hour, (24, d), as ``_hourly`` computes it."""
    mean, hour_mean = _means(sums)
    return mean + trust * (hour_mean - mean)


def _explained(unexplained: FloatArray, total: FloatArray) -> FloatArray:
    """Return ``1 - unexplained / total`` of the sums over the hours, within 0..1; 0 if the total is 0 or unknown."""
    unexplained, total = unexplained.sum(axis=0), total.sum(axis=0)
    with np.errstate(invalid="ignore"):
        explained = 1 - unexplained / np.where(total > 0, total, 1.0)
        return np.where(total > 0, np.clip(np.nan_to_num(explained), 0.0, 1.0), 0.0)

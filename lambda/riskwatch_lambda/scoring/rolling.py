"""Trailing features of a row, from the rows before it.

Models of few metrics use them. A row becomes its values, its differences to the previous row, and, for each trail
length, the mean and the standard deviation of as many newest rows. Each of these blocks has one value per metric. A
difference needs both values; a mean and a deviation need values in half of the trail's rows. Otherwise the feature is
None, like a missing value.
"""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from riskwatch_lambda.model.row_schema import Row


def add_rolling_features(rows: Sequence[Row], start: int, place: int, rolling_lengths: Sequence[int]) -> Row:
    """Return the row at ``place`` with its trailing features.

    They use no row before ``start``.
    """
    row = rows[place]
    before: Row = rows[place - 1] if place > start else (None,) * len(row)
    wide = [*row, *(None if a is None or b is None else a - b for a, b in zip(row, before, strict=True))]
    for length in rolling_lengths:
        trail = rows[max(start, place + 1 - length) : place + 1]
        pairs = [_mean_and_deviation([r[position] for r in trail], length) for position in range(len(row))]
        wide += [mean for mean, _ in pairs]
        wide += [deviation for _, deviation in pairs]
    return tuple(wide)


def _mean_and_deviation(values: Sequence[float | None], length: int) -> tuple[float | None, float | None]:
    present = [value for value in values if value is not None]
    if 2 * len(present) < length:
        return None, None
    mean = sum(present) / len(present)
    return mean, sqrt(sum([(value - mean) ** 2 for value in present]) / len(present))

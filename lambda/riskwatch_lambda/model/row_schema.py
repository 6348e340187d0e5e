"""What a model takes of rows: numbers within bounds, at times that advance; and what is wrong with the others.

Columns are those of the model's features, in its order, and rows stand oldest first.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from operator import ge, le, lt
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

REASON_LIMIT = 300
# No metric reaches this, and squares of it stay far from overflow.
MAGNITUDE_LIMIT = 1e15
# Not isinstance: a bool is an int.
VALUES = {float, int, type(None)}

Row = tuple[float | None, ...]
Bounds = tuple[float | None, float | None]


class RecordError(ValueError):
    """A stream record cannot be scored; the text is the reason that goes into quarantine with it.

    ``rows`` is the number of rows that it was to have labelled, 1 where that cannot be told.
    """

    def __init__(self, reason: str, rows: int = 1) -> None:
        super().__init__(reason if len(reason) <= REASON_LIMIT else reason[: REASON_LIMIT - 3] + "...")
        self.rows = rows


@dataclass(frozen=True)
class Layout:
    """What a model expects of a record: feature names and physical bounds in order, and the rows that it can use."""

    features: tuple[str, ...]
    bounds: tuple[Bounds, ...]
    context_rows: int

    @cached_property
    def limits(self) -> tuple[tuple[float, float], ...]:
        """Give the least and the greatest value of each feature that are taken."""
        return tuple(zip(self.lowest, self.highest, strict=True))

    @cached_property
    def lowest(self) -> tuple[float, ...]:
        """Give the least value of each feature that is taken."""
        return tuple(-MAGNITUDE_LIMIT if lower is None else lower for lower, _ in self.bounds)

    @cached_property
    def highest(self) -> tuple[float, ...]:
        """Give the greatest value of each feature that is taken."""
        return tuple(MAGNITUDE_LIMIT if upper is None else upper for _, upper in self.bounds)


def is_sound(ts: Sequence[int], rows: Sequence[Sequence[Any]], layout: Layout) -> bool:
    """Tell whether rows can be taken as they are: floats and nulls within bounds, times ascending.

    Almost all of them can. What cannot is looked at again, by column, to find what is wrong or has to be changed.
    """
    latest = 0
    for moment in ts:
        if moment <= latest:
            return False
        latest = moment
    limits = layout.limits
    for row in rows:
        for value, (low, high) in zip(row, limits, strict=True):
            if type(value) is float:
                if not low <= value <= high:
                    return False
            elif value is not None:
                return False
    return True


def kinds_of(columns: Sequence[Sequence[Any]], layout: Layout) -> set[type]:
    """Give the types of all values; raises RecordError where one of them is no number."""
    kinds = set(map(type, chain.from_iterable(columns)))
    if not kinds <= VALUES:
        for feature, column in zip(layout.features, columns, strict=True):
            for position, value in enumerate(column):
                if type(value) not in VALUES:
                    raise RecordError(f"{feature} of row {position} is {value!r}, expected null or a finite number")
    return kinds


def find_faults(
    ts: Sequence[int], columns: Sequence[Sequence[Any]], kinds: set[type], layout: Layout
) -> dict[int, str]:
    """Give position and reason of the rows that no instance can have.

    Whole columns are looked at first, which costs little; row by row only where something is wrong.
    """
    faults: dict[int, str] = {}
    if not all(map(lt, ts, ts[1:])):
        latest = 0
        for position, moment in enumerate(ts):
            if moment <= latest:
                faults[position] = f"ts is {moment}, not later than the time before it, {latest}"
            latest = max(latest, moment)
    lowest, highest = layout.lowest, layout.highest
    present = columns
    if type(None) in kinds:
        present = [
            [value for value in column if value is not None] or [low] if None in column else column
            for column, low in zip(columns, lowest, strict=True)
        ]
    if all(map(le, lowest, map(min, present))) and all(map(ge, highest, map(max, present))):
        return faults
    for place, column in enumerate(columns):
        for position, value in enumerate(column):
            if value is not None and not lowest[place] <= value <= highest[place]:
                faults.setdefault(position, _violation(layout.features[place], value, *layout.bounds[place]))
    return faults


def _violation(feature: str, value: float, lower: float | None, upper: float | None) -> str:
    if not -MAGNITUDE_LIMIT <= value <= MAGNITUDE_LIMIT:
        return f"{feature} is {value!r}, expected null or a finite number"
    if lower is not None and value < lower:
        return f"{feature} is {value:.10g}, below its lower bound {lower:g}"
    return f"{feature} is {value:.10g}, above its upper bound {upper:g}"


def keep_possible(
    ts: Sequence[int], columns: Sequence[Sequence[Any]], newest: int, faults: Mapping[int, str], context_rows: int
) -> tuple[tuple[int, ...], tuple[Row, ...], int]:
    """Give times and rows without the impossible ones and without more context than is of use, and the newest left."""
    first = len(ts) - newest
    if faults:
        positions = [position for position in range(len(ts)) if position not in faults]
        newest = sum(position >= first for position in positions)
        positions = positions[max(0, len(positions) - newest - context_rows + 1) :]
        ts = [ts[position] for position in positions]
        columns = [[column[position] for position in positions] for column in columns]
    elif first >= context_rows:
        start = first - context_rows + 1
        ts, columns = ts[start:], [column[start:] for column in columns]
    return tuple(ts), tuple(zip(*columns, strict=True)), newest


def as_floats(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Give rows whose numbers are all floats."""
    return tuple(tuple(None if value is None else float(value) for value in row) for row in rows)

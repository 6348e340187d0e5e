"""Check of the rows of an instance: their times, and their values against the physical bounds.

Columns are the features of the model in its order; rows are sorted oldest first. An impossible value (out of bounds or
not finite) costs that value: it is refused with its reason and becomes missing. A row is refused if its time is ahead
of its arrival or not later than that of the row before it, or if its values are mostly impossible (``is_row_refused``).
"""

from __future__ import annotations

import sys
from itertools import chain
from operator import ge, le, lt
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from riskwatch_lambda.arrival import find_ahead
from riskwatch_lambda.model.row_schema import MAGNITUDE_LIMIT, RecordError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from riskwatch_lambda.model.row_schema import Row, RowSchema

    # Refused values by the time of their row (epoch ms).
    RefusedValues = Mapping[int, tuple["RefusedValue", ...]]

# Compared by type(), since isinstance accepts a bool as an int.
VALUES = {float, int, type(None)}
NO_REFUSED_VALUES: RefusedValues = MappingProxyType({})


class RefusedValue(NamedTuple):
    """An impossible value of a row, in catalogue units, and the reason.

    A value that no float can represent is stored as the largest float of its sign.
    """

    feature: str
    value: float
    reason: str


class RefusedRow(NamedTuple):
    """The reason for which a row is refused, and the number of its values."""

    reason: str
    values: int


class CheckedRows(NamedTuple):
    """The rows that are left, oldest first, and what was refused.

    Times are epoch milliseconds. The last ``newest`` rows are to be labelled, the others are their context.
    ``refused_values`` has those of the rows to label. ``refused_rows`` are by position in the input, context included.
    """

    ts: tuple[int, ...]
    rows: tuple[Row, ...]
    newest: int
    refused_values: RefusedValues
    refused_rows: Mapping[int, RefusedRow]


def is_row_refused(impossible: int, present: int, features: int) -> bool:
    """Return whether impossible values cost their row.

    They do if they are more than half of the features, or if the row has no other value. ``present`` counts all values
    of the row, the impossible ones included.
    """
    return 2 * impossible > features or 0 < impossible == present


def is_sound(ts: Sequence[int], rows: Sequence[Sequence[Any]], row_schema: RowSchema) -> bool:
    """Return whether rows are valid as they are.

    That is: floats within bounds or nulls, at ascending times. Almost all rows are. ``check_rows`` checks the others by
    column.
    """
    latest = 0
    for moment in ts:
        if moment <= latest:
            return False
        latest = moment
    limits = row_schema.limits
    for row in rows:
        for value, (low, high) in zip(row, limits, strict=True):
            if type(value) is float:
                if not low <= value <= high:
                    return False
            elif value is not None:
                return False
    return True


def check_rows(
    ts: Sequence[int],
    columns: Sequence[Sequence[Any]],
    newest: int,
    row_schema: RowSchema,
    arrived_ms: int | None = None,
) -> CheckedRows:
    """Return the valid rows, without impossible values, refused rows and surplus context.

    Rows are ahead if they are so of ``arrived_ms`` (epoch ms, None if unknown). Raises RecordError if a value is
    neither a number nor null.
    """
    kinds = _kinds(columns, row_schema)
    reasons = _find_wrong_times(ts, arrived_ms)
    impossible = _find_impossible(columns, kinds, row_schema)
    for position, values in impossible.items():
        if is_row_refused(len(values), _count(columns, position), len(columns)):
            reasons.setdefault(position, "; ".join(value.reason for value in values.values()))
    kept_ts, rows, kept_newest = _keep(ts, _take_out(columns, impossible), newest, reasons, row_schema.context_rows)
    if int in kinds:
        rows = tuple(tuple(None if value is None else float(value) for value in row) for row in rows)
    first = len(ts) - newest
    refused_values = {
        ts[position]: tuple(values.values())
        for position, values in impossible.items()
        if position >= first and position not in reasons
    }
    refused_rows = {position: RefusedRow(reason, _count(columns, position)) for position, reason in reasons.items()}
    return CheckedRows(kept_ts, rows, kept_newest, refused_values or NO_REFUSED_VALUES, refused_rows)


def _count(columns: Sequence[Sequence[Any]], position: int) -> int:
    return sum(column[position] is not None for column in columns)


def _kinds(columns: Sequence[Sequence[Any]], row_schema: RowSchema) -> set[type]:
    """Return the types of all values."""
    kinds = set(map(type, chain.from_iterable(columns)))
    if not kinds <= VALUES:
        for feature, column in zip(row_schema.features, columns, strict=True):
            for position, value in enumerate(column):
                if type(value) not in VALUES:
                    raise RecordError(f"{feature} of row {position} is {value!r}, expected null or a finite number")
    return kinds


def _find_wrong_times(ts: Sequence[int], arrived_ms: int | None) -> dict[int, str]:
    """Return position and reason of the rows ahead of their arrival or out of order."""
    reasons = find_ahead(ts, arrived_ms)
    if all(map(lt, ts, ts[1:])):
        return reasons
    latest = 0
    for position, moment in enumerate(ts):
        if position in reasons:
            continue
        if moment <= latest:
            reasons[position] = f"ts is {moment}, not later than the time before it, {latest}"
        latest = max(latest, moment)
    return reasons


def _find_impossible(
    columns: Sequence[Sequence[Any]], kinds: set[type], row_schema: RowSchema
) -> dict[int, dict[int, RefusedValue]]:
    """Return the impossible values by position of the row and index of the column.

    Whole columns are checked first, which is cheap; single values only if a column has an impossible one.
    """
    lowest, highest = row_schema.lowest, row_schema.highest
    present = columns
    if type(None) in kinds:
        present = [
            [value for value in column if value is not None] or [low] if None in column else column
            for column, low in zip(columns, lowest, strict=True)
        ]
    if all(map(le, lowest, map(min, present))) and all(map(ge, highest, map(max, present))):
        return {}
    impossible: dict[int, dict[int, RefusedValue]] = {}
    for index, column in enumerate(columns):
        for position, value in enumerate(column):
            if value is not None and not lowest[index] <= value <= highest[index]:
                refused = _refused(row_schema.features[index], value, *row_schema.bounds[index])
                impossible.setdefault(position, {})[index] = refused
    return impossible


def _take_out(
    columns: Sequence[Sequence[Any]], impossible: Mapping[int, Mapping[int, RefusedValue]]
) -> Sequence[Sequence[Any]]:
    """Return the columns with null in the place of each impossible value."""
    if not impossible:
        return columns
    possible = [list(column) for column in columns]
    for position, values in impossible.items():
        for index in values:
            possible[index][position] = None
    return possible


def _refused(feature: str, value: float, lower: float | None, upper: float | None) -> RefusedValue:
    largest = sys.float_info.max
    stored = float(max(-largest, min(largest, value)))
    if not -MAGNITUDE_LIMIT <= value <= MAGNITUDE_LIMIT:
        # The number may be an integer of many digits.
        shown = repr(value)
        reason = f"{feature} is {shown if len(shown) < 30 else shown[:27] + '...'}, expected null or a finite number"
    elif lower is not None and value < lower:
        reason = f"{feature} is {value:.10g}, below its lower bound {lower:g}"
    else:
        reason = f"{feature} is {value:.10g}, above its upper bound {upper:g}"
    return RefusedValue(feature, stored, reason)


def _keep(
    ts: Sequence[int], columns: Sequence[Sequence[Any]], newest: int, refused: Mapping[int, str], context_rows: int
) -> tuple[tuple[int, ...], tuple[Row, ...], int]:
    """Return times and rows without refused rows and surplus context.

    The last value is the number of rows left to label.
    """
    first = len(ts) - newest
    if refused:
        positions = [position for position in range(len(ts)) if position not in refused]
        newest = sum(position >= first for position in positions)
        positions = positions[max(0, len(positions) - newest - context_rows + 1) :]
        ts = [ts[position] for position in positions]
        columns = [[column[position] for position in positions] for column in columns]
    elif first >= context_rows:
        start = first - context_rows + 1
        ts, columns = ts[start:], [column[start:] for column in columns]
    return tuple(ts), tuple(zip(*columns, strict=True)), newest

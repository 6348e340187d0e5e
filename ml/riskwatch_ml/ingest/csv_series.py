"""Split a CSV file without an instance column into series.

The file has one series, or several one after another. A new series begins if time jumps back and the rows that follow
mostly cover the interval of the rows before. A few repeated times within one interval (a clock set back, an export run
twice) are not a second series; their rows stay and are judged like any other.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from riskwatch_ml.core.errors import UserInputError

_SAME_SPAN = 0.5
_FEW_REPEATS = 0.05
_ADD_A_COLUMN = "add a column instance_id with the instance of each row"


class SequenceError(UserInputError):
    """The rows cannot be assigned to series; the message names line and fix."""


@dataclass(frozen=True)
class Sequences:
    """The result of a split.

    `series` is the series of each row in file order, counted from 0. `count` is the number of series. `note` says how
    rows out of order were read.
    """

    series: NDArray[np.int64]
    count: int
    note: str | None


def split(ms: NDArray[np.int64], lines: NDArray[np.int64]) -> Sequences:
    """Split rows, at least one, by time (epoch ms) and line in file order.

    - Times that never repeat: one series, in any order.
    - Repeated times and a few jumps back, each into an interval that was covered before: one series per segment.
    - Repeated times next to each other, or jumps back all over the file: SequenceError.

    A file that runs from newest to oldest is read backwards.
    """
    steps = np.sign(np.diff(ms))
    backwards = bool((steps < 0).sum() > 2 * (steps > 0).sum())
    ordered, ordered_lines = (ms[::-1], lines[::-1]) if backwards else (ms, lines)
    jumps = np.flatnonzero(np.diff(ordered) < 0) + 1
    times, counts = np.unique(ms, return_counts=True)
    repeats = len(ms) - len(times)
    runs = np.split(ordered, jumps)
    series = np.zeros(len(ms), dtype=np.int64)
    few = len(runs) <= 2 * counts.max()
    if repeats and len(jumps) and few and _cover_the_same(runs):
        series[jumps] = 1
        series = np.cumsum(series)
    elif repeats > _FEW_REPEATS * len(ms) and len(jumps) and not few:
        raise SequenceError(
            f"the file has no instance column, {repeats:,} times are repeated and time jumps back {len(jumps):,} "
            f"times (first on line {ordered_lines[jumps[0]]}): sort the file by time, or {_ADD_A_COLUMN}"
        )
    _refuse_neighbours(ordered, series, ordered_lines)
    count = int(series[-1]) + 1
    note = _note(backwards, count, len(jumps), int(ordered_lines[jumps[0]]) if len(jumps) else 0)
    # Series are numbered in file order.
    return Sequences(count - 1 - series[::-1] if backwards else series, count, note)


def _cover_the_same(runs: list[NDArray[np.int64]]) -> bool:
    """Return whether a segment mostly covers the interval of the one before."""
    for before, after in pairwise(runs):
        low, high = max(before[0], after[0]), min(before[-1], after[-1])
        shorter = min(before, after, key=len)
        if np.count_nonzero((shorter >= low) & (shorter <= high)) > _SAME_SPAN * len(shorter):
            return True
    return False


def _refuse_neighbours(ms: NDArray[np.int64], series: NDArray[np.int64], lines: NDArray[np.int64]) -> None:
    """Raise SequenceError if many neighbouring rows have the same time.

    Nothing assigns such rows to series.
    """
    same = np.flatnonzero((np.diff(ms) == 0) & (np.diff(series) == 0)) + 1
    if len(same) > 0.5 * (len(ms) - len(same)):
        raise SequenceError(
            f"the file has no instance column, and {len(same):,} rows have the same time as the row before "
            f"(first on line {lines[same[0]]}): {_ADD_A_COLUMN}"
        )


def _note(backwards: bool, count: int, jumps: int, line: int) -> str | None:
    parts = ["the file runs from newest to oldest: read backwards"] if backwards else []
    if count == 1 and jumps:
        parts.append(f"rows are not in order of time (first on line {line}): sorted")
    return "; ".join(parts) or None

"""Training history: all rows, or as many whole instance-days as fit into memory.

A training needs memory for several copies of its rows. If a history is too long, each instance drops days. Every
instance keeps the newest 49 hours, which are enough for an hour-of-day profile and resemble the next day most. Of the
older days it keeps an even part. Instances keep different days, so every date of the fleet is represented. An instance
keeps the same days from one training to the next, so a refresh uses nearly the same rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np
import pandas as pd

from riskwatch_ml.core import clock
from riskwatch_ml.core.errors import UserInputError
from riskwatch_ml.features.rolling import behaviour_width, choose_lengths

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from riskwatch_ml.core.arrays import IntArray

# Measured by `python -m bench.fit`: bytes of a process with its libraries, of its samples per column, per row, and per
# value of a row.
PROCESS_BYTES = 200_000_000
SAMPLE_BYTES = 10_000_000
ROW_BYTES = 250
VALUE_BYTES = 24
MAX_BYTES = 4_500_000_000  # 1,000 instances of ten metrics for 28 days fit
# Rows at most an hour apart that cover 49 hours span the 48 hours that an hour-of-day profile needs.
NEWEST = timedelta(hours=49)
PARTS = 32  # older days are dropped in steps of 1/32
DAY_MS = 86_400_000


class HistoryError(UserInputError):
    """An interval that cannot hold training rows; the message names it."""


@dataclass(frozen=True)
class History:
    """Training rows in no particular order, and the number of rows left out.

    ``left_out`` counts rows. Of every 32 days before the newest 49 hours, ``parts`` were kept (0 to 32).
    """

    rows: pd.DataFrame
    left_out: int
    parts: int

    @property
    def note(self) -> str:
        """Human-readable note on omitted rows; empty if none were omitted."""
        if not self.left_out:
            return ""
        older = f"about {self.parts} in {PARTS}" if self.parts else "none"
        return (
            f"{self.left_out} of {self.left_out + len(self.rows)} rows are left out, for a training to fit into "
            f"{MAX_BYTES / 1e9:.1f} GB: every instance keeps the newest "
            f"{NEWEST / timedelta(hours=1):g} hours and {older} of the days before"
        )


def held_bytes(rows: int, metrics: int, period_s: float) -> int:
    """Estimate the peak memory of fitting a family to rows, in bytes."""
    width = behaviour_width(metrics, choose_lengths(metrics, period_s))
    return PROCESS_BYTES + SAMPLE_BYTES * width + rows * (ROW_BYTES + VALUE_BYTES * width)


def most_rows(metrics: int, period_s: float) -> int:
    """Return how many rows fit into a training of 4.5 GB, at least one."""
    no_row, one_row = held_bytes(0, metrics, period_s), held_bytes(1, metrics, period_s)
    return max(1, (MAX_BYTES - no_row) // (one_row - no_row))


def collect(read: Callable[[datetime, datetime], pd.DataFrame], start: datetime, end: datetime, most: int) -> History:
    """Read [start, end) by UTC days, newest first, and keep at most ``most`` rows.

    The newest 49 hours are kept even if they are more. ``read`` returns the rows of an interval with instance_id and
    timestamp. Memory holds the kept rows and one more day. Raises HistoryError if the interval is empty.
    """
    if start >= end:
        raise HistoryError(f"the history from {clock.iso(start)} to {clock.iso(end)} is empty: it must start earlier")
    newest = end - NEWEST
    days: list[tuple[pd.DataFrame, IntArray]] = []
    by_turn = np.zeros(PARTS + 1, np.int64)
    parts = PARTS
    for low, high in _days(start, end):
        rows = read(low, high)
        if not len(rows) and days:
            continue
        turn = _turns(rows, newest)
        by_turn += np.bincount(turn, minlength=PARTS + 1)
        days.append((rows, turn))
        parts = max(0, int(np.searchsorted(np.cumsum(by_turn), most, side="right")) - 1)
        days = [_first(rows, turn, parts) for rows, turn in days]
    rows = pd.concat([rows for rows, _ in reversed(days)], ignore_index=True) if len(days) > 1 else days[0][0]
    return History(rows, int(by_turn.sum()) - len(rows), parts)


def _days(start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
    """Yield the UTC days of an interval, clipped to it, newest first."""
    day = clock.floor(end - timedelta(milliseconds=1), 86_400)
    while day + timedelta(days=1) > start:
        yield max(day, start), min(day + timedelta(days=1), end)
        day -= timedelta(days=1)


def _turns(rows: pd.DataFrame, newest: datetime) -> IntArray:
    """Return the smallest number of parts that keeps each row, (n,).

    It is 0 for the newest rows, else 1 to 32. The days of an instance get their numbers in bit-reversed order, so that
    any number of parts keeps evenly spaced days. The first day differs between instances.
    """
    if not len(rows):
        return np.zeros(0, np.int64)
    number, names = pd.factorize(rows["instance_id"])
    offset = np.array([crc32(str(name).encode()) for name in names], np.int64)[number]
    ms = rows["timestamp"].dt.as_unit("ms").astype("int64").to_numpy()
    bit_reversed = np.array([int(f"{day:05b}"[::-1], 2) for day in range(PARTS)], np.int64)
    turn: IntArray = 1 + bit_reversed[(ms // DAY_MS + offset) % PARTS]
    return np.where(ms >= clock.epoch_ms(newest), 0, turn)


def _first(rows: pd.DataFrame, turn: IntArray, parts: int) -> tuple[pd.DataFrame, IntArray]:
    """Return the rows that ``parts`` parts keep, and their turns."""
    keep = turn <= parts
    return (rows, turn) if keep.all() else (rows[keep], turn[keep])

"""The rows that a training learns from: all of the history, or as many whole instance-days as fit into memory.

A training holds its rows in memory several times over. Where a history is too long for that, days are left out
instance by instance: everybody keeps the newest 49 hours, which make a baseline with its profile by hour of day and are
most like tomorrow, and an even part of the days before them. Instances keep different days, so that every day of the
fleet is learned from, and an instance keeps the same days from one training to the next, so that a refresh learns from
nearly the same rows.
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
from riskwatch_ml.features.rolling import behaviour_width, trails_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from riskwatch_ml.core.arrays import IntArray

# By `python -m bench.fit`: bytes of a process with its libraries, of its samples for each column, of a row, and of each
# value of a row.
PROCESS_BYTES = 200_000_000
SAMPLE_BYTES = 10_000_000
ROW_BYTES = 250
VALUE_BYTES = 24
MOST_BYTES = 4_500_000_000  # 1,000 instances of ten metrics for 28 days fit
# Rows of 49 hours span the 48 that a profile by hour of day needs wherever they are at most an hour apart.
NEWEST = timedelta(hours=49)
PARTS = 32  # older days are left out in steps of one in 32
DAY_MS = 86_400_000


class HistoryError(UserInputError):
    """An interval that holds no rows to learn from can hold; the message says which."""


@dataclass(frozen=True)
class History:
    """The rows to learn from, in no order, and what was left out.

    ``left_out`` counts rows; ``parts`` of every 32 days before the newest 49 hours were kept, 0 for none.
    """

    rows: pd.DataFrame
    left_out: int
    parts: int

    @property
    def told(self) -> str:
        """What was left out and why, for people; empty where nothing was."""
        if not self.left_out:
            return ""
        older = f"about {self.parts} in {PARTS}" if self.parts else "none"
        return (
            f"{self.left_out} of {self.left_out + len(self.rows)} rows are left out, for a training to fit into "
            f"{MOST_BYTES / 1e9:.1f} GB: every instance is learned from on the newest "
            f"{NEWEST / timedelta(hours=1):g} hours and on {older} of the days before"
        )


def held_bytes(rows: int, metrics: int, period_s: float) -> int:
    """Most bytes that fitting a family to rows of so many metrics holds, about."""
    width = behaviour_width(metrics, trails_for(metrics, period_s))
    return PROCESS_BYTES + SAMPLE_BYTES * width + rows * (ROW_BYTES + VALUE_BYTES * width)


def most_rows(metrics: int, period_s: float) -> int:
    """Rows of so many metrics whose training fits into 4.5 GB, at least one."""
    none, one = held_bytes(0, metrics, period_s), held_bytes(1, metrics, period_s)
    return max(1, (MOST_BYTES - none) // (one - none))


def collect(read: Callable[[datetime, datetime], pd.DataFrame], start: datetime, end: datetime, most: int) -> History:
    """Read [start, end) day by day, the newest first, and keep at most ``most`` rows, or the newest 49 hours'.

    ``read`` gives the rows of an interval with instance_id and timestamp. Beside what is kept, one day is held. Raises
    HistoryError where the interval is empty.
    """
    if start >= end:
        raise HistoryError(f"the history from {clock.iso(start)} to {clock.iso(end)} is empty: it must start earlier")
    newest = end - NEWEST
    kept: list[tuple[pd.DataFrame, IntArray]] = []
    by_turn = np.zeros(PARTS + 1, np.int64)
    parts = PARTS
    for low, high in _days(start, end):
        rows = read(low, high)
        if not len(rows) and kept:
            continue
        turn = _turns(rows, newest)
        by_turn += np.bincount(turn, minlength=PARTS + 1)
        kept.append((rows, turn))
        parts = max(0, int(np.searchsorted(np.cumsum(by_turn), most, side="right")) - 1)
        kept = [_first(rows, turn, parts) for rows, turn in kept]
    rows = pd.concat([rows for rows, _ in reversed(kept)], ignore_index=True) if len(kept) > 1 else kept[0][0]
    return History(rows, int(by_turn.sum()) - len(rows), parts)


def _days(start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
    """The UTC days of an interval, cut to it, the newest first."""
    day = clock.floor(end - timedelta(milliseconds=1), 86_400)
    while day + timedelta(days=1) > start:
        yield max(day, start), min(day + timedelta(days=1), end)
        day -= timedelta(days=1)


def _turns(rows: pd.DataFrame, newest: datetime) -> IntArray:
    """The least number of parts at which each row is kept, (n,): 0 for the newest rows, 1 to 32 for older ones.

    The days of an instance take turns in the order of their reversed bits, which is even whatever the number of parts;
    instances begin at different days.
    """
    if not len(rows):
        return np.zeros(0, np.int64)
    number, names = pd.factorize(rows["instance_id"])
    begin = np.array([crc32(str(name).encode()) for name in names], np.int64)[number]
    ms = rows["timestamp"].dt.as_unit("ms").astype("int64").to_numpy()
    order = np.array([int(f"{place:05b}"[::-1], 2) for place in range(PARTS)], np.int64)
    turn: IntArray = 1 + order[(ms // DAY_MS + begin) % PARTS]
    return np.where(ms >= clock.epoch_ms(newest), 0, turn)


def _first(rows: pd.DataFrame, turn: IntArray, parts: int) -> tuple[pd.DataFrame, IntArray]:
    """The rows that are kept at a number of parts."""
    keep = turn <= parts
    return (rows, turn) if keep.all() else (rows[keep], turn[keep])

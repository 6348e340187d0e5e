"""Rows that a fit leaves out because of the episodes of their instances.

A model that learns an incident finds it normal, and the incident ends without being over. So a fit leaves out the rows
of an episode that is open. An instance may also have changed for good. After a number of hours its episode is learned
as the new normal: from then on a fit leaves out the rows before the episode, and learns those since.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from riskwatch_lambda.scoring.labelled_row import significant
from riskwatch_ml.core.clock import HOUR_MS
from riskwatch_ml.features.baselines import suffices

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from riskwatch_lambda.model.document import MetricChange
    from riskwatch_ml.core.arrays import BoolArray, IntArray

OPEN_EPISODE, BEFORE_NEW_NORMAL = 1, 2
REASONS: Mapping[int, str] = {
    OPEN_EPISODE: "in an open episode",
    BEFORE_NEW_NORMAL: "before the new normal of their instance",
}


class PastEpisode(NamedTuple):
    """An episode that matters to a fit: it is open, or it ended as the new normal.

    ``since_ms`` is the epoch in milliseconds at which it opened, ``metrics`` are those of its reasons, ``opened_by``
    those without which a row does not close it.
    """

    instance_id: str
    since_ms: int
    is_open: bool
    episode_id: str = ""
    metrics: tuple[str, ...] = ()
    opened_by: tuple[str, ...] = ()


@dataclass(frozen=True)
class LeftOut:
    """The rows that a fit leaves out, and the open episodes that it learns as normal.

    ``reason`` (n,) is 0 for a row to learn from, else a key of ``REASONS``.
    """

    reason: IntArray
    new_normals: tuple[PastEpisode, ...]

    @property
    def kept(self) -> BoolArray:
        """Mask of the rows to learn from, (n,)."""
        kept: BoolArray = self.reason == 0
        return kept

    @property
    def note(self) -> str:
        """Number of rows by reason, in words; empty if every row is kept."""
        counts = np.bincount(self.reason, minlength=len(REASONS) + 1)
        return ", ".join(f"{counts[reason]} rows {text}" for reason, text in REASONS.items() if counts[reason])


def rows_left_out(
    instances: Sequence[str],
    code: IntArray,
    ms: IntArray,
    episodes: Iterable[PastEpisode],
    now_ms: int,
    new_normal_hours: float,
) -> LeftOut:
    """Decide which rows a fit at ``now_ms`` leaves out.

    ``code`` (n,) indexes ``instances``, ``ms`` (n,) is the epoch of the rows in milliseconds, in any order. Rows of an
    open episode are left out for ``new_normal_hours``. After them, and after an episode that ended as the new normal,
    the rows before the episode are left out. They are kept while the rows since are too few for a baseline.
    """
    number = {name: index for index, name in enumerate(instances)}
    open_since = np.full(len(instances), np.iinfo(np.int64).max)
    normal_since = np.full(len(instances), np.iinfo(np.int64).min)
    new_normals = []
    for episode in episodes:
        index = number.get(episode.instance_id)
        if index is None:
            continue
        learned = is_learned(episode, now_ms, new_normal_hours)
        if learned:
            normal_since[index] = max(normal_since[index], episode.since_ms)
        else:
            open_since[index] = min(open_since[index], episode.since_ms)
        if learned and episode.is_open:
            new_normals.append(episode)
    reason = np.where(ms >= open_since[code], OPEN_EPISODE, 0)
    since = (reason == 0) & (ms >= normal_since[code])
    has_enough = _has_baseline(code[since], ms[since], len(instances))
    reason[(ms < normal_since[code]) & has_enough[code]] = BEFORE_NEW_NORMAL
    return LeftOut(reason, tuple(new_normals))


def is_learned(episode: PastEpisode, now_ms: int, new_normal_hours: float) -> bool:
    """Return whether a fit at ``now_ms`` learns an episode: it ended as normal, or is open for ``new_normal_hours``."""
    return not episode.is_open or now_ms - episode.since_ms >= new_normal_hours * HOUR_MS


def metric_changes(rows: pd.DataFrame, episode: PastEpisode) -> list[MetricChange]:
    """Return the medians of an episode's metrics before it opened and since, in metric rows of catalogue units.

    They are those of all metrics if the episode has no reasons.
    """
    own = rows[rows["instance_id"] == episode.instance_id]
    is_since = own["timestamp"] >= pd.Timestamp(episode.since_ms, unit="ms", tz="UTC")
    return [
        {"feature": name, "before": _median(own[name][~is_since]), "after": _median(own[name][is_since])}
        for name in episode.metrics or own.columns.drop(["instance_id", "timestamp"])
        if name in own.columns
    ]


def _median(values: pd.Series) -> float | None:
    median = values.median()
    return None if pd.isna(median) else significant(float(median))


def _has_baseline(code: IntArray, ms: IntArray, count: int) -> BoolArray:
    """Return which of ``count`` instances have enough rows for a baseline, (count,)."""
    first = np.full(count, np.iinfo(np.int64).max)
    last = np.full(count, np.iinfo(np.int64).min)
    np.minimum.at(first, code, ms)
    np.maximum.at(last, code, ms)
    rows = np.bincount(code, minlength=count)
    span = np.where(rows > 0, last, 0) - np.where(rows > 0, first, 0)
    return suffices(rows, span)

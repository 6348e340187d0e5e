"""The moments at which a replay refits: at fixed intervals, and once an open episode may be learned as normal.

`watch_model` requests the second kind of refit each hour, once for each episode.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from riskwatch_ml.core.clock import HOUR_MS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from riskwatch_ml.core.arrays import IntArray


class Learning(NamedTuple):
    """How far back a model learns, in milliseconds, and the hours after which an open episode is normal."""

    history_ms: int
    new_normal_hours: float


class RefitSchedule:
    """The refits of a replay that begins at `start_ms`, at intervals of `step_ms`; times are epochs in milliseconds.

    An open episode is learned `new_normal_hours` after it opened. Episodes are told apart by instance and opening.
    """

    def __init__(self, start_ms: int, step_ms: int, new_normal_hours: float) -> None:
        self.start_ms, self.step_ms = start_ms, step_ms
        self._learned_after_ms = new_normal_hours * HOUR_MS
        self._interval = -1
        self._asked: set[tuple[int, int]] = set()

    def is_due(self, moment: int, episodes: Iterable[tuple[int, int]]) -> bool:
        """Return whether to refit at a moment: it begins an interval, or one of the open episodes may be learned.

        `episodes` are the open ones: number of the instance, and time of the opening. Each makes a refit due once.
        """
        interval = (moment - self.start_ms) // self.step_ms
        to_learn = {episode for episode in episodes if self._learned_ms(episode[1]) <= moment} - self._asked
        is_due = interval > self._interval or bool(to_learn)
        self._interval = max(self._interval, interval)
        self._asked |= to_learn
        return is_due

    def next_moment(self, moment: int, episodes: Iterable[tuple[int, int]]) -> int:
        """Return the next moment at which a refit may be due, if no episode opens that could be learned before it."""
        end = self.start_ms + ((moment - self.start_ms) // self.step_ms + 1) * self.step_ms
        learned = (self._learned_ms(since) for _, since in episodes)
        return int(min([end, self._learned_ms(moment), *(at for at in learned if at > moment)]))

    def skip_gap(self, moment: int, due: IntArray) -> int | None:
        """Return the moment, or the begin of the first later interval with rows if its own has none left.

        `due` (n,) are the times of the rows to replay. The result is None after the last row.
        """
        later = due[due >= moment]
        if not len(later):
            return None
        begin = self.start_ms + int((later.min() - self.start_ms) // self.step_ms) * self.step_ms
        return max(moment, begin)

    def _learned_ms(self, since_ms: int) -> float:
        """Return the first full hour of the replay at which an episode may be learned."""
        hours: float = np.ceil((since_ms + self._learned_after_ms - self.start_ms) / HOUR_MS)
        return self.start_ms + hours * HOUR_MS

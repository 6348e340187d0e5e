"""Restarts of components that die while the demo stays up."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from riskwatch_local.services.supervisor import Supervisor

LIMIT = 3
WINDOW_S = 600.0


class Restarts:
    """A check that restarts dead components and names each one.

    A component that keeps its state on disk is restarted, at most `LIMIT` times in `WINDOW_S` seconds. `report` gets a
    line for each restart.
    """

    def __init__(
        self, supervisor: Supervisor, report: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._supervisor = supervisor
        self._report = report
        self._clock = clock
        self._times: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=LIMIT))

    def check(self) -> None:
        """Restart every component that has died since the last call.

        Raises ProcessError with the end of the log if a component cannot be restarted or has died too often.
        """
        for child in list(self._supervisor.children):
            how = child.ending()
            if how is None:
                continue
            times = self._times[child.name]
            too_often = len(times) == LIMIT and self._clock() - times[0] < WINDOW_S
            if too_often or not child.restartable:
                child.ensure_alive()
            times.append(self._clock())
            self._supervisor.restart(child)
            self._report(f"{child.name} {how} and was started again. Its log: {child.log}")

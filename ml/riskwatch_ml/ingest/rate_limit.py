"""A token bucket for GetMetricData: calls and datapoints are paced to what CloudWatch grants a region in a second."""

import threading
import time
from collections.abc import Callable

CALLS_PER_S = 50.0
# More is granted where the interval began at most three hours ago.
RECENT_POINTS_PER_S = 180_000.0
POINTS_PER_S = 90_000.0
RECENT_S = 3 * 3600


class Rate:
    """One region's allowance, shared by the threads that call it.

    The bucket holds one call: the quotas count by the second, and a call alone may ask for more than a second's points.

    Parameters
    ----------
    now, sleep
        Clock and pause, in seconds; a test brings its own.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep) -> None:
        self.now = now
        self.sleep = sleep
        self._lock = threading.Lock()
        self._free = now()

    def wait(self, points: int, age_s: float) -> None:
        """Wait until a call for `points` datapoints may be sent whose interval began `age_s` seconds ago."""
        granted = RECENT_POINTS_PER_S if age_s <= RECENT_S else POINTS_PER_S
        with self._lock:
            at = max(self.now(), self._free)
            self._free = at + max(1 / CALLS_PER_S, points / granted)
        pause = at - self.now()
        if pause > 0:
            self.sleep(pause)

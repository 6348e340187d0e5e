"""Token bucket for the calls and datapoints of GetMetricData.

CloudWatch limits both per second and region.
"""

import threading
import time
from collections.abc import Callable

from riskwatch_ml.core import clock

CALLS_PER_S = 50.0
# CloudWatch allows more if the interval began at most RECENT_S seconds ago.
RECENT_POINTS_PER_S = 180_000.0
POINTS_PER_S = 90_000.0
RECENT_S = 3 * clock.HOUR_S


class TokenBucket:
    """The quota of one region, shared by the threads that call it.

    The bucket has room for one call: quotas are per second, and a single call may exceed the datapoints of a second.

    Parameters
    ----------
    now, sleep
        Clock and pause, in seconds; a test passes its own.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep) -> None:
        self.now = now
        self.sleep = sleep
        self._lock = threading.Lock()
        self._free = now()

    def wait(self, points: int, age_s: float) -> None:
        """Wait until a call for `points` datapoints may be sent.

        `age_s` is the age in seconds of the beginning of its interval.
        """
        points_per_s = RECENT_POINTS_PER_S if age_s <= RECENT_S else POINTS_PER_S
        with self._lock:
            begin = max(self.now(), self._free)
            self._free = begin + max(1 / CALLS_PER_S, points / points_per_s)
        pause = begin - self.now()
        if pause > 0:
            self.sleep(pause)

"""A simulated fleet that keeps sending.

Rows go to CloudWatch when their periods end, as agents would send them.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any, Self

from botocore.exceptions import BotoCoreError, ClientError

from riskwatch_local.demo import publish
from riskwatch_local.demo.publish import KindRows
from riskwatch_ml.core import clock

if TYPE_CHECKING:
    from collections.abc import Sequence

POLL_S = 1.0

_log = logging.getLogger(__name__)


class LiveFleet:
    """A context that publishes rows in a thread until it ends.

    Rows of periods that are over already are published at once. A failed call is repeated.
    """

    def __init__(self, kinds: Sequence[KindRows], period_s: int, cloudwatch: Any = None) -> None:
        """Take metric rows of each kind and the length of their periods in seconds.

        `timestamp` is the start of a period, UTC. `cloudwatch` is a boto3 client; default: a new one.
        """
        self._waiting = [
            part._replace(rows=part.rows.sort_values("timestamp", kind="stable", ignore_index=True)) for part in kinds
        ]
        self._period_ms = period_s * 1000
        self._cloudwatch = cloudwatch or publish.client()
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._run, name="live-fleet", daemon=True)
        self.sent = 0

    def __enter__(self) -> Self:
        self.send_what_is_over()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._left.set()
        self._thread.join()

    def send_what_is_over(self) -> None:
        """Publish the rows of all periods that have ended."""
        over = clock.epoch_ms(clock.now()) - self._period_ms
        for place, (metrics, rows) in enumerate(self._waiting):
            count = int(rows["timestamp"].astype("int64").searchsorted(over, side="right"))
            if count:
                publish.publish(self._cloudwatch, rows.iloc[:count], metrics)
                self._waiting[place] = KindRows(metrics, rows.iloc[count:])
                self.sent += count

    def _run(self) -> None:
        while not self._left.wait(POLL_S):
            try:
                self.send_what_is_over()
            except (BotoCoreError, ClientError) as error:
                _log.warning("the simulated fleet could not send its rows and will try again: %s", error)

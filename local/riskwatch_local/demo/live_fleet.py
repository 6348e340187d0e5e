"""A simulated fleet that keeps sending: rows go to CloudWatch as their periods end, as agents would send them."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any, Self

from botocore.exceptions import BotoCoreError, ClientError

from riskwatch_local.demo import publish
from riskwatch_ml.core import clock

if TYPE_CHECKING:
    import pandas as pd

    from riskwatch_ml.schema.catalogue import Catalogue

POLL_S = 1.0

_log = logging.getLogger(__name__)


class LiveFleet:
    """Publishes rows in a thread of its own from entering until leaving the context.

    Rows whose period is over already are published at once. What could not be published is tried again.
    """

    def __init__(self, rows: pd.DataFrame, catalogue: Catalogue, period_s: int, cloudwatch: Any = None) -> None:
        """Take metric rows; `timestamp` is the start of a period of `period_s` seconds, UTC."""
        self._waiting = rows.sort_values("timestamp", kind="stable", ignore_index=True)
        self._catalogue, self._period_ms = catalogue, period_s * 1000
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
        """Publish the rows whose period is over by now."""
        stamps = self._waiting["timestamp"].astype("int64")
        over = int(stamps.searchsorted(clock.epoch_ms(clock.now()) - self._period_ms, side="right"))
        if over:
            publish.publish(self._cloudwatch, self._waiting.iloc[:over], self._catalogue)
            self._waiting = self._waiting.iloc[over:]
            self.sent += over

    def _run(self) -> None:
        while not self._left.wait(POLL_S):
            try:
                self.send_what_is_over()
            except (BotoCoreError, ClientError) as error:
                _log.warning("the fleet could not send its rows and tries again: %s", error)

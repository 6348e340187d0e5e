"""The shards of the settings as one: for a reader that does not care in which account and region an instance is."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from riskwatch_airflow.hooks.cloudwatch import CloudWatchMetricsHook

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime

    from riskwatch_ml.core.settings import Settings
    from riskwatch_ml.schema.catalogue import Catalogue
    from riskwatch_ml.schema.metric_rows import MetricRows

# How long one shard that is throttled may hold up the others.
PATIENCE_S = 120.0

_log = logging.getLogger(__name__)


class Fleet:
    """`instances` and `metric_rows` of shards, which are read one after another.

    A shard that cannot be read does not stop the others: it has no instances and no rows, and is in `unread`.

    Parameters
    ----------
    config
        Names the shards and the Airflow connection.
    names
        The shards to read; all of them by default.

    Attributes
    ----------
    unread : dict of str to Exception
        Why a shard could not be read, by its name.
    """

    def __init__(self, config: Settings, names: Collection[str] | None = None) -> None:
        self._hooks = [
            CloudWatchMetricsHook(aws_conn_id=config.aws_conn_id, shard=shard, patience_s=PATIENCE_S)
            for shard in config.shards
            if names is None or shard.name in names
        ]
        self._home: dict[str, CloudWatchMetricsHook] = {}
        self.unread: dict[str, Exception] = {}

    def instances(self, catalogue: Catalogue, *, recently_active: bool = False) -> list[str]:
        """Return the instances of every shard, sorted, see `CloudWatchMetricsHook.instances`."""
        from riskwatch_ml.ingest.reader import CloudWatchError

        found: set[str] = set()
        for hook in self._readable():
            try:
                names = hook.instances(catalogue, recently_active=recently_active)
            except (CloudWatchError, BotoCoreError, ClientError) as error:
                self._leave(hook, error)
                continue
            for name in names:
                self._home.setdefault(name, hook)
                found.add(name)
        return sorted(found)

    def metric_rows(
        self, instances: Sequence[str], catalogue: Catalogue, start: datetime, end: datetime, period_s: int
    ) -> MetricRows:
        """Return the metric rows of instances that `instances` has listed, see `CloudWatchMetricsHook.metric_rows`."""
        import pandas as pd

        from riskwatch_ml.ingest.reader import CloudWatchError
        from riskwatch_ml.schema import metric_rows as dataset

        found = []
        for hook in self._readable():
            own = [name for name in instances if self._home[name] is hook]
            try:
                found.append(hook.metric_rows(own, catalogue, start, end, period_s))
            except (CloudWatchError, BotoCoreError, ClientError) as error:
                self._leave(hook, error)
        if not found:
            return dataset.widen([], catalogue)
        if len(found) == 1:
            return found[0]
        rows = pd.concat([part.rows for part in found if len(part.rows)] or [found[0].rows], ignore_index=True)
        ordered = rows.sort_values(["instance_id", "timestamp"], ignore_index=True)
        return dataset.MetricRows(ordered, sum(part.duplicates for part in found))

    def _readable(self) -> list[CloudWatchMetricsHook]:
        return [hook for hook in self._hooks if hook.shard.name not in self.unread]

    def _leave(self, hook: CloudWatchMetricsHook, error: Exception) -> None:
        _log.error("shard %s cannot be read: %s", hook.shard.name, error)
        self.unread[hook.shard.name] = error

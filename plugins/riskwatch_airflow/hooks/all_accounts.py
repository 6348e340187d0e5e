"""All accounts and regions of the settings as one fleet."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from riskwatch_airflow.hooks.cloudwatch import CloudWatchMetricsHook
from riskwatch_ml.ingest.call_plan import InstancesOfKind

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime

    from riskwatch_ml.core.settings import Settings
    from riskwatch_ml.ingest.call_plan import Fleet
    from riskwatch_ml.schema.catalogue import Catalogue
    from riskwatch_ml.schema.metric_rows import MetricRows

# Seconds that an account which CloudWatch throttles may delay the others.
PATIENCE_S = 120.0

_log = logging.getLogger(__name__)


class AllAccounts:
    """The instances and metric rows of several accounts and regions, read one after another.

    One that cannot be read does not stop the others: it has no instances and no rows, and is in `unread`.

    Parameters
    ----------
    config
        Lists the accounts and regions, and names the Airflow connection.
    names
        The accounts and regions to read; all of them by default.

    Attributes
    ----------
    unread : dict of str to Exception
        The errors of those that could not be read, by name.
    """

    def __init__(self, config: Settings, names: Collection[str] | None = None) -> None:
        self._hooks = [
            CloudWatchMetricsHook(aws_conn_id=config.aws_conn_id, account_region=account_region, patience_s=PATIENCE_S)
            for account_region in config.account_regions
            if names is None or account_region.name in names
        ]
        self._home: dict[str, CloudWatchMetricsHook] = {}
        self.unread: dict[str, Exception] = {}

    def instances(self, catalogue: Catalogue, *, recently_active: bool = False) -> list[str]:
        """Return the instances of all accounts and regions, sorted; see `CloudWatchMetricsHook.instances`."""
        from riskwatch_ml.ingest.reader import CloudWatchError

        listed: set[str] = set()
        for hook in self._readable():
            try:
                names = hook.instances(catalogue, recently_active=recently_active)
            except (CloudWatchError, BotoCoreError, ClientError) as error:
                self._leave(hook, error)
                continue
            for name in names:
                self._home.setdefault(name, hook)
                listed.add(name)
        return sorted(listed)

    def metric_rows(self, fleet: Fleet, start: datetime, end: datetime, period_s: int) -> list[MetricRows]:
        """Return the metric rows of each kind, of instances that `instances` listed.

        See `CloudWatchMetricsHook.metric_rows`.
        """
        from riskwatch_ml.ingest.reader import CloudWatchError

        parts: list[list[MetricRows]] = []
        for hook in self._readable():
            local = [
                InstancesOfKind(metrics, [name for name in instances if self._home[name] is hook])
                for metrics, instances in fleet
            ]
            try:
                parts.append(hook.metric_rows(local, start, end, period_s))
            except (CloudWatchError, BotoCoreError, ClientError) as error:
                self._leave(hook, error)
        return [_joined([part[position] for part in parts], metrics) for position, (metrics, _) in enumerate(fleet)]

    def _readable(self) -> list[CloudWatchMetricsHook]:
        return [hook for hook in self._hooks if hook.account_region.name not in self.unread]

    def _leave(self, hook: CloudWatchMetricsHook, error: Exception) -> None:
        _log.error("account-region %s cannot be read: %s", hook.account_region.name, error)
        self.unread[hook.account_region.name] = error


def _joined(parts: Sequence[MetricRows], catalogue: Catalogue) -> MetricRows:
    """Return the rows of several accounts and regions as one table, sorted."""
    import pandas as pd

    from riskwatch_ml.schema import metric_rows as dataset

    if not parts:
        return dataset.pivot([], catalogue)
    if len(parts) == 1:
        return parts[0]
    rows = pd.concat([part.rows for part in parts if len(part.rows)] or [parts[0].rows], ignore_index=True)
    ordered = rows.sort_values(["instance_id", "timestamp"], ignore_index=True)
    return dataset.MetricRows(ordered, sum(part.duplicates for part in parts))

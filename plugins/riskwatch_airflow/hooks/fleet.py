"""The shards of the settings as one: for a reader that does not care in which account and region an instance is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from riskwatch_airflow.hooks.cloudwatch import CloudWatchMetricsHook

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from ml.catalogue import Catalogue
    from ml.dataset import MetricRows
    from ml.settings import Settings


class Fleet:
    """`instances` and `metric_rows` of all shards, which are read one after another.

    Parameters
    ----------
    config
        Names the shards and the Airflow connection.
    """

    def __init__(self, config: Settings) -> None:
        self._hooks = [CloudWatchMetricsHook(aws_conn_id=config.aws_conn_id, shard=shard) for shard in config.shards]
        self._home: dict[str, CloudWatchMetricsHook] = {}

    def instances(self, catalogue: Catalogue, *, recently_active: bool = False) -> list[str]:
        """Return the instances of every shard, sorted, see `CloudWatchMetricsHook.instances`."""
        found: set[str] = set()
        for hook in self._hooks:
            for name in hook.instances(catalogue, recently_active=recently_active):
                self._home.setdefault(name, hook)
                found.add(name)
        return sorted(found)

    def metric_rows(
        self, instances: Sequence[str], catalogue: Catalogue, start: datetime, end: datetime, period_s: int
    ) -> MetricRows:
        """Return the metric rows of instances that `instances` has listed, see `CloudWatchMetricsHook.metric_rows`."""
        import pandas as pd

        from ml.dataset import MetricRows

        found = [
            hook.metric_rows([n for n in instances if self._home[n] is hook], catalogue, start, end, period_s)
            for hook in self._hooks
        ]
        if len(found) == 1:
            return found[0]
        rows = pd.concat([part.rows for part in found if len(part.rows)] or [found[0].rows], ignore_index=True)
        ordered = rows.sort_values(["instance_id", "timestamp"], ignore_index=True)
        return MetricRows(ordered, sum(part.duplicates for part in found))

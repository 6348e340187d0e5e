"""Publish metric rows to CloudWatch with PutMetricData, as agents would.

One datum is one point: a feature's value divided by the scale of the catalogue, so that an export returns the feature.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import boto3
import numpy as np
from botocore.config import Config

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pandas as pd

    from riskwatch_ml.schema.catalogue import Catalogue

# Limits of one PutMetricData call: 1,000 datums and 1 MB, with some room.
CALL_DATUMS = 1000
CALL_BYTES = 900_000
# Bytes of a datum beside its names: keys, timestamp, value and unit.
DATUM_BYTES = 180
# More threads do not help: serialising and storing take the time.
THREADS = 2
WINDOW = 4 * THREADS


@dataclass(frozen=True)
class Counts:
    """Numbers of published points and rows, and of PutMetricData calls.

    A row counts if it has at least one point.
    """

    points: int
    rows: int
    calls: int


def client() -> Any:
    """Return a CloudWatch client for publishing in bulk.

    It does not validate its input, which this module builds.
    """
    config = Config(
        parameter_validation=False,
        disable_request_compression=True,
        max_pool_connections=THREADS,
        # A stopped demo waits until these attempts are over.
        retries={"mode": "standard", "max_attempts": 4},
        read_timeout=180,
    )
    return boto3.client("cloudwatch", config=config)


def publish(
    client: Any, rows: pd.DataFrame, catalogue: Catalogue, *, progress: Callable[[int, int], None] | None = None
) -> Counts:
    """Publish every finite value of `rows` and return the counts.

    `rows` are metric rows (instance_id, timestamp in UTC, features of the catalogue; absent features are skipped).
    Missing and infinite values are not published. `progress` is called with (points so far, points in total) after each
    call, in the caller's thread. Raises the errors of the client; points published before an error remain.
    """
    features = [name for name in catalogue.names if name in rows.columns]
    finite = np.isfinite(rows[features].to_numpy(dtype=float, na_value=np.nan))
    total = int(finite.sum())
    points = calls = 0
    batches = _batches(rows, catalogue, features)
    with ThreadPoolExecutor(THREADS, thread_name_prefix="publish") as pool:
        # A few batches at a time: the datums of all rows together would take too much memory.
        while window := list(islice(batches, WINDOW)):
            waiting = {pool.submit(_put, client, namespace, data): len(data) for namespace, data in window}
            try:
                for call in as_completed(waiting):
                    call.result()
                    points += waiting[call]
                    calls += 1
                    if progress is not None:
                        progress(points, total)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    return Counts(points=points, rows=int(finite.any(axis=1).sum()), calls=calls)


def _put(client: Any, namespace: str, data: list[dict[str, Any]]) -> None:
    client.put_metric_data(Namespace=namespace, MetricData=data)


def _batches(
    rows: pd.DataFrame, catalogue: Catalogue, features: list[str]
) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield (namespace, datums) for each call, within the limits of a call."""
    pending: dict[str, list[dict[str, Any]]] = {}
    sizes: dict[str, int] = {}
    for instance_id, group in rows.groupby("instance_id", sort=True):
        moments = list(group["timestamp"].dt.to_pydatetime())
        for name in features:
            metric = catalogue.by_name[name]
            dimensions = metric.dimensions_of(str(instance_id))
            values = group[name].to_numpy(dtype=float, na_value=np.nan) / metric.scale
            room = DATUM_BYTES + len(metric.metric) + sum(len(d["Name"]) + len(d["Value"]) for d in dimensions)
            for index in np.flatnonzero(np.isfinite(values)):
                data = pending.setdefault(metric.namespace, [])
                if len(data) == CALL_DATUMS or sizes.get(metric.namespace, 0) + room > CALL_BYTES:
                    yield metric.namespace, data
                    data = pending[metric.namespace] = []
                    sizes[metric.namespace] = 0
                data.append(
                    {
                        "MetricName": metric.metric,
                        "Dimensions": dimensions,
                        "Timestamp": moments[index],
                        "Value": float(values[index]),
                        "Unit": metric.cloudwatch_unit or "None",
                    }
                )
                sizes[metric.namespace] = sizes.get(metric.namespace, 0) + room
    yield from ((namespace, data) for namespace, data in pending.items() if data)

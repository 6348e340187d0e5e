"""Publishes metric rows to CloudWatch with PutMetricData, as the agents of a fleet would.

One datum is one point: a feature's value divided by the catalogue's scale, so that an export reads the feature back.
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
# Names in a datum are repeated for every point; the rest (keys, timestamp, value, unit) takes about this much.
DATUM_BYTES = 180
# More does not help: the time goes into serialising here and storing there.
THREADS = 2
WINDOW = 4 * THREADS


@dataclass(frozen=True)
class Counts:
    """What was published: points, rows with at least one point, PutMetricData calls."""

    points: int
    rows: int
    calls: int


def client() -> Any:
    """Return a CloudWatch client for publishing in bulk: input that this module builds need not be validated again."""
    config = Config(
        parameter_validation=False,
        disable_request_compression=True,
        max_pool_connections=THREADS,
        # Whoever stops a demo waits for these.
        retries={"mode": "standard", "max_attempts": 4},
        read_timeout=180,
    )
    return boto3.client("cloudwatch", config=config)


def publish(
    client: Any, rows: pd.DataFrame, catalogue: Catalogue, *, progress: Callable[[int, int], None] | None = None
) -> Counts:
    """Put every finite value of `rows` and return what was put.

    `rows` are metric rows (instance_id, timestamp in UTC, features of the catalogue; absent features are skipped).
    Missing and infinite values are not published. `progress` is told (points so far, points in total) after each call,
    in the caller's thread. Raises what the client raises; points put before that remain.
    """
    features = [name for name in catalogue.names if name in rows.columns]
    finite = np.isfinite(rows[features].to_numpy(dtype=float, na_value=np.nan))
    total = int(finite.sum())
    points = calls = 0
    batches = _batches(rows, catalogue, features)
    with ThreadPoolExecutor(THREADS, thread_name_prefix="publish") as pool:
        # A bounded number at a time: a fleet's datums would otherwise all be in memory at once.
        while window := list(islice(batches, WINDOW)):
            waiting = {pool.submit(_put, client, namespace, data): len(data) for namespace, data in window}
            try:
                for done in as_completed(waiting):
                    done.result()
                    points += waiting[done]
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
    """Yield (namespace, datums) within the limits of a call; a call holds one namespace."""
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

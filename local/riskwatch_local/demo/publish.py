"""Publish metric rows to CloudWatch with PutMetricData, as agents would.

One datum is one point: a feature's value divided by the scale of the catalogue, so that an export returns the feature.
Features that are statistics of one metric are one datum of several samples. A value that a catalogue gives to rows
without a datapoint (`absent`) has no datum.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import boto3
import numpy as np
from botocore.config import Config

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import pandas as pd
    from numpy.typing import NDArray

    from riskwatch_ml.schema.catalogue import Catalogue
    from riskwatch_ml.schema.metric import Metric

# Limits of one PutMetricData call: 1,000 datums and 1 MB, with some room.
CALL_DATUMS = 1000
CALL_BYTES = 900_000
# Bytes of a datum beside its names: keys, timestamp, value and unit.
DATUM_BYTES = 180
# More threads do not help: serialising and storing take the time.
THREADS = 2
WINDOW = 4 * THREADS
# Samples of a datum with several statistics.
SAMPLES = 200


class KindRows(NamedTuple):
    """Metric rows of one kind."""

    catalogue: Catalogue
    rows: pd.DataFrame


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
    sources = _sources(rows, catalogue)
    present = np.column_stack([_present(rows, source) for source in sources])
    total = int(present.sum())
    points = calls = 0
    batches = _batches(rows, catalogue, sources, present)
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
    return Counts(points=points, rows=int(present.any(axis=1).sum()), calls=calls)


def samples(statistics: Mapping[str, float]) -> dict[str, list[float]]:
    """Return `Values` and `Counts` of a datum that has these statistics: Average, p99 and, if given, Maximum.

    Of 200 samples, percentiles by linear interpolation put p99 between the 198th and the 199th, which are both p99.
    Raises ValueError if no such samples exist, or for other statistics.
    """
    if not {"Average", "p99"} <= set(statistics) <= {"Average", "p99", "Maximum"}:
        raise ValueError(f"no samples are known for {', '.join(statistics)}: use Average, p99 and Maximum")
    high = statistics["p99"]
    highest = statistics.get("Maximum", high)
    low = (SAMPLES * statistics["Average"] - 3 * high - highest) / (SAMPLES - 4)
    if not 0 <= low <= high <= highest:
        raise ValueError(f"{dict(statistics)} are no statistics of {SAMPLES} samples above 0")
    if highest == high:
        return {"Values": [low, high], "Counts": [SAMPLES - 4.0, 4.0]}
    return {"Values": [low, high, highest], "Counts": [SAMPLES - 4.0, 3.0, 1.0]}


def _put(client: Any, namespace: str, data: list[dict[str, Any]]) -> None:
    client.put_metric_data(Namespace=namespace, MetricData=data)


def _sources(rows: pd.DataFrame, catalogue: Catalogue) -> list[tuple[Metric, ...]]:
    """Return the features of `rows`, those of one CloudWatch metric together."""
    sources: dict[tuple[object, ...], list[Metric]] = {}
    for metric in catalogue.metrics:
        if metric.name in rows.columns:
            key = (metric.namespace, metric.metric, *sorted(metric.dimensions.items()))
            sources.setdefault(key, []).append(metric)
    return [tuple(metrics) for metrics in sources.values()]


def _present(rows: pd.DataFrame, source: tuple[Metric, ...]) -> NDArray[np.bool_]:
    """Return which rows (n,) have a datum of a metric."""
    present = np.ones(len(rows), dtype=bool)
    for metric in source:
        values = rows[metric.name].to_numpy(dtype=float, na_value=np.nan)
        present &= np.isfinite(values)
        if metric.absent is not None:
            present &= values != metric.absent
    return present


def _batches(
    rows: pd.DataFrame, catalogue: Catalogue, sources: list[tuple[Metric, ...]], present: NDArray[np.bool_]
) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield (namespace, datums) for each call, within the limits of a call."""
    pending: dict[str, list[dict[str, Any]]] = {}
    sizes: dict[str, int] = {}
    for instance_id, places in sorted(rows.groupby("instance_id").indices.items()):
        group = rows.iloc[places]
        for source, published in zip(sources, present[places].T, strict=True):
            namespace = source[0].namespace
            dimensions = source[0].dimensions_of(catalogue.local(str(instance_id)))
            room = DATUM_BYTES * len(source) + len(source[0].metric)
            room += sum(len(item["Name"]) + len(item["Value"]) for item in dimensions)
            for datum in _datums(group[published], source, dimensions):
                data = pending.setdefault(namespace, [])
                if len(data) == CALL_DATUMS or sizes.get(namespace, 0) + room > CALL_BYTES:
                    yield namespace, data
                    data = pending[namespace] = []
                    sizes[namespace] = 0
                data.append(datum)
                sizes[namespace] = sizes.get(namespace, 0) + room
    yield from ((namespace, data) for namespace, data in pending.items() if data)


def _datums(
    rows: pd.DataFrame, source: tuple[Metric, ...], dimensions: list[dict[str, str]]
) -> Iterator[dict[str, Any]]:
    """Yield the datum of each row for a metric."""
    head = {"MetricName": source[0].metric, "Dimensions": dimensions, "Unit": source[0].cloudwatch_unit or "None"}
    values = np.column_stack([rows[metric.name].to_numpy(dtype=float) / metric.scale for metric in source]).tolist()
    for moment, row in zip(rows["timestamp"].dt.to_pydatetime(), values, strict=True):
        if len(source) == 1:
            yield {**head, "Timestamp": moment, "Value": row[0]}
        else:
            yield {
                **head,
                "Timestamp": moment,
                **samples({metric.stat: value for metric, value in zip(source, row, strict=True)}),
            }

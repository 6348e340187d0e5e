"""Metric rows from CloudWatch series: one row per instance and time.

The columns are the features of the catalogue.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from riskwatch_lambda.model.row_check import is_row_refused
from riskwatch_lambda.model.row_schema import MAGNITUDE_LIMIT
from riskwatch_ml.core.arrays import BoolArray, FloatArray
from riskwatch_ml.core.errors import UserInputError
from riskwatch_ml.schema.catalogue import Catalogue
from riskwatch_ml.schema.metric import Metric

KEYS = ("instance_id", "timestamp")


class DatasetError(UserInputError):
    """Series are not valid; the message names the series, the value and the fix."""


@dataclass(frozen=True)
class Series:
    """One feature of one instance, as CloudWatch delivered it.

    `stamps` are milliseconds since 1970-01-01T00:00Z, `values` CloudWatch values without the metric's scale, both (n,).
    """

    instance_id: str
    feature: str
    stamps: NDArray[np.int64]
    values: NDArray[np.float64]


@dataclass(frozen=True)
class MetricRows:
    """Metric rows sorted by instance and time.

    `duplicates` counts the delivered values that were dropped as duplicates.
    """

    rows: pd.DataFrame
    duplicates: int


def columns(catalogue: Catalogue) -> list[str]:
    """Return the columns of metric rows: the keys, then the features in order."""
    return [*KEYS, *catalogue.names]


def limits(metric: Metric) -> tuple[float, float]:
    """Return the lowest and the highest possible value of a metric, in its unit.

    The function has the same limits.
    """
    low = -MAGNITUDE_LIMIT if metric.lower is None else metric.lower
    return low, MAGNITUDE_LIMIT if metric.upper is None else metric.upper


def find_impossible(values: FloatArray, catalogue: Catalogue) -> BoolArray:
    """Return a mask of the values outside the limits of their metric, (n, d).

    `values` (n, d) are in the order of the catalogue. A missing value (NaN) is not impossible.
    """
    bounds = np.array([limits(metric) for metric in catalogue.metrics])
    impossible: BoolArray = (values < bounds[:, 0]) | (values > bounds[:, 1])
    return impossible


def find_refused_rows(values: FloatArray, impossible: BoolArray) -> BoolArray:
    """Return a mask of the rows that their impossible values cost, (n,); both arguments are (n, d)."""
    refused = np.zeros(len(values), dtype=bool)
    for row in np.flatnonzero(impossible.any(axis=1)).tolist():
        present = int((~np.isnan(values[row])).sum())
        refused[row] = is_row_refused(int(impossible[row].sum()), present, values.shape[1])
    return refused


def count_values(rows: pd.DataFrame) -> int:
    """Return the number of values of metric rows that are not missing.

    All columns but the keys and the `reasons` of quarantined rows are metrics.
    """
    return int(rows.drop(columns=[*KEYS, "reasons"], errors="ignore").notna().to_numpy().sum())


def pivot(series: Iterable[Series], catalogue: Catalogue) -> MetricRows:
    """Return series as metric rows, with each value times the metric's scale.

    A row exists for every time of an instance with at least one delivered value; its other features are NaN, or
    `absent` of their metric. Values that are not finite become NaN. If there are several values for one instance, time
    and feature, the last one is kept, because a repeated request returns the fuller value; the others are counted.

    Raises
    ------
    DatasetError
        A feature is unknown, or a series has another number of times than of values.
    """
    column_of = {name: column for column, name in enumerate(catalogue.names)}
    by_instance = _by_instance(series, column_of)
    names = sorted(by_instance)
    times = [np.unique(np.concatenate([one.stamps for one in by_instance[name]])) for name in names]
    values = np.full((sum(map(len, times)), len(column_of)), np.nan)
    distinct = delivered = first = 0
    for name, instance_times in zip(names, times, strict=True):
        count = len(instance_times)
        distinct += _fill(values[first : first + count], instance_times, by_instance[name], column_of)
        delivered += sum(len(one.stamps) for one in by_instance.pop(name))
        first += count
    undelivered = np.isnan(values)
    values *= np.array([metric.scale for metric in catalogue.metrics])
    values[~np.isfinite(values)] = np.nan
    for column, metric in enumerate(catalogue.metrics):
        if metric.absent is not None:
            values[undelivered[:, column], column] = metric.absent
    frame = pd.DataFrame(values, columns=list(catalogue.names), copy=False)
    instance_ids = np.repeat(np.array(names, dtype=object), [len(instance_times) for instance_times in times])
    stamps = np.concatenate([np.empty(0, np.int64), *times])
    frame.insert(0, "instance_id", pd.Series(instance_ids, dtype="str"))
    frame.insert(1, "timestamp", pd.DatetimeIndex(pd.to_datetime(stamps, unit="ms", utc=True)).as_unit("ms"))
    return MetricRows(frame, delivered - distinct)


def _by_instance(series: Iterable[Series], features: Mapping[str, int]) -> dict[str, list[Series]]:
    """Return the checked series of each instance; series without values are left out."""
    by_instance: dict[str, list[Series]] = {}
    for one in series:
        if one.feature not in features:
            raise DatasetError(f"{one.instance_id}: {one.feature} is not in the catalogue: add an entry for it")
        if len(one.stamps) != len(one.values):
            raise DatasetError(
                f"{one.instance_id}, {one.feature}: {len(one.stamps)} moments for {len(one.values)} values"
            )
        if len(one.stamps):
            by_instance.setdefault(one.instance_id, []).append(one)
    return by_instance


def _fill(
    values: NDArray[np.float64], times: NDArray[np.int64], series: list[Series], column_of: Mapping[str, int]
) -> int:
    """Write the series of one instance into its rows (n, features).

    Returns the number of cells with a value.
    """
    filled = np.zeros(values.shape, bool)
    for one in series:
        rows = np.searchsorted(times, one.stamps)
        values[rows, column_of[one.feature]] = one.values
        filled[rows, column_of[one.feature]] = True
    return int(filled.sum())

"""Metric rows out of what CloudWatch delivers: a row per instance and moment, a column per feature."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from riskwatch_ml.core.errors import UserInputError
from riskwatch_ml.schema.catalogue import Catalogue

KEYS = ("instance_id", "timestamp")


class DatasetError(UserInputError):
    """Rows cannot be made of the input; the message names the series, the value and the fix."""


@dataclass(frozen=True)
class Series:
    """One feature of one instance as delivered: moments in ms since 1970 and CloudWatch values, (n,), not scaled."""

    instance_id: str
    feature: str
    stamps: NDArray[np.int64]
    values: NDArray[np.float64]


@dataclass(frozen=True)
class MetricRows:
    """Metric rows sorted by instance and time, and how many delivered values were dropped as duplicates."""

    rows: pd.DataFrame
    duplicates: int


def columns(catalogue: Catalogue) -> list[str]:
    """Return the columns of metric rows: the keys, then the features in catalogue order."""
    return [*KEYS, *catalogue.names]


def widen(series: Iterable[Series], catalogue: Catalogue) -> MetricRows:
    """Turn series into metric rows: values times the metric's scale, NaN where a row has none.

    Of several values for one instance, moment and feature the last delivered is kept (a repeated request answers with
    the fuller value) and the others are counted. Values that are not finite count as missing. A row exists where at
    least one value was delivered. Raises DatasetError for an unknown feature or moments that do not match the values.
    """
    places = {name: place for place, name in enumerate(catalogue.names)}
    scale = np.array([metric.scale for metric in catalogue.metrics])
    by_instance: dict[str, list[Series]] = {}
    for item in series:
        if item.feature not in places:
            raise DatasetError(f"{item.instance_id}: {item.feature} is not in the catalogue: add an entry for it")
        if len(item.stamps) != len(item.values):
            raise DatasetError(
                f"{item.instance_id}, {item.feature}: {len(item.stamps)} moments for {len(item.values)} values"
            )
        if len(item.stamps):
            by_instance.setdefault(item.instance_id, []).append(item)
    names = sorted(by_instance)
    moments = [np.unique(np.concatenate([item.stamps for item in by_instance[name]])) for name in names]
    values = np.full((sum(map(len, moments)), len(places)), np.nan)
    distinct = delivered = first = 0
    for name, own in zip(names, moments, strict=True):
        distinct += _fill(values[first : first + len(own)], own, by_instance[name], places)
        delivered += sum(len(item.stamps) for item in by_instance.pop(name))
        first += len(own)
    values *= scale
    values[~np.isfinite(values)] = np.nan
    frame = pd.DataFrame(values, columns=list(catalogue.names), copy=False)
    owners = np.repeat(np.array(names, dtype=object), [len(own) for own in moments])
    stamps = np.concatenate([np.empty(0, np.int64), *moments])
    frame.insert(0, "instance_id", pd.Series(owners, dtype="str"))
    frame.insert(1, "timestamp", pd.DatetimeIndex(pd.to_datetime(stamps, unit="ms", utc=True)).as_unit("ms"))
    return MetricRows(frame, delivered - distinct)


def _fill(
    values: NDArray[np.float64], moments: NDArray[np.int64], series: list[Series], places: Mapping[str, int]
) -> int:
    """Write one instance's series into its rows (n, features) and return how many places they filled."""
    filled = np.zeros(values.shape, bool)
    for item in series:
        rows = np.searchsorted(moments, item.stamps)
        values[rows, places[item.feature]] = item.values
        filled[rows, places[item.feature]] = True
    return int(filled.sum())

"""Metric rows out of what CloudWatch delivers: a row per instance and moment, a column per feature."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ml.catalogue import Catalogue

KEYS = ("instance_id", "timestamp")


class DatasetError(ValueError):
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
    blocks = [_block(by_instance[name], places) for name in sorted(by_instance)]
    values = np.concatenate([np.empty((0, len(places))), *(block for _, block, _ in blocks)]) * scale
    values[~np.isfinite(values)] = np.nan
    frame = pd.DataFrame(values, columns=list(catalogue.names), dtype=np.float64)
    lengths = [len(moments) for moments, _, _ in blocks]
    names = np.repeat(np.array(sorted(by_instance), dtype=object), lengths)
    stamps = np.concatenate([np.empty(0, np.int64), *(moments for moments, _, _ in blocks)])
    frame.insert(0, "instance_id", pd.Series(names, dtype="str"))
    frame.insert(1, "timestamp", pd.DatetimeIndex(pd.to_datetime(stamps, unit="ms", utc=True)).as_unit("ms"))
    return MetricRows(frame, sum(repeated for _, _, repeated in blocks))


def _block(series: list[Series], places: Mapping[str, int]) -> tuple[NDArray[np.int64], NDArray[np.float64], int]:
    """Return one instance's moments (n,), values (n, features) and how many values another one replaced."""
    moments = np.unique(np.concatenate([item.stamps for item in series]))
    values = np.full((len(moments), len(places)), np.nan)
    delivered = np.zeros(values.shape, bool)
    for item in series:
        rows = np.searchsorted(moments, item.stamps)
        values[rows, places[item.feature]] = item.values
        delivered[rows, places[item.feature]] = True
    return moments, values, sum(len(item.stamps) for item in series) - int(delivered.sum())

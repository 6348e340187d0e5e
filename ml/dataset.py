"""Metric rows out of what CloudWatch delivers: a row per instance and moment, a column per feature."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pandas as pd

from ml.catalogue import Catalogue

KEYS = ("instance_id", "timestamp")


class DatasetError(ValueError):
    """Rows cannot be made of the input; the message names the series, the value and the fix."""


@dataclass(frozen=True)
class Series:
    """One feature of one instance as delivered: moments (aware) and CloudWatch values, equally many, not scaled."""

    instance_id: str
    feature: str
    timestamps: Sequence[datetime]
    values: Sequence[float]


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
    least one value was delivered. Raises DatasetError for an unknown feature or a moment without time zone.
    """
    long = _long(series, {name: place for place, name in enumerate(catalogue.names)})
    delivered = len(long)
    long = long.drop_duplicates(["instance_id", "timestamp", "feature"], keep="last")
    duplicates = delivered - len(long)
    groups = long.groupby(["instance_id", "timestamp"], sort=True, observed=True)
    place = groups.ngroup().to_numpy()
    values = np.full((groups.ngroups, len(catalogue.names)), np.nan)
    scale = np.array([metric.scale for metric in catalogue.metrics])
    feature = long["feature"].to_numpy()
    values[place, feature] = long["value"].to_numpy() * scale[feature]
    values[~np.isfinite(values)] = np.nan
    keys = long.groupby(["instance_id", "timestamp"], sort=True, observed=True).size().index.to_frame(index=False)
    return MetricRows(_frame(keys["instance_id"], keys["timestamp"], values, catalogue), duplicates)


def _long(series: Iterable[Series], places: Mapping[str, int]) -> pd.DataFrame:
    identities: list[str] = []
    lengths: list[int] = []
    features: list[int] = []
    stamps: list[np.ndarray] = []
    values: list[np.ndarray] = []
    for item in series:
        if item.feature not in places:
            raise DatasetError(f"{item.instance_id}: {item.feature} is not in the catalogue: add an entry for it")
        if len(item.timestamps) != len(item.values):
            raise DatasetError(
                f"{item.instance_id}, {item.feature}: {len(item.timestamps)} moments for {len(item.values)} values"
            )
        if item.timestamps and item.timestamps[0].tzinfo is None:
            raise DatasetError(f"{item.instance_id}, {item.feature}: moments have no time zone: deliver them in UTC")
        identities.append(item.instance_id)
        lengths.append(len(item.values))
        features.append(places[item.feature])
        stamps.append(np.array([round(moment.timestamp() * 1000) for moment in item.timestamps], dtype=np.int64))
        values.append(np.asarray(item.values, dtype=np.float64))
    names, codes = np.unique(np.array(identities, dtype=object), return_inverse=True)
    return pd.DataFrame(
        {
            "instance_id": pd.Categorical.from_codes(np.repeat(codes, lengths), names),
            "timestamp": np.concatenate(stamps) if stamps else np.array([], dtype=np.int64),
            "feature": np.repeat(np.array(features, dtype=np.int64), lengths),
            "value": np.concatenate(values) if values else np.array([], dtype=np.float64),
        }
    )


def _frame(identities: pd.Series, moments: pd.Series, values: np.ndarray, catalogue: Catalogue) -> pd.DataFrame:
    unit = "ms" if moments.dtype.kind == "i" else None
    frame = pd.DataFrame(values, columns=list(catalogue.names), dtype=np.float64)
    frame.insert(0, "instance_id", identities.astype(str).to_numpy())
    frame.insert(1, "timestamp", pd.DatetimeIndex(pd.to_datetime(moments, unit=unit, utc=True)).as_unit("ms"))
    frame["instance_id"] = frame["instance_id"].astype("str")
    return frame

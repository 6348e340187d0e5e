"""Refused values of rows that stay: a table with one line for each value.

Its columns are `instance_id`, `timestamp`, `metric`, `value` (in the unit of the catalogue) and `reason`. The layer
`quarantine/values/` stores it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from riskwatch_ml.schema import metric_rows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from riskwatch_ml.core.arrays import BoolArray
    from riskwatch_ml.schema.catalogue import Catalogue

COLUMNS = (*metric_rows.KEYS, "metric", "value", "reason")
_KEYS = list(metric_rows.KEYS)


def take_out(
    rows: pd.DataFrame, impossible: BoolArray, reasons: Mapping[str, str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return metric rows without their impossible values, and these values.

    `impossible` (n, d) marks the values of the features of `rows`; `reasons` has the reason for each feature.
    """
    features = [name for name in rows.columns if name not in _KEYS]
    parts = []
    kept = rows.copy()
    for column, feature in enumerate(features):
        refused = impossible[:, column]
        if refused.any():
            values = rows.loc[refused, [*_KEYS, feature]].rename(columns={feature: "value"})
            parts.append(values.assign(metric=feature, reason=reasons[feature]))
            kept.loc[refused, feature] = np.nan
    return kept, typed(pd.concat(parts, ignore_index=True) if parts else pd.DataFrame())


def put_back(rows: pd.DataFrame, values: pd.DataFrame) -> pd.DataFrame:
    """Return metric rows with refused values in their places.

    There is at most one row for an instance and time. A value without its row or its column is left out.
    """
    rows = rows.copy()
    index = pd.MultiIndex.from_frame(rows[_KEYS])
    for feature, part in values.groupby("metric"):
        positions = index.get_indexer(pd.MultiIndex.from_frame(part[_KEYS]))
        if feature in rows.columns:
            rows.iloc[positions[positions >= 0], rows.columns.get_loc(feature)] = part["value"].to_numpy()[
                positions >= 0
            ]
    return rows


def are_possible(values: pd.DataFrame, catalogue: Catalogue) -> pd.Series:
    """Return a mask of the refused values that a catalogue accepts."""
    limits = {metric.name: metric_rows.limits(metric) for metric in catalogue.metrics}
    low = values["metric"].map({name: limit for name, (limit, _) in limits.items()}).astype("float64")
    high = values["metric"].map({name: limit for name, (_, limit) in limits.items()}).astype("float64")
    # A metric that the catalogue no longer has is neither above nor below a limit.
    return (values["value"] >= low) & (values["value"] <= high)


def of_rows(values: pd.DataFrame, rows: pd.DataFrame) -> pd.Series:
    """Return a mask of the refused values of `rows`."""
    present = pd.MultiIndex.from_frame(values[_KEYS]).isin(pd.MultiIndex.from_frame(rows[_KEYS]))
    return pd.Series(present, index=values.index)


def merge(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """Return the values of both tables; of two for the same place, that of the second."""
    both = [table for table in (typed(first), typed(second)) if not table.empty]
    if not both:
        return typed(first)
    return pd.concat(both, ignore_index=True).drop_duplicates([*_KEYS, "metric"], keep="last", ignore_index=True)


def typed(values: pd.DataFrame) -> pd.DataFrame:
    """Return refused values with their columns and types; an empty frame has them too."""
    return values.reindex(columns=list(COLUMNS)).astype(
        {
            "instance_id": "str",
            "timestamp": "datetime64[ms, UTC]",
            "metric": "str",
            "value": "float64",
            "reason": "str",
        }
    )

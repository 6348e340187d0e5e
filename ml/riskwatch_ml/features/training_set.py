"""The training set: checked metric rows in the two vector spaces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from riskwatch_ml.core.errors import UserInputError
from riskwatch_ml.core.local_time import UTC_DAYS
from riskwatch_ml.features import rolling
from riskwatch_ml.features.baselines import fit_baselines
from riskwatch_ml.features.levels import Load, load_of
from riskwatch_ml.features.spaces import Baselines, fit_level_scaling, row_baselines
from riskwatch_ml.features.table import MetricTable, as_table
from riskwatch_ml.schema import inventory as fleet

if TYPE_CHECKING:
    from collections.abc import Mapping

    from riskwatch_ml.core.arrays import FloatArray, IntArray
    from riskwatch_ml.core.local_time import LocalTime
    from riskwatch_ml.features.served import Served
    from riskwatch_ml.schema.catalogue import Catalogue
    from riskwatch_ml.schema.inventory import Instance

KEY = ["instance_id", "timestamp"]
GAP_PERIODS = 6  # a window never spans a longer gap between two rows


class TrainingError(UserInputError):
    """Rows or arguments that cannot be trained on; the message names the fix."""


@dataclass(frozen=True)
class TrainingSet:
    """Input of a fit: a table of rows, its baselines, and the rows in both spaces.

    ``wide`` is the table with its rolling columns, ``rolling_lengths`` their lengths in rows. ``baseline`` (n,) is the
    index of each row into ``baselines``; ``behaviour`` (n, width) and ``level`` (n, d) are the rows in the two spaces;
    ``level_center`` and ``level_scale`` are (d,), ``load`` has the metrics that span the level space. ``roles`` is the
    role of each instance by name. ``served`` are the openings in service, None without any. ``local_time`` has the time
    zones and holidays of the baselines.
    """

    table: MetricTable
    wide: MetricTable
    rolling_lengths: tuple[int, ...]
    roles: Mapping[str, str]
    baselines: Baselines
    baseline: IntArray
    behaviour: FloatArray
    level: FloatArray
    level_center: FloatArray
    level_scale: FloatArray
    load: Load
    served: Served | None = None
    local_time: LocalTime = UTC_DAYS


def check_rows(rows: pd.DataFrame, catalogue: Catalogue) -> None:
    """Raise TrainingError for rows that would silently give a wrong model."""
    _check_columns(rows, catalogue)
    if not len(rows):
        raise TrainingError("there are no rows: widen the history or check that the export ran")
    if not isinstance(rows["timestamp"].dtype, pd.DatetimeTZDtype):
        raise TrainingError(f"timestamp is {rows['timestamp'].dtype}: convert it with pd.to_datetime(..., utc=True)")
    if rows["instance_id"].isna().any() or rows["timestamp"].isna().any():
        raise TrainingError("some rows have no instance_id or no timestamp: drop them")
    present = [name for name in catalogue.names if name in rows.columns]
    values = rows[present].to_numpy(np.float64, na_value=np.nan)
    if not np.isfinite(values).any():
        expected = ", ".join(catalogue.names)
        raise TrainingError(f"no catalogue metric has a value in {len(rows)} rows: expected {expected}")
    infinite = np.isinf(values).any(axis=0)
    if infinite.any():
        names = [name for name, is_infinite in zip(present, infinite, strict=True) if is_infinite]
        raise TrainingError(f"{', '.join(names)}: infinite values; quarantine those rows or make them missing")
    if repeats := repeated_keys(rows, "rows"):
        raise TrainingError(f"{repeats}: keep one row each, or give rows of different instances different names")


def repeated_keys(rows: pd.DataFrame, what: str) -> str:
    """Describe the rows that repeat an earlier key; empty if none do."""
    repeated = rows[rows.duplicated(KEY)]
    if not len(repeated):
        return ""
    first = repeated.iloc[0]
    key = f"{first['instance_id']} at {first['timestamp']}"
    return f"{len(repeated)} {what} repeat an (instance_id, timestamp), the first is {key}"


def _check_columns(rows: pd.DataFrame, catalogue: Catalogue) -> None:
    for key in KEY:
        if key not in rows.columns:
            raise TrainingError(f"the rows have no column {key!r}: found {', '.join(map(str, rows.columns[:8]))}")
    for name in [*KEY, *catalogue.names]:
        count = int((rows.columns == name).sum())
        if count > 1:
            raise TrainingError(f"the rows have {count} columns {name!r}: keep one of them, or rename the others")


def training_table(rows: pd.DataFrame, catalogue: Catalogue, period_s: float) -> MetricTable:
    """Check metric rows and return the catalogue's metrics as a table.

    Rows are ``period_s`` seconds apart. Rows hold instance_id, timestamp in UTC and features in catalogue units; NaN
    and absent columns are missing. The table is a copy: a caller that drops the rows halves the memory of a large
    fleet. Raises TrainingError.
    """
    if not period_s > 0:
        raise TrainingError(f"period_s {period_s} must be above 0")
    check_rows(rows, catalogue)
    return as_table(rows, catalogue.names, GAP_PERIODS * period_s)


def build_training_set(
    rows: pd.DataFrame, catalogue: Catalogue, inventory: Mapping[str, Instance], period_s: float
) -> TrainingSet:
    """Return the training set of unchecked rows ``period_s`` seconds apart."""
    table = as_table(rows, catalogue.names, GAP_PERIODS * period_s)
    return training_set_of_table(table, catalogue, inventory, period_s)


def training_set_of_table(
    table: MetricTable,
    catalogue: Catalogue,
    inventory: Mapping[str, Instance],
    period_s: float,
    served: Served | None = None,
    local_time: LocalTime = UTC_DAYS,
) -> TrainingSet:
    """Return the training set of a table of rows ``period_s`` seconds apart.

    ``served`` are openings in service, ``local_time`` the time zones and holidays of the baselines.
    """
    rolling_lengths = rolling.choose_lengths(len(table.features), period_s)
    wide = rolling.add_rolling_features(table, rolling_lengths)
    return fit_training_set(table, wide, rolling_lengths, catalogue, inventory, served, local_time)


def fit_training_set(
    table: MetricTable,
    wide: MetricTable,
    rolling_lengths: tuple[int, ...],
    catalogue: Catalogue,
    inventory: Mapping[str, Instance],
    served: Served | None = None,
    local_time: LocalTime = UTC_DAYS,
) -> TrainingSet:
    """Fit baselines and level scaling, and put the rows of a table into both spaces.

    ``wide`` is the table with its rolling columns, ``rolling_lengths`` their lengths in rows.
    """
    roles = {name: fleet.lookup(inventory, name).role for name in table.instances}
    baselines = fit_baselines(wide, roles, local_time)
    baseline = row_baselines(baselines, table, inventory)
    load = load_of(table.values, catalogue)
    center, scale = fit_level_scaling(table.values, table.code, load.columns)
    return TrainingSet(
        table=table,
        wide=wide,
        rolling_lengths=rolling_lengths,
        roles=roles,
        baselines=baselines,
        baseline=baseline,
        behaviour=baselines.behaviour(wide, baseline),
        level=baselines.level(table, baseline, center, scale),
        level_center=center,
        level_scale=scale,
        load=load,
        served=served,
        local_time=local_time,
    )

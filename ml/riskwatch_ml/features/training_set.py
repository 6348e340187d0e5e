"""The rows of a training set, checked, and the two spaces every family is fitted to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from riskwatch_ml.core.errors import UserInputError
from riskwatch_ml.features import rolling as trailing
from riskwatch_ml.features.baselines import fit_baselines
from riskwatch_ml.features.levels import severity_of
from riskwatch_ml.features.spaces import Baselines, fit_level_scaling, row_baselines
from riskwatch_ml.features.table import MetricTable, as_table
from riskwatch_ml.schema import inventory as fleet

if TYPE_CHECKING:
    from collections.abc import Mapping

    from riskwatch_ml.core.arrays import FloatArray, IntArray
    from riskwatch_ml.schema.catalogue import Catalogue
    from riskwatch_ml.schema.inventory import Instance

KEY = ["instance_id", "timestamp"]
GAP_PERIODS = 6  # a window never spans a longer gap between two rows


class TrainingError(UserInputError):
    """The rows or arguments cannot be trained on; the message names the trouble and the way out."""


@dataclass(frozen=True)
class Space:
    """What every family is fitted to.

    ``wide`` is the table with its trailing columns, ``trails`` their lengths in rows. ``baseline`` (n,) is each row's
    index into ``baselines``; ``behaviour`` (n, width) and ``level`` (n, d) are the rows in the two spaces;
    ``level_center`` and ``level_scale`` are (d,). ``roles`` is the role of each instance by name.
    """

    table: MetricTable
    wide: MetricTable
    trails: tuple[int, ...]
    roles: Mapping[str, str]
    baselines: Baselines
    baseline: IntArray
    behaviour: FloatArray
    level: FloatArray
    level_center: FloatArray
    level_scale: FloatArray


def check_rows(rows: pd.DataFrame, catalogue: Catalogue) -> None:
    """Raise TrainingError for rows on which a model would be wrong in silence."""
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
        named = [name for name, found in zip(present, infinite, strict=True) if found]
        raise TrainingError(f"{', '.join(named)}: infinite values; quarantine those rows or make them missing")
    if repeats := repeated_keys(rows, "rows"):
        raise TrainingError(f"{repeats}: keep one row each, or give rows of different instances different names")


def repeated_keys(rows: pd.DataFrame, what: str) -> str:
    """How many rows have the key of an earlier one, and the first of them, in words; empty where none has."""
    again = rows[rows.duplicated(KEY)]
    if not len(again):
        return ""
    first = again.iloc[0]
    key = f"{first['instance_id']} at {first['timestamp']}"
    return f"{len(again)} {what} repeat an (instance_id, timestamp), the first is {key}"


def _check_columns(rows: pd.DataFrame, catalogue: Catalogue) -> None:
    for key in KEY:
        if key not in rows.columns:
            raise TrainingError(f"the rows have no column {key!r}: found {', '.join(map(str, rows.columns[:8]))}")
    for name in [*KEY, *catalogue.names]:
        count = int((rows.columns == name).sum())
        if count > 1:
            raise TrainingError(f"the rows have {count} columns {name!r}: keep one of them, or rename the others")


def training_table(rows: pd.DataFrame, catalogue: Catalogue, period_s: float) -> MetricTable:
    """Check metric rows ``period_s`` apart and make a table of the catalogue's metrics of them.

    Rows hold instance_id, timestamp in UTC and features in catalogue units; NaN and absent columns are missing. The
    table is a copy: a caller that lets go of the rows halves what a large fleet holds in memory here.
    """
    if not period_s > 0:
        raise TrainingError(f"period_s {period_s} must be above 0")
    check_rows(rows, catalogue)
    return as_table(rows, catalogue.names, GAP_PERIODS * period_s)


def build_space(rows: pd.DataFrame, catalogue: Catalogue, inventory: Mapping[str, Instance], period_s: float) -> Space:
    """Fit baselines and level scaling to metric rows ``period_s`` apart and put the rows into both spaces."""
    return table_space(as_table(rows, catalogue.names, GAP_PERIODS * period_s), inventory, period_s)


def table_space(table: MetricTable, inventory: Mapping[str, Instance], period_s: float) -> Space:
    """Fit baselines and level scaling to a table of rows ``period_s`` apart and put them into both spaces."""
    trails = trailing.trails_for(len(table.features), period_s)
    return space_of(table, trailing.widen(table, trails), trails, inventory)


def space_of(
    table: MetricTable, wide: MetricTable, trails: tuple[int, ...], inventory: Mapping[str, Instance]
) -> Space:
    """Fit baselines and level scaling to a table that has its trailing columns in ``wide``."""
    roles = {name: fleet.lookup(inventory, name).role for name in table.instances}
    baselines = fit_baselines(wide, roles)
    baseline = row_baselines(baselines, table, inventory)
    columns = severity_of(table.values, table.features)
    center, scale = fit_level_scaling(table.values, table.code, columns)
    return Space(
        table=table,
        wide=wide,
        trails=trails,
        roles=roles,
        baselines=baselines,
        baseline=baseline,
        behaviour=baselines.behaviour(wide, baseline),
        level=baselines.level(table, baseline, center, scale),
        level_center=center,
        level_scale=scale,
    )

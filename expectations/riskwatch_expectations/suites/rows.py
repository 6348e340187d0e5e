"""Row-level expectations: keys, time grid, physical bounds. A row that fails one is quarantined with its reason."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import great_expectations as gx
import great_expectations.expectations as gxe

from riskwatch_lambda.scoring.records import NAME_LIMIT
from riskwatch_ml.core import clock

if TYPE_CHECKING:
    from datetime import datetime

    import pandas as pd
    from great_expectations.expectations.expectation import Expectation

    from riskwatch_ml.schema.catalogue import Catalogue, Metric

REPEATED = "a second row of the same instance and time"

# Columns that the validation derives, so that a rule over several columns is an expectation over one.
_OFF_GRID = "ms_off_grid"
_PRESENT = "values_present"
_NAMED = "instance_is_name"
_STEP = "ms_since_row_before"
_LARGEST = sys.float_info.max


def table(rows: pd.DataFrame, catalogue: Catalogue, period_s: int) -> pd.DataFrame:
    """Return metric rows with the columns that the suite looks at."""
    moments = rows["timestamp"].astype("datetime64[ms, UTC]")
    off_grid = (moments.astype("int64") % (period_s * 1000)).where(moments.notna(), 0)
    names = {name: _is_name(name) for name in rows["instance_id"].dropna().unique()}
    return rows.assign(
        **{
            _OFF_GRID: off_grid,
            _PRESENT: rows[list(catalogue.names)].notna().sum(axis=1),
            _NAMED: rows["instance_id"].map(names).astype("float64"),
            _STEP: moments.groupby(rows["instance_id"]).diff().dt.total_seconds() * 1000,
        }
    )


def suite(catalogue: Catalogue, start: datetime, end: datetime, period_s: int) -> gx.ExpectationSuite:
    """Return the suite for `table` of rows of [start, end) with periods of `period_s` seconds.

    Each expectation's `meta["reason"]` is what the quarantine shows. Rows that are out of order are no row's fault but
    the table's: critical.
    """
    expectations: list[Expectation] = [
        gxe.ExpectColumnValuesToNotBeNull(column="instance_id", **_because("instance_id is missing")),
        gxe.ExpectColumnValuesToNotBeNull(column="timestamp", **_because("timestamp is missing")),
        gxe.ExpectColumnValuesToBeInSet(
            column=_NAMED,
            value_set=[1],
            **_because(f"instance_id is empty, not printable, or longer than {NAME_LIMIT} bytes"),
        ),
        gxe.ExpectCompoundColumnsToBeUnique(
            column_list=["instance_id", "timestamp"], ignore_row_if="any_value_is_missing", **_because(REPEATED)
        ),
        gxe.ExpectColumnValuesToBeBetween(
            column="timestamp",
            min_value=start,
            max_value=end,
            strict_max=True,
            **_because(f"timestamp outside [{clock.iso(start)}, {clock.iso(end)})"),
        ),
        gxe.ExpectColumnValuesToBeInSet(
            column=_OFF_GRID, value_set=[0], **_because(f"timestamp off the grid of {period_s} s")
        ),
        gxe.ExpectColumnValuesToBeBetween(column=_PRESENT, min_value=1, **_because("no metric has a value")),
        *(_bounds(metric) for metric in catalogue.metrics),
        gxe.ExpectColumnValuesToBeBetween(
            column=_STEP, min_value=0, severity="critical", meta={"broken": "rows are not in order of time"}
        ),
    ]
    return gx.ExpectationSuite(name="metric_rows", expectations=expectations, meta={"layer": "raw"})


def _is_name(value: object) -> bool:
    # As the function that labels rows has it: what it would refuse is not to be learned from either.
    return isinstance(value, str) and value.isprintable() and 0 < len(value.encode()) <= NAME_LIMIT


def _bounds(metric: Metric) -> Expectation:
    # Without a bound the largest float stands in: an infinite value is never physical.
    low = -_LARGEST if metric.lower is None else metric.lower
    high = _LARGEST if metric.upper is None else metric.upper
    shown = f"[{'-inf' if metric.lower is None else f'{low:g}'}, {'inf' if metric.upper is None else f'{high:g}'}]"
    reason = f"{metric.name} outside {shown} {metric.unit}".rstrip()
    return gxe.ExpectColumnValuesToBeBetween(column=metric.name, min_value=low, max_value=high, **_because(reason))


def _because(reason: str) -> dict[str, object]:
    return {"severity": "warning", "meta": {"reason": reason}}

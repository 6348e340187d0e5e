"""Row-level expectations: keys, time grid, physical bounds. A row that fails one is quarantined with its reason."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import great_expectations as gx
import great_expectations.expectations as gxe

from ml import clock

if TYPE_CHECKING:
    from datetime import datetime

    from great_expectations.expectations.expectation import Expectation

    from ml.catalogue import Catalogue, Metric

# Columns that the validation derives, so that a rule over several columns is an expectation over one.
OFF_GRID = "ms_off_grid"
PRESENT = "values_present"
ROW = "row"
_LARGEST = sys.float_info.max


def suite(catalogue: Catalogue, start: datetime, end: datetime, period_s: int) -> gx.ExpectationSuite:
    """Return the suite for metric rows of [start, end) with periods of `period_s` seconds.

    Each expectation's `meta["reason"]` is what the quarantine shows. A metric that never changes is only reported
    (info)."""
    expectations: list[Expectation] = [
        gxe.ExpectColumnValuesToNotBeNull(column="instance_id", **_because("instance_id is missing")),
        gxe.ExpectColumnValuesToNotBeNull(column="timestamp", **_because("timestamp is missing")),
        gxe.ExpectCompoundColumnsToBeUnique(
            column_list=["instance_id", "timestamp"],
            ignore_row_if="any_value_is_missing",
            **_because("a second row of the same instance and time"),
        ),
        gxe.ExpectColumnValuesToBeBetween(
            column="timestamp",
            min_value=start,
            max_value=end,
            strict_max=True,
            **_because(f"timestamp outside [{clock.iso(start)}, {clock.iso(end)})"),
        ),
        gxe.ExpectColumnValuesToBeInSet(
            column=OFF_GRID, value_set=[0], **_because(f"timestamp off the grid of {period_s} s")
        ),
        gxe.ExpectColumnValuesToBeBetween(column=PRESENT, min_value=1, **_because("no metric has a value")),
        *(_bounds(metric) for metric in catalogue.metrics),
        *(
            gxe.ExpectColumnUniqueValueCountToBeBetween(column=name, min_value=2, severity="info")
            for name in catalogue.names
        ),
    ]
    return gx.ExpectationSuite(name="metric_rows", expectations=expectations, meta={"layer": "raw"})


def _bounds(metric: Metric) -> Expectation:
    # Without a bound the largest float stands in: an infinite value is never physical.
    low = -_LARGEST if metric.lower is None else metric.lower
    high = _LARGEST if metric.upper is None else metric.upper
    shown = f"[{'-inf' if metric.lower is None else f'{low:g}'}, {'inf' if metric.upper is None else f'{high:g}'}]"
    reason = f"{metric.name} outside {shown} {metric.unit}".rstrip()
    return gxe.ExpectColumnValuesToBeBetween(column=metric.name, min_value=low, max_value=high, **_because(reason))


def _because(reason: str) -> dict[str, object]:
    return {"severity": "warning", "meta": {"reason": reason}}

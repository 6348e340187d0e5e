"""Expectations of single values: the physical bounds of each metric.

A value that fails one is refused with its reason and becomes missing; its row stays, unless most of its values fail.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import great_expectations as gx
import great_expectations.expectations as gxe

from riskwatch_ml.schema import metric_rows

if TYPE_CHECKING:
    from great_expectations.expectations.expectation import Expectation

    from riskwatch_ml.schema.catalogue import Catalogue
    from riskwatch_ml.schema.metric import Metric


def suite(catalogue: Catalogue) -> gx.ExpectationSuite:
    """Return the suite for a table of metric rows: one expectation for each metric, in order."""
    expectations = [_bounds(metric) for metric in catalogue.metrics]
    return gx.ExpectationSuite(name="metric_values", expectations=expectations, meta={"layer": "raw"})


def _bounds(metric: Metric) -> Expectation:
    low, high = metric_rows.limits(metric)
    shown = f"[{'-inf' if metric.lower is None else f'{low:g}'}, {'inf' if metric.upper is None else f'{high:g}'}]"
    reason = f"{metric.name} outside {shown} {metric.unit}".rstrip()
    return gxe.ExpectColumnValuesToBeBetween(
        column=metric.name,
        min_value=low,
        max_value=high,
        severity="warning",
        meta={"metric": metric.name, "reason": reason},
    )

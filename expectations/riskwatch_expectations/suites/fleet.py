"""Expectations of the whole fleet: the number of rows and the median per metric."""

from __future__ import annotations

from typing import TYPE_CHECKING

import great_expectations as gx
import great_expectations.expectations as gxe

if TYPE_CHECKING:
    import pandas as pd

    from riskwatch_ml.schema.catalogue import Catalogue

# Share of the expected rows that must be present.
COMPLETE = 0.9
# The median of the interval must lie between these quantiles of the reference. Ranks are robust against single extreme
# values, and a reader of the warning can check them by hand.
SPAN = (0.05, 0.95)
ENOUGH = 100


def suite(catalogue: Catalogue, reference: pd.DataFrame, expected_rows: int) -> gx.ExpectationSuite:
    """Return the suite for the validated rows of an interval.

    `expected_rows` is the number of rows of a complete interval. Too few rows and unusual medians are warnings; a
    metric that never changes in the whole fleet is a note.
    """
    expectations = [
        gxe.ExpectTableRowCountToBeBetween(
            min_value=int(COMPLETE * expected_rows),
            **_finding("row_count", "warning", f"{{observed}} rows of {expected_rows} expected"),
        ),
        *(
            gxe.ExpectColumnMedianToBeBetween(
                column=name,
                min_value=low,
                max_value=high,
                **_finding(
                    "distribution",
                    "warning",
                    f"the median of {name} is {{observed:.4g}}; nine of ten rows of the reference lie in "
                    f"[{low:.4g}, {high:.4g}]",
                ),
            )
            for name, low, high in _usual(catalogue, reference)
        ),
        *(
            gxe.ExpectColumnUniqueValueCountToBeBetween(
                column=name, min_value=2, **_finding("constant", "info", f"{name} never changes")
            )
            for name in catalogue.names
        ),
    ]
    return gx.ExpectationSuite(name="fleet", expectations=expectations, meta={"layer": "validated"})


def _usual(catalogue: Catalogue, reference: pd.DataFrame) -> list[tuple[str, float, float]]:
    ranges = []
    for name in catalogue.names:
        if name in reference.columns and reference[name].count() >= ENOUGH:
            low, high = reference[name].quantile(list(SPAN))
            ranges.append((name, float(low), float(high)))
    return ranges


def _finding(check: str, severity: str, text: str) -> dict[str, object]:
    return {"severity": severity, "meta": {"check": check, "finding": text}}

"""Table-level expectations: the columns and types that all later steps rely on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import great_expectations as gx
import great_expectations.expectations as gxe

if TYPE_CHECKING:
    from riskwatch_ml.schema.catalogue import Catalogue


def suite(catalogue: Catalogue) -> gx.ExpectationSuite:
    """Return the suite for a table of metric rows.

    There is at least one row, the columns are the keys and the features in order, and features are float64. Every
    expectation is critical: a table that fails one is not validated at all.
    """
    expectations = [
        gxe.ExpectTableRowCountToBeBetween(min_value=1, severity="critical"),
        gxe.ExpectTableColumnsToMatchOrderedList(
            column_list=["instance_id", "timestamp", *catalogue.names], severity="critical"
        ),
        *(
            gxe.ExpectColumnValuesToBeOfType(column=name, type_="float64", severity="critical")
            for name in catalogue.names
        ),
    ]
    return gx.ExpectationSuite(name="metric_rows_schema", expectations=expectations, meta={"layer": "raw"})

"""Row-level expectations: keys, time grid, and enough possible values.

A row that fails one of them is quarantined with its reason.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import great_expectations as gx
import great_expectations.expectations as gxe

from riskwatch_lambda import arrival
from riskwatch_lambda.scoring.record_form import NAME_LIMIT
from riskwatch_ml.core import clock

if TYPE_CHECKING:
    from datetime import datetime

    import pandas as pd
    from great_expectations.expectations.expectation import Expectation

    from riskwatch_ml.core.arrays import BoolArray
    from riskwatch_ml.schema.catalogue import Catalogue

REPEATED = "a second row of the same instance and time"
MOSTLY_IMPOSSIBLE = "most values are impossible"

# Derived columns: they turn a rule over several columns into an expectation over one.
_OFF_GRID = "ms_off_grid"
_PRESENT = "values_present"
_NAMED = "instance_is_name"
_STEP = "ms_since_row_before"
_AHEAD = "ahead_because_of"
_IMPOSSIBLE = "mostly_impossible"


def table(
    rows: pd.DataFrame, catalogue: Catalogue, period_s: int, now: datetime, impossible: BoolArray
) -> pd.DataFrame:
    """Return metric rows that arrive at `now` with the derived columns that the suite checks.

    `impossible` (n,) marks the rows that their impossible values cost.
    """
    moments = rows["timestamp"].astype("datetime64[ms, UTC]")
    off_grid = (moments.astype("int64") % (period_s * 1000)).where(moments.notna(), 0)
    names = {name: _is_name(name) for name in rows["instance_id"].dropna().unique()}
    now_ms = clock.epoch_ms(now)
    causes = {moment: arrival.cause_of(clock.epoch_ms(moment), now_ms) for moment in moments.dropna().unique()}
    return rows.assign(
        **{
            _OFF_GRID: off_grid,
            _PRESENT: rows[list(catalogue.names)].notna().sum(axis=1),
            _NAMED: rows["instance_id"].map(names).astype("float64"),
            _AHEAD: moments.map(causes).astype("object"),
            _IMPOSSIBLE: impossible.astype("float64"),
            _STEP: moments.groupby(rows["instance_id"]).diff().dt.total_seconds() * 1000,
        }
    )


def suite(start: datetime, end: datetime, period_s: int) -> gx.ExpectationSuite:
    """Return the suite for `table` of an interval [start, end).

    `period_s` is the period of the rows in seconds. `meta["reason"]` of an expectation is the text for the quarantine.
    Rows out of order are an error of the table, not of a row, and therefore critical.
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
        *(
            gxe.ExpectColumnValuesToNotBeInSet(column=_AHEAD, value_set=[cause], **_because(arrival.refusal(cause)))
            for cause in arrival.CAUSES
        ),
        gxe.ExpectColumnValuesToBeInSet(
            column=_OFF_GRID, value_set=[0], **_because(f"timestamp off the grid of {period_s} s")
        ),
        gxe.ExpectColumnValuesToBeBetween(column=_PRESENT, min_value=1, **_because("no metric has a value")),
        gxe.ExpectColumnValuesToBeInSet(column=_IMPOSSIBLE, value_set=[0], **_because(MOSTLY_IMPOSSIBLE)),
        gxe.ExpectColumnValuesToBeBetween(
            column=_STEP, min_value=0, severity="critical", meta={"broken": "rows are not in order of time"}
        ),
    ]
    return gx.ExpectationSuite(name="metric_rows", expectations=expectations, meta={"layer": "raw"})


def _is_name(value: object) -> bool:
    # The same rule as in the Lambda function: a row that it would refuse must not be trained on.
    return isinstance(value, str) and value.isprintable() and 0 < len(value.encode()) <= NAME_LIMIT


def _because(reason: str) -> dict[str, object]:
    return {"severity": "warning", "meta": {"reason": reason}}

"""Expectations of each instance: it reported without gaps until the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import great_expectations as gx
import great_expectations.expectations as gxe
import pandas as pd

from riskwatch_ml.core import clock

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

# Periods between two rows, or between the last row and the end of the interval, that are not yet a finding.
LONGEST = 3


def table(
    rows: pd.DataFrame, reference: pd.DataFrame, expected: Collection[str], end: datetime, period_s: int
) -> pd.DataFrame:
    """Return one row for each instance of the interval or of `expected`.

    Columns: `rows`, the number of rows; `newest` and `before`, the time of the newest row in the interval and in the
    reference; `gap_periods`, the longest distance between two successive rows in periods, including the last row of the
    reference, and `gap_from`, its start; `late_periods`, the periods missing between the newest row and `end` (aware).
    """
    period = pd.Timedelta(seconds=period_s)
    stamps = rows[["instance_id", "timestamp"]]
    last = reference.groupby("instance_id", as_index=False)["timestamp"].max()
    both = pd.concat([last[last["instance_id"].isin(rows["instance_id"])], stamps], ignore_index=True)
    both = both.sort_values(["instance_id", "timestamp"], ignore_index=True)
    distance = both.groupby("instance_id")["timestamp"].diff()
    instance_rows = pd.DataFrame(
        {
            "rows": stamps.groupby("instance_id").size(),
            "newest": stamps.groupby("instance_id")["timestamp"].max(),
            "gap_periods": (distance / period).groupby(both["instance_id"]).max(),
        }
    )
    distance = distance.dropna()
    widest = distance.groupby(both.loc[distance.index, "instance_id"]).idxmax()
    instance_rows["gap_from"] = both["timestamp"].shift().reindex(widest).set_axis(widest.index)
    instance_rows["late_periods"] = (pd.Timestamp(end) - instance_rows["newest"]) / period - 1
    instance_rows = instance_rows.reindex(sorted({*instance_rows.index, *expected})).rename_axis("instance_id")
    instance_rows["rows"] = instance_rows["rows"].fillna(0).astype("int64")
    instance_rows["before"] = last.set_index("instance_id")["timestamp"].reindex(instance_rows.index)
    for name in ("newest", "gap_from", "before"):
        instance_rows[name] = instance_rows[name].map(clock.iso, na_action="ignore").astype("object").fillna("never")
    return instance_rows.reset_index()


def suite() -> gx.ExpectationSuite:
    """Return the suite for `table`.

    `meta["finding"]` is the text template for a row that fails, filled from its columns.
    """
    expectations = [
        gxe.ExpectColumnValuesToBeBetween(
            column="rows", min_value=1, **_finding("silent", "{instance_id}: no data; newest row: {before}")
        ),
        gxe.ExpectColumnValuesToBeBetween(
            column="gap_periods",
            max_value=LONGEST,
            **_finding("gap", "{instance_id}: {gap_periods:g} periods between two rows, starting at {gap_from}"),
        ),
        gxe.ExpectColumnValuesToBeBetween(
            column="late_periods",
            max_value=LONGEST,
            **_finding("freshness", "{instance_id}: newest row at {newest}, {late_periods:g} periods before the end"),
        ),
    ]
    return gx.ExpectationSuite(name="instances", expectations=expectations, meta={"layer": "validated"})


def _finding(check: str, text: str) -> dict[str, object]:
    return {"severity": "warning", "meta": {"check": check, "finding": text}}
